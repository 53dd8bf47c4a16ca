//! The guard over a candidate that serves, and the schedule that raises its share.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use jiff::{SignedDuration, Timestamp};

use crate::cutover::{EVERYBODY, PATIENT, USERS, direct_status, sides, stage};
use crate::faulty::{Reaction, between};
use crate::shadow::{Caller, Shadow, generated, http};
use crate::support::{Server, wait_for};

/// Callers that ask without end while `during` runs; each has to be answered. Says also how often they have asked.
fn with_callers<T>(listen: SocketAddr, during: impl FnOnce() -> T) -> (T, u64) {
    /// Enough for one that waits for the candidate not to keep the others from asking.
    const CALLERS: u64 = 8;
    let (ends, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let outcome = thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (ends, asked) = (&ends, &asked);
            scope.spawn(move || {
                let mut connection = Caller::connect(listen);
                for user in (caller..).step_by(7) {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    let answer = connection.get(&format!("/v1/users/{}/balance", user % USERS));
                    assert!(matches!(answer.status, 200 | 404), "{}", answer.head);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Callers end also where `during` fails.
        let outcome = catch_unwind(AssertUnwindSafe(during));
        ends.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    });
    (outcome, asked.into_inner())
}

#[test]
fn the_guard_takes_the_share_back_and_says_why() {
    let body = |text: &str| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nFlorin-Version: 1\r\nContent-Length: {}",
            text.len()
        );
        Reaction::Bytes(format!("{head}\r\n\r\n{text}").into_bytes())
    };
    type Defect = Box<dyn Fn() -> Reaction + Send + Sync>;
    let breaches: [(&str, &str, Defect, &str); 3] = [
        (
            "error-rate-max = 1.0",
            "error-rate-max = 0.0",
            Box::new(|| Reaction::Bytes(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec())),
            "it failed ",
        ),
        (
            "p99-ms-max = 20000.0",
            "p99-ms-max = 300.0",
            Box::new(|| Reaction::Hang),
            "it took longer than 300.0 ms for ",
        ),
        (
            "mismatch-rate-max = 1.0",
            "mismatch-rate-max = 0.0",
            Box::new(move || body(r#"{"wrong":true}"#)),
            "it was wrong in ",
        ),
    ];
    for (patient, strict, failure, why) in breaches {
        // Only this bound is ever exceeded.
        let config = PATIENT.replace(patient, strict).replace("timeout-ms = 20000", "timeout-ms = 2000");
        let stage = stage("100%", &config, failure);
        let mut caller = Caller::connect(stage.shadow.listen);
        assert!(sides(&mut caller).values().all(|served| *served));
        let (state, asked) = with_callers(stage.shadow.listen, || {
            stage.fails.store(true, Ordering::Relaxed);
            wait_for("the guard", || {
                let state = stage.shadow.state();
                (state["serve"]["candidate_percent"] == 0.0).then_some(state)
            })
        });
        stage.fails.store(false, Ordering::Relaxed);
        let line = "goes back from 100% to 0%";
        wait_for("the guard's line", || {
            let log = stage.shadow.logged();
            log.lines().any(|logged| logged.contains(line) && logged.contains(why)).then_some(())
        });
        assert!(state["serve"]["rolled_back"].as_str().expect("a reason").contains(why), "{state:#}");
        assert!(sides(&mut caller).values().all(|served| !served), "it stays back until somebody decides");
        // What was wrong before and is found only now would be the next breach.
        stage.shadow.settled(asked + 2 * USERS);
        stage.shadow.serve("100%");
        assert!(sides(&mut caller).values().all(|served| *served), "{}", stage.shadow.logged());
    }
}

#[test]
fn a_schedule_raises_the_share_by_itself_and_native_candidates_serve_json() {
    let folder = generated(USERS, 5_000, "2026-11-22T10:30:00Z");
    let node = Server::start(folder.path(), &["--shards", "1", "--now", "2026-11-22T10:30:00Z"]);
    let config = format!(
        "{PATIENT}answers-before-step = 3\nschedule = [{{ after-seconds = 0, share = \"50%\" }}, {{ after-seconds = 1, share = \"100%\" }}]\n"
    );
    let candidate = format!("florin://{}", node.any);
    let shadow = Shadow::configured(&folder, [&http(node.any), &candidate], &config, &[]);
    let mut caller = Caller::connect(shadow.listen);
    // Nobody has asked yet: there is nothing that a step could rest on, however much it is due.
    wait_for("the step to be held", || {
        shadow.logged().contains("to 50% waits: 0 of 3 answers have been compared").then_some(())
    });
    assert_eq!(shadow.state()["serve"]["candidate_percent"], 0.0);
    let known = |user: &u64| direct_status(node.any, *user) == 200;
    let known: Vec<u64> = (0..USERS).filter(known).take(3).collect();
    let mut asked = 0;
    for share in [50.0, 100.0] {
        for user in &known {
            caller.get(&format!("/v1/users/{user}/balance"));
            asked += 1;
        }
        wait_for("the schedule", || (shadow.state()["serve"]["candidate_percent"] == share).then_some(()));
    }
    shadow.settled(asked);
    let served = shadow.state()["serve"]["served"].as_u64().expect("a count");
    let mut direct = Caller::connect(node.any);
    for target in ["/v1/users/5/balance", "/v1/users/5/statistics?window=7d", "/v1/users/987654/balance"] {
        let (through, around) = (caller.get(target), direct.get(target));
        assert_eq!((through.status, through.body), (around.status, around.body), "{target}");
        assert!(through.head.contains("content-type: application/"), "{}", through.head);
    }
    let ids = r#"{"user_ids":["7","987654"]}"#;
    let ask = |caller: &mut Caller| caller.ask("POST", "/v1/balances:batchGet", ids).expect("an answer").body;
    assert_eq!(ask(&mut caller), ask(&mut direct));
    shadow.settled(asked + 4);
    let ended = shadow.end();
    ended.assert_same();
    assert_eq!(ended.verdict["serve"]["served"], served + 4);
}

/// A shadow that was killed after its guard had acted came back with the old share, an empty list of mismatches, and a good end.
#[test]
fn a_breach_and_its_evidence_survive_a_kill() {
    let folder = generated(USERS, 5_000, "2026-11-22T10:30:00Z");
    let node = Server::start(folder.path(), &["--shards", "1"]);
    let candidate = between(node.any, |_, answer| {
        answer.body = answer.body.replace("\"available\":\"", "\"available\":\"9");
        None
    });
    let strict = PATIENT.replace("mismatch-rate-max = 1.0", "mismatch-rate-max = 0.0");
    let half = ["--serve", "candidate=50%"];
    let start = || Shadow::configured(&folder, [&http(node.any), &http(candidate)], &strict, &half);
    let shadow = start();
    let (_, asked) = with_callers(shadow.listen, || {
        wait_for("the guard", || (shadow.state()["serve"]["candidate_percent"] == 0.0).then_some(()));
    });
    // Somebody else in the same folder would take this one's evidence for its own.
    let sides = [
        "shadow",
        "--listen",
        "127.0.0.1:0",
        "--primary",
        "http://127.0.0.1:1",
        "--candidate",
        "http://127.0.0.1:1",
    ];
    let other = crate::support::run(folder.path(), &[&sides[..], &["--report", "report"]].concat());
    assert!(other.refused(1).contains("another shadow writes into"));
    shadow.settled(asked);
    shadow.kill();
    let first = folder.path().join("report/run-000001/mismatches.jsonl");
    let found = std::fs::read_to_string(&first).expect("evidence").lines().count();
    assert!(found > 0);
    let shadow = start();
    let state = shadow.state();
    assert_eq!(state["serve"]["candidate_percent"], 0.0, "{state:#}");
    assert!(state["serve"]["rolled_back"].as_str().expect("a reason").contains("it was wrong in"));
    let ended = shadow.end();
    assert_eq!(ended.code, Some(20), "{:#}", ended.verdict);
    assert_eq!(ended.verdict["cut_runs"][0]["mismatches"], found);
    assert_eq!(std::fs::read_to_string(&first).expect("evidence").lines().count(), found);
    // It stays back until somebody raises it by hand, and that is kept as well.
    let shadow = start();
    assert!(shadow.serve("5%").starts_with("HTTP/1.1 200"));
    shadow.kill();
    let state = start().state();
    assert_eq!(
        (&state["serve"]["candidate_percent"], &state["serve"]["rolled_back"]),
        (&5.0.into(), &serde_json::Value::Null)
    );
    let forgetful = crate::support::run(folder.path(), &[&sides[..], &["--serve", "candidate=5%"]].concat());
    assert!(forgetful.refused(2).contains("needs a --report folder"));
}

/// A candidate that was five seconds behind, by its own words, once served all that it was asked.
#[test]
fn a_candidate_that_is_behind_is_stopped() {
    let behind = PATIENT.replace("stale-rate-max = 1.0", "stale-rate-max = 0.01");
    let folder = generated(USERS, 5_000, "2026-11-22T10:30:00Z");
    let node = Server::start(folder.path(), &["--shards", "1"]);
    let candidate = between(node.any, |_, answer| {
        let line = answer.head.lines().find(|line| line.starts_with("Florin-As-Of: ")).map(str::to_owned);
        let old = Timestamp::now() - SignedDuration::from_secs(5);
        if let Some(line) = line {
            answer.head = answer.head.replace(&line, &format!("Florin-As-Of: {old}"));
        }
        None
    });
    let shadow = Shadow::configured(&folder, [&http(node.any), &http(candidate)], &behind, &EVERYBODY);
    with_callers(shadow.listen, || {
        wait_for("the guard", || {
            let why = shadow.state()["serve"]["rolled_back"].clone();
            why.as_str().is_some_and(|why| why.contains("it was older than 1000 ms in")).then_some(())
        });
    });
}
