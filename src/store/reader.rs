//! Reading the ledger's rows in order, without trusting them: a row that is none of florin's is reported, not guessed at.

use std::path::{Path, PathBuf};

use florin_schema::{Asset, LedgerId, UserId, Version};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::file::{self, Access, StoreError};
use super::transaction::TransactionId;
use crate::ledger::{Kind, Transaction};

const LAST: &str = "SELECT max(seq) FROM transactions";
const FIRST: &str = "SELECT min(seq) FROM transactions";
const ID_AT: &str = "SELECT transaction_id FROM transactions WHERE seq = ?1";
const ID_OF: &str = "SELECT transaction_id FROM transactions WHERE user_id = ?1 AND version = ?2";
const RANGE: &str = "SELECT seq, user_id, version, asset, kind, amount, occurred_at FROM transactions \
    WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";
/// From the start: rows without a version come first, so none goes unseen.
const ACCOUNT: &str = "SELECT seq, user_id, version, asset, kind, amount, occurred_at FROM transactions \
    WHERE user_id = ?1 ORDER BY version LIMIT ?2";
const ACCOUNT_AFTER: &str = "SELECT seq, user_id, version, asset, kind, amount, occurred_at FROM transactions \
    WHERE user_id = ?1 AND version > ?3 ORDER BY version LIMIT ?2";

/// A row's place in the order of commits: SQLite has one writer at a time, so whoever commits later numbers higher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Seq(pub i64);

/// A row as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerRow {
    /// Its place.
    pub seq: Seq,
    /// What it says, if that can be understood.
    pub content: Result<Transaction, Box<Unreadable>>,
}

/// A row that no transaction can be made of.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("row {}: {column}: expected {expected}, found {found}", .seq.0)]
pub struct Unreadable {
    /// Its place.
    pub seq: Seq,
    /// Whose account it concerns, if that at least is known.
    pub user_id: Option<UserId>,
    /// The first column that is wrong.
    pub column: &'static str,
    /// What a legal value is.
    pub expected: &'static str,
    /// What is there.
    pub found: String,
}

/// Reads one ledger. Every method is a read transaction of its own, so that nothing holds back the log.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens a ledger that exists, and checks that it is one.
    pub fn open(path: &Path) -> Result<Reader, StoreError> {
        let (connection, path) = file::open(path, Access::Read)?;
        Ok(Reader { connection, path })
    }

    /// Where the ledger is, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last row's place.
    pub fn last(&self) -> Result<Option<Seq>, StoreError> {
        self.one(LAST, []).map(|seq| seq.flatten().map(Seq))
    }

    /// The first row's place.
    pub fn first(&self) -> Result<Option<Seq>, StoreError> {
        self.one(FIRST, []).map(|seq| seq.flatten().map(Seq))
    }

    /// The id of the row at `seq`, as the ledger spells it.
    pub fn transaction_id_at(&self, seq: Seq) -> Result<Option<String>, StoreError> {
        self.one(ID_AT, [seq.0])
    }

    /// Which ledger this is, by its first row; [`LedgerId`]'s default where it has none.
    pub fn ledger_id(&self) -> Result<LedgerId, StoreError> {
        let Some(first) = self.first()? else { return Ok(LedgerId::default()) };
        let id = self.transaction_id_at(first)?.and_then(|text| TransactionId::parse(&text));
        Ok(id.map(|id| LedgerId::of_first(id.number())).unwrap_or_default())
    }

    /// The id of an account's row, as the ledger spells it.
    pub fn transaction_id_of(&self, user_id: UserId, version: Version) -> Result<Option<String>, StoreError> {
        self.one(ID_OF, [user_id.get().cast_signed(), version.0.cast_signed()])
    }

    /// Adds to `rows` those after `after` up to and including `up_to`, in order, at most `limit`.
    pub fn range(
        &self,
        after: Seq,
        up_to: Seq,
        limit: usize,
        rows: &mut Vec<LedgerRow>,
    ) -> Result<(), StoreError> {
        self.collect(RANGE, (after.0, up_to.0, limit), rows)
    }

    /// Adds to `rows` an account's, in the order of their versions, at most `limit`; only those after version `after`,
    /// or from the start.
    pub fn account(
        &self,
        user_id: UserId,
        after: Option<Version>,
        limit: usize,
        rows: &mut Vec<LedgerRow>,
    ) -> Result<(), StoreError> {
        let user_id = user_id.get().cast_signed();
        match after {
            None => self.collect(ACCOUNT, (user_id, limit), rows),
            Some(version) => self.collect(ACCOUNT_AFTER, (user_id, limit, version.0.cast_signed()), rows),
        }
    }

    fn one<T: rusqlite::types::FromSql>(
        &self,
        sql: &str,
        values: impl Params,
    ) -> Result<Option<T>, StoreError> {
        let read = || self.connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional();
        read().map_err(|error| StoreError::of(&self.path, "read", error))
    }

    fn collect(&self, sql: &str, values: impl Params, into: &mut Vec<LedgerRow>) -> Result<(), StoreError> {
        let read = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(values)?;
            while let Some(row) = rows.next()? {
                let seq = Seq(row.get(0)?);
                into.push(LedgerRow { seq, content: decode(seq, row)? });
            }
            Ok(())
        };
        read().map_err(|error| StoreError::of(&self.path, "read", error))
    }
}

fn decode(seq: Seq, row: &Row<'_>) -> rusqlite::Result<Result<Transaction, Box<Unreadable>>> {
    let user_value = row.get_ref(1)?;
    let user_id = integer(user_value).and_then(|id| UserId::new(id.cast_unsigned()));
    let wrong = |column, expected, found: ValueRef<'_>| {
        Ok(Err(Box::new(Unreadable { seq, user_id, column, expected, found: describe(found) })))
    };
    let Some(user_id) = user_id else { return wrong("user_id", "an integer from 0 to 2^63-1", user_value) };

    let value = row.get_ref(2)?;
    let Some(version) = integer(value).filter(|&version| version >= 1) else {
        return wrong("version", "an integer from 1 on", value);
    };
    let value = row.get_ref(3)?;
    let asset = if let ValueRef::Text(code) = value { Asset::parse(code).ok() } else { None };
    let Some(asset) = asset else { return wrong("asset", "1 to 8 characters of A-Z, 0-9 and _", value) };
    let value = row.get_ref(4)?;
    let Some(kind) = integer(value).and_then(Kind::from_number) else {
        return wrong("kind", "an integer from 1 to 10", value);
    };
    let value = row.get_ref(5)?;
    let Some(amount) = integer(value).filter(|&amount| amount >= 1) else {
        return wrong("amount", "an integer from 1 on", value);
    };
    let value = row.get_ref(6)?;
    let Some(occurred_at_us) = integer(value).filter(|time_us| Transaction::OCCURRED_AT_US.contains(time_us))
    else {
        return wrong("occurred_at", "µs since 1970 UTC, within the years 1 to 9999", value);
    };
    let version = Version(version.cast_unsigned());
    Ok(Ok(Transaction { user_id, version, asset, kind, amount, occurred_at_us }))
}

fn integer(value: ValueRef<'_>) -> Option<i64> {
    if let ValueRef::Integer(integer) = value { Some(integer) } else { None }
}

fn describe(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) => format!("the real number {real}"),
        ValueRef::Text(text) => {
            format!("the text {:?}", String::from_utf8_lossy(&text[..text.len().min(64)]))
        }
        ValueRef::Blob(blob) => format!("a blob of {} bytes", blob.len()),
    }
}
