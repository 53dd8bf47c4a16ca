//! What is measured must be found again in each of the files.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::*;
use crate::{
    campaign::{Campaign, tests::trial},
    sample::Stranger,
    trial::Measured,
};

fn report() -> Report {
    let targets = ["florin <rkyv>", "valkey", "limit"];
    let campaign = Campaign::run(3, 2, 3, |target, load| {
        let rate = 200_000.0 / (target + 1) as f64 * (load + 1) as f64;
        let trial = trial(targets[target], ["64 × 1", "64 × 32"][load], rate, 1e6 / rate);
        Ok::<_, ()>(Measured { trial, intervals: Vec::new() })
    })
    .unwrap();
    let trials = campaign.cells().iter().flatten().flat_map(|cell| cell.trials.clone()).collect();
    let knee = Knee::Knee { rate: 1_234_567.0, broken_at: 1_300_000.0, why: "p99".to_owned() };
    Report {
        environment: Environment::look(),
        server_cpus: vec![0],
        generator_cpus: vec![1],
        users: 1_000,
        summaries: campaign.summary(Some(2)),
        objective: Some(Objective { p99_max_ns: 5_000_000, error_share_max: 0.0001 }),
        knees: vec![("valkey".to_owned(), knee)],
        trials,
    }
}

#[test]
fn json_says_all_of_it_and_to_the_last_digit() {
    let report = report();
    let read: serde_json::Value = florin_input::json(report.to_json().as_bytes()).unwrap();
    assert_eq!(read, serde_json::to_value(&report).unwrap());
}

#[test]
fn who_disturbed_a_measurement_is_named() {
    // A server that an earlier, killed bench had left behind took half of the server's CPU, and the report said nothing.
    let mut report = report();
    assert!(!report.to_markdown().contains("Disturbed"));
    let trial = &mut report.trials[0];
    trial.foreign_cpu = Some(0.5);
    trial.strangers = vec![Stranger { name: "<florin>".to_owned(), pid: 77, cpu_share: 0.48 }];
    let text = report.to_markdown();
    assert!(text.contains("Disturbed") && text.contains("<florin> (process 77) 48 %"), "{text}");
    assert!(report.to_html().contains("&lt;florin&gt; (process 77) 48 %"));
    // Not pinned: nobody knows whose CPUs they were, and the report says that.
    report.trials[0].foreign_cpu = None;
    assert!(report.to_markdown().contains("not both pinned"));
}

#[test]
fn the_page_stands_alone_and_holds_each_series() {
    let html = report().to_html();
    // Two plots over the rate, and one curve for each load.
    assert_eq!(html.matches("<svg").count(), 4);
    let polylines: Vec<&str> = html.split("<polyline").skip(1).collect();
    for colour in ["#0072B2", "#D55E00", "#009E73"] {
        let lines = polylines.iter().filter(|line| line.split('>').next().unwrap().contains(colour)).count();
        assert_eq!(lines, 4, "{colour}");
        assert_eq!(html.matches(&format!("<span style=\"--series: {colour}\">")).count(), 4, "{colour}");
    }
    assert!(html.contains("florin &lt;rkyv&gt;") && !html.contains("<rkyv>"));
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("svg [fill=\"#010101\"]"));
    for outside in ["http://", "https://", "<script", "src=", "@import"] {
        let found = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!found.contains(outside), "{outside}");
    }
    assert!(html.contains("1,234,567"));
}

#[test]
fn the_table_has_a_line_for_each_target_and_load() {
    let markdown = report().to_markdown();
    let lines: Vec<&str> = markdown.lines().filter(|line| line.contains("64 ×")).collect();
    assert_eq!(lines.len(), 6);
    let valkey: Vec<&str> = lines[1].split('|').map(str::trim).collect();
    assert_eq!(valkey[1..9], ["valkey", "64 × 1", "100,000", "10.000", "0.50", "0.50", "1.50", "40.0"]);
    assert!(markdown.contains("p99 ≤ 5 ms, errors ≤ 0.01 %"));
    assert!(markdown.contains("server on CPU 0, generator on CPU 1"));
}

#[test]
fn numbers_are_grouped() {
    for (number, text) in [(0.0, "0"), (999.4, "999"), (1_000.0, "1,000"), (1_234_567.0, "1,234,567")] {
        assert_eq!(markdown::grouped(number), text);
    }
}

#[test]
fn an_interval_log_is_read_by_its_own_reader() {
    let mut intervals = vec![Histogram::<u64>::new(3).unwrap(), Histogram::new(3).unwrap()];
    intervals[0].record_n(50_000, 10).unwrap();
    intervals[1].record_n(70_000, 4).unwrap();
    let log = interval_log("florin any-port", &intervals);
    let mut read = hdrhistogram::serialization::Deserializer::new();
    let mut found = Vec::new();
    for entry in IntervalLogIterator::new(log.as_bytes()) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            assert_eq!(interval.tag().unwrap().as_str(), "florin_any-port");
            let bytes = base64::Engine::decode(
                &base64::engine::general_purpose::STANDARD,
                interval.encoded_histogram(),
            );
            let histogram: Histogram<u64> = read.deserialize(&mut &bytes.unwrap()[..]).unwrap();
            found.push((
                interval.start_timestamp().as_secs(),
                histogram.len(),
                histogram.value_at_quantile(0.5) / 1_000,
            ));
        }
    }
    assert_eq!(found, [(0, 10, 50), (1, 4, 70)]);
}
