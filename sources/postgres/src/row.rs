//! From a table's row to a transaction: which columns it is made of, how they are read, and what is wrong with one that is none.

use std::collections::HashMap;

use florin_core::follower::{Row, Unreadable};
use florin_core::ledger::Transaction;
use florin_schema::{Asset, UserId, Version};

use crate::decoder::value::{self, Type};
use crate::decoder::{Cell, Column, Tuple};
use crate::mapping::{Field, Mapping};

/// Columns that a transaction is made of, in the order of [`Field::ALL`].
pub const FIELDS: usize = Field::ALL.len();
/// A column that nothing is made of.
const UNUSED: u8 = u8::MAX;

/// Why a table's rows cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShapeError {
    /// A column is not there.
    #[error(
        "the table has no column {column}, which holds {field}: name the one that does in [ledger.columns], and restart florin"
    )]
    Missing {
        /// What it should hold.
        field: &'static str,
        /// Its name.
        column: String,
    },
    /// A column has a type that its field cannot be read from.
    #[error(
        "column {column}, which holds {field}, is of a type that is not read for that: expected {expected}"
    )]
    Type {
        /// What it holds.
        field: &'static str,
        /// Its name.
        column: String,
        /// What would do.
        expected: &'static str,
    },
}

/// How types are read that this database has of its own: domains and enumerations, by object id.
pub type OwnTypes = HashMap<u32, Type>;

/// Where a table's rows have what a transaction is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    /// By column: which field it is.
    fields: Vec<u8>,
    reader: RowReader,
    /// Whether what identifies a changed or removed row says whose it was.
    identifies_user: bool,
}

/// How a transaction's columns are read, wherever they are.
#[derive(Clone, Debug)]
pub struct RowReader {
    types: [Type; FIELDS],
    mapping: Mapping,
}

impl Shape {
    /// Finds the columns that `mapping` names.
    ///
    /// # Errors
    /// Where one is not there, or of a type that does not do.
    pub fn of(columns: &[Column], own: &OwnTypes, mapping: &Mapping) -> Result<Shape, ShapeError> {
        let mut fields = vec![UNUSED; columns.len()];
        let mut types = [Type::Int8; FIELDS];
        let mut identifies_user = false;
        for (index, field) in Field::ALL.into_iter().enumerate() {
            // A ledger without versions: its rows are counted.
            let Some(name) = mapping.column(field) else { continue };
            let found = columns.iter().position(|column| column.name == name);
            let missing = || ShapeError::Missing { field: field.name(), column: name.to_owned() };
            let at = found.ok_or_else(missing)?;
            let oid = columns[at].type_oid;
            let of = Type::of_oid(oid).or_else(|| own.get(&oid).copied()).filter(|&of| suits(field, of));
            types[index] = of.ok_or_else(|| ShapeError::Type {
                field: field.name(),
                column: name.to_owned(),
                expected: type_expected(field),
            })?;
            fields[at] = index as u8;
            identifies_user |= field == Field::UserId && columns[at].is_key;
        }
        Ok(Shape { fields, reader: RowReader { types, mapping: mapping.clone() }, identifies_user })
    }

    /// Reads a row; `place` says where it is, for a message.
    #[inline]
    pub fn read(&self, tuple: Tuple<'_>, place: impl FnOnce() -> String) -> Row {
        self.reader.read(self.cells(tuple), place)
    }

    /// The account that what identifies a row names.
    pub fn user_of(&self, tuple: Tuple<'_>) -> Option<UserId> {
        self.reader.user(self.cells(tuple)[USER])
    }

    /// Whether an UPDATE that does not send the row before left it with its account.
    pub fn identifies_user(&self) -> bool {
        self.identifies_user
    }

    /// For rows that are copied.
    pub fn reader(&self) -> &RowReader {
        &self.reader
    }

    #[inline]
    fn cells<'a>(&self, tuple: Tuple<'a>) -> [Cell<'a>; FIELDS] {
        let mut cells = [Cell::Null; FIELDS];
        for (&field, cell) in self.fields.iter().zip(tuple.cells()) {
            if let Some(place) = cells.get_mut(usize::from(field)) {
                *place = cell;
            }
        }
        cells
    }
}

const USER: usize = 0;
const VERSION: usize = 1;
const ASSET: usize = 2;
const KIND: usize = 3;
const AMOUNT: usize = 4;
const TIME: usize = 5;

impl RowReader {
    /// What its columns are.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Reads a row from its cells, in the order of [`Field::ALL`]. Of a ledger without versions, every row has version 0 here.
    #[inline]
    pub fn read(&self, cells: [Cell<'_>; FIELDS], place: impl FnOnce() -> String) -> Row {
        self.transaction(&cells).map_err(|field| {
            let index = field as usize;
            Box::new(Unreadable {
                place: place(),
                user_id: self.user(cells[USER]),
                column: field.name(),
                expected: field.expected(),
                found: value::shown(self.types[index], cells[index]),
            })
        })
    }

    #[inline]
    fn transaction(&self, cells: &[Cell<'_>; FIELDS]) -> Result<Transaction, Field> {
        let user_id = self.user(cells[USER]).ok_or(Field::UserId)?;
        let version = if self.mapping.is_derived() {
            Version(0)
        } else {
            value::integer(self.types[VERSION], cells[VERSION])
                .and_then(|version| u64::try_from(version).ok())
                .filter(|&version| version > 0)
                .map(Version)
                .ok_or(Field::Version)?
        };
        let asset = value::text(self.types[ASSET], cells[ASSET])
            .and_then(|asset| Asset::parse(asset.trim_ascii_end().as_bytes()).ok())
            .ok_or(Field::Asset)?;
        let amount = value::integer(self.types[AMOUNT], cells[AMOUNT]).ok_or(Field::Amount)?;
        let (kind, amount) = match self.types[KIND] {
            Type::Text => {
                let word = value::text(Type::Text, cells[KIND]).ok_or(Field::Kind)?;
                self.mapping.kind_of_word(word, amount)
            }
            of => {
                let number = value::integer(of, cells[KIND]).ok_or(Field::Kind)?;
                self.mapping.kind_of_number(number, amount)
            }
        }?;
        let occurred_at_us = value::time_us(self.types[TIME], cells[TIME])
            .filter(|us| Transaction::OCCURRED_AT_US.contains(us))
            .ok_or(Field::OccurredAt)?;
        Ok(Transaction { user_id, version, asset, kind, amount, occurred_at_us })
    }

    #[inline]
    fn user(&self, cell: Cell<'_>) -> Option<UserId> {
        value::integer(self.types[USER], cell).and_then(|user| u64::try_from(user).ok()).and_then(UserId::new)
    }
}

fn suits(field: Field, of: Type) -> bool {
    let is_integer = matches!(of, Type::Int2 | Type::Int4 | Type::Int8 | Type::Numeric);
    match field {
        Field::UserId | Field::Version | Field::Amount => is_integer,
        Field::Asset => of == Type::Text,
        Field::Kind => is_integer || of == Type::Text,
        Field::OccurredAt => matches!(of, Type::TimestampTz | Type::Timestamp | Type::Int8),
    }
}

fn type_expected(field: Field) -> &'static str {
    match field {
        Field::UserId | Field::Version | Field::Amount => "smallint, integer, bigint or numeric",
        Field::Asset => "text, varchar or an enumeration",
        Field::Kind => "text, varchar, an enumeration, smallint, integer or bigint",
        Field::OccurredAt => "timestamp with time zone, timestamp (in UTC), or bigint (µs since 1970)",
    }
}
