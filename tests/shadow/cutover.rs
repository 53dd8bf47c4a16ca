//! Callers that the candidate serves.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use crate::faulty::{Reaction, between, serve};
use crate::shadow::{Answer, Caller, Shadow, generated, http};
use crate::support::{Server, wait_for};

pub const USERS: u64 = 300;
/// All callers are the candidate's.
pub const EVERYBODY: [&str; 2] = ["--serve", "candidate=100%"];

/// A candidate whose answers are told apart: those of `node`, with a header of its own.
pub fn marked(node: &Server, fails: impl Fn() -> Option<Reaction> + Send + Sync + 'static) -> SocketAddr {
    between(node.any, move |_, answer| {
        answer.head = answer.head.replacen("\r\n", "\r\nX-Side: candidate\r\n", 1);
        fails()
    })
}

/// Whether an answer has that header.
pub fn is_candidates(answer: &Answer) -> bool {
    answer.head.to_ascii_lowercase().contains("x-side: candidate")
}

/// Who answers each user, by a header that only the candidate's answers have.
pub fn sides(caller: &mut Caller) -> BTreeMap<u64, bool> {
    let side = |user: u64| {
        let answer = caller.get(&format!("/v1/users/{user}/balance"));
        // The ledger has not named all of them.
        let is_own = answer.body.starts_with(&format!("{{\"user_id\":\"{user}\""));
        assert!(is_own || answer.status == 404, "{} {}", answer.head, answer.body);
        (user, is_candidates(&answer))
    };
    (0..USERS).map(side).collect()
}

pub struct Stage {
    _folder: TempDir,
    _node: Server,
    pub shadow: Shadow,
    /// The candidate fails while this is set.
    pub fails: Arc<AtomicBool>,
}

pub fn stage(share: &str, config: &str, failure: impl Fn() -> Reaction + Send + Sync + 'static) -> Stage {
    let folder = generated(USERS, 5_000, "2026-11-22T10:30:00Z");
    let node = Server::start(folder.path(), &["--shards", "1"]);
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let candidate = marked(&node, move || failing.load(Ordering::Relaxed).then(&failure));
    let serve = format!("candidate={share}");
    let shadow =
        Shadow::configured(&folder, [&http(node.any), &http(candidate)], config, &["--serve", &serve]);
    Stage { _folder: folder, _node: node, shadow, fails }
}

/// A guard that watches nothing: beside other tests, a candidate may take its time.
pub const PATIENT: &str = "[serve]\nvouched-by = \"this test\"\ntimeout-ms = 20000\np99-ms-max = 20000.0\nerror-rate-max = 1.0\nmismatch-rate-max = 1.0\n\
    stale-rate-max = 1.0\nunjudged-rate-max = 1.0\n";

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

/// The share of live traffic was once moved by an array, by `050%`, and by any web page that a browser on the host had open.
#[test]
fn only_a_command_in_its_one_spelling_and_of_no_web_page_moves_callers() {
    let folder = TempDir::new().expect("a temporary folder");
    let shadow = Shadow::start(folder.path(), "http://127.0.0.1:1", "http://127.0.0.1:1", &[]);
    let host = |host: &str| format!("Host: {host}\r\nContent-Type: application/json\r\n");
    let ours = host("localhost");
    let of_a_page = |header: &str| format!("{ours}{header}\r\n");
    let five = r#"{"candidate":"5%"}"#;
    for (headers, body, status, why) in [
        (ours.clone(), r#"["100%"]"#, 400, "an object, whose fields have names"),
        (ours.clone(), r#"{"candidate":["100%"]}"#, 400, "invalid type"),
        (ours.clone(), r#"{"candidate":"5%","candidate":"100%"}"#, 400, "duplicate field"),
        (ours.clone(), r#"{"candidate":"5%","of":"all"}"#, 400, "unknown field"),
        (ours.clone(), r#"{"candidate":"050%"}"#, 400, "expected a percentage"),
        (ours.clone(), r#"{"candidate":"5.%"}"#, 400, "expected a percentage"),
        (ours.clone(), r#"{"candidate":5}"#, 400, "invalid type"),
        (ours.clone(), "5%", 400, "body: expected"),
        (of_a_page("Origin: https://evil.example"), five, 403, "web pages"),
        (of_a_page("Origin: null"), five, 403, "web pages"),
        (of_a_page("Sec-Fetch-Site: same-origin"), five, 403, "web pages"),
        (host("evil.example"), five, 421, "this host's own name"),
        ("Host: localhost\r\nContent-Type: text/plain\r\n".to_owned(), five, 415, "application/json"),
        ("Host: localhost\r\n".to_owned(), five, 415, "application/json"),
    ] {
        let answer = shadow.command(&headers, body);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(why),
            "{body}: {answer}"
        );
        assert_eq!(shadow.state()["serve"]["candidate_percent"], 0.0, "{headers}{body}");
    }
    assert!(shadow.command(&ours, five).starts_with("HTTP/1.1 200"));
    assert_eq!(shadow.state()["serve"]["candidate_percent"], 5.0);
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

/// Reads one request's head and answers it.
fn answer_one(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request");
        head.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").expect("a connection");
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
        let (mut stream, _) = listener.accept().expect("a caller");
        answer_one(&mut stream);
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
    let shadow = Shadow::configured(&folder, [&http(primary), &http(candidate)], PATIENT, &EVERYBODY);
    let mut caller = Caller::connect(shadow.listen);
    // A write is the primary's: now the caller has a connection to it.
    assert_eq!(caller.ask("POST", "/v1/transactions", "").expect("an answer").body, "{}");
    let answer = caller.get("/v1/users/1/balance");
    assert!(is_candidates(&answer), "{}", answer.head);
    closes.join().expect("no panic");
}

pub fn direct_status(address: SocketAddr, user: u64) -> u16 {
    Caller::connect(address).get(&format!("/v1/users/{user}/balance")).status
}

/// A primary that refuses whoever shows no token, before a candidate that knows of none: 100 of 100 callers without one
/// once got a balance.
#[test]
fn the_candidate_never_answers_whom_the_primary_refuses() {
    let folder = generated(USERS, 5_000, "2026-11-22T10:30:00Z");
    let node = Server::start(folder.path(), &["--shards", "1"]);
    let refuses = Arc::new(AtomicBool::new(true));
    let refusing = Arc::clone(&refuses);
    let primary = between(node.any, move |_, _| {
        let refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
        refusing.load(Ordering::Relaxed).then(|| Reaction::Bytes(refusal.to_vec()))
    });
    let candidate = marked(&node, || None);
    let lenient = PATIENT.replace("vouched-by = \"this test\"", "admission-seconds = 3600");
    let shadow = Shadow::configured(&folder, [&http(primary), &http(candidate)], &lenient, &EVERYBODY);
    let mut caller = Caller::connect(shadow.listen);
    for user in 0..100 {
        assert_eq!(caller.get(&format!("/v1/users/{user}/balance")).status, 401);
    }
    refuses.store(false, Ordering::Relaxed);
    let known = (0..USERS).find(|user| direct_status(node.any, *user) == 200).expect("a user");
    let target = format!("/v1/users/{known}/balance");
    // The primary answers first; what it has answered once, the candidate may. Other users are other questions.
    assert!(!is_candidates(&caller.get(&target)));
    shadow.settled(101);
    assert!(is_candidates(&caller.get(&target)));
    let batch = format!("{{\"user_ids\":[\"{known}\"]}}");
    assert!(!is_candidates(&caller.ask("POST", "/v1/balances:batchGet", &batch).expect("an answer")));
    shadow.settled(103);
    assert!(is_candidates(&caller.ask("POST", "/v1/balances:batchGet", &batch).expect("an answer")));
    // Whoever shows anything that may be a credential is the primary's.
    let mut asked = 104;
    for header in ["Authorization: Bearer x", "X-Api-Key: x", "Cookie: a=b", "X-Anything: x"] {
        for _ in 0..2 {
            let answer = caller.get_with(&target, &format!("{header}\r\n"));
            assert!(!is_candidates(&answer), "{header}: {}", answer.head);
            asked += 1;
            shadow.settled(asked);
        }
    }
}

/// Who may ask about whom, as a primary that knows its callers decides it: teams have the even and the odd users.
fn decided(head: &str, user: u64, is_revoked: bool) -> u16 {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let value = |name: &str| {
        fields.clone().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    };
    let team = match (value("authorization"), value("cookie")) {
        ("Bearer team-a", _) | (_, "session=team-a") if !is_revoked => 0,
        ("Bearer team-b", _) => 1,
        // An old session is sent to where it can be renewed.
        (_, "session=team-a") => return 302,
        _ => return 401,
    };
    if user % 2 == team { 200 } else { 403 }
}

/// Five kinds of callers, of whom a candidate that asks nobody for credentials would answer all.
#[test]
fn no_kind_of_caller_gets_from_the_candidate_what_the_primary_would_refuse() {
    const GOOD: &str = "Authorization: Bearer team-a\r\n";
    const COOKIE: &str = "Cookie: session=team-a\r\n";
    const KINDS: [&str; 5] =
        ["", GOOD, "Authorization: Bearer expired\r\n", "Authorization: Bearer team-b\r\n", COOKIE];
    for (vouched, is_served) in [("", false), ("vouched-by = \"primary\"\nadmission-seconds = 300", true)] {
        let folder = generated(USERS, 5_000, "2026-11-22T10:30:00Z");
        let node = Server::start(folder.path(), &["--shards", "1"]);
        let revoked = Arc::new(AtomicBool::new(false));
        let is_revoked = Arc::clone(&revoked);
        let primary = between(node.any, move |asked, _| {
            let user = asked.target.split('/').nth(3).and_then(|user| user.parse().ok()).expect("a user");
            match decided(&asked.head, user, is_revoked.load(Ordering::Relaxed)) {
                200 => None,
                status => {
                    let refusal =
                        format!("HTTP/1.1 {status} No\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n");
                    Some(Reaction::Bytes(refusal.into_bytes()))
                }
            }
        });
        let candidate = marked(&node, || None);
        let config = PATIENT.replace("vouched-by = \"this test\"", vouched);
        let shadow = Shadow::configured(&folder, [&http(primary), &http(candidate)], &config, &EVERYBODY);
        let mut caller = Caller::connect(shadow.listen);
        let known = |parity: u64| {
            (0..USERS)
                .find(|user| user % 2 == parity && direct_status(node.any, *user) == 200)
                .expect("a user")
        };
        let users = [known(0), known(1)];
        let asked = Cell::new(0);
        let ask = |caller: &mut Caller, user: u64, kind: &str| {
            asked.set(asked.get() + 1);
            caller.get_with(&format!("/v1/users/{user}/balance"), kind)
        };
        // Whom the candidate has answered in a round of questions; each has to be what the primary decides.
        let mut round = |revoked: bool| {
            let mut served = Vec::new();
            for (user, kind) in users.into_iter().flat_map(|user| KINDS.map(|kind| (user, kind))) {
                let answer = ask(&mut caller, user, kind);
                assert_eq!(answer.status, decided(kind, user, revoked), "{user} {kind:?}: {}", answer.head);
                served.extend(is_candidates(&answer).then_some((user, kind)));
            }
            shadow.settled(asked.get());
            served
        };
        assert_eq!(round(false), []);
        let whom = [(users[0], GOOD), (users[0], COOKIE), (users[1], KINDS[3])];
        let expected: &[(u64, &str)] = if is_served { &whom } else { &[] };
        for _ in 0..2 {
            assert_eq!(round(false), expected, "{vouched}");
        }
        // What the primary takes back is gone as soon as it has said so once, to the mirror if to nobody else.
        revoked.store(true, Ordering::Relaxed);
        let mut before = Caller::connect(shadow.listen);
        for kind in [GOOD, COOKIE] {
            ask(&mut before, users[0], kind);
        }
        shadow.settled(asked.get());
        for _ in 0..2 {
            assert_eq!(round(true), if is_served { &whom[2..] } else { &[] }, "{vouched}");
        }
    }
}

/// At a share of 100 % a primary that could not be reached cost callers whom the candidate answers their connections; and the guard
/// went back to it, for nothing could be compared any more.
#[test]
fn a_primary_that_is_gone_costs_nobody_whom_the_candidate_answers() {
    const BODY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let candidate = serve(|_| Reaction::Bytes(BODY.to_vec()));
    let folder = TempDir::new().expect("a temporary folder");
    // Everything else of the guard is as it is by default.
    let config = "[serve]\nvouched-by = \"this test\"\ntimeout-ms = 20000\np99-ms-max = 20000.0\n";
    let shadow = Shadow::configured(&folder, ["http://127.0.0.1:1", &http(candidate)], config, &EVERYBODY);
    for user in 0..20 {
        let mut caller = Caller::connect(shadow.listen);
        for _ in 0..20 {
            assert_eq!(caller.get(&format!("/v1/users/{user}/balance")).body, "{}");
        }
    }
    let state = shadow.settled(400);
    assert_eq!(state["reasons"]["not_comparable"]["primary_unreachable"], 400, "{state:#}");
    // What only the primary may answer breaks off, as it would without a shadow.
    let mut caller = Caller::connect(shadow.listen);
    assert!(caller.ask("POST", "/v1/transactions", "").is_err());
    assert_eq!(Caller::connect(shadow.listen).get("/v1/users/1/balance").body, "{}");
    // The guard has looked at all of it by now.
    let looks = shadow.state()["until"].clone();
    wait_for("a few looks of the guard", || {
        let (from, to): (Timestamp, Timestamp) = (
            looks.as_str().expect("a time").parse().expect("a time"),
            shadow.state()["until"].as_str().expect("a time").parse().expect("a time"),
        );
        (to.duration_since(from) > SignedDuration::from_millis(500)).then_some(())
    });
    assert_eq!(shadow.state()["serve"]["candidate_percent"], 100.0, "{:#}", shadow.state()["serve"]);
    assert!(shadow.state()["not_mirrored"]["the primary could not be reached"].as_u64() >= Some(1));
}

/// The primary ends a connection on which nothing is asked of it, because the candidate answers: at a share of 100 % that once
/// cut every caller, whenever the primary's time for idle connections was over.
#[test]
fn a_primary_that_ends_an_idle_connection_cuts_no_caller_whom_the_candidate_serves() {
    const BODY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let (close, told) = mpsc::channel::<()>();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let primary = listener.local_addr().expect("it is bound");
    let answered_by_primary = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&answered_by_primary);
    thread::spawn(move || {
        let (mut idle, _) = listener.accept().expect("the caller's own connection");
        answer_one(&mut idle);
        // The mirror's connections, and the caller's next one.
        thread::spawn(move || {
            told.recv().expect("the test goes on");
            drop(idle);
        });
        for stream in listener.incoming().map_while(Result::ok) {
            let counted = Arc::clone(&counted);
            thread::spawn(move || {
                let mut stream = std::io::BufReader::new(stream);
                let mut line = String::new();
                while std::io::BufRead::read_line(&mut stream, &mut line).is_ok_and(|bytes| bytes > 0) {
                    if line.ends_with("\r\n\r\n") {
                        counted.fetch_add(u64::from(line.starts_with("POST")), Ordering::Relaxed);
                        stream.get_mut().write_all(BODY).expect("a connection");
                        line.clear();
                    }
                }
            });
        }
    });
    let candidate = serve(|_| Reaction::Bytes(BODY.to_vec()));
    let folder = TempDir::new().expect("a temporary folder");
    let shadow = Shadow::configured(&folder, [&http(primary), &http(candidate)], PATIENT, &EVERYBODY);
    let mut caller = Caller::connect(shadow.listen);
    assert_eq!(caller.ask("POST", "/v1/transactions", "").expect("an answer").body, "{}");
    assert_eq!(caller.get("/v1/users/1/balance").body, "{}");
    close.send(()).expect("the primary waits");
    for user in 0..50 {
        assert_eq!(caller.get(&format!("/v1/users/{user}/balance")).body, "{}");
    }
    // A write is the primary's, on the same connection of the caller's.
    assert_eq!(caller.ask("POST", "/v1/transactions", "").expect("an answer").body, "{}");
    assert_eq!(answered_by_primary.load(Ordering::Relaxed), 1);
    assert_eq!(caller.get("/v1/users/1/balance").body, "{}");
}
