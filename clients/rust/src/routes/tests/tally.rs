//! What was seen of a world, or of many: so that whoever plays them knows that they try enough.

use std::ops::AddAssign;

/// What was seen.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    pub answered: u64,
    pub missed: u64,
    pub from_standbys: u64,
    pub moved: u64,
    pub killed: u64,
    pub maps_learned: u64,
    /// The most turns that a call took where nobody was killed and nobody froze.
    pub planned_turns: u64,
    pub attempts: u64,
    /// Messages between nodes, how many reports they had, and what the largest map takes on the wire.
    pub letters: u64,
    pub words: u64,
    pub map_bytes: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.answered.add_assign(other.answered);
        self.missed.add_assign(other.missed);
        self.from_standbys.add_assign(other.from_standbys);
        self.moved.add_assign(other.moved);
        self.killed.add_assign(other.killed);
        self.maps_learned.add_assign(other.maps_learned);
        self.attempts.add_assign(other.attempts);
        self.letters.add_assign(other.letters);
        self.words.add_assign(other.words);
        self.map_bytes = self.map_bytes.max(other.map_bytes);
        self.planned_turns = self.planned_turns.max(other.planned_turns);
    }
}
