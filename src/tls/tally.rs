//! What is counted of TLS. Only failures and handshakes are, so that many threads may add to one number.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How a handshake, or a connection after it, has come to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The handshake is done, with certificates.
    Full,
    /// The handshake is done, with a ticket of one before.
    Resumed,
    /// What came was no handshake, or none that is accepted: an old protocol, an unknown certificate, garbage.
    Failed,
    /// The caller went away in the middle of it.
    Left,
    /// It took too long, or too many bytes.
    Overdue,
    /// There was one too many, and it was the oldest.
    Displaced,
    /// Its address has as many as it may have.
    Refused,
    /// Its certificate names nobody, or is no longer valid.
    Unnamed,
    /// It is done, and its shard has no place.
    NoPlace,
    /// After the handshake: a record that cannot be read.
    Garbled,
    /// After the handshake: a record that began and did not go on.
    Halved,
}

impl Outcome {
    /// All of them, by their places in a tally.
    pub const ALL: [Outcome; 11] = [
        Outcome::Full,
        Outcome::Resumed,
        Outcome::Failed,
        Outcome::Left,
        Outcome::Overdue,
        Outcome::Displaced,
        Outcome::Refused,
        Outcome::Unnamed,
        Outcome::NoPlace,
        Outcome::Garbled,
        Outcome::Halved,
    ];

    /// What it is called in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Full => "full",
            Outcome::Resumed => "resumed",
            Outcome::Failed => "failed",
            Outcome::Left => "left",
            Outcome::Overdue => "overdue",
            Outcome::Displaced => "displaced",
            Outcome::Refused => "refused",
            Outcome::Unnamed => "unnamed",
            Outcome::NoPlace => "no_place",
            Outcome::Garbled => "garbled",
            Outcome::Halved => "halved",
        }
    }
}

/// Counts by [`Outcome`].
#[derive(Debug, Default)]
pub struct TlsTally {
    counts: [AtomicU64; Outcome::ALL.len()],
    /// Handshakes under way.
    under_way: AtomicU64,
}

impl TlsTally {
    /// Counts one.
    pub fn add(&self, outcome: Outcome) {
        self.counts[outcome as usize].fetch_add(1, Relaxed);
    }

    /// How many there were.
    pub fn get(&self, outcome: Outcome) -> u64 {
        self.counts[outcome as usize].load(Relaxed)
    }

    /// Says how many handshakes are under way.
    pub fn set_under_way(&self, handshakes: usize) {
        self.under_way.store(handshakes as u64, Relaxed);
    }

    /// Handshakes under way.
    pub fn under_way(&self) -> u64 {
        self.under_way.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn each_outcome_has_a_place_of_its_own() {
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place, "{}", outcome.name());
        }
    }
}
