//! From a record to what it says. Pure, and fails closed: what is not known to be right is refused by name, and an account that it
//! concerns is quarantined.
//!
//! | value | says |
//! | --- | --- |
//! | florin's: `{"transaction_id":…,"user_id":…,"version":…,"asset":…,"kind":…,"amount":…,"occurred_at":…}` | a row |
//! | Debezium's: `{"before":…,"after":…,"op":…}`, or the same in `payload` | `c`, `r`: a row; `u`, `d`: one was changed or removed |
//! | none, a tombstone | that rows of the key's account were removed |
//!
//! The key is the user's id in decimal ASCII. Headers say nothing.

mod envelope;
mod record;

#[cfg(test)]
mod tests;

use florin_core::follower::Unreadable;
use florin_core::ledger::Transaction;
use florin_schema::{Partitioner, UserId, Version, decimal};

use crate::limits::{KEY_SHOWN_BYTES_MAX, VALUE_BYTES_MAX};

/// A record as it lies in the topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// In which partition.
    pub partition: u32,
    /// Where in it.
    pub offset: u64,
    /// Its time, ms since 1970.
    pub time_ms: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; none = a tombstone.
    pub value: Option<&'a [u8]>,
}

/// How records lie in a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Partitions, above 0.
    pub partitions: u32,
    /// By which keys find theirs.
    pub partitioner: Partitioner,
}

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// A row of the ledger.
    Row(Transaction),
    /// A row took another's place. `before` names it, where the record says that much.
    Changed {
        /// What is there now.
        after: Transaction,
        /// What was.
        before: Option<(UserId, Version)>,
    },
    /// A row was removed.
    Removed {
        /// Whose.
        user: UserId,
        /// Which; none = the record does not say.
        version: Option<Version>,
    },
    /// Something was removed, and nothing says what.
    Tombstone(UserId),
    /// All rows of all accounts were removed.
    Truncated,
    /// Nothing that can be read.
    Refused(Refused),
}

/// What kind of wrong a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Its value cannot be read.
    Unreadable,
    /// Its key cannot be read, or is another account's than the value's.
    Key,
    /// Its value is longer than a transaction's can be.
    Oversize,
    /// It lies in another partition than its key's.
    Misplaced,
}

/// Why a record is not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// In one word.
    pub fault: Fault,
    /// In many. Its account is the value's, or else the key's.
    pub why: Box<Unreadable>,
    /// The key's account, where the value names another.
    pub other: Option<UserId>,
}

/// What is wrong with a field.
type Wrong = (&'static str, &'static str, String);

const KEY: &str = "the user's id in decimal digits, without leading zeros, as the record's key";

/// Reads a record.
pub fn read(record: &Record<'_>, layout: Layout) -> Said {
    let by_key = record.key.and_then(decimal).and_then(UserId::new);
    let refused = |fault, (column, expected, found): Wrong, by_value: Option<UserId>| {
        let place = format!("partition {} offset {}", record.partition, record.offset);
        let why = Unreadable { place, user_id: by_value.or(by_key), column, expected, found };
        let other = by_key.filter(|_| by_value.is_some() && by_value != by_key);
        Said::Refused(Refused { fault, why: Box::new(why), other })
    };
    if let Some(key) = record.key {
        let belongs = layout.partitioner.partition_of(key, layout.partitions);
        if belongs != record.partition {
            let Layout { partitions, partitioner } = layout;
            let found = format!(
                "partition {}, where {partitioner} over {partitions} says {belongs}",
                record.partition
            );
            let wrong =
                ("partition", "its key's partition: all producers of a ledger partition alike", found);
            return refused(Fault::Misplaced, wrong, None);
        }
    }
    let value = match record.value {
        Some(value) if value.len() > VALUE_BYTES_MAX => {
            let wrong = ("value", "at most 65536 bytes", format!("{} bytes", value.len()));
            return refused(Fault::Oversize, wrong, None);
        }
        value => value,
    };
    let Some(by_key) = by_key else {
        let by_value = value.and_then(|value| record::user_of(value).or_else(|| envelope::user_of(value)));
        return refused(Fault::Key, ("key", KEY, shown(record.key)), by_value);
    };
    let Some(value) = value else {
        return Said::Tombstone(by_key);
    };
    let said = match record::read(value) {
        Ok(row) => Ok(Said::Row(row)),
        Err(wrong) => match envelope::Whole::of(value) {
            None => Err((wrong, record::user_of(value))),
            Some(whole) => {
                envelope::read(&whole, value, by_key).map_err(|wrong| (wrong, envelope::user_of(value)))
            }
        },
    };
    let said = match said {
        Ok(said) => said,
        Err((wrong, by_value)) => return refused(Fault::Unreadable, wrong, by_value),
    };
    let user = match &said {
        Said::Row(row) | Said::Changed { after: row, .. } => row.user_id,
        Said::Removed { user, .. } | Said::Tombstone(user) => *user,
        Said::Truncated | Said::Refused(_) => by_key,
    };
    if user != by_key {
        let found = format!("{by_key}, where the value has {user}");
        return refused(Fault::Key, ("key", KEY, found), Some(user));
    }
    said
}

/// A key, for people.
fn shown(key: Option<&[u8]>) -> String {
    let Some(key) = key else { return "none".to_owned() };
    let first = &key[..key.len().min(KEY_SHOWN_BYTES_MAX)];
    format!("{:?} ({} bytes)", String::from_utf8_lossy(first), key.len())
}
