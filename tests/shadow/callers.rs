//! Callers notice nothing: bytes are the primary's, and the candidate may do what it likes.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

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
    let config = "drain-ms = 200\n[mirror]\nqueue = 4\nin-flight = 1\n";
    let shadow = Shadow::configured(&folder, [&http(node.any), &http(hanging)], config, &[]);
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

/// What the Rust client takes from a server whose silence it was told no bound for.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Answers that keep coming while a candidate is frozen, each within far less than the candidate would be given.
#[test]
fn a_frozen_candidate_never_holds_a_caller() {
    /// More than the queue and all that is under way hold together.
    const REQUESTS: u64 = 6_000;
    for scheme in ["http", "florin"] {
        let folder = generated(500, 5_000, "2026-11-22T10:30:00Z");
        let node = Server::start(folder.path(), &["--shards", "1"]);
        let candidate = Server::start(folder.path(), &["--shards", "1"]);
        // An hour: whoever waited for the candidate would not be answered in this test's time.
        let config = "drain-ms = 100\n[mirror]\ntimeout-ms = 3600000\n";
        let target = format!("{scheme}://{}", candidate.any);
        let shadow = Shadow::configured(&folder, [&http(node.any), &target], config, &[]);
        let mut before = Caller::connect(shadow.listen);
        assert_eq!(before.get("/v1/users/1/balance").status, 200);
        shadow.settled(1);
        let began = Instant::now();
        candidate.signal(Signal::STOP);
        // On the connection that there was, and on new ones.
        let mut callers = [before, Caller::connect(shadow.listen), Caller::connect(shadow.listen)];
        for number in 0..REQUESTS {
            let caller = &mut callers[(number % 3) as usize];
            let answer = caller.get(&format!("/v1/users/{}/balance", number % 500));
            assert!(matches!(answer.status, 200 | 404), "{}", answer.head);
        }
        let state = shadow.state();
        // The client of frames gives up a server that has been silent for so long.
        let is_given_up = scheme == "florin" && began.elapsed() >= SILENCE_MAX;
        let errors = state["verdicts"]["candidate_error"].as_u64().expect("a count");
        assert!(errors == 0 || is_given_up, "its time is not over: {state:#}");
        candidate.signal(Signal::CONT);
        let ended = shadow.end();
        assert_eq!(ended.verdict["requests"], REQUESTS + 1);
        assert!(is_given_up || ended.reason("dropped", "queue_full") > 0, "{:#}", ended.verdict);
        assert_eq!(ended.verdict["complete"], false);
    }
}

/// A primary once answered with a head that could not be followed, and callers were held after 1,024 more requests.
#[test]
fn answers_that_cannot_be_told_apart_only_pass_and_are_counted() {
    const REQUESTS: u64 = 2_500;
    let number = AtomicU64::new(0);
    let primary = serve(move |_| match number.fetch_add(1, Ordering::Relaxed) {
        0 => Reaction::Bytes(b"HTTP/1.1 200 OK\r\nX-Odd: \x01\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        _ => Reaction::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
    });
    let folder = TempDir::new().expect("a temporary folder");
    let shadow = Shadow::start(folder.path(), &http(primary), &http(primary), &["--serve", "candidate=100%"]);
    let mut caller = Caller::connect(shadow.listen);
    for _ in 0..REQUESTS {
        assert_eq!(caller.get("/page").body, "ok");
    }
    let state = shadow.settled(REQUESTS);
    assert_eq!(state["reasons"]["dropped"]["unparsed"], REQUESTS, "{state:#}");
    assert_eq!(shadow.end().verdict["complete"], false);
}

#[test]
fn a_request_whose_caller_has_gone_is_compared_all_the_same() {
    let (arrived, asked) = mpsc::channel::<()>();
    let arrived = Mutex::new(arrived);
    let first = AtomicBool::new(true);
    let primary = serve(move |_| {
        if first.swap(false, Ordering::Relaxed) {
            arrived.lock().expect("no panic").send(()).expect("the test waits");
            return Reaction::Hang;
        }
        Reaction::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec())
    });
    let candidate = serve(|_| Reaction::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]".to_vec()));
    let folder = TempDir::new().expect("a temporary folder");
    let shadow = Shadow::start(folder.path(), &http(primary), &http(candidate), &[]);
    let mut stream = TcpStream::connect(shadow.listen).expect("it listens");
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n").expect("a connection");
    asked.recv().expect("the primary is asked");
    drop(stream);
    shadow.settled(1);
    let ended = shadow.end();
    assert_eq!((ended.count("mismatch"), ended.reason("mismatch", "type")), (1, 1), "{:#}", ended.verdict);
}

#[test]
fn what_http_allows_besides_passes_as_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let primary = listener.local_addr().expect("it is bound");
    let long = "x".repeat(200 << 10);
    let odd_head = format!("HTTP/1.1 200 OK\r\nX-Long: {long}\r\nContent-Length: 2\r\n\r\nok");
    let answer = odd_head.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || odd_primary(stream, &answer));
        }
    });
    let folder = TempDir::new().expect("a temporary folder");
    let shadow = Shadow::start(folder.path(), &http(primary), "http://127.0.0.1:1", &[]);
    let connect = || {
        let stream = TcpStream::connect(shadow.listen).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        stream
    };
    let exact = |stream: &mut TcpStream, expected: &str| {
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).expect("as many bytes");
        assert_eq!(String::from_utf8_lossy(&got), expected);
    };
    // The body is sent only once the primary has said that it wants it.
    let mut stream = connect();
    stream
        .write_all(b"POST /continue HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .expect("a connection");
    exact(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").expect("a connection");
    exact(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody");
    // Another protocol, in both directions, whoever speaks first.
    let mut stream = connect();
    stream
        .write_all(b"GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .expect("a connection");
    exact(&mut stream, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nhello");
    for words in ["\0\u{1}", "GET / HTTP/1.1\r\n\r\n"] {
        stream.write_all(words.as_bytes()).expect("a connection");
        exact(&mut stream, words);
    }
    // A head longer than what is followed, in either direction; and a chunked body with trailers.
    let mut stream = connect();
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: t\r\n\r\n").expect("a connection");
    exact(&mut stream, &odd_head);
    let mut stream = connect();
    write!(stream, "GET /asked HTTP/1.1\r\nHost: t\r\nX-Long: {long}\r\n\r\n").expect("a connection");
    exact(&mut stream, &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len()));
    let mut stream = connect();
    for part in [
        "POST /trailers HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n4;a=",
        "b\r\nbo",
        "dy\r\n0\r\nT: x\r",
        "\n\r\n",
    ] {
        stream.write_all(part.as_bytes()).expect("a connection");
    }
    exact(&mut stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
    drop(stream);
    let ended = shadow.end();
    assert_eq!(ended.verdict["complete"], false, "what was not followed is told: {:#}", ended.verdict);
}

/// Reads one request's head by hand and answers by its path.
fn odd_primary(stream: TcpStream, long_head: &str) {
    use std::io::BufRead;
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default();
    let say = |stream: &mut BufReader<TcpStream>, bytes: &[u8]| {
        stream.get_mut().write_all(bytes).expect("a connection");
    };
    match path {
        "/continue" => {
            say(&mut stream, b"HTTP/1.1 100 Continue\r\n\r\n");
            let mut body = [0; 4];
            stream.read_exact(&mut body).expect("a body");
            say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
            say(&mut stream, &body);
        }
        "/upgrade" => {
            say(&mut stream, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nhello");
            let mut bytes = [0; 1_024];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                say(&mut stream, &bytes[..count]);
            }
        }
        "/long" => say(&mut stream, long_head.as_bytes()),
        "/asked" => {
            let long = head.lines().find_map(|line| line.strip_prefix("X-Long: ")).expect("all of the head");
            say(
                &mut stream,
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len()).as_bytes(),
            );
        }
        "/trailers" => {
            let mut body = String::new();
            while !body.ends_with("T: x\r\n\r\n") {
                assert!(stream.read_line(&mut body).expect("a body") > 0, "{body:?}");
            }
            assert_eq!(body, "4;a=b\r\nbody\r\n0\r\nT: x\r\n\r\n");
            say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
        }
        other => panic!("{other}"),
    }
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// Java's client offers HTTP/2 with each connection's first request, and nobody has to take it: 300 of its requests were once
/// one that could not be followed. So were requests with more headers than were expected.
#[test]
fn an_offer_to_upgrade_and_many_headers_are_followed_and_what_is_not_is_counted() {
    let service = serve(|_| Reaction::Bytes(ANSWER.to_vec()));
    let many: String = (0..130).map(|n| format!("X-Header-{n}: {n}\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(100 << 10));
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n";
    for (headers, verdict) in [(h2c, "equal"), (&many, "equal"), (&long, "dropped")] {
        let folder = TempDir::new().expect("a temporary folder");
        let shadow = Shadow::start(folder.path(), &http(service), &http(service), &[]);
        let mut stream = BufReader::new(TcpStream::connect(shadow.listen).expect("it listens"));
        for number in 0..20 {
            write!(stream.get_mut(), "GET /{number} HTTP/1.1\r\nHost: t\r\n{headers}\r\n")
                .expect("a connection");
            assert_eq!(read_answer(&mut stream).expect("an answer").body, "{}");
        }
        shadow.settled(20);
        let ended = shadow.end();
        assert_eq!(
            (ended.count(verdict), ended.verdict["requests"].as_u64()),
            (20, Some(20)),
            "{:#}",
            ended.verdict
        );
    }
}

/// A primary that breaks off once looked like one that ended.
#[test]
fn what_breaks_on_the_primarys_side_breaks_on_the_callers() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let primary = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 1_024];
            let _ = stream.read(&mut request).expect("a request");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nonly").expect("a connection");
            // Whoever has read as much as there is sees what comes then.
            let _ = stream.read(&mut request).expect("a word that it was read");
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
        }
    });
    let folder = TempDir::new().expect("a temporary folder");
    let shadow = Shadow::start(folder.path(), &http(primary), "http://127.0.0.1:1", &[]);
    for address in [primary, shadow.listen] {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        stream.write_all(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n1").expect("a connection");
        let mut part = [0; b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nonly".len()];
        stream.read_exact(&mut part).expect("the first part");
        stream.write_all(b"2").expect("a connection");
        let end = stream.read(&mut part).map_err(|error| error.kind());
        assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "{address}");
    }
}
