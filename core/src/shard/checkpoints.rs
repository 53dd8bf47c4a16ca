//! What a shard does for checkpoints: copies its accounts out, a bounded number a turn, and takes in those of a checkpoint
//! before its ledger is followed. It decides nothing: each order comes from whoever writes or loads the checkpoint, and brings
//! the buffer that its answer goes back in.

use alloc::vec::Vec;

use florin_schema::{ShardIndex, UserId};

use super::fingerprints::Fingerprints;
use super::metrics::ShardMetrics;
use super::orders::{OrderLink, OrderPort, order_link};
use super::table::{Table, Walk};
use super::{FeedRequest, Reason, Shard};
use crate::audit::{BUCKETS, Fingerprint};
use crate::checkpoint::{RecordError, Records};
use crate::limits::{
    CHECKPOINT_ACCOUNTS_PER_MS, CHECKPOINT_ACCOUNTS_PER_TURN, CHECKPOINT_ORDERS, CHECKPOINT_PIECE_BYTES,
    RESTORE_ACCOUNTS_PER_TURN,
};

/// From whoever writes or loads a checkpoint. At most [`CHECKPOINT_ORDERS`] are unanswered.
#[derive(Debug)]
pub enum CheckpointOrder {
    /// Begins to copy out all accounts. Has no answer of its own.
    Begin,
    /// Fill this with what comes next.
    Fill(Vec<u8>),
    /// Write the rows of all accounts as they were copied, bucket by bucket, after the last of them was.
    Fingerprints(Vec<Option<Fingerprint>>),
    /// Forget all accounts, and make room for so many.
    Reserve(usize),
    /// These rows are those of the accounts that are taken in, or some other shard's: only all shards' together are compared. Has
    /// no answer of its own.
    Applied(Vec<Option<Fingerprint>>),
    /// Take in those of these records that are this shard's.
    Take {
        /// A whole block.
        block: Vec<u8>,
        /// Its bucket.
        bucket: u8,
    },
}

/// What became of an order.
#[derive(Debug)]
pub enum CheckpointAnswer {
    /// Of [`CheckpointOrder::Fill`].
    Filled {
        /// Whole records.
        records: Vec<u8>,
        /// Nothing comes after these.
        is_last: bool,
    },
    /// Of [`CheckpointOrder::Fingerprints`]; `None` where it is not known.
    Fingerprints(Vec<Option<Fingerprint>>),
    /// Of [`CheckpointOrder::Reserve`]: nothing is left of what was taken in, and whatever comes from now on stays.
    Reserved,
    /// Of [`CheckpointOrder::Take`].
    Taken {
        /// Accounts taken in: all of the block that are this shard's.
        outcome: Result<u32, RecordError>,
        /// The block's memory.
        buffer: Vec<u8>,
    },
}

/// The shard's side.
pub type CheckpointLink = OrderLink<CheckpointOrder, CheckpointAnswer>;

/// The other side.
pub type CheckpointPort = OrderPort<CheckpointOrder, CheckpointAnswer>;

/// Both sides of a link.
pub fn checkpoint_link() -> (CheckpointPort, CheckpointLink) {
    order_link(CHECKPOINT_ORDERS)
}

/// See the module.
pub(super) struct Checkpoints {
    link: Option<CheckpointLink>,
    current: Current,
    walk: Option<Walk>,
    /// Accounts that may be copied out by now.
    allowance: u64,
    last_us: u64,
    /// Something was done for a checkpoint in this turn.
    has_worked: bool,
}

/// The order that is being carried out.
enum Current {
    None,
    Fill(Vec<u8>),
    Take { block: Vec<u8>, bucket: u8, at: usize, taken: u32 },
}

impl Checkpoints {
    /// Of a shard of which nobody orders any.
    pub fn none() -> Checkpoints {
        Checkpoints {
            link: None,
            current: Current::None,
            walk: None,
            allowance: 0,
            last_us: 0,
            has_worked: false,
        }
    }

    pub fn of(link: CheckpointLink) -> Checkpoints {
        Checkpoints { link: Some(link), ..Checkpoints::none() }
    }

    /// Whether there is something to be done at once.
    pub fn has_work(&self) -> bool {
        !matches!(self.current, Current::None)
            || self.link.as_ref().is_some_and(|link| !link.orders.is_empty())
    }

    /// Notes what a turn took, if something was done for a checkpoint in it; whether it was.
    pub fn note_turn(&mut self, took_us: u64, metrics: &ShardMetrics) -> bool {
        let has_worked = core::mem::take(&mut self.has_worked);
        if has_worked {
            metrics.checkpoint_turn_max_us.set(metrics.checkpoint_turn_max_us.get().max(took_us));
        }
        has_worked
    }

    /// Whether the user's account was copied by the walk that is on, or the last one.
    #[inline]
    pub fn has_copied(&self, table: &Table, user: UserId) -> bool {
        self.walk.as_ref().is_some_and(|walk| walk.has_met(table, user.hashed()))
    }

    fn next_order(&mut self, table: &mut Table, rows: &mut Fingerprints, metrics: &ShardMetrics) {
        while matches!(self.current, Current::None) {
            match self.link.as_mut().and_then(|link| link.orders.pop()) {
                None => return,
                Some(CheckpointOrder::Begin) => {
                    self.walk.get_or_insert_default().begin();
                    rows.begin_copying();
                    metrics.checkpoint_turn_max_us.set(0);
                }
                Some(CheckpointOrder::Fill(buffer)) => self.current = Current::Fill(buffer),
                Some(CheckpointOrder::Fingerprints(mut out)) => {
                    out.clear();
                    out.extend((0..BUCKETS).map(|bucket| rows.copied(bucket)));
                    self.answer(CheckpointAnswer::Fingerprints(out));
                }
                Some(CheckpointOrder::Applied(applied)) => {
                    applied
                        .into_iter()
                        .enumerate()
                        .for_each(|(bucket, applied)| rows.restore(bucket, applied));
                }
                Some(CheckpointOrder::Reserve(accounts)) => {
                    rows.clear();
                    table.clear();
                    table.reserve(accounts);
                    self.answer(CheckpointAnswer::Reserved);
                }
                Some(CheckpointOrder::Take { block, bucket }) => {
                    self.current = Current::Take { block, bucket, at: 0, taken: 0 };
                }
            }
        }
    }

    fn answer(&mut self, answer: CheckpointAnswer) {
        self.link.as_mut().expect("an order came by it").answer(answer);
    }

    fn fill(&mut self, mut records: Vec<u8>, table: &Table, accounts: usize) {
        let walk = self.walk.as_mut().expect("accounts are copied out after that began");
        table.walk(walk, accounts, &mut records);
        let is_last = walk.is_over();
        if is_last || records.len() >= CHECKPOINT_PIECE_BYTES {
            self.answer(CheckpointAnswer::Filled { records, is_last });
        } else {
            self.current = Current::Fill(records);
        }
    }
}

impl Shard {
    /// One that takes orders for checkpoints.
    #[must_use]
    pub fn with_checkpoints(mut self, link: CheckpointLink) -> Shard {
        self.checkpoints = Checkpoints::of(link);
        self
    }

    /// Goes on with checkpoints by a bounded piece.
    pub(super) fn serve_checkpoints(&mut self) {
        let checkpoints = &mut self.checkpoints;
        if !checkpoints.has_work() {
            return;
        }
        checkpoints.has_worked = true;
        checkpoints.next_order(&mut self.responder.table, &mut self.fingerprints, &self.responder.metrics);
        let elapsed_us = self.now.monotonic_us.saturating_sub(checkpoints.last_us);
        checkpoints.last_us = self.now.monotonic_us;
        match core::mem::replace(&mut checkpoints.current, Current::None) {
            Current::None => {}
            Current::Fill(records) => {
                let most = CHECKPOINT_ACCOUNTS_PER_TURN as u64;
                // Callers come first; without any a shard has nothing better to do.
                checkpoints.allowance = if self.responder.has_answered() {
                    most.min(checkpoints.allowance + elapsed_us * CHECKPOINT_ACCOUNTS_PER_MS / 1_000)
                } else {
                    most
                };
                let accounts = checkpoints.allowance as usize;
                checkpoints.allowance = 0;
                checkpoints.fill(records, &self.responder.table, accounts);
            }
            Current::Take { block, bucket, at, taken } => self.restore_block(block, bucket, at, taken),
        }
        self.publish_table();
    }

    /// Takes in a turn's worth of a block.
    fn restore_block(&mut self, block: Vec<u8>, bucket: u8, at: usize, mut taken: u32) {
        let (own, shards) = (self.responder.index, self.responder.shards);
        let is_own = |shard: ShardIndex| shard == own;
        let mut records = Records::of(&block[at..], bucket);
        let mut error = None;
        for record in records.by_ref().take(RESTORE_ACCOUNTS_PER_TURN) {
            let restored = record.and_then(|record| {
                if !is_own(record.user().shard(shards)) {
                    return Ok(());
                }
                self.responder.table.restore(&record)?;
                taken += 1;
                if record.is_incomplete() {
                    let (user_id, reason) = (record.user(), Reason::Gap);
                    self.follow.requests.push_back(FeedRequest::Reread { user_id, reason });
                }
                Ok(())
            });
            if let Err(found) = restored {
                error = Some(found);
                break;
            }
        }
        let left = records.bytes_left();
        let outcome = match error {
            Some(error) => Err(error),
            None if left == 0 => Ok(taken),
            None => {
                let at = block.len() - left;
                self.checkpoints.current = Current::Take { block, bucket, at, taken };
                return;
            }
        };
        self.checkpoints.answer(CheckpointAnswer::Taken { outcome, buffer: block });
    }
}

#[cfg(test)]
mod tests;
