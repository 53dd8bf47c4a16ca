//! A transaction on its way into the ledger, and why one is not let in.

use std::fmt;

use florin_core::ledger::{Kind, Transaction};
use florin_core::limits::ASSETS_MAX;
use florin_schema::{Asset, UserId, Version, decimal};
use uuid::{Builder, Uuid};

use crate::time;

/// What makes a transaction that one, however often it is sent: a UUID, written in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TransactionId(Uuid);

impl TransactionId {
    /// An id for something that happened at this time (UUID version 7), of the caller's random bytes. Ids that grow with
    /// time enter the ledger's index at its end, which is the fastest place.
    pub fn at(occurred_at_us: i64, random: [u8; 10]) -> TransactionId {
        let millis = u64::try_from(occurred_at_us / 1_000).unwrap_or(0);
        TransactionId(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// Reads the hyphenated form, in either case; `None` for everything else.
    pub fn parse(text: &str) -> Option<TransactionId> {
        // The crate also reads other forms, which would make one id of several texts.
        if text.len() == 36 { Uuid::try_parse(text).ok().map(TransactionId) } else { None }
    }

    /// The id as the number that it is.
    pub fn number(self) -> u128 {
        self.0.as_u128()
    }

    /// Writes the form that the ledger holds into `buffer`.
    pub fn text(self, buffer: &mut [u8; 36]) -> &str {
        self.0.hyphenated().encode_lower(buffer)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text(&mut [0; 36]).fmt(f)
    }
}

/// A transaction without its version, which the ledger assigns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewTransaction {
    /// Which.
    pub transaction_id: TransactionId,
    /// Whose account.
    pub user_id: UserId,
    /// Of what.
    pub asset: Asset,
    /// What happened.
    pub kind: Kind,
    /// Minor units, above 0.
    pub amount: i64,
    /// µs since 1970 UTC, within [`Transaction::OCCURRED_AT_US`].
    pub occurred_at_us: i64,
}

impl NewTransaction {
    /// Checks what the types do not.
    pub fn check(&self) -> Result<(), FieldError> {
        if self.amount < 1 {
            return Err(FieldError::new(Field::Amount, &self.amount.to_string()));
        }
        if !Transaction::OCCURRED_AT_US.contains(&self.occurred_at_us) {
            return Err(FieldError::new(
                Field::OccurredAt,
                &format!("{} µs since 1970", self.occurred_at_us),
            ));
        }
        Ok(())
    }
}

/// A transaction as texts: one line of a CSV file, or the values of a JSON object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransactionText<'a> {
    /// A hyphenated UUID.
    pub transaction_id: &'a str,
    /// Decimal digits.
    pub user_id: &'a str,
    /// An asset's code.
    pub asset: &'a str,
    /// A kind's name or number.
    pub kind: &'a str,
    /// Decimal digits.
    pub amount: &'a str,
    /// RFC 3339.
    pub occurred_at: &'a str,
}

impl TransactionText<'_> {
    /// Reads all six; the error names the first that is wrong.
    pub fn parse(&self) -> Result<NewTransaction, FieldError> {
        let transaction_id = TransactionId::parse(self.transaction_id)
            .ok_or_else(|| FieldError::new(Field::TransactionId, self.transaction_id))?;
        let user_id = decimal(self.user_id)
            .and_then(UserId::new)
            .ok_or_else(|| FieldError::new(Field::UserId, self.user_id))?;
        let asset =
            Asset::parse(self.asset.as_bytes()).map_err(|_| FieldError::new(Field::Asset, self.asset))?;
        let kind = Kind::parse(self.kind).map_err(|_| FieldError::new(Field::Kind, self.kind))?;
        let amount = decimal(self.amount)
            .and_then(|amount| i64::try_from(amount).ok())
            .filter(|&amount| amount > 0)
            .ok_or_else(|| FieldError::new(Field::Amount, self.amount))?;
        let occurred_at_us = time::parse_us(self.occurred_at)
            .map_err(|_| FieldError::new(Field::OccurredAt, self.occurred_at))?;
        Ok(NewTransaction { transaction_id, user_id, asset, kind, amount, occurred_at_us })
    }
}

/// The columns of an import file, the keys of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// Which transaction.
    TransactionId,
    /// Whose account.
    UserId,
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
    /// In the order of an import file's header.
    pub const ALL: [Field; 6] =
        [Field::TransactionId, Field::UserId, Field::Asset, Field::Kind, Field::Amount, Field::OccurredAt];

    /// As the header has it.
    pub const fn name(self) -> &'static str {
        match self {
            Field::TransactionId => "transaction_id",
            Field::UserId => "user_id",
            Field::Asset => "asset",
            Field::Kind => "kind",
            Field::Amount => "amount",
            Field::OccurredAt => "occurred_at",
        }
    }

    /// What a legal value looks like.
    pub const fn expected(self) -> &'static str {
        match self {
            Field::TransactionId => "a UUID like 99001032-b24c-5525-b910-74da77541092",
            Field::UserId => "a whole number from 0 to 9223372036854775807, without leading zeros",
            Field::Asset => "1 to 8 characters of A-Z, 0-9 and _, like COIN",
            Field::Kind => {
                "recharge, gift_received, refund, adjustment_credit, gift_sent, withdrawal, adjustment_debit, hold, \
                 release, capture, or its number from 1 to 10, without leading zeros"
            }
            Field::Amount => {
                "a whole number of minor units from 1 to 9223372036854775807, without leading zeros"
            }
            Field::OccurredAt => {
                "a time like 1994-03-31T23:59:59.000001Z (RFC 3339 with Z or an offset, years 0001 to 9999, no finer \
                 than µs)"
            }
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

/// A field that holds what it may not.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: expected {expected}, found {found:?}", expected = .field.expected())]
pub struct FieldError {
    /// Which.
    pub field: Field,
    /// What was there, cut after 64 characters.
    pub found: String,
}

impl FieldError {
    /// `found` stands in `field` and may not.
    pub fn new(field: Field, found: &str) -> FieldError {
        FieldError { field, found: found.chars().take(64).collect() }
    }
}

/// Why the ledger did not take a transaction: nothing was written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    /// A field holds what it may not.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The id is taken by a transaction with other content.
    #[error(
        "transaction_id: {transaction_id} is in the ledger already, with another {field} (version {version} of its \
         account); send the same content again, or a new id"
    )]
    Conflict {
        /// The id.
        transaction_id: TransactionId,
        /// The first field that differs.
        field: Field,
        /// Of the row that has the id.
        version: Version,
    },
    /// The account would get one asset more than florin can hold.
    #[error(
        "asset: user {user_id} has {ASSETS_MAX} assets already, the most an account can hold; {asset} would be one more"
    )]
    TooManyAssets {
        /// Whose account.
        user_id: UserId,
        /// The new one.
        asset: Asset,
    },
    /// The account's last version in the ledger is the largest there is, or none at all.
    #[error(
        "user_id: the ledger's last version of user {user_id} is none that another can follow (expected an integer from 1 \
         to 9223372036854775806): nothing can be appended to this account until that row is mended"
    )]
    NoNextVersion {
        /// Whose account.
        user_id: UserId,
    },
}

impl Rejection {
    /// Where to look first.
    pub fn field(&self) -> Field {
        match self {
            Rejection::Field(error) => error.field,
            Rejection::Conflict { .. } => Field::TransactionId,
            Rejection::TooManyAssets { .. } => Field::Asset,
            Rejection::NoNextVersion { .. } => Field::UserId,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: TransactionText<'static> = TransactionText {
        transaction_id: "99001032-b24c-5525-b910-74da77541092",
        user_id: "2378",
        asset: "CZK",
        kind: "recharge",
        amount: "70000",
        occurred_at: "1993-01-01T08:00:00.000000Z",
    };

    #[test]
    fn a_line_is_read_as_it_stands() {
        let read = GOOD.parse().unwrap();
        assert_eq!(read.transaction_id.to_string(), GOOD.transaction_id);
        assert_eq!((read.user_id.get(), read.amount, read.kind), (2_378, 70_000, Kind::Recharge));
        assert_eq!((read.asset.to_string().as_str(), read.occurred_at_us), ("CZK", 725_875_200_000_000));
        assert_eq!(read.check(), Ok(()));
        let upper =
            TransactionText { transaction_id: "99001032-B24C-5525-B910-74DA77541092", kind: "1", ..GOOD };
        assert_eq!(upper.parse(), Ok(read));
    }

    #[test]
    fn the_error_names_the_field_and_what_it_holds() {
        let wrong = |field| move |text| (field, text);
        let ids = ["", "99001032b24c5525b91074da77541092", "99001032-b24c-5525-b910-74da7754109g"];
        let users = ["", "-1", "+1", " 1", "1.0", "01", "00", "9223372036854775808", "99999999999999999999"];
        let amounts = ["", "0", "-5", "1e3", "007", "+7", "9223372036854775808"];
        let cases = (ids.map(wrong(Field::TransactionId)).into_iter())
            .chain(users.map(wrong(Field::UserId)))
            .chain(["", "czk", "TOOLONGXX"].map(wrong(Field::Asset)))
            .chain(["", "11", "0", "gift", "Recharge", "+1", "01", "1.0"].map(wrong(Field::Kind)))
            .chain(amounts.map(wrong(Field::Amount)))
            .chain(["", "yesterday", "1993-01-01T08:00:00.0000001Z"].map(wrong(Field::OccurredAt)));
        for (field, text) in cases {
            let mut line = GOOD;
            *match field {
                Field::TransactionId => &mut line.transaction_id,
                Field::UserId => &mut line.user_id,
                Field::Asset => &mut line.asset,
                Field::Kind => &mut line.kind,
                Field::Amount => &mut line.amount,
                Field::OccurredAt => &mut line.occurred_at,
            } = text;
            assert_eq!(line.parse(), Err(FieldError::new(field, text)), "{field}: {text:?}");
        }
    }

    #[test]
    fn what_the_types_let_through_is_checked() {
        let good = GOOD.parse().unwrap();
        let field = |row: NewTransaction| row.check().unwrap_err().field;
        assert_eq!(field(NewTransaction { amount: 0, ..good }), Field::Amount);
        assert_eq!(field(NewTransaction { occurred_at_us: i64::MAX, ..good }), Field::OccurredAt);
    }
}
