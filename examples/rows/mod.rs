//! A ledger with rows that SQL makes, for examples that measure.

use std::path::Path;

use rusqlite::{Connection, Params};

/// Makes a ledger of the rows that `insert` inserts. Only the rows: a reader needs none of the constraints, and checking them would
/// take minutes.
pub fn fill(ledger: &Path, insert: &str, parameters: impl Params) -> Result<(), rusqlite::Error> {
    let connection = Connection::open(ledger)?;
    connection.execute_batch(
        "PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL;
         CREATE TABLE transactions (seq INTEGER PRIMARY KEY, transaction_id TEXT, user_id BIGINT, version BIGINT,
                                    asset TEXT, kind SMALLINT, amount BIGINT, occurred_at BIGINT);",
    )?;
    connection.execute(insert, parameters)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
