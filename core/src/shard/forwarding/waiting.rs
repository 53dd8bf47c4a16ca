//! The waiting room: questions whose freshness does not hold yet.

use alloc::vec::Vec;

use super::question::{Ask, Destination};
use crate::limits::WAITING_MAX;
use florin_schema::UserId;

/// A question that waits.
pub(in crate::shard) struct Waiter {
    pub deadline_us: u64,
    pub destination: Destination,
    pub ask: Ask,
    /// The place in its question of a user for whom it waits: until that one is fresh the others need no look.
    pub unmet: usize,
}

/// The place of a user who is not fresh, looked for from `from` on and round: a batch that waits costs one look at a time as long as
/// the same user is not fresh.
pub(in crate::shard) fn first_unmet(
    users: &[UserId],
    from: usize,
    mut is_fresh: impl FnMut(UserId) -> bool,
) -> Option<usize> {
    (from..users.len()).chain(0..from).find(|&index| !is_fresh(users[index]))
}

/// A bounded list: it is looked through only when the table or the watermark has moved, or a deadline has come.
#[derive(Default)]
pub(in crate::shard) struct WaitingRoom {
    waiters: Vec<Waiter>,
    earliest_us: Option<u64>,
}

impl WaitingRoom {
    /// Whether one more may wait.
    pub fn has_room(&self) -> bool {
        self.waiters.len() < WAITING_MAX
    }

    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// The first deadline of all.
    pub fn earliest_us(&self) -> Option<u64> {
        self.earliest_us
    }

    pub fn push(&mut self, waiter: Waiter) {
        assert!(self.has_room(), "a question waits only where there is room");
        self.earliest_us = Some(self.earliest_us.map_or(waiter.deadline_us, |us| us.min(waiter.deadline_us)));
        self.waiters.push(waiter);
    }

    /// Takes out those that `is_due` says need wait no longer.
    pub fn take(&mut self, mut is_due: impl FnMut(&mut Waiter) -> bool, due: &mut Vec<Waiter>) {
        due.extend(self.waiters.extract_if(.., |waiter| is_due(waiter)));
        self.earliest_us = self.waiters.iter().map(|waiter| waiter.deadline_us).min();
    }
}
