//! The log as an operator reads it, and as what collects logs does: one line for each start, change of state, refusal and end.

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Server, florin, folder_with_ledger, get, run, wait_for};

/// A node whose log goes into a file.
fn start(folder: &Path, more: &[&str]) -> (Server, PathBuf) {
    let path = folder.join("log");
    let free =
        ["serve", "--listen", "127.0.0.1:0", "--shard-listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut command: Command = florin(folder, &[&free, more].concat());
    command.stderr(File::create(&path).expect("a writable folder"));
    (Server::spawn(command), path)
}

/// The lines so far, each of which is an object.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("the log");
    // The last may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

fn message(line: &Value) -> &str {
    line["message"].as_str().expect("each line has one")
}

/// The first line that begins so.
fn wait_for_line(path: &Path, beginning: &str) -> Value {
    wait_for(beginning, || lines(path).into_iter().find(|line| message(line).starts_with(beginning)))
}

#[test]
fn a_nodes_life_is_told_in_json_and_in_the_words_of_readyz() {
    let folder = folder_with_ledger();
    let (server, log) = start(folder.path(), &["--log-format", "json", "--shards", "1"]);
    let started = wait_for_line(&log, "started: ");
    assert_eq!((&started["shards"], &started["level"]), (&1.into(), &"INFO".into()), "{started}");
    wait_for_line(&log, "ready: ");
    // The ledger goes, and comes back.
    let (ledger, away) = (folder.path().join("florin.db"), folder.path().join("away.db"));
    std::fs::rename(&ledger, &away).expect("a ledger");
    let lost = wait_for_line(&log, "not ready: the ledger cannot be read: ");
    let answer = get(server.admin, "/readyz");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let body: Value = serde_json::from_str(body).expect("JSON");
    let reason = body["reasons"][0].as_str().expect("a reason");
    assert!(message(&lost).contains(reason), "{lost} {reason}");
    assert_eq!(lost["level"], "WARN");
    server.signal(Signal::TERM);
    server.ended();
    let all = lines(&log);
    let of = |beginning: &str| all.iter().filter(|line| message(line).starts_with(beginning)).count();
    assert_eq!(
        (of("started: "), of("not ready: the ledger cannot"), of("SIGTERM: "), of("ended: ")),
        (1, 1, 1, 1),
        "{all:?}"
    );
}

#[test]
fn a_refusal_is_json_where_json_is_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let free = ["--listen", "127.0.0.1:0", "--shard-listen", "127.0.0.1:0", "--admin", "off"];
    // Also where the filter lets nothing through: it ended without a word.
    for filter in ["info", "off"] {
        let refused = ["serve", "--ledger", "sqlite:nowhere.db", "--log-format", "json", "--log", filter];
        let ended = run(folder.path(), &[&refused[..], &free].concat());
        assert_eq!(ended.code, Some(15));
        let last: Value = serde_json::from_str(ended.err.lines().last().expect("a line")).expect("JSON");
        assert!(last["exit_code"] == 15 && message(&last).contains("nowhere.db"), "{last}");
        assert!(last["level"] == "ERROR" && last["target"] == "florin::cli", "{last}");
        // To the microsecond, as the other lines are: it was to the nanosecond.
        let (_, fraction) = last["timestamp"].as_str().and_then(|time| time.split_once('.')).expect("a time");
        assert_eq!(fraction.len(), "123456Z".len(), "{last}");
    }
}

#[test]
fn what_waits_for_a_version_is_logged_as_slow_with_what_it_waited_for() {
    let folder = folder_with_ledger();
    let (server, log) =
        start(folder.path(), &["--log-format", "json", "--shards", "2", "--slow-us", "20000"]);
    // Nobody writes a third version: it waits as long as it may.
    let mut stream = TcpStream::connect(server.any).expect("somebody listens");
    write!(stream, "GET /v1/users/1/balance?min_version=3&wait_ms=50 HTTP/1.1\r\nHost: t\r\n\r\n")
        .expect("a connection");
    let line = wait_for("a slow answer", || {
        let mut all = lines(&log).into_iter();
        all.find(|line| message(line).starts_with("slow: GetBalance waited for min_version, in vain"))
    });
    assert!(line["took_us"].as_u64().expect("a number") >= 50_000, "{line}");
}

/// A node whose only file was its audit log said nothing of a SIGHUP.
#[test]
fn each_file_that_is_read_or_opened_anew_is_named() {
    let folder = folder_with_ledger();
    let hang_up = |more: &[&str]| {
        let json = ["--log-format", "json", "--shards", "1", "--audit-log", "audit.jsonl"];
        let (server, log) = start(folder.path(), &[&json, more].concat());
        server.signal(Signal::HUP);
        wait_for_line(&log, "SIGHUP: the audit log is opened anew");
        lines(&log)
            .iter()
            .map(message)
            .filter(|line| line.starts_with("SIGHUP: "))
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(hang_up(&[]), "SIGHUP: the audit log is opened anew");
    run(folder.path(), &["principal", "add", "a", "--may", "balance"]).ok();
    let both = "SIGHUP: the principals were read again; SIGHUP: the audit log is opened anew";
    assert_eq!(hang_up(&["--principals", "principals.toml"]), both);
}
