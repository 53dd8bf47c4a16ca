//! Servers that take one another's place: standbys, backups, and others at the same address.

use std::path::Path;
use std::process::Command;

use florin_postgres::server::run;

use crate::mirror::{Mirror, eventually};
use crate::server::Server;
use crate::{ALL, followed, rows, started};

/// From 17 on a standby can keep a copy of a slot, where the slot says that it is to be kept.
#[test]
fn a_slot_is_one_that_standbys_keep_where_they_can() {
    let (server, _mirror) = followed();
    if server.sql("SELECT current_setting('server_version_num')::int >= 170000") == "t" {
        assert_eq!(
            server.sql("SELECT failover FROM pg_replication_slots WHERE slot_name = 'florin_test'"),
            "t"
        );
    }
}

/// A server that was promoted without its last commits, or restored, has another history: what was answered from rows that
/// it does not have is flagged, and everything else goes on.
#[test]
fn a_standby_that_is_promoted_without_the_last_rows_and_a_restored_backup_are_told_apart() {
    let (server, mirror) = followed();
    let copy = server.folder().join("copy");
    let mut backup = server.client("pg_basebackup");
    if let Err(error) = run(backup.args(["-X", "stream", "-c", "fast", "-R", "-D"]).arg(&copy)) {
        assert!(error.to_string().contains("incompatible server version"), "{error}");
        println!("skipped: this server's own pg_basebackup is not here");
        return;
    }
    // Rows that the standby never gets.
    server.sql(&rows(1_000, 1_099, 10));
    mirror.catch_up();
    server.crash();
    std::fs::rename(server.data(), server.folder().join("gone")).unwrap();
    std::fs::rename(copy, server.data()).unwrap();
    server.boot();
    server.sql("SELECT pg_promote()");
    // Account 1 goes on with other rows, account 2 is not as far as it was.
    server.sql(
        "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
                SELECT gen_random_uuid()::text, 1, i, 'COIN', 1, 5, 0 FROM generate_series(101, 130) i",
    );
    server.sql(
        "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
                VALUES ('new', 77, 1, 'COIN', 1, 5, 0)",
    );
    eventually("everything is loaded again", || mirror.status.loads_on_top() == 1);
    mirror.catch_up();
    eventually("account 1 is what the new server says", || {
        mirror.versions_of(1) == 130 && !mirror.view.lock().unwrap().quarantined.contains(&1)
    });
    let view = mirror.view.lock().unwrap();
    assert_eq!(view.accounts[&1][104].amount, 5);
    assert!(view.quarantined.contains(&2), "rows that were shown are gone");
    assert_eq!(view.accounts[&77].len(), 1);
    assert!(!view.went_back);
}

/// A standby was promoted and followed; then the old primary came back where the new one had been. It was loaded on top, and what it
/// had was answered as if it were fresh, while commits went on elsewhere.
#[test]
fn a_primary_that_was_replaced_and_comes_back_is_not_followed() {
    let (server, mirror) = followed();
    let (old, promoted) = (server.folder().join("old"), server.folder().join("promoted"));
    let copy = |from: &Path, to: &Path| run(Command::new("cp").arg("-a").args([from, to])).unwrap();
    server.end();
    copy(&server.data(), &old);
    copy(&server.data().join("PG_VERSION"), &server.data().join("standby.signal"));
    server.boot();
    server.sql("SELECT pg_promote()");
    server.sql(&rows(1_000, 1_099, 10));
    mirror.catch_up();
    assert_eq!((mirror.rows(), mirror.status.loads()), (1_100, 1), "the promoted one is gone on with");

    server.end();
    std::fs::rename(server.data(), &promoted).unwrap();
    std::fs::rename(&old, server.data()).unwrap();
    server.boot();
    // Its own, and more of them than it lacks.
    server.sql(&rows(1_000, 1_999, 10).replace("1 + i % 1000", "7"));
    eventually("it is said", || mirror.said("a primary that was replaced"));
    assert_eq!((mirror.rows(), mirror.status.loads()), (1_100, 1), "nothing of it is taken");

    server.end();
    std::fs::rename(server.data(), &old).unwrap();
    std::fs::rename(&promoted, server.data()).unwrap();
    server.boot();
    server.sql(&rows(1_100, 1_199, 10));
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    assert_eq!(mirror.status.loads(), 1, "and the promoted one is gone on with when it is there again");
}

/// Sets whom commits wait for, and waits until new sessions see it.
pub fn set_standbys(server: &Server, names: &str) {
    server.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = {names}"));
    server.sql("SELECT pg_reload_conf()");
    let quoted = names.replace('\'', "");
    eventually(names, || server.sql("SHOW synchronous_standby_names") == quoted);
}

/// A node was taken for a standby by servers that take any: commits waited for its checkpoints, and nothing said so.
#[test]
fn a_server_that_counts_nodes_among_its_standbys_is_not_followed() {
    let server = started();
    // As a database may have it whose programs are old.
    server.sql("ALTER DATABASE postgres SET standard_conforming_strings = off");
    server.sql(&rows(0, 999, 10));
    let mirror = Mirror::follow(server.target());
    mirror.catch_up();
    let is_told = || {
        let found = florin_postgres::admin::check(&server.target()).unwrap();
        found.iter().any(|finding| finding.sentence.contains("counts as a standby"))
    };
    let mut next = 1_000;
    for (names, counts) in [
        ("'db2'", false),
        ("'ANY 1 (db2, \"*db3\")'", false),
        ("'FIRST 1 (db2, *)'", true),
        ("'db2, db3'", false),
        ("'ANY 2 (\"*\",db2)'", true),
        ("'*'", true),
    ] {
        set_standbys(&server, names);
        assert_eq!(is_told(), counts, "{names}");
        if counts {
            // Nothing is written meanwhile: what is set moves no log.
            eventually("it is said", || mirror.doing().contains("counts as a standby"));
        } else {
            // Standbys that are not there are waited for by nobody who says so.
            server.sql(&format!("SET synchronous_commit = local; {}", rows(next, next + 9, 10)));
            next += 10;
            mirror.catch_up();
        }
    }
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let mut commit = server.psql().arg("-c").arg(rows(next, next + 9, 10)).spawn().unwrap();
    eventually("a commit waits", || server.sql(waits) == "1");
    // It is followed again once commits wait for nobody.
    set_standbys(&server, "''");
    assert!(commit.wait().unwrap().success());
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    assert_eq!(mirror.status.loads(), 1, "what was there is gone on with");
}

#[test]
fn another_server_at_the_same_place_is_refused() {
    let (server, mirror) = followed();
    let other = started();
    other.sql(&rows(0, 4_999, 10));
    other.end();
    server.end();
    std::fs::rename(server.data(), server.folder().join("gone")).unwrap();
    std::fs::rename(other.data(), server.data()).unwrap();
    server.boot();
    eventually("the other ledger is told", || mirror.said("this is not the ledger that was loaded"));
    assert_eq!(mirror.rows(), 1_000);
}
