//! Ways in which following breaks off: after each of them every row is there once, or what is wrong is said.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use florin_core::clock::Now;
use florin_core::follower::Source;
use florin_postgres::mapping::{Kinds, Mapping};
use florin_postgres::{PgLedger, PgPosition, PgSource, Target};

use crate::mirror::{Mirror, eventually};
use crate::server::Server;
use crate::standbys::set_standbys;
use crate::{ALL, followed, rows, started};

const END_WALSENDER: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication";
const DROP_SLOT: &str = "SELECT pg_drop_replication_slot('florin_test')";

#[test]
fn a_connection_that_is_cut_is_made_again_and_nothing_is_loaded_twice() {
    let (server, mirror) = followed();
    for round in 0..5 {
        server.sql(END_WALSENDER);
        server.sql(&rows(1_000 + round * 100, 1_099 + round * 100, 10));
        mirror.catch_up();
        assert_eq!(mirror.told(), server.sql(ALL));
    }
    server.crash();
    eventually("it is said that the server is away", || mirror.doing().starts_with("failing"));
    server.boot();
    server.sql(&rows(1_500, 1_599, 10));
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    assert_eq!(mirror.status.loads(), 1, "the slot had everything");
}

#[test]
fn a_slot_that_is_lost_is_made_again_and_everything_is_loaded_on_top() {
    let (server, mirror) = followed();
    let lose = || {
        eventually("the slot is dropped while its user is away", || {
            server.try_sql(END_WALSENDER) && server.try_sql(DROP_SLOT)
        });
    };
    lose();
    server.sql(&rows(1_000, 1_499, 10));
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    assert_eq!(mirror.status.loads_on_top(), 1);
    assert!(mirror.said("loading everything again"), "{}", mirror.doing());
    // Somebody makes one of the same name, which begins behind rows that were not read.
    lose();
    server.sql(&rows(1_500, 1_599, 10));
    server.try_sql("SELECT pg_create_logical_replication_slot('florin_test', 'pgoutput')");
    server.sql(&rows(1_600, 1_699, 10));
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    assert!(!mirror.view.lock().unwrap().went_back);
}

#[test]
fn rows_that_are_changed_or_removed_are_read_again_and_a_truncate_is_refused() {
    let (server, mirror) = followed();
    server.sql("UPDATE transactions SET amount = 7 WHERE user_id = 3 AND version = 5");
    eventually("the account is read again", || {
        let view = mirror.view.lock().unwrap();
        view.accounts[&3][4].amount == 7 && view.quarantined.is_empty()
    });
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    server.sql("DELETE FROM transactions WHERE user_id = 4 AND version = 100");
    eventually("the account is quarantined", || mirror.view.lock().unwrap().quarantined.contains(&4));
    mirror.catch_up();
    assert_eq!(mirror.versions_of(4), 100, "what was shown is not taken back, and bears a flag");
    server.sql("TRUNCATE transactions");
    eventually("the truncate is told", || mirror.said("TRUNCATE"));
    assert_eq!(mirror.versions_of(3), 100);
}

#[test]
fn schema_changes_are_followed_where_harmless_and_stop_it_with_a_sentence_where_not() {
    let (server, mirror) = followed();
    server.sql("ALTER TABLE transactions ADD COLUMN note TEXT DEFAULT 'x'");
    server.sql(&rows(1_000, 1_009, 10));
    server.sql("ALTER TABLE transactions DROP COLUMN note");
    server
        .sql("ALTER TABLE transactions ALTER COLUMN asset TYPE VARCHAR, ALTER COLUMN kind SET STATISTICS 10");
    // Together with what follows it would look like a column that was rewritten, and that is not followed.
    mirror.catch_up();
    server.sql("ALTER TABLE transactions ADD COLUMN random UUID DEFAULT gen_random_uuid()");
    server.sql(&rows(1_010, 1_019, 10));
    server.sql("ALTER TABLE transactions RENAME TO ledger");
    server.sql("INSERT INTO ledger (transaction_id, user_id, version, asset, kind, amount, occurred_at) VALUES ('t', 0, 103, 'COIN', 1, 1, 0)");
    server.sql("ALTER TABLE ledger RENAME TO transactions");
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    assert_eq!(
        mirror.status.loads_on_top(),
        0,
        "none of it lost a row: {:?}",
        mirror.view.lock().unwrap().notes
    );

    server.sql("ALTER TABLE transactions RENAME COLUMN amount TO cents");
    server.sql(&rows(1_021, 1_021, 10).replace("amount", "cents"));
    eventually("the missing column is told", || mirror.said("no column amount"));
    server.sql("ALTER TABLE transactions RENAME COLUMN cents TO amount");
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));

    // Rows that went by unpublished are in no account's version gap until another row comes: only loading finds them.
    server.sql("ALTER PUBLICATION florin DROP TABLE transactions");
    server.sql(&rows(1_022, 1_029, 10));
    eventually("the publication's lack is told", || mirror.said("does not publish the table"));
    server.sql("ALTER PUBLICATION florin ADD TABLE transactions");
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    assert_eq!(mirror.status.loads_on_top(), 2);
}

#[test]
fn a_partitioned_table_is_one_ledger_however_it_is_published() {
    let server = Server::start();
    server.sql(
        "CREATE TABLE transactions (transaction_id TEXT NOT NULL, user_id BIGINT NOT NULL, version BIGINT NOT NULL, \
             asset TEXT NOT NULL, kind SMALLINT NOT NULL, amount BIGINT NOT NULL, occurred_at BIGINT NOT NULL, \
             PRIMARY KEY (user_id, version)) PARTITION BY HASH (user_id); \
         CREATE TABLE t0 PARTITION OF transactions FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
         CREATE TABLE t1 (occurred_at BIGINT NOT NULL, user_id BIGINT NOT NULL, version BIGINT NOT NULL, asset TEXT NOT NULL, \
             kind SMALLINT NOT NULL, amount BIGINT NOT NULL, transaction_id TEXT NOT NULL); \
         ALTER TABLE transactions ATTACH PARTITION t1 FOR VALUES WITH (MODULUS 2, REMAINDER 1); \
         CREATE PUBLICATION florin FOR TABLE transactions",
    );
    server.sql(&rows(0, 999, 10));
    let mirror = Mirror::follow(server.target());
    mirror.catch_up();
    server.sql(&rows(1_000, 1_499, 10));
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
}

/// Followed by a role that may read all of it, and each part by itself or not.
fn partitioned(user: &str) -> (Server, Mirror, Target) {
    let server = Server::start();
    server.sql(
        "CREATE TABLE transactions (transaction_id TEXT NOT NULL, user_id BIGINT NOT NULL, version BIGINT NOT NULL, \
             asset TEXT NOT NULL, kind SMALLINT NOT NULL, amount BIGINT NOT NULL, occurred_at BIGINT NOT NULL, \
             PRIMARY KEY (user_id, version)) PARTITION BY RANGE (version); \
         CREATE TABLE p0 PARTITION OF transactions FOR VALUES FROM (1) TO (101); \
         CREATE TABLE p1 PARTITION OF transactions FOR VALUES FROM (101) TO (201); \
         CREATE PUBLICATION florin FOR TABLE transactions WITH (publish_via_partition_root = true); \
         CREATE ROLE reader LOGIN REPLICATION; GRANT SELECT ON transactions TO reader",
    );
    server.sql(&rows(0, 1_999, 10));
    let mut target = server.target();
    target.address.user = user.to_owned();
    let mirror = Mirror::follow(target.clone());
    mirror.catch_up();
    (server, mirror, target)
}

/// The server says nothing of rows that come or go with a partition: balances lacked them, or still had them.
#[test]
fn partitions_that_come_go_or_are_emptied_are_noticed() {
    ["postgres", "reader"].into_iter().for_each(partitions_are_noticed_by);
}

fn partitions_are_noticed_by(user: &str) {
    let (server, mirror, target) = partitioned(user);
    server.sql("CREATE TABLE p2 PARTITION OF transactions FOR VALUES FROM (201) TO (301)");
    // Who may not look into it is to see it empty.
    mirror.catch_up();
    server.sql(&rows(2_000, 2_999, 10));
    mirror.catch_up();
    server.sql("VACUUM FULL p0");
    server.sql("CLUSTER p1 USING p1_pkey");
    mirror.catch_up();
    assert_eq!(mirror.status.loads_on_top(), 0, "{user}: {:?}", mirror.view.lock().unwrap().notes);
    assert_eq!(mirror.told(), server.sql(ALL), "{user}");

    server.sql(&format!(
        "CREATE TABLE p3 (LIKE transactions INCLUDING ALL); {}; \
         ALTER TABLE transactions ATTACH PARTITION p3 FOR VALUES FROM (301) TO (401)",
        rows(3_000, 3_999, 10).replace("INTO transactions", "INTO p3")
    ));
    eventually("what came with it is loaded", || mirror.rows() == 4_000);
    mirror.catch_up();
    assert_eq!((mirror.told(), mirror.status.loads_on_top()), (server.sql(ALL), 1));

    server.sql("TRUNCATE p3");
    eventually("it is said", || mirror.said("p3 was emptied (TRUNCATE)"));
    assert!(mirror.doing().contains("restart florin"), "{}", mirror.doing());
    eventually("nothing is kept for it", || server.sql("SELECT count(*) FROM pg_replication_slots") == "0");
    drop(mirror);

    let mirror = Mirror::follow(target);
    mirror.catch_up();
    server.sql("ALTER TABLE transactions DETACH PARTITION p2");
    eventually("it is said", || mirror.said("p2 was detached or removed"));
    assert_eq!(mirror.rows(), 3_000, "what was shown is not taken back");
}

/// Rows that were read are others since, and the stream has only what came later.
#[test]
fn rows_that_a_command_has_rewritten_are_noticed() {
    for (command, sentence) in [
        (
            "ALTER TABLE transactions ALTER amount TYPE BIGINT USING amount * 100",
            "has rewritten the column amount",
        ),
        (
            "ALTER TABLE transactions ADD fee BIGINT NOT NULL DEFAULT 1; \
             ALTER TABLE transactions RENAME amount TO gross; ALTER TABLE transactions RENAME fee TO amount",
            "the column amount is another one than it was",
        ),
    ] {
        let (server, mirror) = followed();
        server.sql(&format!("BEGIN; {command}; COMMIT"));
        eventually("it is said", || mirror.said(sentence));
        assert_eq!(mirror.rows(), 1_000);
    }
}

/// While the slot was lost an old row was changed: loading on top skips versions that are known.
#[test]
fn rows_that_were_changed_while_nobody_followed_are_noticed() {
    let (server, mirror) = followed();
    server.sql(&rows(1_000, 1_009, 10));
    mirror.catch_up();
    eventually("the slot is dropped while its user is away", || {
        server.try_sql(END_WALSENDER) && server.try_sql(DROP_SLOT)
    });
    server.sql("UPDATE transactions SET amount = 7 WHERE user_id = 3 AND version = 5");
    eventually("it is said", || {
        mirror.said("rows were changed or removed while the ledger was not followed")
    });
}

/// Two rows of one version: the first counted, and the balance was wrong without a word.
#[test]
fn a_table_that_would_take_a_version_twice_is_refused() {
    let (server, mirror) = followed();
    server.sql("ALTER TABLE transactions DROP CONSTRAINT transactions_user_id_version_key");
    eventually("it is said", || mirror.said("two rows of one account and version"));
    let refused = PgLedger::open(server.target()).unwrap_err().to_string();
    assert!(refused.contains("CREATE UNIQUE INDEX ON"), "{refused}");
    server.sql("CREATE UNIQUE INDEX ON transactions (version, user_id) INCLUDE (amount)");
    server.sql(&rows(1_000, 1_009, 10));
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
}

fn variable(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |number| number.parse().expect("a number"))
}

/// What other sessions do for long delays what is theirs, and nothing else: a transaction that stays open, a dump, a table that is
/// rewritten, and a commit of many rows, which is there when it is over and no sooner. `FLORIN_OPEN_S=30` keeps the transaction open for so long,
/// and `FLORIN_COMMIT_ROWS=1000000` commits so many rows at once.
#[test]
fn other_sessions_that_take_long_delay_nobody() {
    let (server, mirror) = followed();
    let mut next = 1_000;
    let mut is_fresh = |what: &str| {
        let began = Instant::now();
        server.sql(&rows(next, next + 9, 10));
        next += 10;
        mirror.catch_up();
        assert_eq!(mirror.rows() as u64, next, "{what}: the watermark is ahead of rows");
        println!("{what}: fresh within {:?}", began.elapsed());
    };
    let spawn = |mut command: Command| command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let long = |sql: String| {
        let mut psql = server.psql();
        psql.arg("-c").arg(sql);
        spawn(psql)
    };
    let open = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";

    is_fresh("nobody else");
    // Nobody who waits for its end lives to see it.
    let rows_of_its_own = rows(900_000, 900_009, 10);
    let mut sleeper = long(format!("BEGIN; {rows_of_its_own}; SELECT pg_sleep(36000); ROLLBACK"));
    eventually("a transaction is open", || server.sql(open) == "1");
    is_fresh("a transaction that is open");
    let until = Instant::now() + Duration::from_secs(variable("FLORIN_OPEN_S", 0));
    while Instant::now() < until {
        is_fresh("a transaction that stays open");
    }
    let mut dump = server.client("pg_dump");
    dump.args(["-d", "postgres"]);
    let mut dump = spawn(dump);
    is_fresh("a dump");
    assert!(dump.wait().unwrap().success());
    server.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    sleeper.wait().unwrap();
    let mut vacuum = long("VACUUM FULL transactions".to_owned());
    is_fresh("VACUUM FULL");
    assert!(vacuum.wait().unwrap().success());

    // One account's, so that nobody else's rows wait for theirs.
    let many = variable("FLORIN_COMMIT_ROWS", 50_000);
    let mut commit = long(format!(
        "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
         SELECT gen_random_uuid()::text, 77, i, 'COIN', 1, 1, 0 FROM generate_series(1, {many}) i"
    ));
    while commit.try_wait().unwrap().is_none() {
        let version = mirror.versions_of(77);
        assert!(version == 0 || version == many, "{version}");
    }
    mirror.catch_up();
    assert_eq!(mirror.versions_of(77), many, "what had been committed before the watermark is in");
    assert_eq!(mirror.told(), server.sql(ALL));
    assert_eq!(mirror.status.connections(), 1);
}

#[test]
fn a_snapshot_waits_for_open_transactions_and_misses_none() {
    let server = started();
    server.sql(&rows(0, 99, 10));
    let mut open = server.psql();
    let mut open = open.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut orders = open.stdin.take().unwrap();
    writeln!(orders, "BEGIN; {};", rows(100, 199, 10)).unwrap();
    let count = |sessions: &str| server.sql(&format!("SELECT count(*) FROM {sessions}"));
    eventually("the transaction is open", || {
        count("pg_stat_activity WHERE backend_xid IS NOT NULL AND state = 'idle in transaction'") == "1"
    });
    let mirror = Mirror::follow(server.target());
    eventually("the snapshot waits for it", || {
        count("pg_locks WHERE locktype = 'transactionid' AND NOT granted") != "0"
    });
    server.sql(&rows(200, 299, 10));
    writeln!(orders, "COMMIT;").unwrap();
    drop(orders);
    mirror.catch_up();
    assert!(open.wait().unwrap().success());
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
}

#[test]
fn pages_whose_room_was_used_again_are_brought_into_order() {
    let server = started();
    // Removed rows leave room at the front, which the ledger's later rows take.
    server.sql(&rows(0, 19_999, 50));
    server.sql("DELETE FROM transactions WHERE version % 2 = 0");
    server.sql("VACUUM transactions");
    server.sql(
        "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
         SELECT gen_random_uuid()::text, user_id, version + 1, asset, kind, amount, occurred_at FROM transactions",
    );
    let mirror = Mirror::follow(server.target());
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    assert_eq!(mirror.view.lock().unwrap().gaps, 0);
    // While another session rewrites the table.
    server.sql("VACUUM FULL transactions");
    server.sql(&rows(20_000, 20_099, 50));
    mirror.catch_up();
    assert_eq!(mirror.told(), server.sql(ALL));
    assert_eq!(mirror.status.connections(), 1);
}

/// What a checkpoint needs: a position of an earlier process is gone on from, and only what came since is brought.
#[test]
fn a_position_of_before_is_gone_on_from_while_the_slot_has_it() {
    let server = started();
    server.sql(&rows(0, 999, 10));
    let open = || PgSource::open(&PgLedger::open(server.target()).unwrap()).unwrap();
    // Delivers until everything that was committed before is in; how many rows, and up to where.
    let drain = |source: &mut PgSource, after: Option<&PgPosition>| {
        source.load(after).unwrap();
        let (began, mut count, mut position, mut is_complete) = (Instant::now(), 0, after.copied(), false);
        eventually("everything is in", || {
            let (now_us, mut rows) = (began.elapsed().as_micros() as u64 + 1_000_000, Vec::new());
            let progress = source.next(Now { wall_us: 0, monotonic_us: now_us }, &mut rows).unwrap();
            count += rows.len();
            position = progress.position.or(position);
            is_complete |= progress.complete_before.is_some();
            is_complete
        });
        (count, position.unwrap())
    };
    let (loaded, position) = drain(&mut open(), None);
    assert_eq!(loaded, 1_000);
    server.sql(&rows(1_000, 1_099, 10));

    let mut second = open();
    // Whom it may not follow at the moment is no other ledger, and what the node has of it is kept.
    set_standbys(&server, "'*'");
    eventually("the first connection has let the slot go", || second.resume(&position, &position).is_ok());
    set_standbys(&server, "''");
    assert_eq!(drain(&mut second, Some(&position)).0, 100);
    drop(second);

    eventually("the slot is dropped", || server.try_sql(DROP_SLOT));
    let refused = open().resume(&position, &position).unwrap_err();
    assert!(refused.to_string().contains("is gone"), "{refused}");
}

fn without_versions(server: &Server) -> Target {
    let mut target = server.target();
    target.mapping = Mapping::new(&"version=derived".parse().unwrap(), &Kinds::default()).unwrap();
    target
}

/// A ledger without versions: each row has the place in its account that it came in, and so have those that follow.
#[test]
fn rows_without_versions_are_counted() {
    let server = started();
    server.sql(&rows(0, 9_999, 10));
    let mirror = Mirror::follow(without_versions(&server));
    mirror.catch_up();
    server.sql(&rows(10_000, 10_999, 10));
    server.sql(END_WALSENDER);
    server.sql(&rows(11_000, 11_999, 10));
    mirror.catch_up();
    let sums = "SELECT user_id, count(*), sum(amount) FROM transactions GROUP BY user_id ORDER BY user_id";
    let told: Vec<String> = mirror
        .view
        .lock()
        .unwrap()
        .accounts
        .iter()
        .map(|(user, rows)| {
            let versions: Vec<u64> = rows.iter().map(|row| row.version.0).collect();
            assert_eq!(versions, (1..=rows.len() as u64).collect::<Vec<_>>(), "user {user}");
            format!("{user}|{}|{}", rows.len(), rows.iter().map(|row| row.amount).sum::<i64>())
        })
        .collect();
    assert_eq!(told.join("\n"), server.sql(sums));
}

/// Such a ledger's snapshot broke off, and the next was counted from 1 again on top of what had come: a row that lay elsewhere by
/// then was applied twice, in another's stead.
#[test]
fn half_a_snapshot_without_versions_is_not_counted_on_top_of() {
    // More than lies between the connection and whoever follows, so that it waits for him.
    const ROWS: u64 = 600_000;
    let server = started();
    server.sql(&rows(0, ROWS - 1, 1_000));
    let mut source = PgSource::open(&PgLedger::open(without_versions(&server)).unwrap()).unwrap();
    source.load(None).unwrap();
    let (started, mut rows) = (Instant::now(), Vec::new());
    let mut next = |source: &mut PgSource| {
        let us = started.elapsed().as_micros() as u64;
        source.next(Now { monotonic_us: us, wall_us: us as i64 }, &mut rows).map(|_| rows.len())
    };
    eventually("some rows have come", || next(&mut source).unwrap() > 0);
    server.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'florin-%'");
    eventually("the snapshot breaks off", || next(&mut source).is_err());
    let refusal = source.load(None).unwrap_err().to_string();
    assert!(refusal.contains("restart florin"), "{refusal}");
    assert_eq!(source.load(None).unwrap_err().to_string(), refusal, "for good");
}

/// Each was followed as if all were well: rows that a policy hid were missing from balances, rows of a child table came with a
/// restart and not before, and a generated column made every new row load everything again.
#[test]
fn a_table_whose_rows_would_not_all_be_seen_is_refused() {
    let server = started();
    server.sql(&rows(0, 99, 10));
    let refusal = |user: &str| {
        let address = format!("postgres://{user}@127.0.0.1:{}/postgres", server.port);
        let opened = PgLedger::open(Target::new(address.parse().unwrap(), Mapping::default()));
        opened.err().map(|error| error.to_string()).unwrap_or_default()
    };
    server.sql("CREATE ROLE reader LOGIN REPLICATION; GRANT SELECT ON transactions TO reader");
    assert_eq!(refusal("reader"), "");
    server.sql(
        "ALTER TABLE transactions ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY even ON transactions FOR SELECT TO reader USING (user_id % 2 = 0)",
    );
    assert!(refusal("reader").contains("row-level security may hide rows"), "{}", refusal("reader"));
    server.sql("ALTER ROLE reader BYPASSRLS");
    assert_eq!(refusal("reader"), "");

    server.sql("CREATE TABLE kid () INHERITS (transactions)");
    assert!(refusal("reader").contains("other tables inherit from"), "{}", refusal("reader"));
    server.sql("DROP TABLE kid");

    server.sql(
        "ALTER TABLE transactions RENAME amount TO units; \
         ALTER TABLE transactions ADD amount BIGINT GENERATED ALWAYS AS (units * 2) STORED",
    );
    assert!(refusal("reader").contains("no column amount"), "{}", refusal("reader"));
}
