//! The admin port over its own sockets, with counters that no shard writes.

mod writing;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

use florin_client::Address;
use florin_schema::ShardIndex;
use florin_sqlite::Writer;
use florin_sqlite::scratch::{Scratch, recharge};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::callers::{Callers, Secret, TokenHash};
use crate::cli::caller::Asked;
use crate::cli::http::{Answer, request};
use crate::clock::Clock;
use crate::limits::{ACTIVITY_STREAMS_MAX, APPLY_BODY_BYTES_MAX};
use crate::mesh::Latest;
use crate::node::ShardHandle;
use crate::shard::metrics::Work;
use crate::sources::Ledger;

/// An admin port of a node of two shards that has no node behind it; ends when dropped.
struct Port {
    address: Address,
    view: Arc<View>,
    hosts: Hosts,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    writer_thread: Option<WriterThread>,
}

impl Port {
    fn open(ledger: &Path) -> Port {
        Port::guarded(ledger, None)
    }

    /// As whoever shows `token` asks it.
    fn asked(&self, token: Option<&Secret>) -> Asked {
        Asked { address: self.address.clone(), token: token.cloned(), tls: None }
    }

    /// The same, where callers have to prove who they are.
    fn guarded(ledger: &Path, callers: Option<Callers>) -> Port {
        let mut view = View::new(vec![handle(0), handle(1)], Clock::new(None), "ring".to_owned());
        view.addresses.shard_listen = vec![SocketAddr::from(([127, 0, 0, 1], 7401)); 2];
        let view = Arc::new(view);
        let (writer, writer_thread) =
            LedgerWriter::start(Ledger::open(&ledger.to_owned().into()).unwrap().appender()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = Address::from(listener.local_addr().unwrap());
        let (end, ended) = oneshot::channel();
        let shown = Arc::clone(&view);
        let hosts = Hosts::default();
        let named = hosts.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let end = async { ended.await.unwrap_or(()) };
                let writing = Writing { writer, hosts: named };
                let guard = Guard::new(callers, None, shown.clock);
                let ports = Ports { plain: Some(listener), tls: None };
                serve(ports, shown, writing, guard, end).await.unwrap();
            });
        });
        Port {
            address,
            view,
            hosts,
            end: Some(end),
            thread: Some(thread),
            writer_thread: Some(writer_thread),
        }
    }

    fn get(&self, path: &str) -> Answer {
        request(&self.asked(None), "GET", path, "").unwrap()
    }

    fn post(&self, body: &str) -> Answer {
        request(&self.asked(None), "POST", "/v1/transactions", body).unwrap()
    }

    fn load(&self) {
        for shard in &self.view.shards {
            shard.watermark.store(1_500_000, self.view.clock.monotonic_us().max(1));
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        drop(self.end.take());
        self.thread.take().expect("taken here only").join().expect("the admin port ends without a panic");
        self.writer_thread.take().expect("taken here only").join();
    }
}

/// A shard without a thread.
fn handle(index: u16) -> ShardHandle {
    ShardHandle {
        index: ShardIndex(index),
        cpu: usize::from(index),
        thread_id: 7,
        metrics: Arc::default(),
        watermark: Arc::new(Latest::new()),
    }
}

fn ledger() -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    Writer::open_or_create(&path).unwrap();
    (folder, path)
}

fn transaction(number: u32, amount: u32) -> String {
    format!(
        r#"{{"transaction_id":"00000000-0000-4000-8000-{number:012}","user_id":42,"asset":"COIN","kind":"recharge","amount":{amount},"occurred_at":"2026-11-22T04:05:06Z"}}"#
    )
}

#[test]
fn ready_means_that_every_shard_follows() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    assert_eq!(port.get("/healthz"), Answer { status: 200, body: "ok\n".to_owned() });
    let loading = port.get("/readyz");
    assert_eq!(loading.status, 503);
    assert!(loading.body.contains("shard 0 does not have") && loading.body.contains("shard 1 does not have"));
    assert!(loading.body.contains(r#""driver":"ring""#), "{}", loading.body);
    port.load();
    assert_eq!(port.get("/readyz").body, r#"{"ready":true,"driver":"ring","reasons":[]}"#);
    port.view.begin_draining();
    let draining = port.get("/readyz");
    assert_eq!((draining.status, draining.body.contains("draining")), (503, true));
}

#[test]
fn a_shard_that_no_longer_hears_from_the_ledger_is_not_ready() {
    let mut view = View::new(vec![handle(0)], Clock::new(None), "ring".to_owned());
    view.max_staleness_ms = 0;
    view.shards[0].watermark.store(0, 1);
    while view.clock.monotonic_us() < 3 {}
    let reasons = view.readiness().reasons;
    assert!(reasons[0].contains("has not heard from the ledger"), "{reasons:?}");
}

#[test]
fn every_metric_has_a_help_and_a_type_and_counts() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    assert!(!port.get("/metrics").body.contains("\nflorin_watermark_lag_seconds{"), "nothing is loaded");
    port.load();
    let get_balance = &port.view.shards[1].metrics.opcodes[1];
    get_balance.answers[0].add(3);
    get_balance.answers[1].add(2);
    get_balance.service_time.record(5, 4);
    get_balance.service_time.record(100, 1);
    port.view.shards[0].metrics.connections.set(9);
    for us in [70, 900] {
        port.view.shards[0].metrics.turns_with[Work::Growth as usize].record(us);
    }
    let page = port.get("/metrics").body;
    for expected in [
        "florin_ready 1",
        "florin_requests_total{shard=\"1\",opcode=\"get_balance\",status=\"ok\"} 3",
        "florin_requests_total{shard=\"1\",opcode=\"get_balance\",status=\"not_found\"} 2",
        "florin_service_seconds_bucket{shard=\"1\",opcode=\"get_balance\",le=\"0.000004\"} 0",
        "florin_service_seconds_bucket{shard=\"1\",opcode=\"get_balance\",le=\"0.000008\"} 4",
        "florin_service_seconds_bucket{shard=\"1\",opcode=\"get_balance\",le=\"0.000128\"} 5",
        "florin_service_seconds_bucket{shard=\"1\",opcode=\"get_balance\",le=\"+Inf\"} 5",
        "florin_service_seconds_sum{shard=\"1\",opcode=\"get_balance\"} 0.000120",
        "florin_service_seconds_count{shard=\"1\",opcode=\"get_balance\"} 5",
        "florin_connections{shard=\"0\"} 9",
        "florin_turn_seconds_bucket{shard=\"0\",with=\"growth\",le=\"0.000128\"} 1",
        "florin_turn_seconds_bucket{shard=\"0\",with=\"growth\",le=\"0.001024\"} 2",
        "florin_turn_max_seconds{shard=\"0\",with=\"growth\"} 0.000900",
        "florin_watermark_timestamp_seconds{shard=\"0\"} 1.500000",
    ] {
        assert!(page.lines().any(|line| line == expected), "{expected} is missing in\n{page}");
    }
    let mut helped = std::collections::HashSet::new();
    for line in page.lines() {
        let mut words = line.split([' ', '{']);
        match words.next().unwrap() {
            "#" => {
                words.next();
                helped.insert(words.next().unwrap().to_owned());
            }
            name => {
                let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                assert!(helped.contains(name) || family.is_some_and(|f| helped.contains(f)), "{line}");
                line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
            }
        }
    }
}

#[test]
fn the_shard_map_says_where_each_runs() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    port.load();
    let map: serde_json::Value = serde_json::from_str(&port.get("/v1/shards").body).unwrap();
    assert_eq!(map["shards"][1]["cpu"], 1);
    assert_eq!(map["shards"][1]["listen"], "127.0.0.1:7401");
    assert_eq!(map["shards"][0]["as_of"], "1970-01-01T00:00:01.500000Z");
}

#[test]
fn what_is_wrong_gets_a_status_of_its_own() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    let status = |method, path, body: &str| request(&port.asked(None), method, path, body).unwrap().status;
    assert_eq!(status("GET", "/nowhere", ""), 404);
    assert_eq!(status("GET", "/v1/transactions", ""), 405);
    assert_eq!(status("POST", "/metrics", ""), 405);
    assert_eq!(status("POST", "/v1/transactions", "nonsense"), 400);
    assert_eq!(status("POST", "/v1/transactions", &" ".repeat(APPLY_BODY_BYTES_MAX + 1)), 413);
    let problem = port.post(&format!("[{}]", transaction(1, 0)));
    assert_eq!(problem.status, 400);
    assert!(
        problem.body.contains(r#""field":"amount""#) && problem.body.contains(r#""index":0"#),
        "{problem:?}"
    );
}

/// A request by hand, and its answer up to the connection's end.
fn raw(port: &Port, text: &str) -> String {
    said(port, text, |_| {})
}

/// The same by a caller that does something more once it has sent that.
fn said(port: &Port, text: &str, more: impl FnOnce(&std::net::TcpStream)) -> String {
    let Address::Tcp { host, port } = &port.address else { unreachable!("it listens on TCP") };
    let mut stream = std::net::TcpStream::connect((host.as_str(), *port)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    more(&stream);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Any web page could once make a browser on this host append to the ledger: with a `text/plain` POST to loopback, which
/// needs no permission, or under a name of its own that leads here.
#[test]
fn no_web_page_writes_to_the_ledger() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    let body = transaction(1, 5);
    let post = |headers: &str| {
        let length = body.len();
        let text = format!(
            "POST /v1/transactions HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        let answer = raw(&port, &text);
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let json = "Content-Type: application/json\r\n";
    for (status, headers) in [
        ("415", "Host: 127.0.0.1\r\n".to_owned()),
        ("415", "Host: 127.0.0.1\r\nContent-Type: text/plain\r\n".to_owned()),
        ("415", "Host: 127.0.0.1\r\nContent-Type: text/plain; application/json\r\n".to_owned()),
        ("403", format!("Host: 127.0.0.1\r\nOrigin: https://evil.example\r\n{json}")),
        ("403", format!("Host: 127.0.0.1\r\nOrigin: null\r\n{json}")),
        ("403", format!("Host: 127.0.0.1\r\nSec-Fetch-Site: cross-site\r\n{json}")),
        ("421", format!("Host: evil.example:7300\r\n{json}")),
    ] {
        assert_eq!(post(&headers), status, "{headers}");
    }
    assert_eq!(Writer::open(&path).unwrap().append(&[]).unwrap().len(), 0);
    assert!(port.post(&body).body.contains("\"duplicate\":false"), "nothing has entered before");
}

/// A body that broke off was once answered "at most 4194304 bytes".
#[test]
fn a_body_that_breaks_off_is_told_so() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    let head = "POST /v1/transactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let answer = raw(&port, &format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"amo\r\nzz\r\n"));
    assert!(answer.contains(" 400 ") && answer.contains("whole body"), "{answer}");
}

/// What a refusal says of a connection whose body was withheld; `patience` bounds how long it may take to come.
fn withheld(port: &Port, head: &str) -> String {
    let Address::Tcp { host, port } = &port.address else { unreachable!("it listens on TCP") };
    let mut stream = std::net::TcpStream::connect((host.as_str(), *port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and the connection's end");
    answer
}

/// Each was answered by nothing for as long as its body was withheld.
#[test]
fn what_the_head_shows_is_refused_at_once() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    let json = "POST /v1/transactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    for (head, status) in [
        (format!("{json}\r\nContent-Length: 5\r\nExpect: x"), 417),
        (format!("{json}\r\nContent-Length: 99999999999"), 413),
        (format!("{json}\r\nContent-Length: 99999999999\r\nExpect: 100-continue"), 413),
        (format!("{json}\r\nContent-Type: text/plain\r\nContent-Length: 5"), 400),
        (format!("{json}; charset=utf-16\r\nContent-Length: 5"), 415),
        (format!("{json}\r\nHost: localhost\r\nContent-Length: 5"), 400),
        (format!("{json}\r\nOrigin: null\r\nContent-Length: 5"), 403),
        ("POST /nowhere HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5".to_owned(), 404),
    ] {
        let answer = withheld(&port, &head);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{head}: {answer}");
    }
}

/// Half a body was waited for as long as its connection lived, and an upload that made room for another caller was told that
/// its body had ended early.
#[test]
fn half_a_body_is_told_what_became_of_it() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    let Address::Tcp { host, port: number } = &port.address else { unreachable!("it listens on TCP") };
    let connect = || std::net::TcpStream::connect((host.as_str(), *number)).unwrap();
    let half = "POST /v1/transactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 5\r\n\r\n[";
    let answer = |mut stream: std::net::TcpStream| {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let mut slow = connect();
    slow.write_all(half.as_bytes()).unwrap();
    let slow = answer(slow);
    assert!(slow.starts_with("HTTP/1.1 408 ") && slow.contains("nothing was appended"), "{slow}");
    let mut evicted = connect();
    evicted.write_all(half.as_bytes()).unwrap();
    let mut half_head = connect();
    half_head.write_all(b"GET /readyz HT").unwrap();
    // Two round trips later the port has read both, and they have been silent for longest.
    for _ in 0..2 {
        assert_eq!(port.get("/healthz").status, 200);
    }
    let _others: Vec<_> = (0..ADMIN_CONNECTIONS_MAX).map(|_| connect()).collect();
    let evicted = answer(evicted);
    assert!(evicted.starts_with("HTTP/1.1 503 ") && evicted.contains("send it again"), "{evicted}");
    let half_head = answer(half_head);
    assert!(
        half_head.starts_with("HTTP/1.1 503 ") && half_head.contains("one connection too many"),
        "{half_head}"
    );
}

/// Half a request's head stayed for a minute, and had no answer; dripped, it stayed for ever. A whole request before it, and a
/// silence between two, change nothing.
#[test]
fn half_a_head_is_answered_408() {
    use std::time::Instant;
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    let Address::Tcp { host, port: number } = &port.address else { unreachable!("it listens on TCP") };
    let connect = || std::net::TcpStream::connect((host.as_str(), *number)).unwrap();
    let (mut plain, mut second, mut idle) = (connect(), connect(), connect());
    let begun = Instant::now();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHos").unwrap();
    for stream in [&mut second, &mut idle] {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = [0; 512];
        let count = stream.read(&mut answer).unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 200 "));
    }
    second.write_all(b"G").unwrap();
    for mut stream in [plain, second] {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 408 ") && answer.contains("head: expected its rest"),
            "{answer}"
        );
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["status"], 408);
    }
    assert!(begun.elapsed() >= ADMIN_PART_SILENCE);
    idle.set_nonblocking(true).unwrap();
    let error = idle.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "who says nothing between two requests may");
}

/// A site's own DNS name was told 421 by the admin port, and could not be allowed.
#[test]
fn names_that_were_configured_may_be_asked() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    let body = transaction(1, 5);
    let text = format!(
        "POST /v1/transactions HTTP/1.1\r\nHost: ledger.example:7300\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let refused = raw(&port, &text);
    assert!(refused.starts_with("HTTP/1.1 421 ") && refused.contains("--admin-host"), "{refused}");
    port.hosts.set(vec!["ledger.example".to_owned()]);
    assert!(raw(&port, &text).starts_with("HTTP/1.1 200 "));
}

/// Whoever reached the port, a web page in a browser on that host included, once read everything and wrote to the ledger.
#[test]
fn each_route_takes_its_right() {
    let (folder, path) = ledger();
    let file = folder.path().join("principals.toml");
    let entry = |name: &str| {
        let hash = TokenHash::of(name.as_bytes());
        format!("[[principal]]\nname = \"{name}\"\nmay = [\"{name}\"]\ntokens = [\"{hash}\"]\n")
    };
    std::fs::write(&file, ["metrics", "write", "admin", "balance", "statistics"].map(entry).concat())
        .unwrap();
    let port = Port::guarded(&path, Some(Callers::open(&file).unwrap()));
    let routes = [
        ("GET", "/healthz", ""),
        ("GET", "/readyz", ""),
        ("GET", "/metrics", "metrics"),
        ("GET", "/v1/shards", "metrics"),
        ("GET", "/v1/checkpoint", "metrics"),
        ("GET", "/v1/nowhere", "metrics"),
        ("GET", "/", ""),
        ("GET", "/console/console.js", ""),
        ("HEAD", "/v1/activity", "metrics"),
        ("GET", "/v1/users/1/balance", "balance"),
        ("GET", "/v1/users/1/statistics", "statistics"),
        ("GET", "/v1/refusals", "admin"),
        ("GET", "/v1/audit", "admin"),
        ("POST", "/v1/checkpoint", "admin"),
        ("POST", "/v1/transactions", "write"),
        ("POST", "/v1/nowhere", "admin"),
        ("DELETE", "/healthz", "admin"),
    ];
    for (method, route, needed) in routes {
        for name in ["", "metrics", "write", "admin", "balance", "statistics", "wrong"] {
            let token = (!name.is_empty()).then(|| Secret::new(name.as_bytes().to_vec()));
            let status = request(&port.asked(token.as_ref()), method, route, "[]").unwrap().status;
            let is_refused = matches!(status, 401 | 403);
            let expected = match (needed, name) {
                ("", _) => None,
                (_, "" | "wrong") => Some(401),
                (needed, name) if needed == name => None,
                _ => Some(403),
            };
            assert_eq!(is_refused.then_some(status), expected, "{method} {route} by {name:?}");
        }
    }
    let said = request(&port.asked(None), "POST", "/v1/transactions", "[]").unwrap();
    assert!(said.detail().contains("token") && said.detail().contains("write"), "{}", said.detail());
    let balance = Secret::new(b"balance".to_vec());
    let said = request(&port.asked(Some(&balance)), "GET", "/metrics", "").unwrap();
    assert!(said.detail().contains("may = [\"metrics\"]"), "{}", said.detail());
    let metrics = Secret::new(b"metrics".to_vec());
    let page = request(&port.asked(Some(&metrics)), "GET", "/metrics", "").unwrap().body;
    assert!(page.contains("florin_principal_shed_total") || port.view.callers.is_none());
}

/// Looks at users were not counted: whoever had a quota asked here as often as it liked.
#[test]
fn looks_at_users_are_counted_as_the_shards_count_reads() {
    let (folder, path) = ledger();
    let file = folder.path().join("principals.toml");
    let hash = TokenHash::of(b"slow");
    let entry =
        "name = \"slow\"\nmay = [\"balance\", \"metrics\"]\nrequests_per_s = 1\nburst = 2\nin_flight = 1";
    std::fs::write(&file, format!("[[principal]]\n{entry}\ntokens = [\"{hash}\"]\n")).unwrap();
    let callers = Callers::open(&file).unwrap();
    let port = Port::guarded(&path, Some(callers.clone()));
    let token = Secret::new(b"slow".to_vec());
    let ask = |path| request(&port.asked(Some(&token)), "GET", path, "").unwrap();
    // No shard is behind this port: what is let through is answered 503.
    let mut looks = (0..1_000).map(|_| ask("/v1/users/1/balance"));
    let refused = looks.find(|answer| answer.status != 503).expect("more than one a second");
    assert_eq!(refused.status, 429, "{}", refused.detail());
    assert!(refused.detail().contains("ask again in"), "{}", refused.detail());
    let directory = callers.current();
    let (_, quota) = directory.all().next().unwrap();
    assert_eq!((quota.usage().shed(), quota.usage().in_flight()), (1, 0));
    assert_eq!(ask("/metrics").status, 200, "what the node counts is no read of the shards'");
}

/// One who watches for as long as the connection is held: the status that was answered, and what else comes.
fn watch(port: &Port, headers: &str) -> (u16, impl Iterator<Item = String> + use<>) {
    let Address::Tcp { host, port } = &port.address else { panic!("a port") };
    let mut stream = std::net::TcpStream::connect((host.as_str(), *port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET /v1/activity HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    (status, lines)
}

/// Whoever watches takes one of a few places, and neither a probe nor the node's end waits for them.
#[test]
fn who_watches_is_counted_and_keeps_nothing_from_ending() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    port.view.shards[1].metrics.connections.set(9);
    let mut watching: Vec<_> = (0..ACTIVITY_STREAMS_MAX).map(|_| watch(&port, "")).collect();
    for (status, lines) in &mut watching {
        let event = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).unwrap();
        let activity: activity::Activity = florin_input::json(event.as_bytes()).unwrap();
        assert_eq!((*status, activity.shards.len(), activity.node.connections), (200, 2, 9));
        assert!(activity.said.iter().any(|said| said.words.contains("does not have the whole ledger")));
    }
    assert_eq!(watch(&port, "").0, 503);
    assert_eq!(port.get("/healthz").status, 200);
    drop(watching.pop());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let last = loop {
        let (status, lines) = watch(&port, "");
        if status == 200 {
            break lines;
        }
        assert!(std::time::Instant::now() < deadline, "a place that was left is free");
        std::thread::park_timeout(Duration::from_millis(1));
    };
    drop(port);
    assert!(last.count() > 0, "it was told something, and then the end");
}

/// Whoever was let in watched on for ever, whatever became of its right.
#[test]
fn who_may_no_longer_watch_is_told_no_more() {
    let (folder, path) = ledger();
    let file = folder.path().join("principals.toml");
    let may = |rights: &str| {
        let hash = TokenHash::of(b"watcher");
        let text = format!("[[principal]]\nname = \"watcher\"\nmay = [{rights}]\ntokens = [\"{hash}\"]\n");
        std::fs::write(&file, text).unwrap();
    };
    may("\"metrics\"");
    let callers = Callers::open(&file).unwrap();
    let port = Port::guarded(&path, Some(callers.clone()));
    let headers = "Authorization: Bearer watcher\r\nConnection: close\r\n";
    let (status, mut lines) = watch(&port, headers);
    assert_eq!(status, 200);
    // It goes on while that may, through whatever else changes.
    callers.reload().unwrap();
    for _ in 0..2 {
        assert!(lines.any(|line| line.starts_with("data: ")));
    }
    may("\"balance\"");
    callers.reload().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    assert!(!lines.any(|_| std::time::Instant::now() > deadline), "its stream ends");
    assert_eq!(watch(&port, headers).0, 403);
}

/// A page of another site's that had led a browser here by a name of its own could have read what the console shows.
#[test]
fn nobody_elses_page_reads_what_the_console_shows() {
    let (_folder, path) = ledger();
    let port = Port::open(&path);
    let Address::Tcp { host, port: number } = &port.address else { panic!("a port") };
    let ask = |path: &str, headers: &str| {
        let mut stream = std::net::TcpStream::connect((host.as_str(), *number)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for path in ["/v1/activity", "/v1/refusals", "/v1/users/1/balance"] {
        let answer = ask(path, "Host: evil.example\r\n");
        assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("--admin-host"), "{path}: {answer}");
        let answer = ask(path, "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
    }
    // The page itself holds nothing: a link in somebody's runbook leads to it, and under a foreign name it says what to do.
    let page = ask("/", "Host: evil.example\r\nSec-Fetch-Site: cross-site\r\n");
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "nosniff"] {
        assert!(head.contains(part), "{part} is missing in {head}");
    }
    // Nothing in the page comes from elsewhere, and nothing in its text would need a laxer policy.
    for text in [body, include_str!("console/console.js"), include_str!("console/console.css")] {
        for foreign in ["http://", "https://", "@import", "style=", "onclick", "innerHTML", "localStorage"] {
            assert!(!text.contains(foreign), "{foreign}");
        }
    }
    assert_eq!(port.get("/v1/users/1/balance").status, 503, "no shard is behind this port");
}
