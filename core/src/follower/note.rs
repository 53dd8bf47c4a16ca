//! What the follower has to say: whoever drives it logs it. The follower itself has no log.

use alloc::boxed::Box;
use alloc::string::String;

use florin_schema::{UserId, Version};

use super::Unreadable;
use crate::shard::Defect;

/// Something that an operator may want to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// The view is whole for the first time, and answers.
    Loaded,
    /// The ledger cannot be read, and is tried again. Said once a reason.
    Failing(String),
    /// It can be read again.
    Recovered,
    /// A row that no transaction can be made of; its account is quarantined.
    Unreadable(Box<Unreadable>),
    /// Rows of the account were changed or removed in the ledger: it is quarantined, and read again.
    Changed(UserId),
    /// An account's history is read again.
    Rereading(UserId),
    /// An account's history cannot be read at the moment, and is tried again. Said once a reason.
    RereadFailed(String),
    /// An account's history was read again, and has a hole in the ledger itself.
    Incomplete {
        /// Whose.
        user_id: UserId,
        /// The last row before the hole.
        whole: Version,
        /// When it may be tried again, µs from now.
        again_us: u64,
    },
    /// A row could not be applied; its account is quarantined.
    Defect {
        /// Whose.
        user_id: UserId,
        /// Which row.
        version: Version,
        /// Why.
        defect: Defect,
    },
    /// The wall clock was set, by so many µs.
    ClockStepped {
        /// Ahead; negative = back.
        by_us: i64,
    },
}
