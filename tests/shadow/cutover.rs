//! Callers that the candidate serves, and the guard over it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use crate::faulty::{Reaction, between, serve};
use crate::shadow::{Caller, Shadow, generated, http};
use crate::support::{Server, wait_for};

const USERS: u64 = 300;

/// Who answers each user, by a header that only the candidate's answers have.
fn sides(caller: &mut Caller) -> BTreeMap<u64, bool> {
    let side = |user: u64| {
        let answer = caller.get(&format!("/v1/users/{user}/balance"));
        // The ledger has not named all of them.
        let is_own = answer.body.starts_with(&format!("{{\"user_id\":\"{user}\""));
        assert!(is_own || answer.status == 404, "{} {}", answer.head, answer.body);
        (user, answer.head.to_ascii_lowercase().contains("x-side: candidate"))
    };
    (0..USERS).map(side).collect()
}

struct Stage {
    _folder: TempDir,
    _node: Server,
    shadow: Shadow,
    /// The candidate fails while this is set.
    fails: Arc<AtomicBool>,
    /// When it first did.
    first_failure: Arc<Mutex<Option<Timestamp>>>,
}

fn stage(share: &str, config: &str, failure: impl Fn() -> Reaction + Send + Sync + 'static) -> Stage {
    let folder = generated(USERS, 5_000, "2026-11-22T10:30:00Z");
    let node = Server::start(folder.path(), &["--shards", "1"]);
    let fails = Arc::new(AtomicBool::new(false));
    let first_failure = Arc::new(Mutex::new(None));
    let (failing, first) = (Arc::clone(&fails), Arc::clone(&first_failure));
    let candidate = between(node.any, move |_, answer| {
        answer.head = answer.head.replacen("\r\n", "\r\nX-Side: candidate\r\n", 1);
        failing.load(Ordering::Relaxed).then(|| {
            first.lock().expect("no panic").get_or_insert_with(Timestamp::now);
            failure()
        })
    });
    std::fs::write(folder.path().join("s.toml"), config).expect("a file");
    let serve = format!("candidate={share}");
    let more = ["--serve", &serve, "--config", "s.toml"];
    let shadow = Shadow::start(folder.path(), &http(node.any), &http(candidate), &more);
    Stage { _folder: folder, _node: node, shadow, fails, first_failure }
}

/// A guard that watches nothing: beside other tests, a candidate may take its time.
const PATIENT: &str =
    "[serve]\ntimeout-ms = 20000\np99-ms-max = 20000.0\nerror-rate-max = 1.0\nmismatch-rate-max = 1.0\n";

#[test]
fn a_user_stays_on_its_side_while_the_share_grows_and_everything_is_compared() {
    let stage = stage("30%", PATIENT, || Reaction::Hang);
    let mut caller = Caller::connect(stage.shadow.listen);
    let first = sides(&mut caller);
    assert_eq!(first, sides(&mut caller), "a user changed its side");
    let served = first.values().filter(|served| **served).count() as u64;
    assert!((USERS / 5..USERS * 2 / 5).contains(&served), "{served} of {USERS} at 30%");
    let answer = stage.shadow.serve("60%");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"candidate\":\"60%\"}"), "{answer}");
    let second = sides(&mut caller);
    assert!(first.iter().all(|(user, served)| !served || second[user]), "a user went back");
    assert!(second.values().filter(|served| **served).count() as u64 > served);
    let wrong = stage.shadow.serve("60");
    assert!(wrong.starts_with("HTTP/1.1 400") && wrong.contains("expected a percentage"), "{wrong}");
    stage.shadow.serve("0%");
    assert!(sides(&mut caller).values().all(|served| !served));
    stage.shadow.settled(4 * USERS);
    let ended = stage.shadow.end();
    ended.assert_same();
    assert_eq!((ended.verdict["requests"].as_u64(), ended.count("equal")), (Some(4 * USERS), 4 * USERS));
}

#[test]
fn what_the_candidate_fails_the_primary_answers() {
    for failure in [
        || Reaction::Last(Vec::new()),
        || Reaction::Hang,
        || Reaction::Bytes(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
    ] {
        let config = PATIENT.replace("timeout-ms = 20000", "timeout-ms = 100")
            + "[mirror]\ntimeout-ms = 100\nqueue = 100000\nin-flight = 500\n";
        let stage = stage("10%", &config, failure);
        stage.fails.store(true, Ordering::Relaxed);
        let mut caller = Caller::connect(stage.shadow.listen);
        assert!(sides(&mut caller).values().all(|served| !served), "each was answered by the primary");
        stage.shadow.settled(USERS);
        let ended = stage.shadow.end();
        assert!(ended.verdict["serve"]["fell_back"].as_u64().expect("a count") > 0);
        assert_eq!(ended.count("candidate_error"), USERS, "{:#}", ended.verdict);
    }
}

/// Callers that ask without end while `during` runs; each has to be answered.
fn with_callers<T>(listen: SocketAddr, during: impl FnOnce() -> T) -> T {
    /// Enough for one that waits for the candidate not to keep the others from asking.
    const CALLERS: u64 = 8;
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let ends = &ends;
            scope.spawn(move || {
                let mut connection = Caller::connect(listen);
                for user in (caller..).step_by(7) {
                    if ends.load(Ordering::Relaxed) {
                        return;
                    }
                    let answer = connection.get(&format!("/v1/users/{}/balance", user % USERS));
                    assert!(matches!(answer.status, 200 | 404), "{}", answer.head);
                }
            });
        }
        // Callers end also where `during` fails.
        let outcome = catch_unwind(AssertUnwindSafe(during));
        ends.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// When a line was logged, by its own time.
fn logged_at(log: &str, words: &str) -> Timestamp {
    let line = log.lines().find(|line| line.contains(words)).expect("it was logged");
    let time = line.split_whitespace().next().expect("a time");
    time.parse().unwrap_or_else(|error| panic!("{time}: {error}"))
}

#[test]
fn the_guard_takes_the_share_back_within_a_second_of_a_breach_and_says_why() {
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
        let state = with_callers(stage.shadow.listen, || {
            stage.fails.store(true, Ordering::Relaxed);
            wait_for("the guard", || {
                let state = stage.shadow.state();
                (state["serve"]["candidate_percent"] == 0.0).then_some(state)
            })
        });
        stage.fails.store(false, Ordering::Relaxed);
        let log = stage.shadow.logged();
        let line = "goes back from 100% to 0%";
        assert!(log.lines().any(|logged| logged.contains(line) && logged.contains(why)), "{why}: {log}");
        assert!(state["serve"]["rolled_back"].as_str().expect("a reason").contains(why), "{state:#}");
        // By the clock of one machine: when the candidate first did wrong, and when the guard said so.
        let broke = stage.first_failure.lock().expect("no panic").expect("it has failed");
        let took = logged_at(&log, line).duration_since(broke);
        assert!(took <= SignedDuration::from_secs(1), "{why}: it took {took:#}");
        assert!(sides(&mut caller).values().all(|served| !served), "it stays back until somebody decides");
        // What was wrong before and is found only now would be the next breach.
        stage.shadow.settled(0);
        stage.shadow.serve("100%");
        assert!(sides(&mut caller).values().all(|served| *served), "{}", stage.shadow.logged());
    }
}

#[test]
fn a_caller_that_closes_its_connection_is_served_as_well() {
    let stage = stage("100%", PATIENT, || Reaction::Hang);
    for (version, header) in [("1.1", "Connection: close\r\n"), ("1.0", "")] {
        let mut stream = TcpStream::connect(stage.shadow.listen).expect("it listens");
        write!(stream, "GET /v1/users/1/balance HTTP/{version}\r\nHost: t\r\n{header}\r\n")
            .expect("a connection");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the connection ends");
        let head = answer.to_ascii_lowercase();
        assert!(head.contains("x-side: candidate") && head.contains("connection: close"), "{answer}");
    }
    stage.shadow.settled(2);
    stage.shadow.end().assert_same();
}

/// The primary's connection may end at any time; a caller whom the candidate is answering meanwhile gets its answer.
#[test]
fn a_primary_that_closes_does_not_take_the_candidates_answer_away() {
    let (arrived, asked) = mpsc::channel::<()>();
    let (go_on, told) = mpsc::channel::<()>();
    let (arrived, told) = (Mutex::new(arrived), Mutex::new(told));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let primary = listener.local_addr().expect("it is bound");
    let closes = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a caller");
        asked.recv().expect("the candidate is asked");
        drop(stream);
        // The shadow's next connection is the mirror's, to compare.
        let _ = go_on.send(());
    });
    let candidate = serve(move |_| {
        arrived.lock().expect("no panic").send(()).expect("the primary waits");
        told.lock().expect("no panic").recv().expect("the primary has closed");
        Reaction::Bytes(b"HTTP/1.1 200 OK\r\nX-Side: candidate\r\nContent-Length: 2\r\n\r\n{}".to_vec())
    });
    let folder = TempDir::new().expect("a temporary folder");
    std::fs::write(folder.path().join("s.toml"), PATIENT).expect("a file");
    let more = ["--serve", "candidate=100%", "--config", "s.toml"];
    let shadow = Shadow::start(folder.path(), &http(primary), &http(candidate), &more);
    let answer = Caller::connect(shadow.listen).get("/v1/users/1/balance");
    assert!(answer.head.to_ascii_lowercase().contains("x-side: candidate"), "{}", answer.head);
    closes.join().expect("no panic");
}

#[test]
fn a_schedule_raises_the_share_by_itself_and_native_candidates_serve_json() {
    let folder = generated(USERS, 5_000, "2026-11-22T10:30:00Z");
    let node = Server::start(folder.path(), &["--shards", "1", "--now", "2026-11-22T10:30:00Z"]);
    let config = format!(
        "{PATIENT}schedule = [{{ after-seconds = 0, share = \"50%\" }}, {{ after-seconds = 1, share = \"100%\" }}]\n"
    );
    std::fs::write(folder.path().join("s.toml"), config).expect("a file");
    let candidate = format!("florin://{}", node.any);
    let shadow = Shadow::start(folder.path(), &http(node.any), &candidate, &["--config", "s.toml"]);
    wait_for("the schedule's end", || (shadow.state()["serve"]["candidate_percent"] == 100.0).then_some(()));
    let mut caller = Caller::connect(shadow.listen);
    let mut direct = Caller::connect(node.any);
    for target in ["/v1/users/5/balance", "/v1/users/5/statistics?window=7d", "/v1/users/987654/balance"] {
        let (through, around) = (caller.get(target), direct.get(target));
        assert_eq!((through.status, through.body), (around.status, around.body), "{target}");
        assert!(through.head.contains("content-type: application/"), "{}", through.head);
    }
    let ids = r#"{"user_ids":["7","987654"]}"#;
    let ask = |caller: &mut Caller| caller.ask("POST", "/v1/balances:batchGet", ids).expect("an answer").body;
    assert_eq!(ask(&mut caller), ask(&mut direct));
    shadow.settled(4);
    let ended = shadow.end();
    ended.assert_same();
    assert_eq!(ended.verdict["serve"]["served"], 4);
}
