//! The ledger's rows once more, in a PostgreSQL of the bench's own: what servers follow where that is measured. It ends with the
//! bench.

use std::path::{Path, PathBuf};

use florin::ledger::Kind;
use florin::sources::{LedgerAddress, bulk_writer};
use florin_postgres::server::{OwnServer, Programs, SUPERUSER, ServerError};
use florin_record::{NewTransaction, TransactionId};
use florin_schema::{Asset, UserId, ids::mix};
use rusqlite::{Connection, OpenFlags};

/// See the module.
#[derive(Debug)]
pub struct PgCopy {
    server: OwnServer,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum PgCopyError {
    /// No server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// It takes no rows.
    #[error("copying the ledger into a PostgreSQL: {0}")]
    Write(#[from] florin_record::LedgerError),
    /// The ledger's file.
    #[error("reading the ledger {}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A row that no transaction can be made of, or that the copy does not take.
    #[error("row {seq} of the ledger cannot be copied: {what}")]
    Row {
        /// Which.
        seq: i64,
        /// Why.
        what: String,
    },
}

impl PgCopy {
    /// Starts a server, and copies the rows of the file at `path` into it.
    ///
    /// # Errors
    /// Why there is none.
    pub fn of(path: &Path) -> Result<PgCopy, PgCopyError> {
        // Nothing cleans up or writes out while servers are measured.
        let settings = [("autovacuum", "off"), ("checkpoint_timeout", "1d"), ("max_wal_size", "64GB")];
        let mut server = OwnServer::start_private(&Programs::find()?, &settings)?;
        copy(path, &server.url(SUPERUSER, SUPERUSER).parse().expect("a server's own address is one"))?;
        // What is still in its memory is written now, and no log of it is left to be read.
        server.end();
        server.resume()?;
        Ok(PgCopy { server })
    }

    /// The ledger's address for a server, with a slot of its own.
    pub fn address_for(&self, label: &str) -> String {
        let slot = label.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        format!("{}&slot=bench_{slot:x}", self.server.url(SUPERUSER, SUPERUSER))
    }
}

/// How many rows are new there.
fn copy(path: &Path, to: &LedgerAddress) -> Result<u64, PgCopyError> {
    let read = |source| PgCopyError::Read { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let ledger = Connection::open_with_flags(path, flags).map_err(read)?;
    let sql = "SELECT seq, transaction_id, user_id, asset, kind, amount, occurred_at FROM transactions ORDER BY seq";
    let mut statement = ledger.prepare(sql).map_err(read)?;
    let mut rows = statement.query([]).map_err(read)?;
    let mut writer = bulk_writer(to)?;
    let mut bulk = writer.begin()?;
    while let Some(row) = rows.next().map_err(read)? {
        let seq: i64 = row.get(0).map_err(read)?;
        let strange = || PgCopyError::Row { seq, what: "it is no transaction".to_owned() };
        bulk.add(seq.cast_unsigned(), &transaction(row).map_err(read)?.ok_or_else(strange)?)?;
    }
    let mut rejected = None;
    let judged = bulk.judge(&mut |seq, _, why| {
        rejected.get_or_insert(PgCopyError::Row { seq: seq.cast_signed(), what: why.to_string() });
    })?;
    match rejected {
        Some(error) => Err(error),
        None => bulk.commit().map(|()| judged.new).map_err(PgCopyError::from),
    }
}

fn transaction(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<NewTransaction>> {
    let (id, user, asset): (String, i64, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let (kind, amount, occurred_at_us): (i64, i64, i64) = (row.get(4)?, row.get(5)?, row.get(6)?);
    let read = || {
        Some(NewTransaction {
            transaction_id: TransactionId::parse(&id)?,
            user_id: UserId::new(u64::try_from(user).ok()?)?,
            asset: Asset::parse(asset.as_bytes()).ok()?,
            kind: Kind::from_number(kind)?,
            amount,
            occurred_at_us,
        })
    };
    Ok(read())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_get_the_files_rows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l.db");
        let ledger = Connection::open(&path).unwrap();
        ledger.execute_batch(florin_schema::LEDGER_SQL).unwrap();
        let sql = "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
                   VALUES (?1, ?2, ?3, 'COIN', 1, 5, 0)";
        for (id, user, version) in [(1, 7, 1), (2, 8, 1), (3, 7, 2)] {
            ledger.execute(sql, (format!("00000000-0000-4000-8000-{id:012}"), user, version)).unwrap();
        }
        let made = PgCopy::of(&path).unwrap();
        let address = made.address_for("florin http 1 shards");
        assert!(address.contains("&slot=bench_"), "{address}");
        // All of them are there already.
        assert_eq!(copy(&path, &address.parse().unwrap()).unwrap(), 0);
    }
}
