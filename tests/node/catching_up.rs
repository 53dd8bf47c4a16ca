//! What befalls a ledger while a node catches up with it: a real file, a real feed, real shards.

use std::env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use florin::node::{Node, NodeConfig};
use florin_sqlite::Writer;
use rusqlite::Connection;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use super::support::{PATIENCE, config, until};

/// A ledger that this test writes to as any other program may.
struct Ledger {
    _folder: TempDir,
    path: PathBuf,
    sql: Connection,
    rows: u64,
}

impl Ledger {
    fn new() -> Ledger {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        drop(Writer::open_or_create(&path).unwrap());
        let sql = Connection::open(&path).unwrap();
        sql.busy_timeout(PATIENCE).unwrap();
        Ledger { _folder: folder, path, sql, rows: 0 }
    }

    /// One commit: rows of 1 COIN for these users, with these versions.
    fn commit(&mut self, rows: impl IntoIterator<Item = (u64, u64)>) {
        let commit = self.sql.transaction().unwrap();
        for (user, version) in rows {
            self.rows += 1;
            let id = format!("00000000-0000-4000-8000-{:012}", self.rows);
            commit
                .prepare_cached(
                    "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
                     VALUES (?1, ?2, ?3, 'COIN', 1, 1, 0)",
                )
                .unwrap()
                .execute((id, user, version))
                .unwrap();
        }
        commit.commit().unwrap();
    }

    fn serve(&self, shards: u16) -> Node {
        let node = Node::start(NodeConfig { ledger: self.path.clone().into(), ..config(shards) }).unwrap();
        until("the node is ready", || node.obstacles().is_empty());
        node
    }
}

/// An answer for a balance, as far as it says what it holds.
#[derive(Debug)]
struct Told {
    code: String,
    as_of: String,
    version: u64,
    is_quarantined: bool,
}

fn ask(address: SocketAddr, user: u64) -> Told {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /v1/users/{user}/balance HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let header = |name: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default().to_owned()
    };
    Told {
        code: answer.split(' ').nth(1).unwrap_or_default().to_owned(),
        as_of: header("Florin-As-Of"),
        version: header("Florin-Version").parse().unwrap_or(0),
        is_quarantined: header("Florin-Quarantined") == "true",
    }
}

fn applied(node: &Node) -> u64 {
    node.shards().iter().map(|shard| shard.metrics.applied.get()).sum()
}

/// Set in a child process that runs one test alone, because it lowers its own limits.
const ALONE: &str = "FLORIN_TEST_ALONE";

/// 5,000 rows in one commit, and in the middle of them a moment's lock or no descriptor left, stopped the feed for good with
/// "the ledger lost rows that it had": its position had moved, what it compared the ledger with had not.
#[test]
fn errors_in_the_middle_of_a_large_commit_pass() {
    if env::var_os(ALONE).is_none() {
        let (_crate, module) = module_path!().split_once("::").unwrap();
        let name = format!("{module}::errors_in_the_middle_of_a_large_commit_pass");
        let mut child = Command::new(env::current_exe().unwrap());
        let output = child.args(["--exact", &name, "--nocapture"]).env(ALONE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
        return;
    }
    let mut ledger = Ledger::new();
    // Without a WAL a lock keeps readers out; without a journal's file a commit takes no descriptor.
    ledger.sql.pragma_update(None, "journal_mode", "delete").unwrap();
    ledger.sql.pragma_update(None, "journal_mode", "memory").unwrap();
    ledger.commit([(1, 1)]);
    let node = ledger.serve(1);
    let (mut failed, mut version) = (0, 1);
    for round in 0..6 {
        let (rows, locks) = ((version + 1..=version + 5_000).map(|version| (1, version)), round % 2 == 0);
        version += 5_000;
        let limit = getrlimit(Resource::Nofile);
        if locks {
            ledger.commit(rows);
            ledger.sql.execute_batch("BEGIN EXCLUSIVE").unwrap();
        } else {
            // Whatever is opened from now on finds no number below this.
            setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..limit }).unwrap();
            ledger.commit(rows);
        }
        until("it fails, or was quicker", || !node.obstacles().is_empty() || applied(&node) == version);
        failed += usize::from(!node.obstacles().is_empty());
        if locks {
            ledger.sql.execute_batch("COMMIT").unwrap();
        }
        setrlimit(Resource::Nofile, limit).unwrap();
        until("it has caught up", || node.obstacles().is_empty() && applied(&node) == version);
    }
    let told = ask(node.addresses().listen.unwrap(), 1);
    assert_eq!((told.version, told.is_quarantined), (version, false), "{told:?}");
    println!("{failed} of 6 rounds failed in the middle");
    assert!(failed > 0, "no error came in the middle");
}

/// One commit with version v+2 before v+1 on an account of 100,000 rows: 16,648 answers bore an as_of past the commit and lacked
/// the row, and others' rows came late.
#[test]
fn an_account_that_is_read_again_costs_nobody_the_truth() {
    const ROWS: u64 = 100_000;
    let mut ledger = Ledger::new();
    ledger.commit((1..=ROWS).map(|version| (1, version)).chain([(2, 1)]));
    let node = ledger.serve(2);
    let address = node.addresses().listen.unwrap();
    ledger.commit([(1, ROWS + 2), (1, ROWS + 1), (2, 2)]);
    until("the other account has its row", || ask(address, 2).version == 2);
    // The round that brought it may have begun before the commit; the one after it did not.
    let mut committed = ask(address, 2).as_of;
    for _ in 0..2 {
        let last = committed.clone();
        until("the others' watermark advances", || {
            committed = ask(address, 2).as_of;
            committed > last
        });
    }
    let (mut last, mut answers) = (committed.clone(), 0);
    until("the account is whole", || {
        let (told, other) = (ask(address, 1), ask(address, 2));
        answers += 1;
        assert_eq!((told.code.as_str(), other.code.as_str()), ("200", "200"), "{told:?}, {other:?}");
        assert!(other.as_of >= last && !other.is_quarantined && other.version == 2, "{other:?} after {last}");
        last = other.as_of;
        let has_all = told.version == ROWS + 2;
        assert!(
            has_all || told.as_of < committed,
            "answer {answers} says more than it holds: {told:?}, {committed}"
        );
        has_all && !told.is_quarantined
    });
    // And the others' goes on.
    until("the watermark advances", || ask(address, 2).as_of > last);
}
