//! Lookups under way. A lookup is two cache misses, one behind the other: its user's slot, then its record. So lookups go
//! in groups: while one group's requests are parsed and their slots asked for, the slots of the group before it and the
//! records of the one before that are on their way. The misses of a turn's requests overlap, whichever connections they
//! came on, and each step is a short loop over a group.

use florin_schema::{HashedUser, Opcode, UserId};

use super::responder::Aspect;
use super::table::Found;
use crate::limits::LOOKUPS_PER_GROUP;
use crate::wire::{Format, ReplyTo};

/// A request for an account of this shard's.
#[derive(Clone, Copy)]
pub(super) struct Lookup {
    pub connection: u32,
    pub to: ReplyTo,
    pub user: HashedUser,
    pub aspect: Aspect,
    /// Known once it was probed.
    pub found: Option<Found>,
}

impl Lookup {
    /// What stands where none has stood yet.
    const NONE: Lookup = Lookup {
        connection: 0,
        to: ReplyTo { opcode: Opcode::GetBalance, request_id: 0, format: Format::Rkyv },
        user: UserId::new(0).expect("0 is a legal id").hashed(),
        aspect: Aspect::Balance,
        found: None,
    };
}

/// First in, first out.
pub(super) struct Belt {
    places: [Lookup; Belt::PLACES],
    /// How many were put on it since it was empty, and how many of these were probed and answered.
    asked: usize,
    probed: usize,
    answered: usize,
}

impl Belt {
    /// Whole groups, so that none lies around the end: the one that is coming, two that are under way, and one to make it
    /// a power of two.
    const PLACES: usize = 4 * LOOKUPS_PER_GROUP;

    /// An empty one.
    pub fn new() -> Belt {
        Belt { places: [Lookup::NONE; Belt::PLACES], asked: 0, probed: 0, answered: 0 }
    }

    /// Puts a lookup on, whose slot has been asked for; returns whether it completes a group.
    #[inline(always)]
    pub fn push(&mut self, lookup: Lookup) -> bool {
        self.places[self.asked % Belt::PLACES] = lookup;
        self.asked += 1;
        self.asked.is_multiple_of(LOOKUPS_PER_GROUP)
    }

    /// Those whose slots should be here by now, all but the `newest`: to be probed, and their records asked for. As many
    /// as lie in one piece.
    #[inline(always)]
    pub fn next_to_probe(&mut self, newest: usize) -> &mut [Lookup] {
        let from = self.probed % Belt::PLACES;
        let count = (self.asked - self.probed).saturating_sub(newest).min(Belt::PLACES - from);
        self.probed += count;
        &mut self.places[from..from + count]
    }

    /// Those that have been probed: to be answered. As many as lie in one piece.
    #[inline(always)]
    pub fn next_to_answer(&mut self) -> &[Lookup] {
        let from = self.answered % Belt::PLACES;
        let count = (self.probed - self.answered).min(Belt::PLACES - from);
        self.answered += count;
        &self.places[from..from + count]
    }

    /// The next group begins at the front, where nothing is under way any more.
    pub fn rewind(&mut self) {
        debug_assert_eq!(self.asked, self.answered);
        (self.asked, self.probed, self.answered) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_probed_a_group_later_and_answered_another_and_keeps_its_place() {
        let mut belt = Belt::new();
        let (mut probed, mut answered) = (Vec::new(), Vec::new());
        for rewound in 0..3 {
            let all: Vec<u32> = (0..5 * LOOKUPS_PER_GROUP as u32 + 7 * rewound).collect();
            for &connection in &all {
                if belt.push(Lookup { connection, ..Lookup::NONE }) {
                    answered.extend(belt.next_to_answer().iter().map(|lookup| lookup.connection));
                    probed
                        .extend(belt.next_to_probe(LOOKUPS_PER_GROUP).iter().map(|lookup| lookup.connection));
                }
                let groups = (connection as usize + 1) / LOOKUPS_PER_GROUP;
                assert_eq!(probed.len(), groups.saturating_sub(1) * LOOKUPS_PER_GROUP);
                assert_eq!(answered.len(), groups.saturating_sub(2) * LOOKUPS_PER_GROUP);
            }
            while probed.len() < all.len() {
                probed.extend(belt.next_to_probe(0).iter().map(|lookup| lookup.connection));
            }
            while answered.len() < all.len() {
                answered.extend(belt.next_to_answer().iter().map(|lookup| lookup.connection));
            }
            belt.rewind();
            assert_eq!((std::mem::take(&mut probed), std::mem::take(&mut answered)), (all.clone(), all));
        }
    }
}
