//! A profile as a flame graph: a picture that any browser shows, and searches.

use std::io;

use inferno::flamegraph::{self, Options};

use super::Taken;
use super::symbols::Symbols;

/// Draws it.
pub(super) fn write(taken: &Taken, symbols: &mut Symbols) -> io::Result<Vec<u8>> {
    let mut lines = folded(taken, symbols);
    if lines.is_empty() {
        lines.push("no thread used the CPU 1".to_owned());
    }
    let recording = &taken.recording;
    let mut options = Options::default();
    options.title = "florin: CPU time by thread".to_owned();
    let samples = recording.samples();
    let (seconds, period) = (taken.order.during.as_secs(), taken.period.as_secs_f64() * 1e3);
    options.subtitle = Some(format!(
        "{samples} samples in {seconds} s, each of {period:.1} ms of CPU; {} were lost",
        recording.lost
    ));
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    Ok(svg)
}

/// Each stack a line: thread and functions, outermost first, between semicolons, and how often it was seen.
fn folded(taken: &Taken, symbols: &mut Symbols) -> Vec<String> {
    let stacks = taken.recording.stacks();
    stacks
        .into_iter()
        .map(|(stack, count)| {
            let mut line = stack.thread.to_string();
            for &address in stack.addresses.iter().rev() {
                for frame in symbols.at(address).iter().rev() {
                    line.push(';');
                    line.push_str(&frame.function.replace(';', ":"));
                }
            }
            format!("{line} {count}")
        })
        .collect()
}
