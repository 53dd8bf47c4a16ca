//! User-side instructions per request, by what they are spent on: a server under valgrind's callgrind, and a bounded
//! number of requests.
//!
//! The server counts nothing until it is idle and loaded; then the counters are set to zero, the requests come, and the
//! counters are written out when all are answered. What the functions of other code do inlined counts where the source
//! line belongs, and the standard library's lines where the function belongs that they are inlined into.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// Instructions per request.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Instructions {
    /// Requests counted.
    pub requests: u64,
    /// All of the request's path: everything but `background`.
    pub per_request: f64,
    /// By part of the server.
    pub by_part: BTreeMap<Part, f64>,
}

/// What instructions are spent on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Reading requests.
    Parse,
    /// The table: hash, probe, record.
    Lookup,
    /// Writing replies.
    Encode,
    /// Sessions, turns, and what holds the others together.
    Shard,
    /// Completions, buffers, system calls.
    Driver,
    /// Code of none of these, such as the C library's.
    Other,
    /// What happens without requests too: the feed, the ledger, the control plane.
    Background,
}

impl Part {
    /// The part to which a source file, or else a function, belongs.
    fn of(file: &str, function: &str) -> Option<Part> {
        const FILES: [(&str, Part); 19] = [
            ("src/wire/encode", Part::Encode),
            ("src/wire/", Part::Parse),
            ("schemas/src/", Part::Parse),
            ("src/shard/table", Part::Lookup),
            ("src/shard/index", Part::Lookup),
            ("src/shard/blocks", Part::Lookup),
            ("src/shard/account", Part::Lookup),
            ("src/shard/memory", Part::Lookup),
            ("src/shard/", Part::Shard),
            ("src/mesh/", Part::Shard),
            ("src/ledger/", Part::Shard),
            ("src/clock", Part::Driver),
            ("src/drivers/", Part::Driver),
            ("/io-uring-", Part::Driver),
            ("/io_uring-", Part::Driver),
            ("src/feed/", Part::Background),
            ("sources/", Part::Background),
            ("sqlite3", Part::Background),
            ("/tokio-", Part::Background),
        ];
        let by_file = FILES.iter().find(|(part, _)| file.contains(part)).map(|&(_, part)| part);
        let by_function = || {
            const FUNCTIONS: [(&str, Part); 9] = [
                ("florin_core::wire::encode", Part::Encode),
                ("florin_core::wire", Part::Parse),
                ("florin_core::shard::table", Part::Lookup),
                ("florin_core::shard", Part::Shard),
                ("florin::drivers", Part::Driver),
                ("florin::feed", Part::Background),
                ("florin_sqlite", Part::Background),
                ("rusqlite", Part::Background),
                ("sqlite3", Part::Background),
            ];
            FUNCTIONS.iter().find(|(part, _)| function.contains(part)).map(|&(_, part)| part)
        };
        by_file.or_else(by_function)
    }
}

/// Why nothing could be counted.
#[derive(Debug, thiserror::Error)]
pub enum CallgrindError {
    /// callgrind_control is not there or does not work.
    #[error("callgrind_control {action}: {what}; it comes with valgrind: apt-get install valgrind")]
    Control {
        /// What it was told.
        action: &'static str,
        /// What it said.
        what: String,
    },
    /// Its output.
    #[error("reading callgrind's output {}: {source}", .path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing was counted.
    #[error("callgrind has written no counts to {}", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Sets a server's counters to zero.
pub fn zero(pid: Pid) -> Result<(), CallgrindError> {
    control("--zero", pid)
}

/// Has a server write its counters, and reads them: `requests` were answered since [`zero`].
pub fn dump(pid: Pid, out: &Path, requests: u64) -> Result<Instructions, CallgrindError> {
    control("--dump", pid)?;
    let path = PathBuf::from(format!("{}.1", out.display()));
    let text =
        fs::read_to_string(&path).map_err(|source| CallgrindError::Output { path: path.clone(), source })?;
    let counts = count(&text);
    if counts.is_empty() {
        return Err(CallgrindError::Empty { path });
    }
    let by_part: BTreeMap<Part, f64> =
        counts.into_iter().map(|(part, count)| (part, count as f64 / requests.max(1) as f64)).collect();
    let per_request = by_part.iter().filter(|&(&part, _)| part != Part::Background).map(|(_, n)| n).sum();
    Ok(Instructions { requests, per_request, by_part })
}

fn control(action: &'static str, pid: Pid) -> Result<(), CallgrindError> {
    let failed = |what: String| CallgrindError::Control { action, what };
    let output = Command::new("callgrind_control")
        .args([action, &pid.as_raw_nonzero().to_string()])
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // It ends with 0 whether or not it has found the process.
    if output.status.success() && said.contains("OK.") { Ok(()) } else { Err(failed(said.into_owned())) }
}

/// Adds up the self costs of a callgrind profile (its format: valgrind manual, "Callgrind Format Specification").
fn count(profile: &str) -> BTreeMap<Part, u64> {
    let mut counts = BTreeMap::new();
    let (mut home, mut file, mut function) = ("", "", "");
    let mut skip = false;
    for line in profile.lines() {
        if let Some((key, value)) = line.split_once('=') {
            match key {
                "fl" => (home, file) = (value, value),
                // Lines inlined from another file, and the way back.
                "fi" | "fe" => file = value,
                "fn" => function = value,
                // The next line is what the callee has cost: it is counted there.
                "calls" => skip = true,
                _ => {}
            }
            continue;
        }
        let mut words = line.split(' ');
        let position = words.next().unwrap_or_default();
        if !position.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '*')) {
            continue;
        }
        if std::mem::take(&mut skip) {
            continue;
        }
        let cost: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
        let part = Part::of(file, "").or_else(|| Part::of(home, function)).unwrap_or(Part::Other);
        *counts.entry(part).or_default() += cost;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_go_to_the_file_of_the_line_and_calls_count_once() {
        let profile = "\
version: 1
creator: callgrind-3.19.0
positions: line
events: Ir

ob=/usr/bin/florin
fl=/src/florin/src/drivers/ring/mod.rs
fn=florin::drivers::ring::RingDriver::turn
10 100
fi=/src/florin/src/shard/table.rs
20 30
fi=/rustc/abc/library/core/src/ptr/mod.rs
30 7
fe=/src/florin/src/drivers/ring/mod.rs
11 1
cfn=florin_core::wire::encode::Encoder::balance
cfi=/src/florin/src/wire/encode/mod.rs
calls=5 77
12 500

fl=/src/florin/src/wire/encode/mod.rs
fn=florin_core::wire::encode::Encoder::balance
77 500

fl=/src/florin/src/wire/frame.rs
fn=florin_core::wire::frame::parse
5 60

fl=???
fn=memcpy
0 9

fl=/registry/libsqlite3-sys-0.35.0/sqlite3/sqlite3.c
fn=sqlite3VdbeExec
1 1000

totals: 1707
";
        let counts = count(profile);
        let expected = [
            (Part::Parse, 60),
            (Part::Lookup, 30),
            (Part::Encode, 500),
            (Part::Driver, 108),
            (Part::Other, 9),
            (Part::Background, 1_000),
        ];
        assert_eq!(counts, BTreeMap::from(expected));
        assert_eq!(counts.values().sum::<u64>(), 1_707);
    }
}
