//! The same ledgers in a real PostgreSQL: half of the rows are there when the node starts, the other half comes while it runs.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use florin::drivers::DriverChoice;
use florin::sources::LedgerAddress;

use super::{NOW_US, apply_all, bank, every_account_of, generated, start};
use crate::recomputed::Ledger;

#[path = "../../sources/postgres/tests/live/server.rs"]
#[allow(dead_code)]
pub mod server;

use server::Server;

pub const SCHEMA: &str = "
CREATE TABLE transactions (
    seq BIGINT PRIMARY KEY, transaction_id TEXT NOT NULL UNIQUE, user_id BIGINT NOT NULL, version BIGINT NOT NULL,
    asset TEXT NOT NULL, kind SMALLINT NOT NULL, amount BIGINT NOT NULL, occurred_at BIGINT NOT NULL,
    UNIQUE (user_id, version));
ALTER TABLE transactions REPLICA IDENTITY FULL";

pub fn copy(server: &Server, rows: &[String]) {
    let mut psql: Command = server.psql();
    psql.arg("-c").arg("COPY transactions FROM STDIN");
    let mut psql = psql.stdin(Stdio::piped()).spawn().expect("psql");
    psql.stdin.take().expect("its input").write_all(rows.concat().as_bytes()).expect("it reads");
    assert!(psql.wait().expect("its end").success());
}

/// All of a ledger's file, as COPY reads them, in the order in which they were committed.
pub fn rows(ledger: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open(ledger).expect("the ledger's file");
    let query = "SELECT seq, transaction_id, user_id, version, asset, kind, amount, occurred_at FROM transactions ORDER BY seq";
    let mut statement = connection.prepare(query).expect("the ledger's schema");
    let text = |row: &rusqlite::Row<'_>| {
        let cells: rusqlite::Result<Vec<String>> = (0..8)
            .map(|at| {
                Ok(match row.get_ref(at)? {
                    rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                    other => other.as_str()?.to_owned(),
                })
            })
            .collect();
        cells.map(|cells| cells.join("\t") + "\n")
    };
    statement.query_map([], text).expect("the rows").map(|row| row.expect("a row")).collect()
}

fn is_answered_exactly(ledger: &Path, now_us: i64) {
    let server = Server::start();
    server.sql(SCHEMA);
    let rows = rows(ledger);
    let (first, second) = rows.split_at(rows.len() / 2);
    copy(&server, first);
    let at = |slot: &str| -> LedgerAddress {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres?slot={slot}", server.port);
        url.parse().expect("an address")
    };
    let address = at("follows");
    let node = start(DriverChoice::Ring, &address, 2, Some(now_us));
    copy(&server, second);
    apply_all(&node, rows.len() as u64);
    node.drain();
    node.join().expect("a clean end");
    every_account_of(&at("loads"), &Ledger::read(ledger), DriverChoice::Ring, now_us);
}

#[test]
fn a_generated_platform_is_answered_exactly() {
    let directory = tempfile::tempdir().expect("a directory");
    is_answered_exactly(&generated(directory.path()), NOW_US);
}

#[test]
fn a_banks_transactions_are_answered_exactly() {
    let directory = tempfile::tempdir().expect("a directory");
    for ledger in bank::ledgers(directory.path()) {
        is_answered_exactly(&ledger, bank::NOW_US);
    }
}
