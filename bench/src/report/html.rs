//! The report as one page: tables and plots, light or dark as the reader's system is.

use std::fmt::Write;

use super::{
    Report, markdown,
    plots::{INK, MESH, PAPER, Plot, Scale, Series, css_colour, draw, nines},
};
use crate::trial::Trial;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c1c1c; --mesh: #d8d8d8; --paper: #ffffff; --soft: #f3f3f3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --mesh: #444444; --paper: #16181b; --soft: #22252a; } }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--mesh); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
tr:hover td { background: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; }
svg { max-width: 100%; height: auto; display: block; }
figcaption span { margin-right: 1.2rem; white-space: nowrap; }
figcaption span::before { content: ''; display: inline-block; width: 1.4em; height: .25em; margin-right: .4em;
  vertical-align: middle; background: var(--series); }
";

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let mut body = String::from("<h1>florin-bench</h1>\n");
    body.push_str(&definitions(&markdown::setting(report)));
    body.push_str(&html_table(&markdown::table(&report.summaries)));
    body.push_str(&html_table(&markdown::instructions(&report.trials)));
    if let Some(objective) = report.objective {
        let _ = writeln!(body, "<h2>Knees at {}</h2>", escaped(&objective.to_string()));
        body.push_str(&html_table(&markdown::knees(&report.knees)));
    }
    let disturbances: Vec<String> = report.trials.iter().filter_map(Trial::disturbance).collect();
    if !disturbances.is_empty() {
        let _ = writeln!(body, "<p>{}</p>\n<ul>", markdown::DISTURBED);
        disturbances.iter().for_each(|line| body.push_str(&format!("<li>{}</li>\n", escaped(line))));
        body.push_str("</ul>\n");
    }
    for plot in plots(report) {
        body.push_str(&plot);
        body.push('\n');
    }
    document(&body)
}

/// A page that stands alone, with this body.
pub(crate) fn document(body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>florin-bench</title>\n<style>{STYLE}{}</style>\n</head>\n<body>\n\
         {body}</body>\n</html>\n",
        ink_rules()
    )
}

/// Names and their values.
pub(crate) fn definitions(settings: &[(&'static str, String)]) -> String {
    let mut html = String::from("<dl>\n");
    for (name, value) in settings {
        let _ = writeln!(html, "<dt>{name}</dt><dd>{}</dd>", escaped(&value.replace('`', "")));
    }
    html.push_str("</dl>\n");
    html
}

/// The plots' three colours become the page's.
fn ink_rules() -> String {
    let mut rules = String::new();
    for (colour, name) in [(INK, "ink"), (MESH, "mesh"), (PAPER, "paper")] {
        let hex = format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2);
        let _ = writeln!(rules, "svg [fill=\"{hex}\"] {{ fill: var(--{name}); }}");
        let _ = writeln!(rules, "svg [stroke=\"{hex}\"] {{ stroke: var(--{name}); }}");
    }
    rules
}

fn plots(report: &Report) -> Vec<String> {
    let by_load = targets(report).into_iter().map(|target| {
        let mut trials: Vec<&Trial> =
            report.trials.iter().filter(|t| t.target == target && t.latency.count > 0).collect();
        trials.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        (target, trials)
    });
    let by_load: Vec<(String, Vec<&Trial>)> = by_load.collect();
    let over_rate = |value: &dyn Fn(&Trial) -> Option<f64>| -> Vec<Series> {
        let series = by_load.iter().map(|(target, trials)| Series {
            name: target.clone(),
            points: trials.iter().filter_map(|trial| Some((trial.rate, value(trial)?))).collect(),
        });
        series.collect()
    };
    let latency = over_rate(&|trial| Some(trial.latency.p99_ns as f64 / 1e3));
    let cpu = over_rate(&|trial| trial.server.as_ref().map(|server| server.cpu_share * 100.0));
    let mut plots = vec![
        figure(&Plot {
            title: "Latency against throughput",
            x: "requests/s",
            y: "p99, µs",
            series: &latency,
            scale: Scale::LogY,
        }),
        figure(&Plot {
            title: "Server CPU against load",
            x: "requests/s",
            y: "CPU, % of one",
            series: &cpu,
            scale: Scale::Linear,
        }),
    ];
    for load in loads(report) {
        let trials = report.trials.iter().filter(|trial| trial.load == load);
        let mut series: Vec<Series> = Vec::new();
        for trial in trials {
            // The first of several rounds stands for all; the table has the medians.
            if !series.iter().any(|series| series.name == trial.target) {
                series.push(Series { name: trial.target.clone(), points: curve(trial) });
            }
        }
        let title = format!("Latency by percentile, {load}");
        plots.push(figure(&Plot {
            title: &title,
            x: "percentile",
            y: "latency, µs",
            series: &series,
            scale: Scale::Nines,
        }));
    }
    plots.into_iter().flatten().collect()
}

/// A plot, and which colour is whose.
pub(crate) fn figure(plot: &Plot<'_>) -> Option<String> {
    let svg = draw(plot)?;
    let mut legend = String::new();
    for (index, series) in plot.series.iter().enumerate() {
        let (colour, name) = (css_colour(index), escaped(&series.name));
        let _ = write!(legend, "<span style=\"--series: {colour}\">{name}</span>");
    }
    Some(format!("<figure>{svg}<figcaption>{legend}</figcaption></figure>"))
}

fn curve(trial: &Trial) -> Vec<(f64, f64)> {
    // Beyond one in as many as there were, a percentile is only the maximum again.
    let known = 1.0 - 1.0 / trial.latency.count.max(1) as f64;
    let points = trial.latency.curve.iter().filter(|&&(quantile, _)| quantile <= known);
    points.map(|&(quantile, ns)| (nines(quantile), ns as f64 / 1e3)).collect()
}

fn targets(report: &Report) -> Vec<String> {
    distinct(report.trials.iter().map(|trial| &trial.target))
}

fn loads(report: &Report) -> Vec<String> {
    distinct(report.trials.iter().map(|trial| &trial.load))
}

fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for name in names {
        if !found.contains(name) {
            found.push(name.clone());
        }
    }
    found
}

/// A Markdown table as HTML: one source for both.
pub(crate) fn html_table(table: &str) -> String {
    // What stands before the table is a caption in Markdown, and nothing where there is no table.
    let table: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
    if table.is_empty() {
        return String::new();
    }
    let mut html = String::from("<table>\n");
    for (index, line) in table.into_iter().enumerate() {
        let tag = match index {
            0 => "th",
            1 => continue,
            _ => "td",
        };
        html.push_str("<tr>");
        for cell in line.trim_matches('|').split('|') {
            let _ = write!(html, "<{tag}>{}</{tag}>", escaped(&cell.trim().replace("**", "")));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
    html
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
