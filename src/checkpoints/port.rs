//! The way to a shard, for whoever makes or loads a checkpoint.

use std::fmt;
use std::sync::Arc;

use crate::follower::Waker;
use crate::mesh::Parking;
use crate::shard::{CheckpointAnswer, CheckpointLink, CheckpointOrder, CheckpointPort, checkpoint_link};

/// See the module.
pub struct Port {
    link: CheckpointPort,
    parking: Arc<Parking>,
    waker: Waker,
    /// Orders that have an answer, and none yet.
    unanswered: usize,
}

impl Port {
    /// Both sides of the link to the shard that sleeps by `parking` and is woken by `waker`.
    pub fn link(parking: Arc<Parking>, waker: Waker) -> (Port, CheckpointLink) {
        let (link, shard) = checkpoint_link();
        (Port { link, parking, waker, unanswered: 0 }, shard)
    }

    /// Orders something, and wakes the shard.
    ///
    /// # Panics
    /// Where more orders are unanswered than may be.
    pub fn order(&mut self, order: CheckpointOrder) {
        if !matches!(order, CheckpointOrder::Begin | CheckpointOrder::Applied(_)) {
            self.unanswered += 1;
        }
        assert!(self.link.orders.push(order).is_ok(), "orders are counted, and have room");
        if self.parking.notify() {
            (self.waker)();
        }
    }

    /// What was answered next.
    pub fn answer(&mut self) -> Option<CheckpointAnswer> {
        let answer = self.link.answers.pop()?;
        self.unanswered -= 1;
        Some(answer)
    }

    /// Orders that wait for their answer.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("unanswered", &self.unanswered).finish_non_exhaustive()
    }
}
