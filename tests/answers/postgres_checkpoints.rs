//! A node that starts from a checkpoint of a ledger in PostgreSQL goes on where the slot still has what came since, and where it has
//! not, says so and loads the ledger: whichever it is, every account is what a recomputation from the table's rows gives.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use florin::checkpoints::store;
use florin::node::Node;
use florin::sources::LedgerAddress;

use super::callers::NativeCaller;
use super::checkpoints::{assert_holds, end, make, origin, start};
use super::postgres::SCHEMA;
use super::postgres::server::Server;
use super::recomputed::Ledger;

pub const USERS: u64 = 40;
pub const ALL: &str =
    "SELECT user_id, version, asset, kind, amount, occurred_at FROM transactions ORDER BY user_id, version";

/// Rows `first` to `last` of all: each account's versions in order.
pub fn rows(first: u64, last: u64) -> String {
    format!(
        "INSERT INTO transactions SELECT i, gen_random_uuid()::text, i % {USERS}, i / {USERS} + 1, 'COIN', 1 + i % 10, 1 + i % 1000, i \
         FROM generate_series({first}, {last}) i"
    )
}

fn address(server: &Server) -> LedgerAddress {
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?slot=kept", server.port);
    url.parse().expect("an address")
}

fn prepared() -> (Server, tempfile::TempDir, PathBuf) {
    let server = Server::start();
    server.sql(SCHEMA);
    server.sql(&rows(0, 3_999));
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path().join("checkpoints");
    (server, directory, folder)
}

fn assert_exact(node: &Node, server: &Server) {
    let ledger = Ledger::of_lines(&server.sql(ALL));
    let mut native = NativeCaller::connect(node.addresses().listen.expect("an any-port"));
    for (&user, rows) in &ledger.accounts {
        native.balance_at_least(user, rows.len() as u64);
    }
    assert_holds(node, &ledger);
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn slot_is_free(server: &Server) -> bool {
    server.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == "0"
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().expect("cp");
    assert!(copied.success());
}

/// Whether a node comes up from these checkpoints, and why not; it is right either way. It leaves them as they are.
fn restart(server: &Server, folder: &Path, shards: u16) -> (bool, String) {
    let directory = tempfile::tempdir().expect("a directory");
    copy(folder, &directory.path().join("copy"));
    let node = start(address(server), &directory.path().join("copy"), shards);
    let (restored, refused) = origin(&node);
    assert_exact(&node, server);
    end(node);
    (restored > 0, refused.unwrap_or_default())
}

/// What was confirmed to the server was what had been applied, so that nothing before that could be had again; and a node with
/// `--checkpoint` on such a ledger did not start.
#[test]
fn a_restart_goes_on_from_a_checkpoint_while_rows_are_committed() {
    let (server, _directory, folder) = prepared();
    let confirmed = || {
        server
            .sql("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots")
            .parse::<u64>()
            .expect("a place")
    };
    let mut node = start(address(&server), &folder, 2);
    let mut next = 4_000;
    for shards in [1, 3] {
        let is_over = AtomicBool::new(false);
        let before = confirmed();
        // Else the checkpoint might begin where the slot does.
        server.sql(&rows(next, next + 99));
        next += 100;
        assert_exact(&node, &server);
        next = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut first = next;
                while !is_over.load(Relaxed) {
                    server.sql(&rows(first, first + 99));
                    first += 100;
                }
                first
            });
            make(&node);
            is_over.store(true, Relaxed);
            writer.join().expect("a writer")
        });
        eventually("where the checkpoint begins is confirmed", || confirmed() > before);
        let begins = confirmed();
        server.sql(&rows(next, next + 999));
        assert_exact(&node, &server);
        end(node);
        eventually("the slot is free", || slot_is_free(&server));
        assert_eq!(confirmed(), begins, "what came since is in no checkpoint, and is kept");
        server.sql(&rows(next + 1_000, next + 1_999));
        next += 2_000;
        node = start(address(&server), &folder, shards);
        assert_eq!(origin(&node), (USERS, None), "{shards} shards");
        assert!(node.feed().status().rows() < next - 4_000, "not from the ledger's start");
        assert_exact(&node, &server);
        server.sql(&rows(next, next + 99));
        next += 100;
        assert_exact(&node, &server);
    }
    end(node);
}

#[test]
fn what_a_slot_does_not_have_any_more_is_loaded_and_the_reason_is_said() {
    let (server, _directory, folder) = prepared();
    let node = start(address(&server), &folder, 2);
    make(&node);
    end(node);
    let drop_slot = "SELECT pg_drop_replication_slot('kept')";
    eventually("the slot is dropped", || server.try_sql(drop_slot));
    server.sql(&rows(4_000, 4_099));
    let (restored, refused) = restart(&server, &folder, 1);
    assert!(!restored && refused.contains("slot kept is gone"), "{refused}");

    // One that begins behind it.
    eventually("the slot is dropped", || server.try_sql(drop_slot));
    server.sql(&rows(4_100, 4_199));
    server.sql("SELECT pg_create_logical_replication_slot('kept', 'pgoutput')");
    let (restored, refused) = restart(&server, &folder, 2);
    assert!(!restored && refused.contains("begins at"), "{refused}");

    // Emptied: there is nothing to go on with, and a restart finds that out.
    let node = start(address(&server), &folder, 2);
    make(&node);
    server.sql("TRUNCATE transactions");
    eventually("it is told", || {
        node.obstacles().iter().any(|obstacle| format!("{obstacle:?}").contains("TRUNCATE"))
    });
    eventually("the slot is given back", || server.sql("SELECT count(*) FROM pg_replication_slots") == "0");
    end(node);
    server.sql(&rows(0, 99));
    let (restored, refused) = restart(&server, &folder, 2);
    assert!(!restored && refused.contains("slot kept is gone"), "{refused}");
}

/// A server that took the primary's place and has all that it had goes on; one that was restored and lacks rows does not, also where it
/// has gone on by itself for longer than the rows that it lacks.
#[test]
fn a_promoted_standby_is_gone_on_with_and_a_restored_server_is_not() {
    let (server, _directory, folder) = prepared();
    let node = start(address(&server), &folder, 2);
    server.end();
    let backup = server.folder().join("backup");
    copy(&server.data(), &backup);
    server.boot();
    server.sql(&rows(4_000, 4_999));
    assert_exact(&node, &server);
    let made = make(&node);
    end(node);
    // The one that the node made by itself at first is older than the backup, and goes well with it.
    for older in store::checkpoints(&folder).expect("a folder").into_iter().filter(|path| *path != made.path)
    {
        std::fs::remove_dir_all(older).expect("a removal");
    }

    server.end();
    let standby = server.folder().join("standby");
    copy(&server.data(), &standby);
    let take_place = |folder: &Path, past: &str| {
        server.end();
        std::fs::rename(server.data(), server.folder().join(past)).expect("a rename");
        std::fs::rename(folder, server.data()).expect("a rename");
    };
    take_place(&standby, "first");
    copy(&backup.join("postgresql.conf"), &server.data().join("standby.signal"));
    server.boot();
    server.sql("SELECT pg_promote()");
    server.sql(&rows(5_000, 5_099));
    let (restored, refused) = restart(&server, &folder, 3);
    assert!(restored, "{refused}");

    take_place(&backup, "second");
    server.boot();
    let (restored, refused) = restart(&server, &folder, 2);
    assert!(!restored && refused.contains("it was restored"), "{refused}");
    // Other rows, and more of them than it lacks.
    server.sql(&rows(4_000, 9_999).replace("1 + i % 1000", "7"));
    let (restored, refused) = restart(&server, &folder, 2);
    assert!(!restored && refused.contains("another one is in its place"), "{refused}");
}
