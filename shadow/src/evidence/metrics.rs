//! The state of a run for Prometheus: text format 0.0.4. Written from the summary, which JSON and the page show too: a registry of
//! counters beside it would be a second one to be kept right.

use std::fmt::Write;

use super::summary::Summary;
use crate::judge::Verdict;

/// Renders all metrics.
pub fn render(summary: &Summary) -> String {
    let mut out = String::new();
    by_endpoint(&mut out, summary);
    latencies(&mut out, summary);
    family(&mut out, "florin_shadow_reasons_total", "counter", "Verdicts by their reason.");
    for (verdict, reasons) in &summary.reasons {
        for (reason, count) in reasons {
            let labels = format!("verdict=\"{verdict}\",reason=\"{reason}\"");
            let _ = writeln!(out, "florin_shadow_reasons_total{{{labels}}} {count}");
        }
    }
    family(
        &mut out,
        "florin_shadow_rule_uses_total",
        "counter",
        "Requests that a rule explained something of.",
    );
    for rule in &summary.rules {
        let _ =
            writeln!(out, "florin_shadow_rule_uses_total{{rule=\"{}\"}} {}", escaped(&rule.name), rule.uses);
    }
    family(&mut out, "florin_shadow_not_mirrored_total", "counter", "Requests that were not to be compared.");
    for (why, count) in &summary.not_mirrored {
        let _ = writeln!(out, "florin_shadow_not_mirrored_total{{why=\"{}\"}} {count}", escaped(why));
    }
    family(
        &mut out,
        "florin_shadow_reachable",
        "gauge",
        "1 while a side can be reached, as far as it was tried.",
    );
    for (side, reach) in summary.reach.each() {
        let is_there = u8::from(reach.down_since.is_none());
        let _ = writeln!(out, "florin_shadow_reachable{{side=\"{side}\"}} {is_there}");
    }
    singles(&mut out, summary);
    out
}

fn by_endpoint(out: &mut String, summary: &Summary) {
    family(out, "florin_shadow_verdicts_total", "counter", "Requests by endpoint and verdict.");
    for (endpoint, counters) in &summary.endpoints {
        for (verdict, count) in Verdict::ALL.iter().zip(counters.verdicts.0) {
            let labels = format!("endpoint=\"{endpoint}\",verdict=\"{}\"", verdict.name());
            let _ = writeln!(out, "florin_shadow_verdicts_total{{{labels}}} {count}");
        }
    }
    family(out, "florin_shadow_bytes_total", "counter", "How the bytes of both answers compare.");
    for (endpoint, counters) in &summary.endpoints {
        for (bytes, count) in &counters.bytes {
            let labels = format!("endpoint=\"{endpoint}\",bytes=\"{bytes}\"");
            let _ = writeln!(out, "florin_shadow_bytes_total{{{labels}}} {count}");
        }
    }
}

fn latencies(out: &mut String, summary: &Summary) {
    let name = "florin_shadow_latency_seconds";
    family(out, name, "summary", "Time to a whole answer, as the shadow saw it, since the start.");
    for (endpoint, counters) in &summary.endpoints {
        for (side, latency) in counters.latency_us.each() {
            let labels = format!("endpoint=\"{endpoint}\",side=\"{side}\"");
            for (quantile, us) in [("0.5", latency.p50), ("0.99", latency.p99), ("1", latency.max)] {
                let _ = writeln!(out, "{name}{{{labels},quantile=\"{quantile}\"}} {}", us as f64 / 1e6);
            }
            let _ = writeln!(out, "{name}_count{{{labels}}} {}", latency.count);
        }
    }
}

fn singles(out: &mut String, summary: &Summary) {
    let serve = &summary.serve;
    let flag = |holds: bool| f64::from(u8::from(holds));
    let singles = [
        ("open", "gauge", "Requests that wait or are being compared.", summary.queue.open as f64),
        ("asked_again_total", "counter", "Questions repeated to catch up.", summary.asked_again as f64),
        ("noise_asked_total", "counter", "Requests asked of the primary twice.", summary.noise.asked as f64),
        ("consistent", "gauge", "1 while nothing contradicts it.", flag(summary.consistent)),
        ("complete", "gauge", "1 while everything is compared.", flag(summary.complete)),
        ("proven", "gauge", "1 once enough has been compared.", flag(summary.proven)),
        ("unproven_share", "gauge", "The share of requests that are unproven.", summary.unproven.share),
        ("answers_total", "counter", "Compared answers that were no refusals.", summary.proof.answers as f64),
        ("users", "gauge", "Users whose accounts were compared.", summary.proof.users as f64),
        ("served_share", "gauge", "The candidate's share of callers.", serve.candidate_percent / 100.0),
        ("served_total", "counter", "Requests that the candidate answered.", serve.served as f64),
        ("fell_back_total", "counter", "Requests that the candidate failed.", serve.fell_back as f64),
        (
            "rolled_back",
            "gauge",
            "1 while the candidate's share is taken back.",
            flag(serve.rolled_back.is_some()),
        ),
    ];
    for (name, kind, help, value) in singles {
        let name = format!("florin_shadow_{name}");
        family(out, &name, kind, help);
        let _ = writeln!(out, "{name} {value}");
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
