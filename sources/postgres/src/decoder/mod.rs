//! What the output plugin `pgoutput` says in version 1 of its protocol, and what a binary COPY holds. Pure, and distrustful:
//! what is not exactly as documented is an error, and nothing is skipped.
//!
//! The formats: <https://www.postgresql.org/docs/18/protocol-logicalrep-message-formats.html> and
//! <https://www.postgresql.org/docs/18/sql-copy.html#SQL-COPY-FILE-FORMATS>.
//!
//! | module | holds |
//! | --- | --- |
//! | `cursor` | reading bytes |
//! | [`copy`] | rows of a binary COPY, in whatever pieces they come |
//! | [`value`] | numbers, texts and times of the types that a ledger may have |

mod cursor;

pub mod copy;
pub mod value;

#[cfg(test)]
mod tests;

use cursor::Cursor;

use crate::limits::COLUMNS_MAX;
use crate::position::Lsn;

/// Of a commit's time: µs from 1970 to 2000, where PostgreSQL begins to count.
pub(crate) const EPOCH_US: i64 = 946_684_800_000_000;

/// Why a message is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// It ends too early.
    #[error("a message ends within {what}: {bytes} bytes are left")]
    Short {
        /// What was being read.
        what: &'static str,
        /// What there was of it.
        bytes: usize,
    },
    /// It goes on after its end.
    #[error("a message of type {message:?} has {bytes} bytes more than it should")]
    Trailing {
        /// The message's type.
        message: char,
        /// How many.
        bytes: usize,
    },
    /// A number that is none of the legal ones.
    #[error("{found} is no legal {what}")]
    Illegal {
        /// What was being read.
        what: &'static str,
        /// What there was.
        found: i64,
    },
    /// A name that is no text.
    #[error("{what} is not in UTF-8")]
    NotUtf8 {
        /// What was being read.
        what: &'static str,
    },
    /// A type of message that version 1 does not have.
    #[error("a message of the unknown type {0:?}: this is not version 1 of pgoutput's protocol")]
    Unknown(char),
    /// Bytes that no COPY begins with.
    #[error("this is not the beginning of a binary COPY")]
    NotACopy,
    /// A row of a COPY that has other columns than were asked for.
    #[error("a row with {found} columns where {expected} were asked for")]
    Columns {
        /// How many were asked for.
        expected: usize,
        /// How many came.
        found: i64,
    },
}

/// One message of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// A commit's rows follow.
    Begin {
        /// Where its commit record is.
        commit: Lsn,
        /// When it was committed, µs since 1970.
        at_us: i64,
        /// Its transaction.
        xid: u32,
    },
    /// All of its rows have come.
    Commit {
        /// Where its commit record is.
        commit: Lsn,
        /// Where that record ends.
        end: Lsn,
    },
    /// What the rows that follow look like.
    Relation(Relation),
    /// A row that was added.
    Insert {
        /// Whose, by [`Relation::oid`].
        relation: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row that was changed.
    Update {
        /// Whose, by [`Relation::oid`].
        relation: u32,
        /// The row before, or of it what identifies it; none = that did not change.
        old: Option<Tuple<'a>>,
        /// The row since.
        new: Tuple<'a>,
    },
    /// A row that was removed.
    Delete {
        /// Whose, by [`Relation::oid`].
        relation: u32,
        /// The row, or of it what identifies it.
        old: Tuple<'a>,
    },
    /// Tables that were emptied, by [`Relation::oid`].
    Truncate(Vec<u32>),
    /// Says nothing about rows: a type's name, where a commit came from, a program's message.
    Other,
}

/// What a table's rows look like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relation {
    /// The table's object id.
    pub oid: u32,
    /// Its schema; empty = `pg_catalog`.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its columns, in the order of the rows' cells.
    pub columns: Vec<Column>,
}

/// One column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// Whether it identifies a row that is changed or removed.
    pub is_key: bool,
    /// Its name.
    pub name: String,
    /// Its type's object id.
    pub type_oid: u32,
}

/// A row's cells, each known to be whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuple<'a> {
    columns: u16,
    cells: &'a [u8],
}

/// One value of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cell<'a> {
    /// NULL, or, in what identifies a row, a column that does not.
    Null,
    /// A large value that an UPDATE left as it was: it is not sent.
    Unchanged,
    /// In the type's text format.
    Text(&'a [u8]),
    /// In the type's binary format.
    Binary(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.columns.into()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// Its cells in their order.
    pub fn cells(self) -> impl Iterator<Item = Cell<'a>> {
        let mut rest = Cursor(self.cells);
        // They were read once when the message was parsed.
        (0..self.columns).map_while(move |_| cell(&mut rest).ok())
    }
}

/// Reads one message, which is all of `bytes`.
///
/// # Errors
/// Where it is anything else than version 1 of the protocol has.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut rest = Cursor(bytes);
    let tag = rest.u8("a message's type")?;
    let message = match tag {
        b'B' => begin(&mut rest)?,
        b'C' => commit(&mut rest)?,
        b'R' => Message::Relation(relation(&mut rest)?),
        b'I' => {
            let relation = rest.u32("a table's id")?;
            expect(&mut rest, "kind of new row", b"N")?;
            Message::Insert { relation, new: tuple(&mut rest)? }
        }
        b'U' => update(&mut rest)?,
        b'D' => {
            let relation = rest.u32("a table's id")?;
            expect(&mut rest, "kind of removed row", b"KO")?;
            Message::Delete { relation, old: tuple(&mut rest)? }
        }
        b'T' => truncate(&mut rest)?,
        b'O' => {
            rest.u64("an origin's place")?;
            rest.text("an origin's name")?;
            Message::Other
        }
        b'Y' => {
            rest.u32("a type's id")?;
            rest.text("a type's schema")?;
            rest.text("a type's name")?;
            Message::Other
        }
        b'M' => {
            expect(&mut rest, "flag of a program's message", &[0, 1])?;
            rest.u64("a program's message's place")?;
            rest.text("a program's message's prefix")?;
            rest.counted("a program's message")?;
            Message::Other
        }
        other => return Err(DecodeError::Unknown(other.into())),
    };
    rest.end(tag)?;
    Ok(message)
}

fn expect(rest: &mut Cursor<'_>, what: &'static str, legal: &[u8]) -> Result<u8, DecodeError> {
    let found = rest.u8(what)?;
    if legal.contains(&found) { Ok(found) } else { Err(DecodeError::Illegal { what, found: found.into() }) }
}

fn begin<'a>(rest: &mut Cursor<'_>) -> Result<Message<'a>, DecodeError> {
    let commit = Lsn(rest.u64("a commit's place")?);
    let at_us = commit_time(rest)?;
    let xid = rest.u32("a transaction's id")?;
    Ok(Message::Begin { commit, at_us, xid })
}

fn commit<'a>(rest: &mut Cursor<'_>) -> Result<Message<'a>, DecodeError> {
    expect(rest, "flag of a commit", &[0])?;
    let commit = Lsn(rest.u64("a commit's place")?);
    let end = Lsn(rest.u64("a commit's end")?);
    commit_time(rest)?;
    if end <= commit {
        return Err(DecodeError::Illegal { what: "end of a commit", found: end.0.cast_signed() });
    }
    Ok(Message::Commit { commit, end })
}

fn commit_time(rest: &mut Cursor<'_>) -> Result<i64, DecodeError> {
    let found = rest.i64("a commit's time")?;
    found.checked_add(EPOCH_US).ok_or(DecodeError::Illegal { what: "time of a commit", found })
}

fn relation(rest: &mut Cursor<'_>) -> Result<Relation, DecodeError> {
    let oid = rest.u32("a table's id")?;
    let schema = rest.text("a table's schema")?.to_owned();
    let name = rest.text("a table's name")?.to_owned();
    expect(rest, "replica identity", b"dnfi")?;
    let count = column_count(rest)?;
    let mut columns = Vec::with_capacity(count.into());
    for _ in 0..count {
        let is_key = expect(rest, "flag of a column", &[0, 1])? == 1;
        let name = rest.text("a column's name")?.to_owned();
        let type_oid = rest.u32("a column's type")?;
        rest.u32("a column's type modifier")?;
        columns.push(Column { is_key, name, type_oid });
    }
    Ok(Relation { oid, schema, name, columns })
}

fn column_count(rest: &mut Cursor<'_>) -> Result<u16, DecodeError> {
    let what = "number of columns";
    let count = rest.u16(what)?;
    if count > COLUMNS_MAX { Err(DecodeError::Illegal { what, found: count.into() }) } else { Ok(count) }
}

fn update<'a>(rest: &mut Cursor<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = rest.u32("a table's id")?;
    let mut old = None;
    if expect(rest, "kind of changed row", b"KON")? != b'N' {
        old = Some(tuple(rest)?);
        expect(rest, "kind of new row", b"N")?;
    }
    Ok(Message::Update { relation, old, new: tuple(rest)? })
}

fn truncate<'a>(rest: &mut Cursor<'_>) -> Result<Message<'a>, DecodeError> {
    let count = rest.u32("a number of tables")?;
    expect(rest, "option of a TRUNCATE", &[0, 1, 2, 3])?;
    // The bytes bound it, whatever it says.
    let mut tables = Vec::new();
    for _ in 0..count {
        tables.push(rest.u32("a table's id")?);
    }
    Ok(Message::Truncate(tables))
}

fn tuple<'a>(rest: &mut Cursor<'a>) -> Result<Tuple<'a>, DecodeError> {
    let columns = column_count(rest)?;
    let before = rest.0;
    for _ in 0..columns {
        cell(rest)?;
    }
    Ok(Tuple { columns, cells: &before[..before.len() - rest.0.len()] })
}

#[inline]
fn cell<'a>(rest: &mut Cursor<'a>) -> Result<Cell<'a>, DecodeError> {
    Ok(match rest.u8("a cell's kind")? {
        b'n' => Cell::Null,
        b'u' => Cell::Unchanged,
        b't' => Cell::Text(rest.counted("a cell")?),
        b'b' => Cell::Binary(rest.counted("a cell")?),
        found => return Err(DecodeError::Illegal { what: "kind of cell", found: found.into() }),
    })
}
