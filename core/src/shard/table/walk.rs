//! A walk over all accounts, a piece at a time, while rows come: for checkpoints and the audit.

use alloc::vec::Vec;

use florin_schema::{HashedUser, UserId};

use super::Table;
use crate::limits::CHECKPOINT_PIECE_BYTES;
use crate::shard::account::Account;
use crate::shard::blocks::Handle;

/// A walk over all accounts, on which rows may come and the index may grow. It meets each account that was there when it
/// began exactly once, and of those that came since some.
#[derive(Debug)]
pub struct Walk {
    /// Where it goes on in the index; none = it is over.
    next: Option<u32>,
    /// Of a group whose memory is asked for at once.
    handles: Vec<Handle>,
}

impl Walk {
    /// Accounts whose memory is asked for together: as many cache lines as a core has under way.
    const GROUP: usize = 16;

    /// One that begins.
    pub fn new() -> Walk {
        Walk { next: Some(0), handles: Vec::with_capacity(2 * Walk::GROUP) }
    }

    /// Begins anew.
    pub fn begin(&mut self) {
        self.next = Some(0);
    }

    /// Whether it has met all.
    pub fn is_over(&self) -> bool {
        self.next.is_none()
    }

    /// Whether it has met whoever has the user's place, or has passed by where a new one will be.
    pub fn has_met(&self, table: &Table, user: HashedUser) -> bool {
        self.next.is_none_or(|next| table.index.is_before(user, next))
    }
}

impl Default for Walk {
    fn default() -> Walk {
        Walk::new()
    }
}

impl Table {
    /// Appends to `out`, as a checkpoint holds them, the accounts that come next on a walk: `accounts` or a few more, or fewer
    /// where `out` comes to hold [`CHECKPOINT_PIECE_BYTES`]. How many.
    pub fn walk(&self, walk: &mut Walk, accounts: usize, out: &mut Vec<u8>) -> usize {
        let mut written = 0;
        let of = |&balance: &Handle| Account { balance };
        while written < accounts && out.len() < CHECKPOINT_PIECE_BYTES && self.walk_on(walk) {
            walk.handles
                .iter()
                .map(of)
                .for_each(|account| self.blocks.prefetch(account.statistics(&self.blocks)));
            walk.handles.iter().map(of).for_each(|account| account.save(&self.blocks, out));
            written += walk.handles.len();
        }
        written
    }

    /// Shows the users who come next on a walk: `accounts` or a few more.
    pub fn walk_users(&self, walk: &mut Walk, accounts: usize, mut see: impl FnMut(UserId)) {
        let mut met = 0;
        while met < accounts && self.walk_on(walk) {
            met += walk.handles.len();
            for &balance in &walk.handles {
                let user_id = Account { balance }.balance(&self.blocks).root.user_id.get();
                see(UserId::new(user_id).expect("an account's user is legal"));
            }
        }
    }

    /// Goes on by a group of accounts, whose memory is asked for; `false` at the end.
    fn walk_on(&self, walk: &mut Walk) -> bool {
        walk.handles.clear();
        while let Some(next) = walk.next
            && walk.handles.len() < Walk::GROUP
        {
            walk.next = self.index.walk(next, &mut walk.handles);
        }
        walk.handles.iter().for_each(|&balance| self.blocks.prefetch(balance));
        !walk.handles.is_empty()
    }
}
