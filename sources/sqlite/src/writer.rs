//! Appending: versions are assigned and duplicates recognised in the database transaction that inserts.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use florin_core::limits::{ASSETS_MAX, LEDGER_ACCOUNTS_CACHED_MAX};
use florin_record::{
    Added, Appended, Bulk, BulkWriter, Field, Judged, LedgerError, NewTransaction, Refused, Rejection,
};
use florin_schema::{Asset, UserId, Version};
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{
    CachedStatement, Connection, ErrorCode, OptionalExtension, Row, Transaction, TransactionBehavior,
};

use super::file::{self, Access, SqliteError};
use super::own::beside;
use crate::limits::{BULK_CACHE_KIB, TRY_AGAIN, WRITE_WAIT};

const INSERT: &str = "INSERT INTO transactions \
    (transaction_id, user_id, version, asset, kind, amount, occurred_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
    ON CONFLICT (transaction_id) DO NOTHING";
const EXISTING: &str = "SELECT version, user_id, asset, kind, amount, occurred_at FROM transactions \
    WHERE transaction_id = ?1";
const LAST_VERSION: &str = "SELECT max(version) FROM transactions WHERE user_id = ?1";
const HAS_ASSET: &str = "SELECT 1 FROM transactions WHERE user_id = ?1 AND asset = ?2 LIMIT 1";
const ANY: &str = "SELECT 1 FROM transactions LIMIT 1";
const ASSETS: &str = "SELECT count(DISTINCT asset) FROM transactions WHERE user_id = ?1";

/// The largest that SQLite can hold: no row comes after it.
const VERSION_MAX: u64 = i64::MAX as u64;

/// Appends to one ledger. Several may write to one file, in one process or in many.
pub struct Writer {
    connection: Connection,
    path: PathBuf,
    accounts: Accounts,
    /// Whether there was none before.
    is_made: bool,
}

/// Transactions that enter the ledger together, or not at all: dropped without [`Batch::commit`], nothing is written.
pub struct Batch<'w> {
    insert: CachedStatement<'w>,
    existing: CachedStatement<'w>,
    last_version: CachedStatement<'w>,
    has_asset: CachedStatement<'w>,
    assets: CachedStatement<'w>,
    transaction: Transaction<'w>,
    accounts: &'w mut Accounts,
    path: &'w Path,
}

/// What this writer knows of the accounts, so that a busy one costs no look-ups.
#[derive(Default)]
struct Accounts {
    known: HashMap<UserId, Account>,
    /// The number of the current batch: what an account's version was in an earlier one, another writer may have raised.
    batch: u64,
    /// Whether a batch is open, or ended without a commit: then what it added here is not in the ledger.
    open: bool,
    /// Whether one has ever been committed.
    has_committed: bool,
}

struct Account {
    /// None where the ledger holds what no version can follow: then nothing is appended to this account.
    last: Option<Version>,
    batch: u64,
    /// Some of its assets. Rows are never deleted, so what is here stays true.
    assets: Vec<Asset>,
}

impl Writer {
    /// Opens a ledger that exists.
    pub fn open(path: &Path) -> Result<Writer, SqliteError> {
        Writer::with(path, Access::Write)
    }

    /// Opens a ledger, or makes an empty one.
    pub fn open_or_create(path: &Path) -> Result<Writer, SqliteError> {
        Writer::with(path, Access::Create)
    }

    fn with(path: &Path, access: Access) -> Result<Writer, SqliteError> {
        let is_made = access == Access::Create && !path.exists();
        let (connection, path) = file::open(path, access)?;
        // A table without the unique constraints would let duplicates in; SQLite says so when it compiles this.
        if let Err(error) = connection.prepare(INSERT) {
            return Err(match SqliteError::of(&path, "prepare writing to", error) {
                SqliteError::Sqlite { source, .. } => {
                    SqliteError::OtherSchema { path, found: source.to_string() }
                }
                other => other,
            });
        }
        file::upgrade(&connection, &path)?;
        // Who begins to write waits by a deadline of its own.
        connection.busy_handler(None).map_err(|error| SqliteError::of(&path, "open", error))?;
        Ok(Writer { connection, path, accounts: Accounts::default(), is_made })
    }

    /// Where the ledger is, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends all of them in one database transaction, in this order, and answers when they are durable. A
    /// transaction that the ledger holds already changes nothing and answers the version that it has.
    ///
    /// # Errors
    /// [`SqliteError::Refused`] names the first that may not enter: then none did. [`SqliteError::Locked`] if another
    /// writer kept the ledger for more than 5 seconds.
    pub fn append(&mut self, transactions: &[NewTransaction]) -> Result<Vec<Appended>, SqliteError> {
        let mut batch = self.begin()?;
        let mut appended = Vec::with_capacity(transactions.len());
        for (index, transaction) in transactions.iter().enumerate() {
            match batch.append(transaction)? {
                Ok(one) => appended.push(one),
                Err(rejection) => return Err(SqliteError::Refused(Refused { index, rejection })),
            }
        }
        batch.commit()?;
        Ok(appended)
    }

    /// Begins a batch; other writers wait until it ends. Waits 5 seconds for another writer's.
    pub fn begin(&mut self) -> Result<Batch<'_>, SqliteError> {
        self.begin_until(Instant::now() + WRITE_WAIT)
    }

    /// The same, but waits no longer than until `deadline`.
    ///
    /// # Errors
    /// [`SqliteError::Locked`] where another writer had the ledger all the time.
    pub fn begin_until(&mut self, deadline: Instant) -> Result<Batch<'_>, SqliteError> {
        let Writer { connection, path, accounts, .. } = self;
        accounts.begin();
        let transaction = begin(connection, deadline);
        let batch = transaction.and_then(|transaction| Batch::new(connection, transaction, path, accounts));
        batch.map_err(|error| SqliteError::of(path, "write to", error))
    }

    /// Removes the ledger that this writer has made, as long as nobody has put anything into it.
    fn remove(mut self) {
        let path = self.path.clone();
        let Ok(batch) = self.begin() else { return };
        // With the lock: what is empty now stays so until it is gone.
        let is_empty =
            !batch.transaction.prepare_cached(ANY).and_then(|mut any| any.exists([])).unwrap_or(true);
        if is_empty {
            for name in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")] {
                let _ = fs::remove_file(name);
            }
            drop(batch);
            self.abandon();
        }
    }

    /// Closes without touching any file: what is at the ledger's path now may be another's.
    pub fn abandon(self) {
        // Without it, the last connection to close copies its log into the file and removes what has the log's name.
        if self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) != Ok(true) {
            std::mem::forget(self);
        }
    }

    /// Whether it holds no transaction.
    pub fn is_empty(&self) -> Result<bool, SqliteError> {
        let first = self.connection.query_row(ANY, [], |_| Ok(())).optional();
        first.map(|row| row.is_none()).map_err(|error| SqliteError::of(&self.path, "read", error))
    }

    /// Prepares for one large batch. Pages that do not fit in the cache would be written twice; and SQLite need not
    /// check again what [`NewTransaction`] has checked, which costs a fifth of the time (138,000 rows/s against 165,000).
    fn expect_many(&self) -> Result<(), SqliteError> {
        let set = || -> rusqlite::Result<()> {
            self.connection.pragma_update(None, "cache_size", -BULK_CACHE_KIB)?;
            self.connection.pragma_update(None, "ignore_check_constraints", true)
        };
        set().map_err(|error| SqliteError::of(&self.path, "prepare writing to", error))
    }

    /// Moves what the log holds into the file and empties the log. A reader may stand in the way: then the next
    /// writer does it, so nothing is wrong.
    pub fn checkpoint(&self) {
        let _ = self.connection.busy_handler(Some(file::wait_a_second));
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        let _ = self.connection.busy_handler(None);
    }
}

impl BulkWriter for Writer {
    fn is_empty(&mut self) -> Result<bool, LedgerError> {
        Ok(Writer::is_empty(self)?)
    }

    fn begin(&mut self) -> Result<Box<dyn Bulk + '_>, LedgerError> {
        self.expect_many()?;
        Ok(Box::new(Writer::begin(self)?))
    }

    fn close(self: Box<Self>) {
        if self.is_made && !self.accounts.has_committed {
            self.remove();
        } else {
            self.checkpoint();
        }
    }
}

/// SQLite judges each row as it comes.
impl Bulk for Batch<'_> {
    fn add(&mut self, _number: u64, row: &NewTransaction) -> Result<Added, LedgerError> {
        Ok(match self.append(row)? {
            Ok(Appended { duplicate: true, .. }) => Added::Duplicate,
            Ok(_) => Added::New,
            Err(rejection) => Added::Rejected(rejection),
        })
    }

    fn judge(&mut self, _: &mut dyn FnMut(u64, &NewTransaction, Rejection)) -> Result<Judged, LedgerError> {
        Ok(Judged::default())
    }

    fn commit(self: Box<Self>) -> Result<(), LedgerError> {
        Ok(Batch::commit(*self)?)
    }
}

impl<'w> Batch<'w> {
    fn new(
        connection: &'w Connection,
        transaction: Transaction<'w>,
        path: &'w Path,
        accounts: &'w mut Accounts,
    ) -> rusqlite::Result<Batch<'w>> {
        Ok(Batch {
            transaction,
            insert: connection.prepare_cached(INSERT)?,
            existing: connection.prepare_cached(EXISTING)?,
            last_version: connection.prepare_cached(LAST_VERSION)?,
            has_asset: connection.prepare_cached(HAS_ASSET)?,
            assets: connection.prepare_cached(ASSETS)?,
            accounts,
            path,
        })
    }

    /// Adds one. A rejected one leaves the batch as it was.
    pub fn append(&mut self, row: &NewTransaction) -> Result<Result<Appended, Rejection>, SqliteError> {
        if let Err(error) = row.check() {
            return Ok(Err(error.into()));
        }
        self.insert_or_compare(row).map_err(|error| SqliteError::of(self.path, "write to", error))
    }

    /// Adds all of them, or none: then the batch is as it was, and goes on. The number is that of the refused one.
    pub fn append_all(
        &mut self,
        rows: &[NewTransaction],
    ) -> Result<Result<Vec<Appended>, (usize, Rejection)>, SqliteError> {
        let run = |batch: &Self, sql| {
            batch
                .transaction
                .execute_batch(sql)
                .map_err(|error| SqliteError::of(batch.path, "write to", error))
        };
        run(self, "SAVEPOINT request")?;
        let mut appended = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            match self.append(row)? {
                Ok(one) => appended.push(one),
                Err(rejection) => {
                    run(self, "ROLLBACK TO request; RELEASE request")?;
                    // It knew the rows that have just been taken back.
                    self.accounts.known.clear();
                    return Ok(Err((index, rejection)));
                }
            }
        }
        run(self, "RELEASE request")?;
        Ok(Ok(appended))
    }

    /// Makes it durable.
    pub fn commit(self) -> Result<(), SqliteError> {
        let Batch { transaction, accounts, path, .. } = self;
        transaction.commit().map_err(|error| SqliteError::of(path, "commit to", error))?;
        accounts.open = false;
        accounts.has_committed = true;
        Ok(())
    }

    fn insert_or_compare(&mut self, row: &NewTransaction) -> rusqlite::Result<Result<Appended, Rejection>> {
        let user_id = row.user_id.get().cast_signed();
        let account = self.accounts.entry(row.user_id, || {
            self.last_version.query_row([user_id], |row| {
                Ok(match row.get_ref(0)? {
                    ValueRef::Null => Some(Version(0)),
                    ValueRef::Integer(last) if last >= 1 => Some(Version(last.cast_unsigned())),
                    _ => None,
                })
            })
        })?;
        let mut id = [0; 36];
        let id = row.transaction_id.text(&mut id);
        let mut code = [0; 8];
        let code = row.asset.text(&mut code);

        let next = account.last.filter(|last| last.0 < VERSION_MAX).map(Version::next);
        let Some(version) = next else {
            let known = self.existing.query_row([id], |found| compare(row, found)).optional()?;
            return Ok(known.unwrap_or(Err(Rejection::NoNextVersion { user_id: row.user_id })));
        };
        if !account.assets.contains(&row.asset) {
            let held = version == Version(1)
                || self.has_asset.exists((user_id, code))?
                || self.assets.query_row([user_id], |row| row.get::<_, usize>(0))? < ASSETS_MAX;
            if !held && !self.existing.exists([id])? {
                return Ok(Err(Rejection::TooManyAssets { user_id: row.user_id, asset: row.asset }));
            }
        }
        let kind = row.kind.number();
        let values = (id, user_id, version.0.cast_signed(), code, kind, row.amount, row.occurred_at_us);
        if self.insert.execute(values)? == 0 {
            return self.existing.query_row([id], |found| compare(row, found));
        }
        account.last = Some(version);
        if !account.assets.contains(&row.asset) {
            account.assets.push(row.asset);
        }
        Ok(Ok(Appended { version, duplicate: false }))
    }
}

/// Takes the write lock now (IMMEDIATE): a version read in the transaction is still the last when it commits.
fn begin(connection: &Connection, deadline: Instant) -> rusqlite::Result<Transaction<'_>> {
    loop {
        let begun = Transaction::new_unchecked(connection, TransactionBehavior::Immediate);
        match &begun {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                thread::sleep(TRY_AGAIN);
            }
            _ => return begun,
        }
    }
}

/// Whether the row that has the id already is this one.
fn compare(row: &NewTransaction, found: &Row<'_>) -> rusqlite::Result<Result<Appended, Rejection>> {
    let ValueRef::Integer(version @ 1..) = found.get_ref(0)? else {
        return Ok(Err(Rejection::NoNextVersion { user_id: row.user_id }));
    };
    let version = Version(version.cast_unsigned());
    let same_number =
        |column, number: i64| Ok::<_, rusqlite::Error>(found.get_ref(column)? == ValueRef::Integer(number));
    let asset = row.asset.to_string();
    let equal = [
        (Field::UserId, same_number(1, row.user_id.get().cast_signed())?),
        (Field::Asset, found.get_ref(2)? == ValueRef::Text(asset.as_bytes())),
        (Field::Kind, same_number(3, i64::from(row.kind.number()))?),
        (Field::Amount, same_number(4, row.amount)?),
        (Field::OccurredAt, same_number(5, row.occurred_at_us)?),
    ];
    Ok(match equal.iter().find(|(_, equal)| !equal) {
        None => Ok(Appended { version, duplicate: true }),
        Some(&(field, _)) => Err(Rejection::Conflict { transaction_id: row.transaction_id, field, version }),
    })
}

impl Accounts {
    fn begin(&mut self) {
        if self.open {
            self.known.clear();
        }
        self.open = true;
        self.batch += 1;
    }

    /// The account with its last version as this batch sees it; `read` asks the ledger.
    fn entry(
        &mut self,
        user_id: UserId,
        read: impl FnOnce() -> rusqlite::Result<Option<Version>>,
    ) -> rusqlite::Result<&mut Account> {
        if self.known.len() >= LEDGER_ACCOUNTS_CACHED_MAX && !self.known.contains_key(&user_id) {
            self.known.clear();
        }
        let batch = self.batch;
        let account =
            self.known.entry(user_id).or_insert_with(|| Account { last: None, batch: 0, assets: Vec::new() });
        if account.batch != batch {
            account.last = read()?;
            account.batch = batch;
        }
        Ok(account)
    }
}
