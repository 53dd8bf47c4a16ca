//! Callers notice nothing: bytes are the primary's, and the candidate may do what it likes.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::faulty::{Reaction, serve};
use crate::shadow::{Caller, Shadow, generated, http, read_answer};
use crate::support::{Server, wait_for};

/// All that comes until the other side closes; a reset ends it too, and is told.
fn all(address: SocketAddr, request: &str) -> (Vec<u8>, Option<std::io::ErrorKind>) {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    stream.write_all(request.as_bytes()).expect("a connection");
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).err().map(|error| error.kind());
    (bytes, error)
}

#[test]
fn whatever_the_primary_answers_comes_back_byte_for_byte() {
    let answers: &[(&str, &str)] = &[
        (
            "/plain",
            "HTTP/1.1 200 Fine, thanks\r\nx-ODD-case:  spaced \r\nSet-Cookie: a\r\nDate: never\r\nset-cookie: b\r\nContent-Length: 5\r\n\r\nhello",
        ),
        (
            "/chunked",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n5;ext=1\r\nhello\r\n0\r\nT: x\r\n\r\n",
        ),
        (
            "/early",
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        ("/old", "HTTP/1.0 200 OK\r\n\r\nuntil the end"),
        ("/none", "HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"),
        ("/error", "HTTP/1.1 599 Strange\r\nContent-Length: 2\r\n\r\n\u{1}\u{2}"),
        ("/cut", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nonly this"),
        ("/garbage", "this is no HTTP at all\r\n\r\n"),
        ("/binary", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n{,}"),
    ];
    let primary = serve(move |asked| {
        let found = answers.iter().find(|(target, _)| asked.target == *target);
        Reaction::Last(found.map_or_else(Vec::new, |(_, answer)| answer.as_bytes().to_vec()))
    });
    let folder = TempDir::new().expect("a temporary folder");
    // Nobody is there to be the candidate.
    let shadow = Shadow::start(folder.path(), &http(primary), "http://127.0.0.1:1", &[]);
    for (target, answer) in answers {
        for method in ["GET", "POST", "HEAD"] {
            let request = format!("{method} {target} HTTP/1.1\r\nHost: t\r\n\r\n");
            let through = all(shadow.listen, &request);
            assert_eq!(String::from_utf8_lossy(&through.0), *answer, "{method} {target}");
            assert_eq!(through, all(primary, &request), "{method} {target}");
        }
    }
    // A primary that is gone is gone for callers as well.
    assert_eq!(all(shadow.listen, "GET /unknown HTTP/1.1\r\nHost: t\r\n\r\n").0, b"");
}

#[test]
fn requests_arrive_as_they_were_sent_and_a_pipeline_stays_in_order() {
    let (arrived, seen) = mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let primary = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).expect("the caller closes its half");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2").expect("a connection");
            arrived.send(bytes).expect("the test listens");
        }
    });
    let folder = TempDir::new().expect("a temporary folder");
    let shadow = Shadow::start(folder.path(), &http(primary), "http://127.0.0.1:1", &[]);
    for sent in [
        "GET /a?x=%20 HTTP/1.1\r\nhOsT: t\r\nX-Twice: 1\r\nX-Other: 2\r\nX-Twice: 3\r\n\r\nPOST /b HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc",
        "POST /c HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /d HTTP/1.1\r\nHost: t\r\n\r\n",
        "no request at all\n\n",
    ] {
        let mut stream = TcpStream::connect(shadow.listen).expect("it listens");
        stream.write_all(sent.as_bytes()).expect("a connection");
        stream.shutdown(Shutdown::Write).expect("a connection");
        let mut got = String::new();
        stream.read_to_string(&mut got).expect("an answer");
        assert!(got.ends_with("\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2"), "{got}");
        assert_eq!(String::from_utf8(seen.recv().expect("it arrived")).expect("UTF-8"), sent);
    }
}

#[test]
fn an_answer_streams_and_does_not_wait_for_its_end() {
    let (go_on, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let primary = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let mut request = [0; 1_024];
        let _ = stream.read(&mut request).expect("a request");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            .expect("a connection");
        // Not before the caller has the first part.
        told.lock().expect("no panic").recv().expect("the test goes on");
        stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").expect("a connection");
    });
    let folder = TempDir::new().expect("a temporary folder");
    let shadow = Shadow::start(folder.path(), &http(primary), "http://127.0.0.1:1", &[]);
    let mut stream = TcpStream::connect(shadow.listen).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").expect("a connection");
    let mut first = vec![0; b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n".len()];
    stream.read_exact(&mut first).expect("the first part comes by itself");
    go_on.send(()).expect("the primary waits");
    let mut rest = vec![0; b"3\r\ntwo\r\n0\r\n\r\n".len()];
    stream.read_exact(&mut rest).expect("the rest");
    assert!(rest.starts_with(b"3\r\ntwo"));
}

#[test]
fn writes_are_never_mirrored() {
    let asked = std::sync::Arc::new(Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&asked);
    let ok = || Reaction::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec());
    let primary = serve(move |_| ok());
    let candidate = serve(move |asked| {
        seen.lock().expect("no panic").push(format!("{} {}", asked.method, asked.target));
        ok()
    });
    let folder = TempDir::new().expect("a temporary folder");
    let shadow = Shadow::start(folder.path(), &http(primary), &http(candidate), &[]);
    let mut caller = Caller::connect(shadow.listen);
    for (method, target) in [
        ("POST", "/v1/transactions"),
        ("PUT", "/v1/users/1/balance"),
        ("DELETE", "/v1/users/1/balance"),
        ("PATCH", "/x"),
        ("GET", "/v1/users/1/balance"),
        ("POST", "/v1/balances:batchGet"),
    ] {
        caller.ask(method, target, "{\"user_ids\":[\"1\"]}").expect("an answer");
    }
    shadow.settled(2);
    let ended = shadow.end();
    asked.lock().expect("no panic").sort();
    assert_eq!(*asked.lock().expect("no panic"), ["GET /v1/users/1/balance", "POST /v1/balances:batchGet"]);
    assert_eq!(ended.verdict["not_mirrored"]["writes (POST)"], 1);
    assert_eq!(ended.count("equal"), 2);
}

/// Callers that ask without end, each answer checked, until told to stop.
struct Load {
    answered: AtomicU64,
    ends: AtomicBool,
}

fn callers(load: &Load, listen: SocketAddr, part: u64) {
    let mut caller = Caller::connect(listen);
    for user in (part..).step_by(2) {
        if load.ends.load(Ordering::Relaxed) {
            return;
        }
        let target = format!("/v1/users/{}/balance", user % 500);
        let answer = caller
            .ask("GET", &target, "")
            .unwrap_or_else(|error| panic!("a caller's request failed: {error}"));
        // The ledger has not named all of them.
        assert!(matches!(answer.status, 200 | 404), "{}", answer.head);
        load.answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn killing_freezing_and_restarting_the_candidate_fails_no_caller_and_is_reported() {
    for scheme in ["http", "florin"] {
        let folder = generated(500, 5_000, "2026-11-22T10:30:00Z");
        let node = Server::start(folder.path(), &["--shards", "1"]);
        let candidate = Server::start(folder.path(), &["--shards", "1"]);
        let any = candidate.any;
        let config = folder.path().join("shadow.toml");
        std::fs::write(&config, "drain-ms = 3000\n[mirror]\nqueue = 64\nin-flight = 8\ntimeout-ms = 500\n")
            .expect("a file");
        let config = config.display().to_string();
        let target = format!("{scheme}://{any}");
        let shadow = Shadow::start(folder.path(), &http(node.any), &target, &["--config", &config]);
        let load = Load { answered: AtomicU64::new(0), ends: AtomicBool::new(false) };
        thread::scope(|scope| {
            for part in 0..2 {
                let load = &load;
                scope.spawn(move || callers(load, shadow.listen, part));
            }
            let _ends = EndsWith(&load.ends);
            let wait_for_more = || {
                let before = load.answered.load(Ordering::Relaxed);
                wait_for("callers to be answered", || {
                    (load.answered.load(Ordering::Relaxed) > before + 500).then_some(())
                });
            };
            wait_for_more();
            candidate.signal(Signal::STOP);
            wait_for("the frozen candidate to be counted", || {
                let state = shadow.state();
                (state["verdicts"]["dropped"] != 0 && state["verdicts"]["candidate_error"] != 0).then_some(())
            });
            wait_for_more();
            candidate.signal(Signal::KILL);
            wait_for("the dead candidate to be counted", || {
                let reasons = shadow.state()["reasons"]["candidate_error"].clone();
                (reasons["connect"] != 0 && !reasons["connect"].is_null()).then_some(())
            });
            wait_for_more();
            let address = any.to_string();
            let again = wait_for_start(&folder, &address);
            let equal = shadow.state()["verdicts"]["equal"].as_u64().expect("a count");
            wait_for("the restarted candidate to be compared again", || {
                (shadow.state()["verdicts"]["equal"].as_u64().expect("a count") > equal + 100).then_some(())
            });
            drop(again);
        });
        let ended = shadow.end();
        assert_eq!(
            (ended.verdict["complete"].as_bool(), ended.code),
            (Some(false), Some(20)),
            "{:#}",
            ended.verdict
        );
        assert_eq!(ended.count("mismatch"), 0, "{:#}", ended.verdict);
    }
}

/// A node on an address that was another's a moment ago.
fn wait_for_start(folder: &TempDir, address: &str) -> Server {
    Server::spawn(crate::support::florin(
        folder.path(),
        &[
            "serve",
            "--listen",
            address,
            "--shard-listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--shards",
            "1",
        ],
    ))
}

/// Lets callers end when a test does, also when it fails.
struct EndsWith<'a>(&'a AtomicBool);

impl Drop for EndsWith<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_full_queue_drops_and_says_so_and_a_short_run_is_whole() {
    let folder = generated(50, 500, "2026-11-22T10:30:00Z");
    let node = Server::start(folder.path(), &["--shards", "1"]);
    let hanging = serve(|_| Reaction::Hang);
    std::fs::write(folder.path().join("s.toml"), "drain-ms = 200\n[mirror]\nqueue = 4\nin-flight = 1\n")
        .expect("a file");
    let shadow = Shadow::start(folder.path(), &http(node.any), &http(hanging), &["--config", "s.toml"]);
    let mut caller = Caller::connect(shadow.listen);
    for user in 0..50 {
        assert!(caller.get(&format!("/v1/users/{user}/balance")).status < 500);
    }
    let ended = shadow.end();
    assert_eq!(ended.verdict["requests"], 50);
    assert_eq!(ended.count("dropped") + ended.count("candidate_error"), 50, "{:#}", ended.verdict);
    assert!(ended.reason("dropped", "queue_full") >= 44, "{:#}", ended.verdict);
    assert_eq!(ended.verdict["complete"], false);
}

#[test]
fn a_drain_answers_what_is_under_way_and_takes_nobody_new() {
    let (go_on, told) = mpsc::channel::<()>();
    let (arrived, asked) = mpsc::channel::<()>();
    let (told, arrived) = (Mutex::new(told), Mutex::new(arrived));
    let primary = serve(move |_| {
        arrived.lock().expect("no panic").send(()).expect("the test waits");
        told.lock().expect("no panic").recv().expect("the test goes on");
        Reaction::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())
    });
    let folder = TempDir::new().expect("a temporary folder");
    let shadow = Shadow::start(folder.path(), &http(primary), &http(primary), &[]);
    let mut idle = BufReader::new(TcpStream::connect(shadow.listen).expect("it listens"));
    let mut stream = TcpStream::connect(shadow.listen).expect("it listens");
    stream.write_all(b"POST /write HTTP/1.1\r\nHost: t\r\n\r\n").expect("a connection");
    asked.recv().expect("the primary is asked");
    let (listen, admin) = (shadow.listen, shadow.admin);
    let ending = thread::spawn(move || shadow.end());
    wait_for("the drain to begin", || {
        crate::support::get(admin, "/v1/shadow").contains("\"state\":\"draining\"").then_some(())
    });
    let mut nothing = Vec::new();
    idle.read_to_end(&mut nothing).expect("an idle connection is closed in order");
    assert!(nothing.is_empty());
    wait_for("the port to be closed", || TcpStream::connect(listen).is_err().then_some(()));
    go_on.send(()).expect("the primary waits");
    let answer = read_answer(&mut BufReader::new(stream)).expect("what was under way is answered");
    assert_eq!(answer.body, "ok");
    let ended = ending.join().expect("it ends");
    // Nothing was compared: that is no good verdict.
    assert_eq!((ended.code, ended.verdict["complete"].as_bool()), (Some(21), Some(false)));
}
