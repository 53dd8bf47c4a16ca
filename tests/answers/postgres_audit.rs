//! The audit of a node that follows a PostgreSQL: nothing is said while nothing is wrong, and what is wrong is named and mended.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use florin::auditor::Doing;
use florin::sources::LedgerAddress;
use florin_postgres::mapping::{Kinds, Mapping};

use super::NOW_US;
use super::audit::{assert_proven, end, pass, start_at, status, until};
use super::callers::NativeCaller;
use super::checkpoints::assert_holds;
use super::postgres::SCHEMA;
use super::postgres::server::Server;
use super::postgres_checkpoints::{ALL, USERS, rows};
use super::recomputed::Ledger;

fn address(server: &Server) -> LedgerAddress {
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?slot=audited", server.port);
    url.parse().expect("an address")
}

/// The scan of a PostgreSQL had never met a server.
#[test]
fn a_postgresql_is_audited_while_rows_are_committed() {
    let server = Server::start();
    server.sql(SCHEMA);
    server.sql(&rows(0, 3_999));
    let node = start_at(address(&server), 2, None, Some(NOW_US), 0);
    assert_proven(&node, USERS as usize);
    let is_over = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut first = 4_000;
            while !is_over.load(Relaxed) {
                server.sql(&rows(first, first + 99));
                // New users come, too.
                server.sql(&format!(
                    "INSERT INTO transactions VALUES ({0}, 'new {first}', {first}, 1, 'COIN', 1, 1, 1)",
                    10_000_000 + first
                ));
                first += 100;
            }
        });
        pass(&node);
        is_over.store(true, Relaxed);
        writer.join().expect("a writer");
    });
    assert_eq!(status(&node).evidence(), []);
    let ledger = Ledger::of_lines(&server.sql(ALL));
    assert_proven(&node, ledger.accounts.len());

    #[cfg(debug_assertions)]
    {
        let user = 3;
        node.audit().expect("it is audited").damage(user_id(user), florin::shard::Damage::Balance);
        let found = super::audit::difference(&node, 0);
        assert_eq!((found.user, found.what), (Some(user_id(user)), "balance"), "{found:?}");
        until("it is mended", || node.shards().iter().all(|shard| shard.metrics.quarantined.get() == 0));
        assert_proven(&node, ledger.accounts.len());
    }
    let mut native = NativeCaller::connect(node.addresses().listen.expect("an any-port"));
    for (&user, rows) in &ledger.accounts {
        native.balance_at_least(user, rows.len() as u64);
    }
    assert_holds(&node, &ledger);
    end(node);
}

#[cfg(debug_assertions)]
fn user_id(user: u64) -> florin_schema::UserId {
    florin_schema::UserId::new(user).expect("an id")
}

/// A table that counts no account's rows: a version is the place in its account that a row came in. A node that is started again counts
/// the same; it says that nobody can audit such a ledger.
#[test]
fn a_ledger_without_versions_is_answered_exactly() {
    const COUNTED: &str = "SELECT user_id, row_number() OVER (PARTITION BY user_id ORDER BY seq), asset, kind, amount, occurred_at \
                           FROM transactions ORDER BY user_id, seq";
    let server = Server::start();
    server.sql(
        "CREATE TABLE transactions (seq BIGINT PRIMARY KEY, transaction_id TEXT NOT NULL UNIQUE, user_id BIGINT NOT NULL, \
             asset TEXT NOT NULL, kind SMALLINT NOT NULL, amount BIGINT NOT NULL, occurred_at BIGINT NOT NULL); \
         ALTER TABLE transactions REPLICA IDENTITY FULL",
    );
    let add = |first: u64, last: u64| {
        server.sql(&format!(
            "INSERT INTO transactions SELECT i, gen_random_uuid()::text, i % {USERS}, 'COIN', 1 + i % 10, 1 + i % 1000, i \
             FROM generate_series({first}, {last}) i"
        ));
    };
    let mut derived = address(&server);
    let LedgerAddress::Postgres(config) = &mut derived else { unreachable!("it is one") };
    config.mapping =
        Mapping::new(&"version=derived".parse().expect("columns"), &Kinds::default()).expect("a mapping");
    add(0, 3_999);
    for (first, shards) in [(4_000, 2), (6_000, 1)] {
        let node = start_at(derived.clone(), shards, None, Some(NOW_US), 0);
        (first..first + 2_000).step_by(100).for_each(|first| add(first, first + 99));
        let ledger = Ledger::of_lines(&server.sql(COUNTED));
        let mut native = NativeCaller::connect(node.addresses().listen.expect("an any-port"));
        for (&user, rows) in &ledger.accounts {
            native.balance_at_least(user, rows.len() as u64);
        }
        assert_holds(&node, &ledger);
        let Doing::Unable(reason) = status(&node).doing() else { panic!("it is not audited") };
        assert!(reason.contains("have no versions"), "{reason}");
        end(node);
        until("the slot is free", || {
            server.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == "0"
        });
    }
}
