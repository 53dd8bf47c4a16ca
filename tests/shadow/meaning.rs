//! What is compared is what answers mean: whatever they are packed in, and on whichever side of a window's boundary.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, RwLock};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::faulty::{Reaction, between, serve};
use crate::shadow::{Caller, Ended, Shadow, generated, http};
use crate::support::{Server, wait_for};

const BODY: &str =
    r#"{"user_id":"1","version":"7","balances":[{"asset":"COIN","available":"1200","held":"0"}]}"#;

/// An answer whose body is packed.
fn packed(coding: &str, body: &[u8]) -> Reaction {
    let coding = if coding.is_empty() { String::new() } else { format!("Content-Encoding: {coding}\r\n") };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nFlorin-Version: 7\r\n{coding}Content-Length: {}\r\n\r\n",
        body.len()
    );
    Reaction::Bytes([head.as_bytes(), body].concat())
}

fn gzip(text: &str, level: u32) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::new(level));
    packer.write_all(text.as_bytes()).expect("a vector takes all");
    packer.finish().expect("a vector takes all")
}

fn deflate(text: &str) -> Vec<u8> {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::best());
    packer.write_all(text.as_bytes()).expect("a vector takes all");
    packer.finish().expect("a vector takes all")
}

/// Both sides' answers to one request, in a whole run.
fn judged(primary: (&'static str, Vec<u8>), candidate: (&'static str, Vec<u8>)) -> Ended {
    let primary = serve(move |_| packed(primary.0, &primary.1));
    let candidate = serve(move |_| packed(candidate.0, &candidate.1));
    let folder = TempDir::new().expect("a temporary folder");
    let shadow = Shadow::start(folder.path(), &http(primary), &http(candidate), &[]);
    let mut caller = TcpStream::connect(shadow.listen).expect("it listens");
    caller.write_all(b"GET /v1/users/1/balance HTTP/1.1\r\nHost: t\r\n\r\n").expect("a connection");
    caller.shutdown(Shutdown::Write).expect("a connection");
    let mut answer = Vec::new();
    caller.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    shadow.settled(1);
    shadow.end()
}

#[test]
fn packed_bodies_are_compared_by_what_they_say() {
    let plain = || ("", BODY.as_bytes().to_vec());
    for (primary, candidate, bytes) in [
        (("gzip", gzip(BODY, 9)), ("gzip", gzip(BODY, 9)), "identical"),
        (("gzip", gzip(BODY, 9)), ("gzip", gzip(BODY, 0)), "coding"),
        (("gzip", gzip(BODY, 9)), ("deflate", deflate(BODY)), "coding"),
        (("gzip", gzip(BODY, 9)), plain(), "coding"),
        (plain(), ("gzip", gzip(&BODY.replace(',', ", "), 9)), "spelling"),
    ] {
        let ended = judged(primary, candidate);
        ended.assert_same();
        assert_eq!(ended.verdict["endpoints"]["balance"]["bytes"][bytes], 1, "{:#}", ended.verdict);
    }
    let wrong = judged(("gzip", gzip(BODY, 9)), ("gzip", gzip(&BODY.replace("1200", "1201"), 9)));
    assert_eq!((wrong.code, wrong.reason("mismatch", "content")), (Some(20), 1), "{:#}", wrong.verdict);
    // Evidence shows what was said, not what it was packed in.
    assert!(
        wrong.mismatches[0]["candidate"]["body"].as_str().expect("a body").contains("\"available\":\"1201\"")
    );
}

#[test]
fn what_cannot_be_unpacked_is_never_equal() {
    let cut = || {
        let mut bytes = gzip(BODY, 9);
        bytes.truncate(bytes.len() - 5);
        ("gzip", bytes)
    };
    let candidate = judged(("gzip", gzip(BODY, 9)), cut());
    assert_eq!((candidate.code, candidate.reason("candidate_error", "protocol")), (Some(20), 1));
    for (primary, candidate) in
        [(cut(), ("gzip", gzip(BODY, 9))), (("gzip", gzip(BODY, 9)), ("compress", gzip(BODY, 9)))]
    {
        assert_eq!(judged(primary, candidate).code, Some(20));
    }
    // Not even where both say the same bytes.
    let both = judged(cut(), cut());
    assert_eq!((both.code, both.count("equal")), (Some(20), 0), "{:#}", both.verdict);
}

const BEFORE: &str = "2026-11-22T10:59:59.9Z";
const AFTER: &str = "2026-11-22T11:00:00.1Z";
const USERS: u64 = 60;

/// Statistics of every user, asked when the shadow's clock stands a little before eleven. The primary answers from the old
/// hour at first, and from the new one when it is asked again; the candidate, as its clock has it, once eleven has struck.
/// `None` where the machine was so slow that eleven had struck before all were asked.
fn across_the_hour(begin: &str, candidates_clock: &str) -> Option<Ended> {
    let folder = generated(USERS, 6_000, "2026-11-22T10:30:00Z");
    let node = |now: &str| Server::start(folder.path(), &["--shards", "1", "--now", now]);
    let (before, after, candidate) = (node(BEFORE), node(AFTER), node(candidates_clock));
    let asked = Mutex::new(HashSet::new());
    let new = after.any;
    let primary = between(before.any, move |request, answer| {
        let is_first = asked.lock().expect("no panic").insert(request.target.clone());
        if !is_first {
            *answer = Caller::connect(new).get(&request.target);
        }
        None
    });
    let gate = Arc::new(RwLock::new(()));
    let closed = gate.write().expect("no panic");
    let waits = Arc::clone(&gate);
    let candidate = between(candidate.any, move |_, answer| {
        drop(waits.read().expect("no panic"));
        // Its clock may be wrong, but not what it says of that: an hour ahead it would be found by this alone.
        let stated = answer.head.lines().find(|line| line.starts_with("Florin-As-Of")).map(str::to_owned);
        if let Some(stated) = stated {
            answer.head = answer.head.replace(&stated, &format!("Florin-As-Of: {AFTER}"));
        }
        None
    });
    let config = "[mirror]\nin-flight = 1000\ntimeout-ms = 60000\n[catch-up]\nbudget-ms = 60000\n";
    let more = ["--now", begin];
    let shadow = Shadow::configured(&folder, [&http(primary), &http(candidate)], config, &more);
    let mut caller = Caller::connect(shadow.listen);
    for user in 0..USERS {
        assert!(matches!(caller.get(&format!("/v1/users/{user}/statistics")).status, 200 | 404));
    }
    let now = || -> Timestamp { shadow.state()["until"].as_str().expect("a time").parse().expect("a time") };
    if now() >= BEFORE.parse().expect("a time") {
        return None;
    }
    // Past eleven by more than clocks may differ.
    let struck: Timestamp = "2026-11-22T11:00:00.2Z".parse().expect("a time");
    wait_for("eleven", || (now() >= struck).then_some(()));
    drop(closed);
    shadow.settled(USERS);
    Some(shadow.end())
}

fn whatever_the_machine_takes(candidates_clock: &str) -> Ended {
    let begins = ["2026-11-22T10:59:58Z", "2026-11-22T10:59:50Z", "2026-11-22T10:59:20Z"];
    let ended = begins.iter().find_map(|begin| across_the_hour(begin, candidates_clock));
    ended.expect("forty seconds are enough for so few questions")
}

#[test]
fn a_windows_boundary_between_the_two_answers_is_recognised() {
    let ended = whatever_the_machine_takes(AFTER);
    ended.assert_same();
    assert!(ended.reason("caught_up", "window_boundary") > 0, "{:#}", ended.verdict);
    assert_eq!(ended.count("equal") + ended.count("caught_up"), USERS);
}

#[test]
fn a_boundary_excuses_no_window_that_is_off_by_one_bucket() {
    let ended = whatever_the_machine_takes("2026-11-22T12:00:00.1Z");
    assert_eq!(ended.code, Some(20));
    assert!(ended.reason("mismatch", "window_content") > 0, "{:#}", ended.verdict);
    assert_eq!(ended.count("not_comparable"), 0, "{:#}", ended.verdict);
}
