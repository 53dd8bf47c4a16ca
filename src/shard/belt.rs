//! Lookups under way. A lookup is two cache misses, one behind the other: its user's slot, then its record. So each
//! stands on a belt for a while after its slot was asked for, and again after its record was, and meanwhile others are
//! parsed, probed and answered: the misses of a turn's requests overlap, whichever connections they came on.

use florin_schema::HashedUser;

use super::responder::Aspect;
use super::table::Found;
use crate::limits::{LOOKUPS_ANSWERED_BEHIND, LOOKUPS_PROBED_BEHIND};
use crate::wire::ReplyTo;

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

/// First in, first out.
#[derive(Default)]
pub(super) struct Belt {
    places: [Option<Lookup>; Belt::PLACES],
    /// How many were ever put on it, and how many of these were probed and answered.
    asked: usize,
    probed: usize,
    answered: usize,
}

/// Whether more may come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Each waits until enough have come behind it.
    Flowing,
    /// None waits any longer.
    Clearing,
}

impl Belt {
    /// A power of two, one above what stands on it at most.
    const PLACES: usize = (LOOKUPS_PROBED_BEHIND + LOOKUPS_ANSWERED_BEHIND + 1).next_power_of_two();

    /// Puts a lookup on, whose slot has been asked for.
    #[inline]
    pub fn push(&mut self, lookup: Lookup) {
        self.places[self.asked % Belt::PLACES] = Some(lookup);
        self.asked += 1;
    }

    /// The next whose slot should be here by now: to be probed, and its record asked for.
    #[inline]
    pub fn next_to_probe(&mut self, pace: Pace) -> Option<&mut Lookup> {
        if self.asked - self.probed <= pace.or_behind(LOOKUPS_PROBED_BEHIND) {
            return None;
        }
        let lookup = self.places[self.probed % Belt::PLACES].as_mut();
        self.probed += 1;
        lookup
    }

    /// The next whose record should be here by now: to be answered.
    #[inline]
    pub fn next_to_answer(&mut self, pace: Pace) -> Option<Lookup> {
        if self.probed - self.answered <= pace.or_behind(LOOKUPS_ANSWERED_BEHIND) {
            return None;
        }
        let lookup = self.places[self.answered % Belt::PLACES];
        self.answered += 1;
        lookup
    }
}

impl Pace {
    #[inline]
    fn or_behind(self, lookups: usize) -> usize {
        match self {
            Pace::Flowing => lookups,
            Pace::Clearing => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Format;
    use florin_schema::{Opcode, UserId};

    fn lookup(connection: u32) -> Lookup {
        let to = ReplyTo { opcode: Opcode::GetBalance, request_id: 0, format: Format::Rkyv };
        let user = UserId::new(7).unwrap().hashed();
        Lookup { connection, to, user, aspect: Aspect::Balance, found: None }
    }

    #[test]
    fn each_waits_its_distance_and_keeps_its_place() {
        let mut belt = Belt::default();
        let (mut probed, mut answered) = (Vec::new(), Vec::new());
        for connection in 0..100 {
            belt.push(lookup(connection));
            probed.extend(belt.next_to_probe(Pace::Flowing).map(|lookup| lookup.connection));
            answered.extend(belt.next_to_answer(Pace::Flowing).map(|lookup| lookup.connection));
            let come = connection as usize + 1;
            assert_eq!(probed.len(), come.saturating_sub(LOOKUPS_PROBED_BEHIND));
            assert_eq!(answered.len(), probed.len().saturating_sub(LOOKUPS_ANSWERED_BEHIND));
        }
        while let Some(lookup) = belt.next_to_probe(Pace::Clearing) {
            probed.push(lookup.connection);
        }
        while let Some(lookup) = belt.next_to_answer(Pace::Clearing) {
            answered.push(lookup.connection);
        }
        let all: Vec<u32> = (0..100).collect();
        assert_eq!((probed, answered), (all.clone(), all));
    }
}
