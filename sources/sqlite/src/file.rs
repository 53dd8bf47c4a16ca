//! The ledger's file: opening it, and saying precisely why it cannot be opened.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use florin_record::{LedgerError, Refused, Trouble};
use florin_schema::{LEDGER_SQL, LEDGER_UPGRADE_SQL, LEDGER_VERSION};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, ffi};
use rustix::io::Errno;

use crate::limits::{OPEN_TRIES, TRY_AGAIN};
use crate::own::{BESIDE, beside, is_beside};

/// The columns that florin reads; a ledger may have more.
const COLUMNS: [&str; 8] =
    ["seq", "transaction_id", "user_id", "version", "asset", "kind", "amount", "occurred_at"];
/// How many ids may not be as they are, and the first.
const BADLY_SPELLED: &str = "SELECT count(*), min(seq), quote(transaction_id) FROM transactions \
    WHERE typeof(transaction_id) <> 'text' OR transaction_id GLOB '*[^0-9a-f-]*' \
    OR transaction_id NOT GLOB '????????-????-????-????-????????????'";

/// Why the ledger did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// No such file.
    #[error(
        "there is no ledger at {}: `florin import FILE.csv` or `florin generate` makes one", .path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Another process has locked it.
    #[error(
        "the ledger {} is locked by another process: a running `florin import` or `florin generate`, or another \
         program that writes to it (`fuser {}` names it); wait for its end, or end it", .path.display(), .path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It has hard links: each name has a WAL of its own, and so a history of its own.
    #[error("{}", second_name(.path, *.links))]
    SecondName {
        /// The file.
        path: PathBuf,
        /// How many names it has.
        links: u64,
    },
    /// The file is something else.
    #[error("{} is no ledger: {found}; expected a SQLite database", .path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// SQLite keeps files of this name beside a ledger, and removes them.
    #[error(
        "no ledger is made at {}: to SQLite a file whose name ends with -journal, -wal or -shm belongs to the ledger beside it,          and is removed with what it holds; choose another name",
        .path.display()
    )]
    Beside {
        /// The file.
        path: PathBuf,
    },
    /// A database, but not florin's.
    #[error(
        "{} is a SQLite database of another schema: {found}; expected the table `transactions` of schemas/ledger.sql",
        .path.display()
    )]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// What is missing.
        found: String,
    },
    /// A writer died in the middle of a transaction, and only one that may write can take it back.
    #[error(
        "a program ended while it was writing to the ledger {}, and what it began (in {}-journal) must be taken back before \
         anybody reads; this user may not: as the ledger's owner, run `sqlite3 {} 'SELECT 1 FROM transactions LIMIT 1'`",
        .path.display(), .path.display(), .path.display()
    )]
    Interrupted {
        /// The file.
        path: PathBuf,
    },
    /// In WAL mode, readers need files beside the ledger that this user may not make.
    #[error(
        "cannot open the ledger {}: to read it, SQLite keeps its -wal and -shm beside it, and this user may not make them in \
         that folder: allow it (chown, chmod, ReadWritePaths= in the systemd unit), or run as the ledger's owner",
        .path.display()
    )]
    Folder {
        /// The file.
        path: PathBuf,
    },
    /// It was made before schemas had versions, and holds what would be counted twice under this one.
    #[error(
        "the ledger {} holds {count} transaction ids that are not hyphenated UUIDs in lower case (the first is row {seq}, \
         {found:?}), so the same transaction could enter twice; to read it, nothing is needed; to write to it, mend them \
         first: sqlite3 {} \"UPDATE transactions SET transaction_id = lower(transaction_id)\"",
        .path.display(), .path.display()
    )]
    OldRows {
        /// The file.
        path: PathBuf,
        /// How many.
        count: i64,
        /// The first one's number.
        seq: i64,
        /// The first one's id, as SQLite writes it.
        found: String,
    },
    /// The file system refused.
    #[error("cannot open the ledger {}: {source}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("cannot {operation} the ledger {}: {source}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        operation: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// One transaction of a request may not enter; none of them did.
    #[error(transparent)]
    Refused(Refused),
}

impl From<SqliteError> for LedgerError {
    fn from(error: SqliteError) -> LedgerError {
        let trouble = match &error {
            SqliteError::Missing { .. } | SqliteError::Locked { .. } | SqliteError::SecondName { .. } => {
                Trouble::Unavailable
            }
            _ => Trouble::Failed,
        };
        LedgerError { trouble, reason: error.to_string(), exit_code: error.exit_code() }
    }
}

impl SqliteError {
    /// What a process ends with that cannot go on without this ledger; `florin serve --help` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            SqliteError::Missing { .. } => 15,
            SqliteError::Locked { .. } => 16,
            SqliteError::NotALedger { .. }
            | SqliteError::OtherSchema { .. }
            | SqliteError::OldRows { .. } => 17,
            SqliteError::SecondName { .. } => 19,
            SqliteError::Interrupted { .. } | SqliteError::Folder { .. } => 20,
            SqliteError::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => 20,
            _ => 1,
        }
    }

    /// Gives SQLite's error the name that a user can act on.
    pub(super) fn of(path: &Path, operation: &'static str, source: rusqlite::Error) -> SqliteError {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqliteError::Locked { path },
            Some(ErrorCode::NotADatabase) => {
                SqliteError::NotALedger { path, found: "its first bytes are not SQLite's".to_owned() }
            }
            Some(ErrorCode::DatabaseCorrupt) => {
                SqliteError::NotALedger { path, found: format!("a damaged database ({source})") }
            }
            Some(ErrorCode::CannotOpen) if path.exists() => SqliteError::Folder { path },
            Some(ErrorCode::ReadOnly) => match source.sqlite_error().map(|error| error.extended_code) {
                Some(ffi::SQLITE_READONLY_ROLLBACK) => SqliteError::Interrupted { path },
                Some(
                    ffi::SQLITE_READONLY_CANTINIT
                    | ffi::SQLITE_READONLY_CANTLOCK
                    | ffi::SQLITE_READONLY_DIRECTORY
                    | ffi::SQLITE_READONLY_RECOVERY,
                ) => SqliteError::Folder { path },
                _ => SqliteError::Sqlite { path, operation, source },
            },
            _ => SqliteError::Sqlite { path, operation, source },
        }
    }
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// Reads an existing ledger.
    Read,
    /// Writes to an existing ledger.
    Write,
    /// Writes, and makes the ledger where there is none.
    Create,
}

/// Opens and validates. The path is made absolute, so that no name has a special meaning to SQLite.
pub(super) fn open(path: &Path, access: Access) -> Result<(Connection, PathBuf), SqliteError> {
    let path =
        std::path::absolute(path).map_err(|source| SqliteError::Open { path: path.to_owned(), source })?;
    match path.metadata() {
        // To open a FIFO would wait for whoever writes to it.
        Ok(found) if !found.is_file() => {
            let found = if found.is_dir() { "a directory" } else { "a FIFO, a socket or a device" };
            return Err(SqliteError::NotALedger { path, found: found.to_owned() });
        }
        Ok(found) if found.nlink() > 1 => return Err(SqliteError::SecondName { path, links: found.nlink() }),
        Ok(found) if found.len() == 0 && access == Access::Create && is_beside(&path) => {
            return Err(SqliteError::Beside { path });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound && access == Access::Create => {
            if is_beside(&path) {
                return Err(SqliteError::Beside { path });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SqliteError::Missing { path }),
        Err(source) => return Err(SqliteError::Open { path, source }),
    }
    for suffix in BESIDE {
        let at = beside(&path.canonicalize().unwrap_or_else(|_| path.clone()), suffix);
        if at.metadata().is_ok_and(|found| !found.is_file()) {
            let found = format!("its {suffix} file is a directory, a FIFO, a socket or a device");
            return Err(SqliteError::NotALedger { path, found });
        }
    }
    // Asked without opening it: to close a descriptor of a file drops all locks that this process has on it.
    if let Err(Errno::ACCESS) = rustix::fs::access(&path, rustix::fs::Access::READ_OK) {
        return Err(SqliteError::Open { path, source: Errno::ACCESS.into() });
    }
    let mode = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Access::Create => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    };
    let opened = || {
        let connection =
            connect(&path, mode, access).map_err(|error| SqliteError::of(&path, "open", error))?;
        check_schema(&connection, &path)?;
        Ok(connection)
    };
    let connection = match opened() {
        Err(SqliteError::Interrupted { .. }) if take_back(&path).is_ok() => opened(),
        other => other,
    };
    Ok((connection?, path))
}

/// What a writer began that died: SQLite takes it back when somebody reads who may write.
fn take_back(path: &Path) -> rusqlite::Result<()> {
    let mode = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, mode)?;
    connection.busy_handler(Some(wait_a_second))?;
    has_table(&connection).map(drop)
}

/// The ledger's file `path`, which other programs reach below `links` names.
pub(super) fn second_name(path: &Path, links: u64) -> String {
    format!(
        "the ledger {} has {links} names (hard links): SQLite keeps the newest rows beside the name that it was opened by, so \
         rows that are written through another name cannot be seen; remove the other names (find -samefile names them), \
         and make copies instead of links",
        path.display()
    )
}

fn connect(path: &Path, mode: OpenFlags, access: Access) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_handler(Some(wait_a_second))?;
    if access == Access::Create {
        create_if_empty(&mut connection)?;
    }
    if access != Access::Read && has_table(&connection)? {
        // WAL lets readers read while a writer writes; FULL makes a commit that has been acknowledged survive a
        // power failure.
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "full")?;
    }
    Ok(connection)
}

/// For SQLite, which asks after every try.
pub(super) fn wait_a_second(tries: i32) -> bool {
    if tries < OPEN_TRIES {
        thread::sleep(TRY_AGAIN);
    }
    tries < OPEN_TRIES
}

/// Makes the schema in a database without any content. Two processes may try at once: the second finds it made.
fn create_if_empty(connection: &mut Connection) -> rusqlite::Result<()> {
    let is_empty = |connection: &Connection| {
        let sql = "SELECT count(*) FROM sqlite_schema";
        connection.query_row(sql, [], |row| Ok(row.get::<_, i64>(0)? == 0))
    };
    // Looked at first without the lock, for which a busy ledger would make us wait.
    if is_empty(connection)? {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if is_empty(&transaction)? {
            transaction.execute_batch(LEDGER_SQL)?;
        }
        transaction.commit()?;
    }
    Ok(())
}

fn has_table(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'transactions'";
    connection.query_row(sql, [], |row| Ok(row.get::<_, i64>(0)? > 0))
}

fn check_schema(connection: &Connection, path: &Path) -> Result<(), SqliteError> {
    let names = || -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("SELECT name FROM pragma_table_info('transactions')")?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    let names = names().map_err(|error| SqliteError::of(path, "read the schema of", error))?;
    let missing = COLUMNS.iter().filter(|column| !names.iter().any(|name| name == *column));
    let missing = missing.copied().collect::<Vec<_>>().join(", ");
    let found = match (names.is_empty(), missing.is_empty()) {
        (true, _) => "it has no table `transactions`".to_owned(),
        (false, false) => format!("its table `transactions` lacks {missing}"),
        (false, true) => {
            let version =
                version(connection).map_err(|error| SqliteError::of(path, "read the schema of", error))?;
            if version <= LEDGER_VERSION {
                return Ok(());
            }
            format!("its schema has version {version}, and this florin knows them up to {LEDGER_VERSION}")
        }
    };
    Err(SqliteError::OtherSchema { path: path.to_owned(), found })
}

/// Which schema it has; 0 where that was not written down.
fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings a ledger that is about to be written to up to this schema.
pub(super) fn upgrade(connection: &Connection, path: &Path) -> Result<(), SqliteError> {
    let failed = |error| SqliteError::of(path, "bring to this schema", error);
    if version(connection).map_err(failed)? == LEDGER_VERSION {
        return Ok(());
    }
    let transaction =
        Transaction::new_unchecked(connection, TransactionBehavior::Immediate).map_err(failed)?;
    let before = version(connection).map_err(failed)?;
    if before == LEDGER_VERSION {
        return Ok(());
    }
    tracing::info!(ledger = %path.display(), version = LEDGER_VERSION, "the ledger is brought to this florin's schema");
    let found = |row: &rusqlite::Row<'_>| {
        Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, Option<String>>(2)?))
    };
    let found = connection.query_row(BADLY_SPELLED, [], found).map_err(failed)?;
    if let (count @ 1.., seq, found) = found {
        let path = path.to_owned();
        let (seq, found) = (seq.unwrap_or_default(), found.unwrap_or_default());
        return Err(SqliteError::OldRows { path, count, seq, found });
    }
    let (_, sqlite_only) = LEDGER_SQL.split_once("-- SQLite only").expect("ledger.sql has that line");
    let (_, statements) = sqlite_only.split_once('\n').expect("and more of them");
    if before == 0 {
        connection.execute_batch(LEDGER_UPGRADE_SQL).map_err(failed)?;
    }
    connection.execute_batch(statements).map_err(failed)?;
    transaction.commit().map_err(failed)
}
