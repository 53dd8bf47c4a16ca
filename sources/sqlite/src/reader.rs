//! Reading the ledger's rows in order, without trusting them: a row that is none of florin's is reported, not guessed at.

use std::path::{Path, PathBuf};

use florin_core::follower::{Position, Row, Unreadable};
use florin_core::ledger::{Kind, Transaction};
use florin_record::{Entered, LedgerError, NewTransaction, TransactionId, Trouble};
use florin_schema::{Asset, LedgerId, UserId, Version};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Params};

use super::file::{self, Access, SqliteError};

const LAST: &str = "SELECT max(seq) FROM transactions";
const FIRST: &str = "SELECT min(seq) FROM transactions";
const ID_AT: &str = "SELECT transaction_id FROM transactions WHERE seq = ?1";
const ID_OF: &str = "SELECT transaction_id FROM transactions WHERE user_id = ?1 AND version = ?2";
/// By what is there, never by distances between keys: two rows may be any distance apart.
const FROM_START: &str = "SELECT seq, user_id, version, asset, kind, amount, occurred_at FROM transactions \
    ORDER BY seq LIMIT ?1";
const AFTER: &str = "SELECT seq, user_id, version, asset, kind, amount, occurred_at FROM transactions \
    WHERE seq > ?2 ORDER BY seq LIMIT ?1";
const WITH_IDS: &str = "SELECT seq, user_id, version, asset, kind, amount, occurred_at, transaction_id FROM transactions \
    WHERE seq > ?2 ORDER BY seq LIMIT ?1";
const NTH_FROM_START: &str = "SELECT seq FROM transactions ORDER BY seq LIMIT 1 OFFSET ?1";
const NTH_AFTER: &str = "SELECT seq FROM transactions WHERE seq > ?2 ORDER BY seq LIMIT 1 OFFSET ?1";
/// From the start: rows without a version come first, so none goes unseen.
const ACCOUNT: &str = "SELECT seq, user_id, version, asset, kind, amount, occurred_at FROM transactions \
    WHERE user_id = ?1 ORDER BY version LIMIT ?2";
const ACCOUNT_AFTER: &str = "SELECT seq, user_id, version, asset, kind, amount, occurred_at FROM transactions \
    WHERE user_id = ?1 AND version > ?3 ORDER BY version LIMIT ?2";
/// What is no number sorts behind all numbers.
const FROM_USER: &str = "SELECT seq, user_id, version, asset, kind, amount, occurred_at FROM transactions \
    WHERE user_id BETWEEN ?2 AND 9223372036854775807 ORDER BY user_id, version LIMIT ?1";

/// A row's number in the order of commits: SQLite has one writer at a time, so whoever commits later numbers higher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Seq(pub i64);

/// A place in a ledger: a row's number, and the id that stands there, in whatever way the ledger spells it. The two are
/// one value, for a place without its id cannot be recognised.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The number.
    pub seq: Seq,
    id: Vec<u8>,
}

impl Position for Place {
    fn encode(&self) -> Vec<u8> {
        [&self.seq.0.to_le_bytes(), &self.id[..]].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Place> {
        let (seq, id) = bytes.split_first_chunk()?;
        Some(Place { seq: Seq(i64::from_le_bytes(*seq)), id: id.to_vec() })
    }
}

/// What [`Reader::follow`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Followed {
    /// Rows, if any; the place of the last of them.
    Rows(Option<Place>),
    /// The row after which to read is no longer there, or another one is.
    Lost,
}

/// Reads one ledger. Every method is a read transaction of its own, so that nothing holds back the log.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens a ledger that exists, and checks that it is one.
    pub fn open(path: &Path) -> Result<Reader, SqliteError> {
        let (connection, path) = file::open(path, Access::Read)?;
        Ok(Reader { connection, path })
    }

    /// Where the ledger is, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last row's number.
    pub fn last(&self) -> Result<Option<Seq>, SqliteError> {
        self.number(LAST, [])
    }

    /// The first row's number.
    pub fn first(&self) -> Result<Option<Seq>, SqliteError> {
        self.number(FIRST, [])
    }

    /// The place of the row at `seq`, if there is one.
    pub fn place(&self, seq: Seq) -> Result<Option<Place>, SqliteError> {
        let id = self.id_at(seq).map_err(|error| SqliteError::of(&self.path, "read", error))?;
        Ok(id.map(|id| Place { seq, id }))
    }

    /// Which ledger this is, by its first row; [`LedgerId`]'s default where it has none.
    pub fn ledger_id(&self) -> Result<LedgerId, SqliteError> {
        let Some(first) = self.first()? else { return Ok(LedgerId::default()) };
        let id = self.id_at(first).map_err(|error| SqliteError::of(&self.path, "read", error))?;
        let id = id.and_then(|id| TransactionId::parse(std::str::from_utf8(&id).ok()?));
        Ok(id.map(|id| LedgerId::of_first(id.number())).unwrap_or_default())
    }

    /// The number of the row that comes `rows` rows after the one at `after`, or after the start; none where there are fewer.
    pub fn nth(&self, after: Option<Seq>, rows: usize) -> Result<Option<Seq>, SqliteError> {
        let offset = rows.saturating_sub(1);
        match after {
            None => self.number(NTH_FROM_START, [offset]),
            Some(Seq(seq)) => self.number(NTH_AFTER, (offset, seq)),
        }
    }

    /// The id of an account's row, as the ledger spells it.
    pub fn transaction_id_of(
        &self,
        user_id: UserId,
        version: Version,
    ) -> Result<Option<String>, SqliteError> {
        let key = [user_id.get().cast_signed(), version.0.cast_signed()];
        let read =
            || self.connection.prepare_cached(ID_OF)?.query_row(key, |row| Ok(describe_id(row.get_ref(0)?)));
        read().optional().map_err(|error| SqliteError::of(&self.path, "read", error))
    }

    /// Adds to `rows` those after `after`, or all, in order, at most `limit`. One read transaction: what it finds at
    /// `after` and after it are of one moment.
    pub fn follow(
        &self,
        after: Option<&Place>,
        limit: usize,
        rows: &mut Vec<Row>,
    ) -> Result<Followed, SqliteError> {
        let is_lost = || match after {
            Some(place) => Ok(self.id_at(place.seq)?.as_ref() != Some(&place.id)),
            None => Ok(false),
        };
        self.follow_if(is_lost, after.map(|place| place.seq), limit, rows)
    }

    /// The same after a row that is not known by its id.
    pub fn follow_from(
        &self,
        after: Option<Seq>,
        limit: usize,
        rows: &mut Vec<Row>,
    ) -> Result<Followed, SqliteError> {
        self.follow_if(|| Ok(false), after, limit, rows)
    }

    fn follow_if(
        &self,
        is_lost: impl FnOnce() -> rusqlite::Result<bool>,
        after: Option<Seq>,
        limit: usize,
        rows: &mut Vec<Row>,
    ) -> Result<Followed, SqliteError> {
        let read = || {
            let transaction = self.connection.unchecked_transaction()?;
            if is_lost()? {
                return Ok(Followed::Lost);
            }
            let last = match after {
                None => self.collect(FROM_START, [limit], rows)?,
                Some(Seq(seq)) => self.collect(AFTER, (limit, seq), rows)?,
            };
            let place = last.map(|seq| self.id_at(seq).map(|id| Place { seq, id: id.unwrap_or_default() }));
            let place = place.transpose()?;
            transaction.finish()?;
            Ok(Followed::Rows(place))
        };
        read().map_err(|error| SqliteError::of(&self.path, "read", error))
    }

    /// Adds to `rows` an account's, in the order of their versions, at most `limit`; only those after version `after`,
    /// or from the start.
    pub fn account(
        &self,
        user_id: UserId,
        after: Option<Version>,
        limit: usize,
        rows: &mut Vec<Row>,
    ) -> Result<(), SqliteError> {
        let user_id = user_id.get().cast_signed();
        let read = match after {
            None => self.collect(ACCOUNT, (user_id, limit), rows),
            Some(version) => self.collect(ACCOUNT_AFTER, (user_id, limit, version.0.cast_signed()), rows),
        };
        read.map(drop).map_err(|error| SqliteError::of(&self.path, "read", error))
    }

    /// Adds to `rows` those of users from `from` on, in the order of users and versions, at most `limit`.
    pub fn users(&self, from: UserId, limit: usize, rows: &mut Vec<Row>) -> Result<(), SqliteError> {
        let read = self.collect(FROM_USER, (limit, from.get().cast_signed()), rows);
        read.map(drop).map_err(|error| SqliteError::of(&self.path, "read", error))
    }

    /// Adds to `rows` those after `after`, or all, in order, with their ids, at most `limit`; the number of the last of them.
    ///
    /// # Errors
    /// Also where a row is no transaction.
    pub fn export(
        &self,
        after: Option<Seq>,
        limit: usize,
        rows: &mut Vec<Entered>,
    ) -> Result<Option<Seq>, LedgerError> {
        let after = after.map_or(i64::MIN, |Seq(seq)| seq);
        let mut read = || -> rusqlite::Result<Result<Option<Seq>, String>> {
            let mut statement = self.connection.prepare_cached(WITH_IDS)?;
            let mut found = statement.query((limit, after))?;
            let mut last = None;
            while let Some(row) = found.next()? {
                let seq = Seq(row.get(0)?);
                let id = row.get_ref(7)?.as_str().ok().and_then(TransactionId::parse);
                match (decode(seq, row)?, id) {
                    (Ok(read), Some(transaction_id)) => rows.push(entered(&read, transaction_id)),
                    (Err(unreadable), _) => return Ok(Err(unreadable.to_string())),
                    (Ok(_), None) => {
                        return Ok(Err(format!("row {}: transaction_id: expected a UUID", seq.0)));
                    }
                }
                last = Some(seq);
            }
            Ok(Ok(last))
        };
        let read = read().map_err(|error| SqliteError::of(&self.path, "read", error))?;
        let wrong =
            |found| format!("the ledger {} holds what is no transaction: {found}", self.path.display());
        read.map_err(|found| LedgerError::new(Trouble::Failed, wrong(found)))
    }

    fn number(&self, sql: &str, values: impl Params) -> Result<Option<Seq>, SqliteError> {
        let read = || self.connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional();
        let found: Option<Option<i64>> =
            read().map_err(|error| SqliteError::of(&self.path, "read", error))?;
        Ok(found.flatten().map(Seq))
    }

    /// An id of any type is as good as another here: it is only compared.
    fn id_at(&self, seq: Seq) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut statement = self.connection.prepare_cached(ID_AT)?;
        statement.query_row([seq.0], |row| Ok(describe_id(row.get_ref(0)?).into_bytes())).optional()
    }

    /// The number of the last row.
    fn collect(&self, sql: &str, values: impl Params, into: &mut Vec<Row>) -> rusqlite::Result<Option<Seq>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(values)?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let seq = Seq(row.get(0)?);
            into.push(decode(seq, row)?);
            last = Some(seq);
        }
        Ok(last)
    }
}

fn entered(row: &Transaction, transaction_id: TransactionId) -> Entered {
    let Transaction { user_id, version, asset, kind, amount, occurred_at_us } = *row;
    Entered {
        transaction: NewTransaction { transaction_id, user_id, asset, kind, amount, occurred_at_us },
        version,
    }
}

/// An id as the ledger spells it, or what is there instead.
fn describe_id(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(blob) => blob.iter().fold("x'".to_owned(), |hex, byte| format!("{hex}{byte:02x}")),
        other => describe(other),
    }
}

fn decode(seq: Seq, row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let user_value = row.get_ref(1)?;
    let user_id = integer(user_value).and_then(|id| UserId::new(id.cast_unsigned()));
    let wrong = |column, expected, found: ValueRef<'_>| {
        let (place, found) = (seq.0.to_string(), describe(found));
        Ok(Err(Box::new(Unreadable { place, user_id, column, expected, found })))
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
