//! One row of the ledger, and where it stands in its account's history.

use florin_schema::{Asset, UserId, Version};

use super::{Hour, Kind};

/// What a shard needs of a row. The row's UUID stays in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// Whose account.
    pub user_id: UserId,
    /// Its place in the account's history, from 1.
    pub version: Version,
    /// Of what.
    pub asset: Asset,
    /// What happened.
    pub kind: Kind,
    /// Minor units, above 0.
    pub amount: i64,
    /// µs since 1970 UTC, within [`Transaction::OCCURRED_AT_US`].
    pub occurred_at_us: i64,
}

impl Transaction {
    /// The times that a row may bear: the years 1 to 9999, as RFC 3339 can write them.
    pub const OCCURRED_AT_US: core::ops::RangeInclusive<i64> =
        -62_135_596_800_000_000..=253_402_300_799_999_999;

    /// The hour it happened in.
    #[inline]
    pub fn hour(&self) -> Hour {
        Hour::of(self.occurred_at_us)
    }
}

/// Where a row stands, seen from an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// The next one: apply it.
    Next,
    /// Applied already: skip it.
    Duplicate,
    /// Rows before it are missing: the account's history is incomplete.
    Gap,
}

impl Arrival {
    /// Where `row` stands in an account that is at `current`.
    #[inline]
    pub fn of(row: Version, current: Version) -> Arrival {
        if row == current.next() {
            Arrival::Next
        } else if row <= current {
            Arrival::Duplicate
        } else {
            Arrival::Gap
        }
    }
}
