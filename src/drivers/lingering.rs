//! Time-outs of connections that are all equally long: of those whose last answer has gone, while their peers may still read it.

use std::collections::VecDeque;

/// Connections that linger, in the order of their deadlines, which is that of their coming: every lingering lasts equally
/// long. `Generation` tells a life of a slot from the one before.
#[derive(Debug)]
pub(super) struct Lingering<Generation> {
    lasts_us: u64,
    queue: VecDeque<Lingerer<Generation>>,
}

#[derive(Debug)]
struct Lingerer<Generation> {
    until_us: u64,
    slot: u32,
    generation: Generation,
}

impl<Generation: Copy + PartialEq> Lingering<Generation> {
    pub(super) fn new(lasts_us: u64) -> Lingering<Generation> {
        Lingering { lasts_us, queue: VecDeque::new() }
    }

    /// Notes that `slot` begins to linger.
    pub(super) fn begin(&mut self, slot: u32, generation: Generation, now_us: u64) {
        self.queue.push_back(Lingerer { until_us: now_us + self.lasts_us, slot, generation });
    }

    /// When the next lingering ends.
    pub(super) fn next_end_us(&self) -> Option<u64> {
        self.queue.front().map(|lingerer| lingerer.until_us)
    }

    /// The next that has had its time, and whose life is still `life_of` its slot: the others have ended meanwhile.
    pub(super) fn overdue(
        &mut self,
        now_us: u64,
        life_of: impl Fn(u32) -> Option<Generation>,
    ) -> Option<u32> {
        while self.next_end_us().is_some_and(|until_us| until_us <= now_us) {
            let Lingerer { slot, generation, .. } = self.queue.pop_front()?;
            if life_of(slot) == Some(generation) {
                return Some(slot);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lingerers_leave_in_the_order_of_their_coming() {
        let lasts_us = 500;
        let mut lingering = Lingering::new(lasts_us);
        lingering.begin(7, 'a', 10);
        lingering.begin(8, 'b', 20);
        assert_eq!(lingering.next_end_us(), Some(10 + lasts_us));
        let lives = |slot| [(7, 'a'), (8, 'b')].iter().find(|(life, _)| *life == slot).map(|(_, life)| *life);
        assert_eq!(lingering.overdue(9 + lasts_us, lives), None);
        assert_eq!(lingering.overdue(15 + lasts_us, lives), Some(7));
        assert_eq!(lingering.overdue(15 + lasts_us, lives), None);
        assert_eq!(lingering.overdue(20 + lasts_us, lives), Some(8));
        assert_eq!(lingering.next_end_us(), None);
    }
}
