//! Which columns of a table are a transaction's, and what its words for kinds mean.

use florin_core::ledger::Kind;

/// A column that a transaction is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// Whose.
    UserId,
    /// Its place.
    Version,
    /// Of what.
    Asset,
    /// What happened.
    Kind,
    /// How much.
    Amount,
    /// When.
    OccurredAt,
}

impl Field {
    /// In the order in which they are read.
    pub const ALL: [Field; 6] =
        [Field::UserId, Field::Version, Field::Asset, Field::Kind, Field::Amount, Field::OccurredAt];

    /// As florin's own table has it.
    pub const fn name(self) -> &'static str {
        match self {
            Field::UserId => "user_id",
            Field::Version => "version",
            Field::Asset => "asset",
            Field::Kind => "kind",
            Field::Amount => "amount",
            Field::OccurredAt => "occurred_at",
        }
    }

    /// What a legal value is.
    pub const fn expected(self) -> &'static str {
        match self {
            Field::UserId => "a whole number from 0 to 9223372036854775807",
            Field::Version => "a whole number from 1",
            Field::Asset => "1 to 8 characters of A-Z, 0-9 and _",
            Field::Kind => "a kind that is mapped",
            Field::Amount => "a whole number of minor units above 0",
            Field::OccurredAt => "a time in the years 1 to 9999",
        }
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mapping {}

impl Mapping {
    /// The column's name; none = there is none.
    pub fn column(&self, field: Field) -> Option<&str> {
        Some(field.name())
    }

    /// Whether the rows bear no version.
    pub fn is_derived(&self) -> bool {
        false
    }

    /// The kind and amount of a row.
    pub fn kind_of_word(&self, word: &str, amount: i64) -> Result<(Kind, i64), Field> {
        let kind = Kind::parse(word).map_err(|_| Field::Kind)?;
        if amount > 0 { Ok((kind, amount)) } else { Err(Field::Amount) }
    }

    /// The kind and amount of a row.
    pub fn kind_of_number(&self, number: i64, amount: i64) -> Result<(Kind, i64), Field> {
        let kind = Kind::from_number(number).ok_or(Field::Kind)?;
        if amount > 0 { Ok((kind, amount)) } else { Err(Field::Amount) }
    }
}
