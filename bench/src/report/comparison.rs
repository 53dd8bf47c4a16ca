//! Findings for people: Markdown, and a page with plots. One source for both, but for the plots.

use std::{fmt::Write, path::Path};

use super::{
    ReportError,
    html::{definitions, document, escaped, figure, html_table},
    markdown::{grouped, health, surroundings},
    plots::{Plot, Scale, Series},
};
use crate::{
    campaign::Medians,
    compare::{
        findings::{Bound, CallerTable, Case, Findings, Knee, Section, Step},
        statistics::Ratio,
    },
    trial::Health,
};

impl Findings {
    /// Writes `compare.json`, `compare.html` and `compare.md` into `directory`.
    pub fn write(&self, directory: &Path) -> Result<(), ReportError> {
        super::write(directory, "compare.json", &(self.to_json() + "\n"))?;
        super::write(directory, "compare.html", &self.to_html())?;
        super::write(directory, "compare.md", &self.to_markdown())
    }

    /// For machines.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("findings are names, numbers and lists of them")
    }

    /// For documents.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("# {}\n\n", self.title());
        for (name, value) in self.setting() {
            let _ = writeln!(text, "- {name}: {value}");
        }
        let _ = writeln!(text, "\n{}", self.reading());
        for section in self.measured() {
            let _ = writeln!(text, "\n## {}", section.endpoint);
            for part in self.parts(section) {
                let _ = writeln!(text, "\n### {}\n\n{}\n\n{}", part.title, part.says, part.table);
            }
        }
        text
    }

    /// For people with a browser: one file, no network.
    pub fn to_html(&self) -> String {
        let mut body = format!("<h1>{}</h1>\n", escaped(&self.title()));
        body.push_str(&definitions(&self.setting()));
        let _ = writeln!(body, "<p>{}</p>", escaped(&self.reading()));
        for section in self.measured() {
            let _ = writeln!(body, "<h2>{}</h2>", escaped(&section.endpoint));
            for part in self.parts(section) {
                let (title, says) = (escaped(&part.title), escaped(&part.says));
                let _ = writeln!(body, "<h3>{title}</h3>\n<p>{says}</p>\n{}", html_table(&part.table));
            }
            for plot in self.plots(section) {
                body.push_str(&plot);
                body.push('\n');
            }
        }
        document(&body)
    }

    /// What a terminal shows in the end.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for section in self.measured() {
            for part in self.parts(section).into_iter().filter(|part| !part.is_long) {
                let _ = writeln!(text, "{}: {}\n\n{}", section.endpoint, part.title, part.table);
            }
        }
        text
    }

    /// Sections of which anything is known yet.
    fn measured(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(|section| !section.steps.is_empty())
    }

    fn title(&self) -> String {
        self.terms.labels.join(" and ")
    }

    fn setting(&self) -> Vec<(&'static str, String)> {
        let terms = &self.terms;
        let mut setting =
            surroundings(&self.environment, &terms.server_cpus, &terms.generator_cpus, terms.users);
        setting.push(("objective", terms.objective.to_string()));
        setting.push((
            "load",
            format!(
                "open loop, {} arrivals, {} keys, seed {}, {} connections × ≤{}, {} s a measurement after {} s",
                terms.arrivals,
                terms.keys,
                terms.seed,
                terms.connections,
                terms.depth,
                terms.seconds,
                terms.warmup_seconds
            ),
        ));
        for (label, target) in terms.labels.iter().zip(&terms.targets) {
            setting.push(("server", format!("{label}: `{target}`")));
        }
        if !self.is_complete {
            setting.push(("not finished", "run the same command again, and it goes on".to_owned()));
        }
        setting
    }

    fn reading(&self) -> String {
        "Ratios are medians of all pairwise ratios, with the interval that the Mann-Whitney test does not reject and \
         its p-value; ~ marks those that chance explains (p ≥ 0.05). A ≥ or ≤ says that a knee is only a lower bound: \
         there the generator, and not the server, was at its end."
            .to_owned()
    }

    fn label(&self, target: usize) -> &str {
        &self.terms.labels[target]
    }

    fn parts(&self, section: &Section) -> Vec<PartOfPage> {
        let mut parts = vec![self.knees(section)];
        parts.extend(section.case.as_ref().map(|case| self.case(case)));
        parts.extend(section.callers.iter().map(|table| self.callers(table)));
        parts.push(self.steps(&section.steps));
        parts
    }

    fn knees(&self, section: &Section) -> PartOfPage {
        let mut table = String::from("| server | knee, requests/s | lowest to highest | climbs |");
        let others = &section.knees[..section.knees.len().saturating_sub(1)];
        others.iter().for_each(|knee| {
            let _ = write!(table, " × {} |", self.label(knee.target));
        });
        let _ = writeln!(table, "\n| --- | ---: | ---: | ---: |{}", " --- |".repeat(others.len()));
        for knee in &section.knees {
            let _ = write!(table, "| {} | {} |", self.label(knee.target), knee_cells(knee));
            for other in others {
                let versus =
                    section.ratios.iter().find(|v| (v.upper, v.lower) == (knee.target, other.target));
                let shown = versus.map(|versus| format!("{}{}", prefix(versus.bound), ratio(&versus.ratio)));
                let _ = write!(table, " {} |", shown.unwrap_or_default());
            }
            table.push('\n');
        }
        PartOfPage {
            title: "Knees".to_owned(),
            says: format!("The highest rate at which each server keeps {}.", self.terms.objective),
            table,
            is_long: false,
        }
    }

    fn case(&self, case: &Case) -> PartOfPage {
        let mut table = format!(
            "| at {}/s | CPU, % of one | user | system | memory, MiB | p50, ms | p99, ms | p99.9, ms | errors | generator |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
            grouped(case.rate)
        );
        for (target, row) in case.rows.iter().enumerate() {
            let _ = writeln!(
                table,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                self.label(target),
                percent(row.cpu()),
                percent(row.cpu_user),
                percent(row.cpu_system),
                mebibytes(row.rss_bytes),
                ms(row.p50_ns),
                ms(row.p99_ns),
                ms(row.p999_ns),
                errors(row.error_share),
                health(row.generator, row.generator_share),
            );
        }
        for versus in &case.ratios {
            let _ = writeln!(
                table,
                "| {} ÷ {} | {} | | | {} | | {} | | | |",
                self.label(versus.upper),
                self.label(versus.lower),
                ratio(&versus.cpu),
                ratio(&versus.memory),
                ratio(&versus.p99)
            );
        }
        PartOfPage {
            title: format!(
                "At the load at which {} is at {:.0} % CPU",
                self.label(0),
                self.terms.case_cpu * 100.0
            ),
            says: format!("Medians of {} measurements of each server.", self.terms.rounds),
            table,
            is_long: false,
        }
    }

    fn callers(&self, callers: &CallerTable) -> PartOfPage {
        let mut table = String::from(
            "| asked | with | requests/s | server CPU-µs/request | caller CPU-µs/request | p50, ms | p99, ms | errors \
             | server × first | caller × first |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |\n",
        );
        for row in &callers.rows {
            let _ = writeln!(
                table,
                "| {} | {} | {} | {:.2} | {:.2} | {} | {} | {} | {} | {} |",
                self.label(row.target),
                row.client,
                grouped(row.rate),
                row.server_us,
                row.caller_us,
                ms(row.p50_ns),
                ms(row.p99_ns),
                errors(row.error_share),
                row.server.as_ref().map(ratio).unwrap_or_default(),
                row.caller.as_ref().map(ratio).unwrap_or_default(),
            );
        }
        PartOfPage {
            title: format!("A Go caller: {}", callers.load),
            says: "One process on the generator's CPU asks, and decodes and checks every answer.".to_owned(),
            table,
            is_long: false,
        }
    }

    fn steps(&self, steps: &[Step]) -> PartOfPage {
        let mut table = String::from(
            "| server | offered/s | served/s | p50, ms | p90, ms | p99, ms | p99.9, ms | CPU user, % | CPU system, % \
             | memory, MiB | errors | generator | times |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: |\n",
        );
        for Step { target, offered, times, load } in steps {
            let _ = writeln!(
                table,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {times} |",
                self.label(*target),
                grouped(*offered),
                grouped(load.rate),
                ms(load.p50_ns),
                ms(load.p90_ns),
                ms(load.p99_ns),
                ms(load.p999_ns),
                percent(load.cpu_user),
                percent(load.cpu_system),
                mebibytes(load.rss_bytes),
                errors(load.error_share),
                health(load.generator, load.generator_share),
            );
        }
        PartOfPage {
            title: "Every step".to_owned(),
            says: "Medians where a rate was met several times; the largest share of errors, and the generator at its worst."
                .to_owned(),
            table,
            is_long: true,
        }
    }

    fn plots(&self, section: &Section) -> Vec<String> {
        let over_rate = |value: &dyn Fn(&Medians) -> Option<f64>| -> Vec<Series> {
            let series = |target: usize| {
                let steps = section.steps.iter().filter(|step| step.target == target);
                let points = steps.filter_map(|step| Some((step.offered, value(&step.load)?))).collect();
                Series { name: self.label(target).to_owned(), points }
            };
            (0..self.terms.labels.len()).map(series).collect()
        };
        let plot = |title, y, scale, value: &dyn Fn(&Medians) -> Option<f64>| {
            figure(&Plot { title, x: "requests/s offered", y, series: &over_rate(value), scale })
        };
        let plots = [
            plot("Latency under rising load", "p99, ms", Scale::LogY, &|load| {
                (load.p99_ns > 0.0).then_some(load.p99_ns / 1e6)
            }),
            plot("CPU under rising load", "CPU, % of one", Scale::Linear, &|load| Some(load.cpu()? * 100.0)),
            plot("Memory under rising load", "resident, MiB", Scale::Linear, &|load| {
                Some(load.rss_bytes? / f64::from(1 << 20))
            }),
        ];
        plots.into_iter().flatten().collect()
    }

    /// What a reader must not overlook: where the generator was the bottleneck.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for section in &self.sections {
            for knee in section.knees.iter().filter(|knee| knee.at_least > 0) {
                warnings.push(format!(
                    "{}: the generator was the bottleneck in {} of {} climbs of {}: its knee is a lower bound (give the \
                     generator more CPUs: --cpus)",
                    section.endpoint,
                    knee.at_least,
                    knee.rates.len(),
                    self.label(knee.target)
                ));
            }
            if section.disturbed > 0 {
                warnings.push(format!(
                    "{}: in {} of {} measurements something else on this host was busy on the same CPUs, however often \
                     they were repeated: stop it, and give the same command again, which repeats only those",
                    section.endpoint, section.disturbed, section.measurements
                ));
            }
            let late = |load: &Medians| load.generator == Health::Late;
            for (target, _) in
                section.case.iter().flat_map(|case| case.rows.iter().enumerate()).filter(|(_, r)| late(r))
            {
                warnings.push(format!(
                    "{}: at the case's load the generator sent late to {}: part of its latency is the generator's own",
                    section.endpoint,
                    self.label(target)
                ));
            }
        }
        warnings
    }
}

/// A table with its heading.
struct PartOfPage {
    title: String,
    says: String,
    table: String,
    /// Too long for a terminal.
    is_long: bool,
}

fn knee_cells(knee: &Knee) -> String {
    let Some(rate) = knee.rate() else { return format!("– | – | {}", knee.nothing) };
    let low = knee.rates.iter().copied().fold(f64::INFINITY, f64::min);
    let high = knee.rates.iter().copied().fold(0.0, f64::max);
    let bound = if knee.at_least > 0 { "≥ " } else { "" };
    format!(
        "{bound}{} | {} to {} | {}",
        grouped(rate),
        grouped(low),
        grouped(high),
        knee.rates.len() + knee.nothing
    )
}

fn prefix(bound: Bound) -> &'static str {
    match bound {
        Bound::Exact => "",
        Bound::AtLeast => "≥ ",
        Bound::AtMost => "≤ ",
        Bound::Unknown => "? ",
    }
}

/// As benchstat has it: a ratio, its interval, how sure that is; ~ where it may be chance.
fn ratio(ratio: &Ratio) -> String {
    let tilde = if ratio.is_significant() { "" } else { "~ " };
    let Ratio { estimate, low, high, p, .. } = ratio;
    format!("{tilde}**{}** ({} to {}, p={p:.3})", digits(*estimate), digits(*low), digits(*high))
}

/// Three significant digits, or so.
fn digits(value: f64) -> String {
    if value < 0.0995 { format!("{value:.3}") } else { format!("{value:.2}") }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}", share * 100.0))
}

fn mebibytes(bytes: Option<f64>) -> String {
    bytes.map_or_else(|| "–".to_owned(), |bytes| format!("{:.1}", bytes / f64::from(1 << 20)))
}

fn ms(ns: f64) -> String {
    format!("{:.2}", ns / 1e6)
}

fn errors(share: f64) -> String {
    if share == 0.0 { "0".to_owned() } else { format!("{:.3} %", share * 100.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::findings::tests::findings;

    #[test]
    fn json_comes_back_as_it_was() {
        let findings = findings();
        assert_eq!(florin_input::json::<Findings>(findings.to_json().as_bytes()).unwrap(), findings);
    }

    #[test]
    fn both_pages_say_the_same() {
        let findings = findings();
        assert_eq!(findings.sections[0].disturbed, 0);
        let (markdown, html) = (findings.to_markdown(), findings.to_html());
        for text in [&markdown, &html] {
            for part in [
                "At the load at which old is at 78 % CPU",
                "new ÷ old",
                "A Go caller",
                "Every step",
                "statistics",
            ] {
                assert!(text.contains(part), "{part}");
            }
        }
        // Two endpoints of three plots each.
        assert_eq!(html.matches("<svg").count(), 6);
        for outside in ["http://", "https://", "<script", "src=", "@import"] {
            let found = html.replace("http://www.w3.org/2000/svg", "").replace("http,addr", "");
            assert!(!found.contains(outside), "{outside}");
        }
    }

    #[test]
    fn every_line_of_a_table_has_as_many_cells_as_its_head() {
        let markdown = findings().to_markdown();
        let tables = markdown.split("\n\n").filter(|block| block.starts_with('|'));
        let mut lines = 0;
        for table in tables {
            let cells: Vec<usize> = table.lines().map(|line| line.matches('|').count()).collect();
            assert!(cells.iter().all(|&count| count == cells[0]), "{table}");
            lines += cells.len();
        }
        assert!(lines > 40, "{lines}");
    }

    #[test]
    fn what_chance_explains_is_marked() {
        let chance = Ratio { estimate: 1.02, low: 0.9, high: 1.1, confidence: 0.97, p: 0.4 };
        assert_eq!(ratio(&chance), "~ **1.02** (0.90 to 1.10, p=0.400)");
        let sure = Ratio { estimate: 0.0412, low: 0.04, high: 0.0421, confidence: 0.97, p: 0.0286 };
        assert_eq!(ratio(&sure), "**0.041** (0.040 to 0.042, p=0.029)");
    }

    #[test]
    fn a_generator_at_its_end_is_said_aloud() {
        let mut findings = findings();
        assert!(findings.warnings().is_empty());
        findings.sections[0].knees[1].at_least = 2;
        findings.sections[0].ratios[0].bound = Bound::AtLeast;
        findings.sections[1].disturbed = 3;
        let warnings = findings.warnings();
        assert!(warnings[1].contains("statistics: in 3 of"), "{warnings:?}");
        assert!(warnings[0].contains("2 of 4 climbs of new") && warnings.len() == 2, "{warnings:?}");
        assert!(findings.to_markdown().contains("| ≥ **"));
    }
}
