//! Every thread and task that a node cannot do without, killed in a real node: the process says which it was and why, and ends.
//!
//! A panic stays with whoever joins a thread: the feed died unseen and the node went on with what it had for ever, a shard on the
//! ring ended the process without a word, and the control plane's own thread hung in its runtime's end, deaf to every signal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use florin::tls::authority::Authority;
use florin_record::threads::Vital;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::kafka::broker::Broker;
use crate::postgres::Server as Postgres;
use crate::support::{SERVE, florin, folder_with_ledger, run, transaction, wait_for};

/// Nodes that die side by side.
const AT_ONCE: usize = 4;

/// One account without its second row.
const POSTGRES: &str = "
CREATE TABLE transactions (
    transaction_id TEXT PRIMARY KEY, user_id BIGINT NOT NULL, version BIGINT NOT NULL, asset TEXT NOT NULL,
    kind SMALLINT NOT NULL, amount BIGINT NOT NULL, occurred_at BIGINT NOT NULL, UNIQUE (user_id, version));
ALTER TABLE transactions REPLICA IDENTITY FULL;
INSERT INTO transactions VALUES
    ('00000000-0000-4000-8000-000000000001', 1, 1, 'COIN', 1, 5, 1), ('00000000-0000-4000-8000-000000000002', 1, 3, 'COIN', 1, 5, 1)";

/// What brings a vital thread to its work, and so to its death.
struct Way {
    vital: Vital,
    flags: &'static [&'static str],
    ledger: Ledger,
    /// Once the node is ready, if it comes to that.
    then: Then,
}

#[derive(Clone, Copy)]
enum Ledger {
    /// Three rows.
    Small,
    /// More than one thread reads alone.
    Large,
    /// An account lacks a row.
    Gap,
    /// A gap in a PostgreSQL, by a slot of its own.
    Postgres(&'static str),
    /// A topic of this name, without a record.
    Kafka(&'static str),
}

#[derive(Clone, Copy)]
enum Then {
    Nothing,
    Signal(Signal),
    Write,
}

impl Way {
    const fn of(vital: Vital) -> Way {
        Way { vital, flags: &[], ledger: Ledger::Small, then: Then::Nothing }
    }
}

/// How each dies; a new one does not compile before it is here.
fn ways(vital: Vital) -> Vec<Way> {
    let plain = Way::of(vital);
    match vital {
        Vital::Control => vec![Way { then: Then::Signal(Signal::TERM), ..plain }],
        Vital::Shard(_) => [
            &["--driver", "ring"][..],
            &["--driver", "monoio"],
            &["--driver", "monoio-epoll"],
            &["--driver", "glommio"],
        ]
        .map(|flags| Way { flags, ..Way::of(vital) })
        .into(),
        Vital::Loader => vec![Way { ledger: Ledger::Large, ..plain }],
        Vital::Reread => vec![Way { ledger: Ledger::Gap, ..plain }],
        Vital::Writer => vec![Way { then: Then::Write, ..plain }],
        Vital::Audit => vec![Way { flags: &["--audit", "1%"], ..plain }],
        Vital::Checkpoint => vec![Way { flags: &["--checkpoint", "checkpoints"], ..plain }],
        Vital::Postgres => vec![Way { ledger: Ledger::Postgres("thread"), ..plain }],
        Vital::PostgresStream => vec![Way { ledger: Ledger::Postgres("stream"), ..plain }],
        Vital::PostgresReread => vec![Way { ledger: Ledger::Postgres("reread"), ..plain }],
        // Where no broker was fetched there is none to read from.
        Vital::Kafka | Vital::Group | Vital::Nodes if Broker::shared().is_none() => Vec::new(),
        Vital::Group => {
            vec![Way { ledger: Ledger::Kafka("dying-member"), flags: &["--group", "dying"], ..plain }]
        }
        Vital::Nodes => {
            vec![Way { ledger: Ledger::Kafka("dying-keeper"), flags: &["--group", "dying-too"], ..plain }]
        }
        Vital::Kafka => vec![Way { ledger: Ledger::Kafka("dying"), ..plain }],
        Vital::AuditLog => vec![Way { flags: &["--audit-log", "audit.jsonl"], ..plain }],
        Vital::Reload => vec![Way { then: Then::Signal(Signal::HUP), ..plain }],
        Vital::Handshakes(_) => {
            let flags = &["--tls-listen", "127.0.0.1:0", "--tls-cert", "node.crt", "--tls-key", "node.key"];
            vec![Way { flags, ..plain }]
        }
        Vital::Feed | Vital::Admin | Vital::Neighbours | Vital::Readiness | Vital::Systemd => vec![plain],
    }
}

#[test]
fn whatever_a_node_cannot_do_without_ends_it_aloud() {
    let postgres = Postgres::start();
    postgres.sql(POSTGRES);
    let all: Vec<Way> = Vital::ALL.into_iter().flat_map(ways).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(String::new()));
    let work = || {
        while let Some(way) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(failure) = die(way, postgres.port) {
                let failure = format!("{}, {:?}: {failure}\n", way.vital, way.flags);
                failures.lock().unwrap().push_str(&failure);
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures}");
}

fn die(way: &Way, postgres: u16) -> Result<(), String> {
    let folder = folder_with_ledger();
    let ledger = prepare(way.ledger, &folder, postgres);
    let pair = Authority::new("dying").and_then(|authority| authority.node(&["localhost".to_owned()]));
    let pair = pair.expect("a certificate");
    std::fs::write(folder.path().join("node.crt"), pair.certificate).expect("a folder of ours");
    let key = folder.path().join("node.key");
    std::fs::write(&key, pair.key).expect("a folder of ours");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("a file of ours");
    let told = UnixDatagram::bind(folder.path().join("notify")).expect("a socket in a folder of ours");
    let mut command = florin(folder.path(), &SERVE);
    command
        .args(["--shards", "2", "--shards-per-cpu", "2", "--ledger", &ledger])
        .args(way.flags)
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .env("FLORIN_TEST_PANIC", way.vital.to_string());
    let outcome = watch(command, way.then);
    drop(told);
    outcome.and_then(|said| {
        let last = format!("{} has panicked, and the node cannot do without it", way.vital);
        let reason = format!("a test ordered {} to panic", way.vital);
        if said.contains(&last) && said.contains(&reason) { Ok(()) } else { Err(format!("it said {said:?}")) }
    })
}

/// Runs it to its end: what it said, or how it ended otherwise than expected.
fn watch(mut command: Command, then: Then) -> Result<String, String> {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command was built");
    let mut err = child.stderr.take().expect("it is piped");
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        err.read_to_end(&mut said).map(|_| String::from_utf8_lossy(&said).into_owned())
    });
    provoke(&mut child, then);
    let status = wait_for("the node's end", || child.try_wait().expect("our own child"));
    let said = said.join().expect("a reader does not panic").expect("a pipe");
    if status.signal() == Some(6) {
        Ok(said)
    } else {
        Err(format!("it ended with {status}, and said {said:?}"))
    }
}

/// Waits until it is ready, calls its admin port, and does what is to be done; a node that ends before has had its reason.
fn provoke(child: &mut Child, then: Then) {
    let pid = Pid::from_child(child);
    let mut admin: Option<SocketAddr> = None;
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok) {
        if let Some(address) = line.trim().strip_prefix("admin") {
            admin = address.trim().trim_start_matches("http://").parse().ok();
        }
        let Some(admin) = admin.filter(|_| line.starts_with("ready: ")) else { continue };
        match then {
            Then::Nothing => {
                let mut stream = TcpStream::connect(admin).expect("it is ready");
                let asked = write!(stream, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
                asked.and_then(|()| stream.read(&mut [0; 64])).map(drop).unwrap_or_default();
            }
            Then::Signal(signal) => kill_process(pid, signal).expect("our own child"),
            Then::Write => {
                let body = transaction(9, 5, "1");
                let mut stream = TcpStream::connect(admin).expect("it is ready");
                let written = write!(
                    stream,
                    "POST /v1/transactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                written.and_then(|()| stream.read(&mut [0; 64])).map(drop).unwrap_or_default();
            }
        }
    }
}

/// The ledger's address.
fn prepare(ledger: Ledger, folder: &TempDir, postgres: u16) -> String {
    let file = folder.path().join("florin.db");
    match ledger {
        Ledger::Small => {}
        Ledger::Large => {
            std::fs::remove_file(&file).expect("it was made");
            run(folder.path(), &["generate", "--transactions", "70000"]).ok();
        }
        Ledger::Gap => add_after_a_gap(&file),
        Ledger::Kafka(topic) => {
            let broker = Broker::shared().expect("it was there before");
            broker.make_topic(topic, 1);
            return broker.address(topic);
        }
        Ledger::Postgres(slot) => {
            return format!("postgres://postgres@127.0.0.1:{postgres}/postgres?slot={slot}");
        }
    }
    file.display().to_string()
}

fn add_after_a_gap(file: &Path) {
    let connection = rusqlite::Connection::open(file).expect("the ledger's file");
    let row = "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
               VALUES ('00000000-0000-4000-8000-000000000009', 1, 9, 'COIN', 1, 5, 1)";
    connection.execute(row, []).expect("the schema takes it");
}
