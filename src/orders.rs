//! The way to a shard, for a thread of the control plane that gives it orders and waits for their answers.

use std::fmt;
use std::sync::Arc;

use crate::follower::Waker;
use crate::mesh::Parking;
use crate::shard::orders::OrderPort;

/// See the module.
pub struct Port<O, A> {
    link: OrderPort<O, A>,
    parking: Arc<Parking>,
    waker: Waker,
    /// Orders that have an answer, and none yet.
    unanswered: usize,
}

impl<O, A> Port<O, A> {
    /// This side of the link to the shard that sleeps by `parking` and is woken by `waker`.
    pub fn new(link: OrderPort<O, A>, parking: Arc<Parking>, waker: Waker) -> Port<O, A> {
        Port { link, parking, waker, unanswered: 0 }
    }

    /// Orders something that is answered, and wakes the shard.
    ///
    /// # Panics
    /// Where more orders are under way than may be.
    pub fn order(&mut self, order: O) {
        assert!(self.try_order(order).is_ok(), "orders are counted, and have room");
    }

    /// Orders something that is answered, and wakes the shard.
    ///
    /// # Errors
    /// The order, where others that have no answer take the room at the moment.
    pub fn try_order(&mut self, order: O) -> Result<(), O> {
        self.tell(order)?;
        self.unanswered += 1;
        Ok(())
    }

    /// Orders something that has no answer, and wakes the shard.
    ///
    /// # Errors
    /// The order, where there is no room for it at the moment.
    pub fn tell(&mut self, order: O) -> Result<(), O> {
        self.link.orders.push(order)?;
        if self.parking.notify() {
            (self.waker)();
        }
        Ok(())
    }

    /// What was answered next.
    pub fn answer(&mut self) -> Option<A> {
        let answer = self.link.answers.pop()?;
        self.unanswered -= 1;
        Some(answer)
    }

    /// Orders that wait for their answer.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }
}

impl<O, A> fmt::Debug for Port<O, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("unanswered", &self.unanswered).finish_non_exhaustive()
    }
}
