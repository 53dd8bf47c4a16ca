//! Real servers, and what the follower makes of them: loaded, followed, and every way in which that may break off.

use std::collections::BTreeSet;

mod failover;
#[path = "../writing/fetched.rs"]
mod fetched;
mod kills;
mod mirror;
mod server;
mod standbys;
mod trouble;

use mirror::{Mirror, eventually};
use server::Server;

const SCHEMA: &str = "
CREATE TABLE transactions (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, transaction_id TEXT NOT NULL UNIQUE, user_id BIGINT NOT NULL,
    version BIGINT NOT NULL, asset TEXT NOT NULL, kind SMALLINT NOT NULL, amount BIGINT NOT NULL,
    occurred_at BIGINT NOT NULL, UNIQUE (user_id, version));
ALTER TABLE transactions REPLICA IDENTITY FULL;
CREATE PUBLICATION florin FOR TABLE transactions WITH (publish_via_partition_root = true);";

const ALL: &str = "SELECT user_id, version, asset, kind, amount FROM transactions ORDER BY user_id, version";

fn started() -> Server {
    let server = Server::start();
    server.sql(SCHEMA);
    server
}

/// One with rows, and who has followed it up to there.
fn followed() -> (Server, Mirror) {
    let server = started();
    server.sql(&rows(0, 999, 10));
    let mirror = Mirror::follow(server.target());
    mirror.catch_up();
    (server, mirror)
}

/// Rows of some users, each account's versions in order.
fn rows(first: u64, last: u64, users: u64) -> String {
    format!(
        "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
         SELECT gen_random_uuid()::text, i % {users}, i / {users} + 1, 'COIN', 1 + i % 10, 1 + i % 1000, i \
         FROM generate_series({first}, {last}) i"
    )
}

/// A commit of more rows than are read at once came in pieces, and each was shown as it came: half of a commit was an account's
/// balance for as long as the rest took.
#[test]
fn a_commit_that_comes_in_pieces_is_shown_at_once_account_by_account() {
    const USERS: u64 = 3;
    let server = started();
    server.sql(&rows(0, USERS - 1, USERS));
    let mirror = Mirror::follow(server.target());
    mirror.catch_up();
    let mut shown = BTreeSet::new();
    for (first, last) in [(1, 30_000), (30_001, 60_000)] {
        server.sql(&rows(first * USERS, last * USERS + USERS - 1, USERS));
        eventually("all of it is there", || {
            let versions: Vec<u64> = (0..USERS).map(|user| mirror.versions_of(user)).collect();
            shown.extend(versions.iter().copied());
            versions.iter().all(|&version| version == last + 1)
        });
    }
    assert_eq!(shown.into_iter().filter(|version| ![1, 30_001, 60_001].contains(version)).count(), 0);
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    // Loaded on top in the order of the pages, which is none of commits'.
    eventually("the slot is dropped", || {
        server.try_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
            && server.try_sql("SELECT pg_drop_replication_slot('florin_test')")
    });
    server.sql(&rows(60_001 * USERS, 90_000 * USERS + USERS - 1, USERS));
    eventually("all of it is there", || {
        let version = mirror.versions_of(1);
        assert!([60_001, 90_001].contains(&version), "{version}");
        version == 90_001
    });
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
}

#[test]
fn a_table_is_loaded_and_followed() {
    let server = started();
    server.sql(&rows(0, 49_999, 100));
    let mirror = Mirror::follow(server.target());
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    for step in 0..5 {
        server.sql(&rows(50_000 + step * 1_000, 50_999 + step * 1_000, 100));
    }
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    assert_eq!(mirror.view.lock().unwrap().gaps, 0);
    eventually("the server hears what was applied", || {
        server.sql(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) < 10000 FROM pg_replication_slots \
             WHERE slot_name = 'florin_test'",
        ) == "t"
    });
}
