//! The open loop's arrivals that wait for a connection with a free slot: bounded, and what does not fit is counted.

use std::collections::VecDeque;

use super::Window;
use crate::limits;

#[derive(Debug)]
pub(super) struct Backlog {
    /// When each was due, by lane.
    lanes: Box<[VecDeque<u64>]>,
    waiting: usize,
    pub(super) waiting_max: usize,
    pub(super) unsent: u64,
}

impl Backlog {
    pub(super) fn new(lanes: usize) -> Backlog {
        Backlog {
            lanes: (0..lanes).map(|_| VecDeque::new()).collect(),
            waiting: 0,
            waiting_max: 0,
            unsent: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Takes an arrival in, or counts it where there is no room.
    pub(super) fn push(&mut self, lane: usize, due_ns: u64, window: Window) {
        if self.waiting == limits::BACKLOG_MAX {
            self.unsent += u64::from(window.holds(due_ns));
            return;
        }
        self.lanes[lane].push_back(due_ns);
        self.waiting += 1;
        self.waiting_max = self.waiting_max.max(self.waiting);
    }

    /// When the oldest arrival of a lane was due.
    pub(super) fn pop(&mut self, lane: usize) -> Option<u64> {
        let due_ns = self.lanes[lane].pop_front()?;
        self.waiting -= 1;
        Some(due_ns)
    }

    /// Gives up on all that wait: the run is over.
    pub(super) fn give_up(&mut self, window: Window) {
        for lane in &mut self.lanes {
            self.unsent += lane.drain(..).filter(|&due_ns| window.holds(due_ns)).count() as u64;
        }
        self.waiting = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_or_remains_is_counted_where_it_was_due_in_the_window() {
        let window = Window { begins: 100, ends: 200 };
        let mut backlog = Backlog::new(2);
        for due_ns in 0..limits::BACKLOG_MAX as u64 {
            backlog.push((due_ns % 2) as usize, due_ns, window);
        }
        backlog.push(0, 99, window);
        assert_eq!(backlog.unsent, 0);
        backlog.push(0, 150, window);
        assert_eq!(backlog.unsent, 1);
        assert_eq!((backlog.pop(0), backlog.pop(1)), (Some(0), Some(1)));
        assert_eq!(backlog.waiting_max, limits::BACKLOG_MAX);
        backlog.give_up(window);
        assert_eq!((backlog.unsent, backlog.is_empty(), backlog.pop(0)), (101, true, None));
    }
}
