//! Orders to a shard from a thread that may wait, and their answers. A shard decides nothing about them: each brings the memory
//! that its answer goes back in.

use core::fmt;

use crate::mesh::{self, Receiver, Sender};

/// The shard's side.
pub struct OrderLink<O, A> {
    pub(super) orders: Receiver<O>,
    answers: Sender<A>,
}

/// The other side.
pub struct OrderPort<O, A> {
    /// In order.
    pub orders: Sender<O>,
    /// In order.
    pub answers: Receiver<A>,
}

/// Both sides of a link on which so many orders may be unanswered.
pub fn order_link<O, A>(unanswered_max: usize) -> (OrderPort<O, A>, OrderLink<O, A>) {
    // An order that has no answer of its own comes before those that have.
    let (orders, shard_orders) = mesh::ring(2 * unanswered_max);
    let (shard_answers, answers) = mesh::ring(unanswered_max);
    (OrderPort { orders, answers }, OrderLink { orders: shard_orders, answers: shard_answers })
}

impl<O, A> OrderLink<O, A> {
    /// Answers an order.
    pub(super) fn answer(&mut self, answer: A) {
        let pushed = self.answers.push(answer);
        assert!(pushed.is_ok(), "no more orders are unanswered than there is room for answers");
    }
}

impl<O, A> fmt::Debug for OrderLink<O, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderLink").finish_non_exhaustive()
    }
}

impl<O, A> fmt::Debug for OrderPort<O, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderPort").finish_non_exhaustive()
    }
}
