//! Lookups that travel together. One message a lookup would cost both shards more than the lookup: a slot of a ring, a
//! buffer, and a line of memory that moves between their cores.
//!
//! ```text
//!     asker: lookups ──▶ owner: looks them up in groups, appends each reply ──▶ asker: copies each caller's replies out
//! ```
//!
//! It goes back to the shard that it came from, so in the steady state nothing is allocated.

use alloc::vec::Vec;

use florin_schema::HashedUser;

use super::question::{Aspect, Ticket};
use crate::limits::{ANSWER_BYTES, BUNDLE_BYTES, LOOKUPS_PER_BUNDLE};
use crate::wire::ReplyTo;

/// A question about one user of another shard's, of any age.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct ForeignLookup {
    pub ticket: Ticket,
    pub to: ReplyTo,
    pub user: HashedUser,
    pub aspect: Aspect,
}

/// Lookups, and their replies once they have some: in the same order, and as many or fewer.
#[derive(Debug)]
pub(in crate::shard) struct Bundle {
    lookups: Vec<ForeignLookup>,
    /// One behind the other, as their connections send them.
    replies: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<u32>,
    /// Bytes that they are expected to take.
    expected: usize,
    /// By when the first of them had come, monotonic µs.
    pub first_asked_by_us: u64,
    /// By when the last of them had.
    pub asked_by_us: u64,
}

/// Replies to lookups of one connection, which came one behind the other.
pub(in crate::shard) struct Run<'a> {
    pub lookups: &'a [ForeignLookup],
    pub replies: &'a [u8],
    /// The longest of them.
    pub longest: usize,
}

impl Bundle {
    pub fn new() -> Bundle {
        Bundle {
            lookups: Vec::with_capacity(LOOKUPS_PER_BUNDLE),
            replies: Vec::new(),
            ends: Vec::with_capacity(LOOKUPS_PER_BUNDLE),
            expected: 0,
            first_asked_by_us: 0,
            asked_by_us: 0,
        }
    }

    /// Whether it should be on its way: it has all that it may.
    pub fn is_full(&self) -> bool {
        self.lookups.len() == LOOKUPS_PER_BUNDLE || self.expected >= BUNDLE_BYTES
    }

    /// Lookups that it holds.
    pub fn len(&self) -> usize {
        self.lookups.len()
    }

    /// Puts in one more, which had come by `asked_by_us`.
    #[inline]
    pub fn push(&mut self, lookup: ForeignLookup, asked_by_us: u64) {
        debug_assert!(!self.is_full(), "a bundle that is full is on its way");
        if self.lookups.is_empty() {
            self.first_asked_by_us = asked_by_us;
        }
        self.asked_by_us = asked_by_us;
        self.expected += ANSWER_BYTES + lookup.ticket.bytes as usize;
        self.lookups.push(lookup);
    }

    /// The lookup at a place, counted from 0.
    #[inline]
    pub fn lookup(&self, place: usize) -> ForeignLookup {
        self.lookups[place]
    }

    /// Has `write` append the reply to the first lookup that has none.
    #[inline(always)]
    pub fn reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.replies);
        self.ends.push(u32::try_from(self.replies.len()).expect("a few KiB"));
    }

    /// Whether each lookup has its reply.
    #[inline]
    pub fn is_answered(&self) -> bool {
        self.ends.len() == self.lookups.len()
    }

    /// The replies, those of one connection together where they came together.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        debug_assert!(self.is_answered(), "a bundle comes back when all of it is answered");
        let is_one = |a: &ForeignLookup, b: &ForeignLookup| {
            (a.ticket.connection, a.ticket.generation) == (b.ticket.connection, b.ticket.generation)
        };
        let (mut ends, mut from) = (self.ends.iter(), 0);
        self.lookups.chunk_by(is_one).map(move |lookups| {
            let (mut longest, mut until) = (0, from);
            for &end in ends.by_ref().take(lookups.len()) {
                longest = longest.max(end as usize - until);
                until = end as usize;
            }
            let replies = &self.replies[core::mem::replace(&mut from, until)..until];
            Run { lookups, replies, longest }
        })
    }

    /// Forgets everything, to be used again.
    pub fn clear(&mut self) {
        self.lookups.clear();
        self.replies.clear();
        self.ends.clear();
        self.expected = 0;
        // One answer may be longer than all that was expected; such room is not kept.
        self.replies.shrink_to(2 * BUNDLE_BYTES);
    }

    /// Where its replies go.
    #[cfg(test)]
    pub fn room(&self) -> *const u8 {
        self.replies.as_ptr()
    }

    /// Two connections' lookups change places behind their replies: a defect to be found.
    pub fn mix_up(&mut self) {
        self.lookups.reverse();
    }
}

#[cfg(test)]
mod tests {
    use florin_schema::{Opcode, UserId};

    use super::*;
    use crate::wire::Format;

    fn lookup(connection: u32, generation: u32, bytes: u32) -> ForeignLookup {
        ForeignLookup {
            ticket: Ticket { connection, generation, bytes, may_wait: false },
            to: ReplyTo { opcode: Opcode::GetBalance, request_id: 0, format: Format::Rkyv },
            user: UserId::new(7).expect("a legal id").hashed(),
            aspect: Aspect::Balance,
        }
    }

    #[test]
    fn each_connection_gets_its_own_replies_in_their_order() {
        let mut bundle = Bundle::new();
        for _ in 0..2 {
            let askers = [(1, 1), (1, 1), (2, 1), (1, 1), (1, 2)];
            askers
                .iter()
                .for_each(|&(connection, generation)| bundle.push(lookup(connection, generation, 0), 1));
            for reply in ["a", "bcd", "", "ef", "g"] {
                assert!(!bundle.is_answered());
                bundle.reply(|out| out.extend_from_slice(reply.as_bytes()));
            }
            assert!(bundle.is_answered());
            let runs: Vec<_> =
                bundle.runs().map(|run| (run.lookups.len(), run.replies.to_vec(), run.longest)).collect();
            let expected = [(2, "abcd", 3), (1, "", 0), (1, "ef", 2), (1, "g", 1)];
            assert_eq!(runs, expected.map(|(count, replies, longest)| (count, replies.into(), longest)));
            bundle.clear();
        }
    }

    /// What many a bundle needs is not allocated anew for each; what one long answer needed is not held for good.
    #[test]
    fn a_bundle_keeps_the_room_that_it_usually_needs_and_no_more() {
        let mut bundle = Bundle::new();
        for bytes in [2 * BUNDLE_BYTES, 20 * BUNDLE_BYTES] {
            bundle.push(lookup(0, 0, 0), 1);
            bundle.reply(|out| out.resize(bytes, 0));
            bundle.clear();
            assert_eq!(bundle.replies.capacity(), 2 * BUNDLE_BYTES, "after {bytes} bytes");
        }
    }

    #[test]
    fn a_bundle_is_full_by_number_and_by_what_its_answers_may_take() {
        let fill = |bytes| {
            let mut bundle = Bundle::new();
            while !bundle.is_full() {
                bundle.push(lookup(0, 0, bytes), 1);
            }
            bundle.len()
        };
        assert_eq!(fill(0), LOOKUPS_PER_BUNDLE);
        assert_eq!(fill(ANSWER_BYTES as u32), LOOKUPS_PER_BUNDLE / 2, "each may take twice what is usual");
        assert_eq!(fill(BUNDLE_BYTES as u32), 1);
    }
}
