//! The thread that loads the ledger's file and then follows it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::api::State;
use crate::view::{Row, RowError};

/// Between two looks at whether somebody has committed.
const POLL: Duration = Duration::from_millis(5);

/// Why the ledger cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite.
    #[error("reading the ledger {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// A row.
    #[error(transparent)]
    Row(#[from] RowError),
}

/// Reads all rows, says so to `loaded`, and goes on with those that are committed later, until something is wrong.
pub fn follow(path: PathBuf, state: &State, loaded: &SyncSender<()>) -> Result<(), LedgerError> {
    let failed = |source| LedgerError::Read { path: path.clone(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let ledger = Connection::open_with_flags(&path, flags).map_err(failed)?;
    let (mut seq, mut seen) = (0, -1);
    loop {
        let before = state.now_us();
        let version =
            ledger.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).map_err(failed)?;
        if version != seen {
            seq = read_from(&ledger, seq, state).map_err(|error| match error {
                ReadError::Sqlite(source) => failed(source),
                ReadError::Row(error) => error.into(),
            })?;
            seen = version;
        }
        state.holds_everything_up_to(before);
        // Whoever waited for the first time is gone by the second.
        let _ = loaded.try_send(());
        thread::sleep(POLL);
    }
}

enum ReadError {
    Sqlite(rusqlite::Error),
    Row(RowError),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> ReadError {
        ReadError::Sqlite(error)
    }
}

/// Applies all rows behind `seq`; returns the last one's.
fn read_from(ledger: &Connection, mut seq: i64, state: &State) -> Result<i64, ReadError> {
    let mut statement = ledger.prepare_cached(
        "SELECT seq, user_id, version, asset, kind, amount, occurred_at FROM transactions WHERE seq > ?1 ORDER BY seq",
    )?;
    let mut rows = statement.query([seq])?;
    while let Some(row) = rows.next()? {
        let (user_id, version): (i64, i64) = (row.get(1)?, row.get(2)?);
        let read = Row {
            user_id: user_id.cast_unsigned(),
            version: version.cast_unsigned(),
            asset: row.get(3)?,
            kind: row.get(4)?,
            amount: row.get(5)?,
            occurred_at_us: row.get(6)?,
        };
        // In place, unless an answer is being written from it.
        let mut account = state.accounts.entry(read.user_id).or_default();
        Arc::make_mut(&mut account).apply(&read).map_err(ReadError::Row)?;
        seq = row.get(0)?;
    }
    Ok(seq)
}
