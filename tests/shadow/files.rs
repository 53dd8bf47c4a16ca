//! Recordings, replays, and evidence without names.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::faulty::{Reaction, between, serve};
use crate::shadow::{Caller, Shadow, generated, http};
use crate::support::{Ended, Server, florin, run, wait_for};

const NOW: &str = "2026-11-22T10:30:00Z";

/// Records what a caller asks of `primary`, all of it.
fn record(folder: &Path, primary: &str, ask: impl FnOnce(&mut Caller)) {
    let (code, out) = recording(folder, primary, ask);
    assert_eq!((code, out.contains("recorded ")), (Some(0), true), "{out}");
}

/// The same; how it ended, and what it said.
fn recording(folder: &Path, primary: &str, ask: impl FnOnce(&mut Caller)) -> (Option<i32>, String) {
    use std::io::{BufRead, BufReader, Read};
    let arguments = ["shadow", "record", "traffic.jsonl", "--listen", "127.0.0.1:0", "--primary", primary];
    let mut child = florin(folder, &arguments).stdout(Stdio::piped()).spawn().expect("the command was built");
    let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    while !line.starts_with("  listen") {
        line.clear();
        assert!(out.read_line(&mut line).expect("UTF-8") > 0, "it ended before it listened");
    }
    let listen = line.trim().rsplit("http://").next().expect("an address").parse().expect("an address");
    ask(&mut Caller::connect(listen));
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let code = wait_for("the recording's end", || child.try_wait().expect("our own child")).code();
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("UTF-8");
    (code, rest)
}

#[test]
fn a_recording_that_lacks_a_request_does_not_end_well() {
    let primary =
        http(serve(|_| Reaction::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec())));
    let folder = TempDir::new().expect("a temporary folder");
    let (code, out) = recording(folder.path(), &primary, |caller| {
        caller.get("/short");
        // Longer than what is copied.
        let long = "x".repeat(100 << 10);
        assert_eq!(caller.ask("GET", "/long", &long).expect("an answer").status, 200);
    });
    assert_eq!((code, out.contains("recorded ")), (Some(21), false), "{out}");
    let kept = fs::read_to_string(folder.path().join("traffic.jsonl")).expect("a recording");
    assert!(kept.contains("/short") && !kept.contains("/long"), "{kept}");
}

fn replay(folder: &Path, file: &str, primary: &str, candidate: &str, more: &[&str]) -> (Ended, Value) {
    let common =
        ["shadow", "replay", file, "--primary", primary, "--candidate", candidate, "--report", "replayed"];
    let ended = run(folder, &[&common, more].concat());
    let verdict = fs::read_to_string(folder.join("replayed/latest/verdict.json")).expect("a verdict");
    (ended, serde_json::from_str(&verdict).expect("JSON"))
}

#[test]
fn a_recording_replays_to_the_same_verdicts_and_a_mismatch_by_itself() {
    let folder = generated(200, 3_000, NOW);
    let node = Server::start(folder.path(), &["--shards", "1", "--now", NOW]);
    let wrong = between(node.any, |asked, answer| {
        if asked.target.starts_with("/v1/users/7/statistics") {
            answer.body = answer.body.replace("\"credit_count\":\"", "\"credit_count\":\"9");
        }
        None
    });
    let (primary, right, wrong) = (http(node.any), format!("florin://{}", node.any), http(wrong));
    record(folder.path(), &primary, |caller| {
        for user in 0..200 {
            caller.get(&format!("/v1/users/{user}/balance"));
            caller.get(&format!("/v1/users/{user}/statistics"));
        }
        caller.ask("POST", "/v1/balances:batchGet", r#"{"user_ids":["1","2"]}"#).expect("an answer");
        assert_eq!(caller.ask("POST", "/v1/transactions", "{}").expect("an answer").status, 404);
    });
    for _ in 0..2 {
        let (ended, verdict) = replay(folder.path(), "traffic.jsonl", &primary, &right, &[]);
        // All the same, and not much of it.
        assert_eq!(ended.code, Some(22), "{ended:?} {verdict:#}");
        assert_eq!((&verdict["verdicts"]["equal"], &verdict["requests"]), (&401.into(), &401.into()));
    }
    let mut found = Vec::new();
    for speed in ["max", "1000x"] {
        let (ended, verdict) = replay(folder.path(), "traffic.jsonl", &primary, &wrong, &["--speed", speed]);
        assert_eq!(ended.code, Some(20), "{ended:?}");
        found.push((verdict["verdicts"].clone(), verdict["reasons"].clone()));
        assert_eq!(verdict["verdicts"]["mismatch"], 1, "{verdict:#}");
    }
    assert_eq!(found[0], found[1]);
    // The mismatch is a recording of its own: a regression test.
    let line =
        fs::read_to_string(folder.path().join("replayed/latest/mismatches.jsonl")).expect("mismatches");
    let line: Value = serde_json::from_str(line.trim()).expect("one line of JSON");
    let alone = folder.path().join(line["recording"].as_str().expect("a path")).display().to_string();
    let reproduce = line["reproduce"].as_str().expect("a command");
    assert!(reproduce.contains(&format!("'{primary}/v1/users/7/statistics'")), "{reproduce}");
    let kept = folder.path().join("regression.jsonl");
    fs::copy(alone, &kept).expect("a copy");
    let (ended, verdict) = replay(folder.path(), "regression.jsonl", &primary, &wrong, &[]);
    assert_eq!((ended.code, &verdict["verdicts"]["mismatch"]), (Some(20), &1.into()));
    let (ended, verdict) = replay(folder.path(), "regression.jsonl", &primary, &right, &[]);
    assert_eq!((ended.code, &verdict["verdicts"]["equal"]), (Some(22), &1.into()));
}

#[test]
fn redacted_evidence_names_nobody() {
    let folder = TempDir::new().expect("a temporary folder");
    let rows = "transaction_id,user_id,asset,kind,amount,occurred_at\n\
        00000000-0000-4000-8000-000000000001,77001122,COIN,recharge,1500,2026-11-20T10:00:00Z\n\
        00000000-0000-4000-8000-000000000002,88113344,COIN,recharge,1600,2026-11-20T10:00:00Z\n";
    crate::support::write(folder.path(), "rows.csv", rows);
    run(folder.path(), &["import", "rows.csv"]).ok();
    let node = Server::start(folder.path(), &["--shards", "1"]);
    let wrong = between(node.any, |_, answer| {
        answer.body = answer.body.replace("1500", "1501");
        None
    });
    crate::support::write(folder.path(), "key", "000102030405060708090a0b0c0d0e0f\n");
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(folder.path().join("key"), own).expect("a file of its own");
    let config = "[redact]\nkey-file = \"key\"\n";
    let shadow = Shadow::configured(&folder, [&http(node.any), &http(wrong)], config, &["--redact"]);
    let mut caller = Caller::connect(shadow.listen);
    caller.get("/v1/users/77001122/balance");
    caller.get("/v1/users/88113344/balance");
    caller
        .ask("POST", "/v1/balances:batchGet", r#"{"user_ids":["88113344","77001122"]}"#)
        .expect("an answer");
    let state = shadow.settled(3).to_string();
    let metrics = crate::support::get(shadow.admin, "/metrics");
    assert!(
        metrics.contains("florin_shadow_verdicts_total{endpoint=\"balance\",verdict=\"mismatch\"} 1\n"),
        "{metrics}"
    );
    let ended = shadow.end();
    assert_eq!(ended.count("mismatch"), 2);
    let mut texts = vec![state, metrics, ended.log];
    for file in ["verdict.json", "mismatches.jsonl", "report.html"] {
        texts.push(fs::read_to_string(folder.path().join("report/latest").join(file)).expect("a file"));
    }
    for text in &texts {
        assert!(!text.contains("77001122") && !text.contains("88113344"), "{text}");
    }
    // Who has the key can look for somebody: SipHash-2-4 of the id.
    let name = |line: &Value| line["request"]["target"].as_str().expect("a target").to_owned();
    // Which of them was judged first is nobody's promise.
    let of = |path: &str| {
        let found = ended.mismatches.iter().find(|line| name(line).starts_with(path));
        found.unwrap_or_else(|| panic!("no mismatch of {path}"))
    };
    let hidden = name(of("/v1/users/"));
    assert!(hidden.starts_with("/v1/users/user-") && hidden.ends_with("/balance"), "{hidden}");
    let hash = hidden.trim_start_matches("/v1/users/").trim_end_matches("/balance").to_owned();
    assert!(of("/v1/balances:")["request"]["body"].as_str().expect("a body").contains(&hash));
    assert!(!folder.path().join("report/latest/mismatches").exists(), "a recording would name its user");
}

#[test]
fn a_replay_that_ends_early_is_not_complete() {
    let folder = generated(50, 500, NOW);
    let node = Server::start(folder.path(), &["--shards", "1", "--now", NOW]);
    let primary = http(node.any);
    record(folder.path(), &primary, |caller| {
        for user in 0..50 {
            caller.get(&format!("/v1/users/{user}/balance"));
        }
    });
    let verdict = || -> Value {
        let text = fs::read_to_string(folder.path().join("replayed/latest/verdict.json")).expect("a verdict");
        serde_json::from_str(&text).expect("JSON")
    };
    // So slowly that only its first request is asked before a signal ends it.
    let arguments = [
        "shadow",
        "replay",
        "traffic.jsonl",
        "--primary",
        &primary,
        "--candidate",
        &primary,
        "--report",
        "replayed",
        "--speed",
        "0.000001x",
        "--log",
        "info",
    ];
    let asked = || crate::support::get(node.admin, "/metrics");
    let balance = |metrics: &str| {
        metrics.lines().filter(|line| line.contains("requests_total")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = balance(&asked());
    let mut child =
        florin(folder.path(), &arguments).stderr(Stdio::null()).spawn().expect("the command was built");
    wait_for("the replay to begin", || {
        folder.path().join("replayed/latest/mismatches.jsonl").exists().then_some(())
    });
    wait_for("its first question", || (balance(&asked()) != before).then_some(()));
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let code = wait_for("the replay's end", || child.try_wait().expect("our own child")).code();
    assert_eq!((code, verdict()["complete"].as_bool()), (Some(21), Some(false)), "{:#}", verdict());
    // A line in the midst that is none: what comes after it was never asked.
    let mut lines: Vec<String> = fs::read_to_string(folder.path().join("traffic.jsonl"))
        .expect("a recording")
        .lines()
        .map(str::to_owned)
        .collect();
    lines[20] = "{}".to_owned();
    fs::write(folder.path().join("broken.jsonl"), lines.join("\n") + "\n").expect("a file");
    let (ended, verdict) = replay(folder.path(), "broken.jsonl", &primary, &primary, &[]);
    assert!(ended.refused(1).contains("line 21: missing field"));
    assert_eq!(verdict["complete"], false, "{verdict:#}");
    // A recorder that was killed leaves half a line, or none, and a file may lose some: once that replayed as complete.
    let whole = fs::read(folder.path().join("traffic.jsonl")).expect("a recording");
    fs::write(folder.path().join("torn.jsonl"), &whole[..whole.len() - 7]).expect("a file");
    let text = String::from_utf8(whole).expect("UTF-8");
    let lacking: Vec<&str> =
        text.lines().enumerate().filter(|(at, _)| *at != 20).map(|(_, line)| line).collect();
    fs::write(folder.path().join("lacking.jsonl"), lacking.join("\n") + "\n").expect("a file");
    let cut: Vec<&str> = text.lines().take(50).collect();
    fs::write(folder.path().join("cut.jsonl"), cut.join("\n") + "\n").expect("a file");
    for (damaged, requests, says) in [
        ("torn.jsonl", 50, "breaks off"),
        ("lacking.jsonl", 49, "is damaged"),
        ("cut.jsonl", 49, "is cut after line 50"),
    ] {
        let (ended, verdict) = replay(folder.path(), damaged, &primary, &primary, &[]);
        assert_eq!(verdict["complete"], false, "{damaged}: {verdict:#}");
        assert_eq!(verdict["requests"], requests);
        assert!(ended.refused(24).contains(says), "{damaged}");
    }
}

/// A FIFO without a writer held the start for ever, and a replay that read one could not be ended.
#[test]
fn a_file_without_an_end_holds_nothing_up() {
    let folder = TempDir::new().expect("a temporary folder");
    let fifo = |name: &str| {
        let path = folder.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).expect("a FIFO");
        path
    };
    let fifo = (fifo("config"), fifo("key"), fifo("traffic"));
    fs::write(folder.path().join("s.toml"), "[redact]\nkey-file = \"key\"\n").expect("a file");
    let sides = ["--primary", "http://127.0.0.1:1", "--candidate", "http://127.0.0.1:1"];
    let shadow = |more: &[&str]| {
        run(folder.path(), &[&["shadow", "--listen", "127.0.0.1:0"], &sides[..], more].concat()).refused(2)
    };
    assert!(shadow(&["--config", "config"]).contains("its end did not come within"));
    assert!(shadow(&["--config", "s.toml", "--redact"]).contains("redact.key-file: cannot read key"));
    let record =
        ["shadow", "record", "traffic", "--listen", "127.0.0.1:0", "--primary", "http://127.0.0.1:1"];
    assert!(run(folder.path(), &record).refused(2).contains("is no recording of florin's"));
    let replay = [&["shadow", "replay", "traffic", "--report", "replayed"], &sides[..]].concat();
    let mut child = florin(folder.path(), &replay).spawn().expect("the command was built");
    // Its writer may open it once it is being read, and then says nothing.
    let writer = fs::File::options().write(true).open(&fifo.2).expect("it is read");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let code = wait_for("the replay's end", || child.try_wait().expect("our own child")).code();
    assert_eq!(code, Some(21), "nothing was compared");
    drop(writer);
}

/// A shadow emptied `lock` and replaced `latest`, whatever they were.
#[test]
fn what_stands_in_a_reports_folder_is_left_as_it_is() {
    let folder = TempDir::new().expect("a temporary folder");
    let report = folder.path().join("report");
    fs::create_dir(&report).expect("a folder");
    for name in ["latest", "lock"] {
        fs::write(report.join(name), "mine").expect("a file");
    }
    let start = ["shadow", "--listen", "127.0.0.1:0", "--primary", "http://127.0.0.1:1"];
    let start = [&start[..], &["--candidate", "http://127.0.0.1:1", "--report", "report"]].concat();
    assert!(run(folder.path(), &start).refused(1).contains("latest is there already"));
    for name in ["latest", "lock"] {
        assert_eq!(fs::read_to_string(report.join(name)).expect("a file"), "mine");
    }
}
