//! Lookups under way. A lookup is two cache misses, one behind the other: its user's line of the index, then its record. So lookups go
//! in groups: while one group's requests are parsed, their lines, those of the group before it and the records of the one before
//! that are on their way. The misses of a turn's requests overlap, whichever connections they came on. A line is asked for with its
//! request, so that memory has something to do while requests are parsed; all else goes by short loops over a group.

use core::ops::Range;

use florin_schema::{HashedUser, Opcode, UserId};

use super::forwarding::question::Aspect;
use super::table::Guess;
use crate::limits::LOOKUPS_PER_GROUP;
use crate::wire::{Format, ReplyTo};

/// A request for an account of this shard's.
#[derive(Clone, Copy)]
pub(super) struct Lookup {
    /// A connection; or, while other shards' lookups are under way, the place of their bundle among those of the turn.
    pub asker: u32,
    pub to: ReplyTo,
    pub user: HashedUser,
    pub aspect: Aspect,
    /// Known once it was probed.
    pub guess: Guess,
}

impl Lookup {
    /// What stands where none has stood yet.
    const NONE: Lookup = Lookup {
        asker: 0,
        to: ReplyTo { opcode: Opcode::GetBalance, request_id: 0, format: Format::Rkyv },
        user: UserId::new(0).expect("0 is a legal id").hashed(),
        aspect: Aspect::Balance,
        guess: Guess::NOBODY,
    };
}

/// First in, first out.
pub(super) struct Pipeline {
    places: [Lookup; Pipeline::PLACES],
    /// How many were put in since it was empty, and how many of these had been when it moved last.
    asked: usize,
    moved: usize,
    /// How many of these have been through each pass.
    probed: usize,
    answered: usize,
}

/// What each pass has to do when it moves on; each part is a group, or the begin of one.
pub(super) struct Step {
    /// Their lines of the index should be here by now: to be probed, and their records asked for.
    pub probe: Range<usize>,
    /// Their records should be: to be answered.
    pub answer: Range<usize>,
}

impl Pipeline {
    /// The group that is coming, and one for each pass.
    const PLACES: usize = 4 * LOOKUPS_PER_GROUP;

    /// An empty one.
    pub fn new() -> Pipeline {
        Pipeline { places: [Lookup::NONE; Pipeline::PLACES], asked: 0, moved: 0, probed: 0, answered: 0 }
    }

    /// Puts a lookup in, whose line of the index has been asked for; returns whether it completes a group, and the pipeline must move on.
    #[inline(always)]
    pub fn push(&mut self, lookup: Lookup) -> bool {
        self.places[self.asked % Pipeline::PLACES] = lookup;
        self.asked += 1;
        self.asked.is_multiple_of(LOOKUPS_PER_GROUP)
    }

    /// Moves everything on by one pass.
    #[inline(always)]
    pub fn step(&mut self) -> Step {
        let step = Step { probe: self.probed..self.moved, answer: self.answered..self.probed };
        (self.answered, self.probed, self.moved) = (self.probed, self.moved, self.asked);
        step
    }

    /// The places of a pass.
    #[inline(always)]
    pub fn at(&mut self, part: Range<usize>) -> &mut [Lookup] {
        let from = part.start % Pipeline::PLACES;
        &mut self.places[from..from + part.len()]
    }

    /// Whether nothing is under way.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.asked == self.answered
    }

    /// The next group begins at the front, where nothing is under way any more.
    pub fn rewind(&mut self) {
        debug_assert!(self.is_empty());
        (self.asked, self.moved, self.probed, self.answered) = (0, 0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goes_through_one_pass_with_each_group_and_keeps_its_place() {
        let mut pipeline = Pipeline::new();
        for rewound in 0..3 {
            let all: Vec<u32> = (0..5 * LOOKUPS_PER_GROUP as u32 + 7 * rewound).collect();
            let mut passes = [const { Vec::new() }; 2];
            let go_on = |pipeline: &mut Pipeline, passes: &mut [Vec<u32>; 2]| {
                let Step { probe, answer } = pipeline.step();
                for (part, pass) in [probe, answer].into_iter().zip(passes) {
                    pass.extend(pipeline.at(part).iter().map(|lookup| lookup.asker));
                }
            };
            for &connection in &all {
                if pipeline.push(Lookup { asker: connection, ..Lookup::NONE }) {
                    go_on(&mut pipeline, &mut passes);
                }
                let groups = (connection as usize + 1) / LOOKUPS_PER_GROUP;
                for (behind, pass) in passes.iter().enumerate() {
                    assert_eq!(pass.len(), groups.saturating_sub(behind + 1) * LOOKUPS_PER_GROUP);
                }
            }
            while !pipeline.is_empty() {
                go_on(&mut pipeline, &mut passes);
            }
            pipeline.rewind();
            assert_eq!(passes, [all.clone(), all]);
        }
    }
}
