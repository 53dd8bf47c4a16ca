//! What following a PostgreSQL reaches on this machine: `cargo run --release --example postgres_floors [ROWS [SECONDS]]`.
//!
//! It makes a server of its own (see `sources/postgres/tests/live/server.rs`) and a node of two shards, and prints
//! - rows a second of a snapshot that is loaded,
//! - rows a second of a backlog in commits of two rows,
//! - from a row's insertion, its commit included, until it is answered, at about 1,000 commits a second,
//! - what the server keeps of its log for the node meanwhile,
//! - what an idle node costs the server, and one that follows about 1,000 commits a second,
//! - what the ledger's trigger and its replica identity cost a commit, in CPU and in bytes of the log.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use florin::node::{Node, NodeConfig};
use florin::sources::LedgerAddress;

#[path = "../../sources/postgres/tests/live/server.rs"]
#[allow(dead_code)]
mod server;

mod cost;
#[path = "../floors/mod.rs"]
mod floors;

use floors::{Caller, applied, now_us, quantiles, told, until};
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
    floors::told_of_threads(&spent, &cost::by_thread(server), before + rows - first);
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
        took.push(now_us() - updated_us);
        version = at;
        if took.len() % 1_000 == 0 {
            let kept = server.sql(
                "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots",
            );
            retained = retained.max(kept.parse().unwrap_or(0));
        }
    }
    assert!(writer.wait().expect("its end").success());
    println!(
        "visible: {}, at {:.0} commits/s; {:.1} MiB of the log were kept at most",
        quantiles(took),
        commits as f64 / began.elapsed().as_secs_f64(),
        retained as f64 / f64::from(1 << 20),
    );
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
