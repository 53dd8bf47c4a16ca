//! What passes between the feed and a shard.

use alloc::sync::Arc;
use core::sync::atomic::AtomicU64;

use florin_schema::{UserId, Version};

use super::memory::Housekeeping;
use crate::ledger::Transaction;
use crate::mesh::{Latest, Receiver, Sender};

/// From the feed to the shard, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeedEvent {
    /// A committed row of a user whom this shard owns: the account's last one of its commit.
    Row(Transaction),
    /// The same, but more of the account's rows may follow in the same commit: until its [`FeedEvent::Row`] has come, or
    /// [`FeedEvent::CommitEnd`], the account is shown as it was before the commit.
    Part(Transaction),
    /// The commit has ended of which every [`FeedEvent::Part`] was that no [`FeedEvent::Row`] has followed.
    CommitEnd,
    /// Everything before this belongs to batch n or an earlier one; acknowledge it in [`FeedLink::applied_batch`].
    BatchEnd(u64),
    /// An account's whole history begins, read in answer to [`FeedRequest::Reread`]: one at a time. Rows that are committed
    /// meanwhile come between its own.
    RereadBegin(UserId),
    /// A row of that history, in order.
    RereadRow(Transaction),
    /// The end of that history: every row of the account that was sent before this is in it.
    RereadEnd(UserId),
    /// A row of this account cannot be decoded: its history cannot be known.
    Unreadable(UserId),
}

/// From the shard to the feed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeedRequest {
    /// Read all of the account's history again.
    Reread {
        /// Whose.
        user_id: UserId,
        /// Why.
        reason: Reason,
    },
    /// Row `version` of the account could not be applied; the feed logs it with the row's transaction id.
    Defect {
        /// Whose account.
        user_id: UserId,
        /// The row.
        version: Version,
        /// Why.
        defect: Defect,
    },
}

/// Why an account is to be read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Rows are missing before one that came.
    Gap,
    /// The row that was missing has come; those after it were skipped.
    HoleFilled,
    /// The wall clock has left, or will soon leave, the time for which its windows are held.
    ClockMoved,
    /// What the account is answered with is not what its rows amount to.
    Audit,
}

/// Why a row could not be applied: the account stays at the row before it, quarantined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Defect {
    /// See [`crate::ledger::Overflow`].
    #[error("a sum of the account leaves the range of a 64-bit integer")]
    Overflow,
    /// See [`crate::limits::ASSETS_MAX`].
    #[error("the account has more than 16 assets")]
    TooManyAssets,
}

/// The shard's side of the link.
pub struct FeedLink {
    /// In order.
    pub events: Receiver<FeedEvent>,
    /// To the feed.
    pub requests: Sender<FeedRequest>,
    /// The last batch that this shard has applied wholly, and for which it has pushed every request that it led to; only the
    /// shard writes it.
    pub applied_batch: Arc<AtomicU64>,
    /// The watermark: (as_of µs, monotonic µs when it was taken); monotonic 0 = none yet. Only the feed writes it.
    pub watermark: Arc<Latest>,
    /// What the feed, which brings that for which memory is taken, does for this shard's.
    pub housekeeping: Arc<Housekeeping>,
}
