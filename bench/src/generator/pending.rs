//! What one connection has asked and not been answered.

use std::collections::VecDeque;

use florin_schema::UserId;

use crate::{limits::DEPTH_MAX, work::Kind};

/// Bits of a request id that are the slot's number; above them is a count, so that an id comes back only once.
const SLOT_BITS: u32 = DEPTH_MAX.trailing_zeros();

/// A question that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// What.
    pub kind: Kind,
    /// About whom; the first of a batch.
    pub user: UserId,
    /// When it was to be sent, ns since the run's start.
    pub since_ns: u64,
}

/// A slot of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotIndex(u16);

/// A connection's questions: so many slots, each vacant or waiting.
#[derive(Debug)]
pub struct Pending {
    ids: Box<[u64]>,
    asked: Box<[Asked]>,
    /// The users of a slot's batch.
    batches: Box<[Vec<UserId>]>,
    free: Vec<SlotIndex>,
    /// Slots in the order in which they were asked, where answers come in that order.
    order: VecDeque<SlotIndex>,
    ordering: Ordering,
    count: u64,
    /// How many questions each open group holds (memcached's multi-get, Valkey's MGET).
    pub groups: VecDeque<u32>,
    /// Questions in the group that is being written.
    pub open_group: u32,
    /// Where among the bytes to be sent that group begins.
    pub group_at: usize,
}

/// How a protocol's answers come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ordering {
    /// As the questions did.
    InOrder,
    /// As it happens; each names its question.
    ById,
}

impl Pending {
    /// Room for `depth` questions.
    pub fn new(depth: usize, ordering: Ordering) -> Pending {
        assert!((1..=DEPTH_MAX).contains(&depth), "a depth is 1 to {DEPTH_MAX}, not {depth}");
        let nobody = Asked { kind: Kind::Balance, user: UserId::default(), since_ns: 0 };
        Pending {
            ids: vec![0; depth].into(),
            asked: vec![nobody; depth].into(),
            batches: vec![Vec::new(); depth].into(),
            free: (0..depth).rev().map(|slot| SlotIndex(slot as u16)).collect(),
            order: VecDeque::with_capacity(depth),
            ordering,
            count: 0,
            groups: VecDeque::new(),
            open_group: 0,
            group_at: 0,
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.ids.len() - self.free.len()
    }

    /// Whether no slot is free.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Takes a slot for a question, whose batch is empty then; `None` where all wait. Returns the request's id too.
    #[inline]
    pub fn ask(&mut self, asked: Asked) -> Option<(SlotIndex, u64)> {
        let slot = self.free.pop()?;
        self.count += 1;
        let id = self.count << SLOT_BITS | u64::from(slot.0);
        self.ids[usize::from(slot.0)] = id;
        self.asked[usize::from(slot.0)] = asked;
        if self.ordering == Ordering::InOrder {
            self.order.push_back(slot);
        }
        Some((slot, id))
    }

    /// The slot's batch, to be filled.
    pub fn batch_mut(&mut self, slot: SlotIndex) -> &mut Vec<UserId> {
        &mut self.batches[usize::from(slot.0)]
    }

    /// The slot that waits for the answer with this id.
    #[inline]
    pub fn find(&self, id: u64) -> Option<SlotIndex> {
        let slot = (id & (DEPTH_MAX as u64 - 1)) as u16;
        // A vacant slot's id is 0, which is never given: the count begins at 1.
        (id != 0 && self.ids.get(usize::from(slot)) == Some(&id)).then_some(SlotIndex(slot))
    }

    /// The slot that has waited longest, where answers come in order.
    #[inline]
    pub fn oldest(&self) -> Option<SlotIndex> {
        self.order.front().copied()
    }

    /// What a slot asks.
    #[inline]
    pub fn asked(&self, slot: SlotIndex) -> Asked {
        self.asked[usize::from(slot.0)]
    }

    /// The users of a slot's batch.
    pub fn batch(&self, slot: SlotIndex) -> &[UserId] {
        &self.batches[usize::from(slot.0)]
    }

    /// The question is answered.
    #[inline]
    pub fn release(&mut self, slot: SlotIndex) {
        self.ids[usize::from(slot.0)] = 0;
        if self.ordering == Ordering::InOrder {
            let oldest = self.order.pop_front();
            debug_assert_eq!(oldest, Some(slot));
        }
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(since_ns: u64) -> Asked {
        Asked { kind: Kind::Balance, user: UserId::new(9).unwrap(), since_ns }
    }

    #[test]
    fn an_id_is_found_once_and_never_again() {
        let mut pending = Pending::new(2, Ordering::ById);
        let (first, first_id) = pending.ask(asked(1)).unwrap();
        let (second, second_id) = pending.ask(asked(2)).unwrap();
        assert!(pending.ask(asked(3)).is_none());
        assert_eq!((pending.find(second_id), pending.find(first_id)), (Some(second), Some(first)));
        pending.release(second);
        assert_eq!((pending.find(second_id), pending.waiting()), (None, 1));
        let (again, again_id) = pending.ask(asked(4)).unwrap();
        assert_eq!(again, second);
        assert_ne!(again_id, second_id);
        assert_eq!((pending.find(second_id), pending.find(0), pending.find(u64::MAX)), (None, None, None));
    }

    #[test]
    fn ordered_answers_meet_the_oldest_question() {
        let mut pending = Pending::new(3, Ordering::InOrder);
        for since_ns in [1, 2] {
            pending.ask(asked(since_ns)).unwrap();
        }
        for since_ns in [1, 2] {
            let slot = pending.oldest().unwrap();
            assert_eq!(pending.asked(slot).since_ns, since_ns);
            pending.release(slot);
        }
        assert_eq!(pending.oldest(), None);
    }
}
