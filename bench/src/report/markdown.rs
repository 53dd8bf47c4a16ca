//! Tables for documents.

use std::fmt::Write;

use super::Report;
use crate::{
    callgrind::Part,
    campaign::Summary,
    environment::Environment,
    ramp::Knee,
    trial::{Health, Trial},
};

/// The whole report.
pub(super) fn page(report: &Report) -> String {
    let mut text = String::from("# florin-bench\n\n");
    for (name, value) in setting(report) {
        let _ = writeln!(text, "- {name}: {value}");
    }
    text.push('\n');
    text.push_str(&table(&report.summaries));
    if let Some(objective) = report.objective {
        let _ = writeln!(text, "\nKnees at {objective}:\n\n{}", knees(&report.knees));
    }
    text.push_str(&instructions(&report.trials));
    let divided: Vec<String> = report.trials.iter().filter_map(Trial::divided).collect();
    if !divided.is_empty() {
        let _ = writeln!(text, "\nNodes that divide the users:\n");
        divided.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    }
    let disturbances: Vec<String> = report.trials.iter().filter_map(Trial::disturbance).collect();
    if !disturbances.is_empty() {
        let _ = writeln!(text, "\n{DISTURBED}:\n");
        disturbances.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    }
    text
}

/// What stands above the list of measurements that somebody else had a part in.
pub(super) const DISTURBED: &str =
    "Disturbed: these numbers say as much about others; measure again without them";

/// What a reader needs to judge the numbers and to get them again.
pub(super) fn setting(report: &Report) -> Vec<(&'static str, String)> {
    surroundings(&report.environment, &report.server_cpus, &report.generator_cpus, report.users)
}

/// The same, of any measurement.
pub(crate) fn surroundings(
    environment: &Environment,
    server_cpus: &[usize],
    generator_cpus: &[usize],
    users: usize,
) -> Vec<(&'static str, String)> {
    let cpus = |cpus: &[usize]| match cpus {
        [] => "not pinned".to_owned(),
        cpus => crate::affinity::Cpus(cpus.to_vec()).to_string(),
    };
    vec![
        ("command", format!("`{}`", environment.command)),
        ("commit", environment.commit.clone()),
        ("began", environment.began_at.clone()),
        (
            "host",
            format!(
                "{}, {} CPUs, {} GiB, Linux {}",
                environment.cpu,
                environment.cpus,
                environment.memory_bytes >> 30,
                environment.kernel
            ),
        ),
        ("memory", memory(environment)),
        ("pins", format!("server on CPU {}, generator on CPU {}", cpus(server_cpus), cpus(generator_cpus))),
        ("users", users.to_string()),
        ("generator's build", environment.generator_build.clone()),
    ]
}

/// What makes deep loads of two hosts comparable.
fn memory(environment: &Environment) -> String {
    let speed = environment.memory.as_ref().map_or_else(String::new, |facts| {
        format!(
            "16 MiB: {:.0} ns a line, {:.1} with sixteen at once; huge pages: {}; ",
            facts.line_ns, facts.lines_16_ns, facts.huge_pages
        )
    });
    let siblings = match environment.siblings.as_str() {
        "" => "the host does not say which CPUs share a core".to_owned(),
        siblings => format!("CPUs that share a core: {siblings}"),
    };
    format!("{speed}{siblings}")
}

/// One line for each target and load.
pub fn table(summaries: &[Summary]) -> String {
    if summaries.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "| target | load | requests/s | CPU-µs/request | × first | CPU × first | of limit | p50 µs | p99 µs | p99.9 µs \
         | server CPU | memory MiB (in huge pages) | errors | generator |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
    );
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    for line in summaries {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {:.1} | {:.1} | {:.1} | {} | {} | {} | {} |",
            line.target,
            line.load,
            grouped(line.medians.rate),
            or_dash(line.cpu_us_per_request.map(|us| format!("{us:.3}"))),
            or_dash(line.rate_ratio.map(|ratio| format!("{ratio:.2}"))),
            or_dash(line.cpu_ratio.map(|ratio| format!("{ratio:.2}"))),
            or_dash(line.limit_share.map(|share| format!("{share:.2}"))),
            line.medians.p50_ns / 1e3,
            line.medians.p99_ns / 1e3,
            line.medians.p999_ns / 1e3,
            or_dash(line.server_share.map(|share| format!("{:.0} %", share * 100.0))),
            or_dash(line.medians.rss_bytes.map(|bytes| {
                let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
                let huge = line.medians.huge_bytes.unwrap_or_default();
                format!("{:.0} ({:.0})", mebibytes(bytes), mebibytes(huge))
            })),
            if line.medians.error_share == 0.0 {
                "0".to_owned()
            } else {
                format!("{:.3} %", line.medians.error_share * 100.0)
            },
            health(line.medians.generator, line.medians.generator_share),
        );
    }
    text
}

/// One line for each target of a ramp.
pub fn knees(knees: &[(String, Knee)]) -> String {
    let mut text = String::from("| target | found | requests/s | |\n| --- | --- | ---: | --- |\n");
    for (target, knee) in knees {
        let _ = match knee {
            Knee::Knee { rate, broken_at, why } => {
                writeln!(
                    text,
                    "| {target} | knee | {} | {} broke it: {why} |",
                    grouped(*rate),
                    grouped(*broken_at)
                )
            }
            Knee::LowerBound { rate, why } => {
                writeln!(text, "| {target} | lower bound | {} | {why} |", grouped(*rate))
            }
            Knee::Nothing { broken_at, why } => {
                writeln!(text, "| {target} | nothing | – | {} broke it: {why} |", grouped(*broken_at))
            }
        };
    }
    text
}

pub(super) fn instructions(trials: &[Trial]) -> String {
    let mut text = String::new();
    for trial in trials {
        let Some(found) = &trial.instructions else { continue };
        if text.is_empty() {
            text.push_str(
                "\nUser-side instructions per request:\n\n| target | load | all | parse | lookup | encode |",
            );
            text.push_str(" shard | driver | other | (background) |\n");
            text.push_str("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
        }
        let part = |part| found.by_part.get(&part).copied().unwrap_or_default();
        let parts = [
            Part::Parse,
            Part::Lookup,
            Part::Encode,
            Part::Shard,
            Part::Driver,
            Part::Other,
            Part::Background,
        ];
        let parts: Vec<String> = parts.map(|p| format!("{:.1}", part(p))).to_vec();
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {} |",
            trial.target,
            trial.load,
            found.per_request,
            parts.join(" | ")
        );
    }
    text
}

/// How busy the generator was, and whether that was too much.
pub(crate) fn health(health: Health, busy_share: f64) -> String {
    let busy = format!("{:.0} %", busy_share * 100.0);
    match health {
        Health::Fine => busy,
        Health::Busy => format!("**full** {busy}"),
        Health::Late => format!("**late** {busy}"),
    }
}

/// A whole number with commas between thousands.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
