//! What following a PostgreSQL reaches on this machine: `cargo run --release --example postgres_floors [ROWS [SECONDS]]`.
//!
//! It makes a server of its own (see `sources/postgres/tests/live/server.rs`) and a node of two shards, and prints
//! - rows a second of a snapshot that is loaded,
//! - rows a second of a backlog in commits of two rows,
//! - from a row's insertion, its commit included, until it is answered, at about 1,000 commits a second,
//! - what the server keeps of its log for the node meanwhile,
//! - what an idle node costs the server, and one that follows about 1,000 commits a second,
//! - what the ledger's trigger and its replica identity cost a commit, in CPU and in bytes of the log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use florin::node::{Node, NodeConfig};
use florin::sources::LedgerAddress;

#[path = "../../sources/postgres/tests/live/server.rs"]
#[allow(dead_code)]
mod server;

mod cost;

use server::Server;

const SCHEMA: &str = "
CREATE TABLE transactions (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, transaction_id TEXT NOT NULL UNIQUE, user_id BIGINT NOT NULL,
    version BIGINT NOT NULL, asset TEXT NOT NULL, kind SMALLINT NOT NULL, amount BIGINT NOT NULL, occurred_at BIGINT NOT NULL,
    UNIQUE (user_id, version));
ALTER TABLE transactions REPLICA IDENTITY FULL;";
const COLUMNS: &str =
    "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at)";
const USERS: u64 = 16_384;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let rows = arguments.next().unwrap_or(1_000_000);
    let seconds = arguments.next().unwrap_or(20);
    let server = Server::start();
    server.sql(SCHEMA);
    server.sql(&format!(
        "{COLUMNS} SELECT gen_random_uuid()::text, i % {USERS}, i / {USERS} + 1, 'COIN', 1, 1 + i % 1000, i \
         FROM generate_series(0, {rows} - 1) i"
    ));
    server.sql("CHECKPOINT");
    let gate = Gate::before(server.port);
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?slot=floors", gate.port);
    let ledger: LedgerAddress = url.parse().expect("an address");

    let began = Instant::now();
    let config = NodeConfig { shards: Some(2), shards_per_cpu: 2, ..NodeConfig::local(ledger) };
    let node = Node::start(config).expect("a node");
    until("the snapshot is loaded", || node.obstacles().is_empty());
    told("load", rows, began.elapsed());

    cost::of_an_idle_node(&server);
    backlog(&server, &node, &gate, rows / 2);
    visible(&server, &node, seconds);
    cost::of_following(&server, &gate, seconds.div_ceil(4));
    node.drain();
    node.join().expect("a clean end");
    cost::of_commits(&server);
}

fn told(what: &str, rows: u64, took: Duration) {
    println!(
        "{what}: {rows} rows in {:.2} s, {:.0} rows/s",
        took.as_secs_f64(),
        rows as f64 / took.as_secs_f64()
    );
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(600);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within ten minutes");
        thread::park_timeout(Duration::from_millis(1));
    }
}

fn applied(node: &Node) -> u64 {
    node.shards().iter().map(|shard| shard.metrics.applied.get()).sum()
}

/// Commits of two rows, made while the node cannot reach its server, and followed when it can.
fn backlog(server: &Server, node: &Node, gate: &Gate, rows: u64) {
    gate.close();
    let commits = format!(
        "DO $$ BEGIN FOR i IN 0..{} LOOP \
             {COLUMNS} VALUES (gen_random_uuid()::text, 1000000 + i % 1000, i / 1000 + 1, 'COIN', 5, 1, 0), \
                              (gen_random_uuid()::text, 2000000 + i % 1000, i / 1000 + 1, 'COIN', 2, 1, 0); \
             COMMIT; END LOOP; END $$",
        rows / 2 - 1
    );
    let mut writer = server.psql();
    writer.args(["-c", "SET synchronous_commit = off", "-c", &commits]);
    assert!(writer.status().expect("psql").success());
    let before = applied(node);
    gate.open();
    until("the stream is followed again", || applied(node) > before);
    let (began, first, spent) = (Instant::now(), applied(node), cost::by_thread(server));
    until("the backlog is followed", || applied(node) >= before + rows);
    told("follow", before + rows - first, began.elapsed());
    cost::of_rows(server, &spent, before + rows - first);
}

/// One session commits about 1,000 rows a second of one account; one caller waits for each version.
fn visible(server: &Server, node: &Node, seconds: u64) {
    let commits = 1_000 * seconds;
    let mut writer = server.psql();
    writer.arg("-c").arg(format!(
        "DO $$ BEGIN FOR i IN 1..{commits} LOOP \
             {COLUMNS} VALUES (gen_random_uuid()::text, 3000000, i, 'COIN', 1, 1, \
                 (extract(epoch FROM clock_timestamp()) * 1000000)::bigint); \
             COMMIT; PERFORM pg_sleep(0.0005); END LOOP; END $$"
    ));
    let began = Instant::now();
    let mut writer = writer.stdout(Stdio::null()).spawn().expect("psql");
    let mut caller = Caller::connect(node.addresses().listen.expect("a port"));
    let (mut took, mut version, mut retained) = (Vec::new(), 0, 0_u64);
    while version < commits {
        let (at, updated_us) = caller.balance(3_000_000, version + 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_micros();
        took.push(i64::try_from(now).expect("a time") - updated_us);
        version = at;
        if took.len() % 1_000 == 0 {
            let kept = server.sql(
                "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots",
            );
            retained = retained.max(kept.parse().unwrap_or(0));
        }
    }
    assert!(writer.wait().expect("its end").success());
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
    println!(
        "visible: p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms, at {:.0} commits/s; {:.1} MiB of the log were kept at most",
        at(0.5),
        at(0.99),
        at(1.0),
        commits as f64 / began.elapsed().as_secs_f64(),
        retained as f64 / f64::from(1 << 20),
    );
}

/// Asks over HTTP, on one connection.
struct Caller(BufReader<TcpStream>);

impl Caller {
    fn connect(address: SocketAddr) -> Caller {
        let stream = TcpStream::connect(address).expect("the node");
        stream.set_nodelay(true).expect("no delay");
        Caller(BufReader::new(stream))
    }

    /// The version that is there once `least` is, and when its row was inserted.
    fn balance(&mut self, user: u64, least: u64) -> (u64, i64) {
        loop {
            let request = format!(
                "GET /v1/users/{user}/balance?min_version={least}&wait_ms=1000 HTTP/1.1\r\nHost: florin\r\n\r\n"
            );
            self.0.get_mut().write_all(request.as_bytes()).expect("a request");
            let (mut length, mut line) = (0, String::new());
            while line != "\r\n" {
                line.clear();
                self.0.read_line(&mut line).expect("a head");
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).expect("a body");
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            let number = |value: &serde_json::Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
            if let Some(version) = number(&body["version"]).filter(|&version| version >= least) {
                let at: jiff::Timestamp =
                    body["updated_at"].as_str().expect("a time").parse().expect("a time");
                return (version, at.as_microsecond());
            }
        }
    }
}

/// A way to the server that can be shut.
struct Gate {
    port: u16,
    is_open: Arc<AtomicBool>,
}

impl Gate {
    fn before(server_port: u16) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its number").port();
        let is_open = Arc::new(AtomicBool::new(true));
        let opened = Arc::clone(&is_open);
        thread::spawn(move || {
            for client in listener.incoming().flatten().filter(|_| opened.load(Relaxed)) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)) else { continue };
                let pairs = [
                    (client.try_clone().expect("a socket"), server.try_clone().expect("a socket")),
                    (server, client),
                ];
                for (mut from, mut to) in pairs {
                    let _ = to.set_nodelay(true);
                    let _ = from.set_read_timeout(Some(Duration::from_millis(20)));
                    let opened = Arc::clone(&opened);
                    let passing = thread::Builder::new().name("the gate".to_owned());
                    let passing = passing.spawn(move || {
                        let mut bytes = vec![0; 256 << 10];
                        while opened.load(Relaxed) {
                            match from.read(&mut bytes) {
                                Ok(0) => break,
                                Ok(count) if to.write_all(&bytes[..count]).is_err() => break,
                                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
                                Ok(_) | Err(_) => {}
                            }
                        }
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                    passing.expect("a thread");
                }
            }
        });
        Gate { port, is_open }
    }

    fn close(&self) {
        self.is_open.store(false, Relaxed);
    }

    fn open(&self) {
        self.is_open.store(true, Relaxed);
    }
}
