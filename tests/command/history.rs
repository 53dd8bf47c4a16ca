//! Judges what clients saw: a history of writes that were acknowledged and of reads that were answered. Pure: it knows no node.
//!
//! | promise | is broken where |
//! | --- | --- |
//! | monotonic reads | a client sees an account at a lower version than it has seen it |
//! | `min_version` | an answer holds less than was asked for; with the version of one's own write: does not hold that write |
//! | `max_age_ms` | an answer lacks a write that had been acknowledged so long before it was asked for |
//! | nothing made up | an answer holds more than anybody had begun to write when it came |
//!
//! All times are of one clock that is never set. A client asks for one thing after the other.

use std::collections::BTreeMap;

/// A write to an account that led to this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write {
    pub user: u64,
    pub version: u64,
    pub begun_us: u64,
    /// `None` = nobody was told what became of it.
    pub acknowledged_us: Option<u64>,
}

/// An account's answer to a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    pub client: u64,
    pub user: u64,
    pub version: u64,
    /// What was asked for; 0 = nothing.
    pub min_version: u64,
    pub max_age_us: Option<u64>,
    pub asked_us: u64,
    pub answered_us: u64,
}

/// A promise that was broken, and by which answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// The client had seen this version.
    WentBack { seen: u64, read: Read },
    /// Less than `min_version`.
    BelowMinimum(Read),
    /// This version had been acknowledged longer than `max_age_us` before.
    TooOld { lacks: u64, read: Read },
    /// No more than this had been begun.
    MadeUp { begun: u64, read: Read },
}

/// What happened, in no order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct History {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
}

impl History {
    /// Every answer that broke a promise.
    pub fn broken(&self) -> Vec<Broken> {
        // By account: the highest version that had been begun, and acknowledged, by a time.
        let (mut begun, mut acknowledged) = (Highest::default(), Highest::default());
        for write in &self.writes {
            begun.add(write.user, write.begun_us, write.version);
            if let Some(at_us) = write.acknowledged_us {
                acknowledged.add(write.user, at_us, write.version);
            }
        }
        let (begun, acknowledged) = (begun.summed(), acknowledged.summed());
        let mut reads = self.reads.clone();
        reads.sort_by_key(|read| read.asked_us);
        let mut seen: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let mut broken = Vec::new();
        for read in reads {
            let seen = seen.entry((read.client, read.user)).or_default();
            if read.version < *seen {
                broken.push(Broken::WentBack { seen: *seen, read });
            }
            *seen = read.version.max(*seen);
            if read.version < read.min_version {
                broken.push(Broken::BelowMinimum(read));
            }
            if let Some(before_us) = read.max_age_us.and_then(|age_us| read.asked_us.checked_sub(age_us)) {
                // What is acknowledged in that very microsecond is neither before it nor after.
                let lacks = acknowledged.before(read.user, before_us);
                if read.version < lacks {
                    broken.push(Broken::TooOld { lacks, read });
                }
            }
            let begun = begun.before(read.user, read.answered_us + 1);
            if read.version > begun {
                broken.push(Broken::MadeUp { begun, read });
            }
        }
        broken
    }
}

impl History {
    /// Whoever recorded this history would have found a breach of each promise that it puts to the test: one answer of it is changed at a time.
    /// Those that it does not put to the test are returned: what is said of them by this history is nothing.
    pub fn assert_each_breach_would_be_found(&self) -> Vec<&'static str> {
        let mut untried = Vec::new();
        let mut finds = |what: &'static str, changed: Option<(usize, u64)>, is_it: fn(&Broken) -> bool| {
            // Under a machine's load no answer may have come that had to be of a certain age.
            let Some((at, version)) = changed else {
                println!("{what}: no answer of this history could break it");
                return untried.push(what);
            };
            let mut planted = self.clone();
            planted.reads[at].version = version;
            assert!(planted.broken().iter().any(is_it), "{what}: {:?} is let pass", planted.reads[at]);
        };
        // Answers stand in the order in which they came, and a client waits for each.
        let mut seen: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let later = self.reads.iter().enumerate().filter_map(|(at, read)| {
            let before = seen.insert((read.client, read.user), read.version)?;
            Some((at, before.checked_sub(1)?))
        });
        finds("monotonic reads", later.last(), |broken| matches!(broken, Broken::WentBack { .. }));

        let reads = || self.reads.iter().enumerate();
        let minimum = reads().find_map(|(at, read)| Some((at, read.min_version.checked_sub(1)?)));
        finds("min_version", minimum, |broken| matches!(broken, Broken::BelowMinimum(_)));

        let is_due = |read: &Read| {
            let before_us = read.asked_us.checked_sub(read.max_age_us?)?;
            let mut writes = self.writes.iter().filter(|write| write.user == read.user);
            writes.find(|write| write.acknowledged_us.is_some_and(|us| us < before_us))
        };
        let old = reads().rev().find_map(|(at, read)| is_due(read).map(|write| (at, write.version - 1)));
        finds("max_age_ms", old, |broken| matches!(broken, Broken::TooOld { .. }));

        let most = self.writes.iter().map(|write| write.version).max();
        let made_up = most.map(|most| (self.reads.len() - 1, most + 1));
        finds("nothing made up", made_up, |broken| matches!(broken, Broken::MadeUp { .. }));
        untried
    }
}

/// By account and time, the highest version.
#[derive(Default)]
struct Highest(BTreeMap<u64, BTreeMap<u64, u64>>);

impl Highest {
    fn add(&mut self, user: u64, at_us: u64, version: u64) {
        let highest = self.0.entry(user).or_default().entry(at_us).or_default();
        *highest = version.max(*highest);
    }

    /// Each time with the highest of all times up to it.
    fn summed(mut self) -> Highest {
        for times in self.0.values_mut() {
            let mut highest = 0;
            for version in times.values_mut() {
                highest = (*version).max(highest);
                *version = highest;
            }
        }
        self
    }

    fn before(&self, user: u64, time_us: u64) -> u64 {
        let times = self.0.get(&user);
        times.and_then(|times| times.range(..time_us).next_back()).map_or(0, |(_, &version)| version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Read = Read {
        client: 1,
        user: 7,
        version: 1,
        min_version: 0,
        max_age_us: None,
        asked_us: 100,
        answered_us: 110,
    };

    /// Three versions, acknowledged at 20, 40 and 60; of a fourth nobody was told.
    fn history(reads: &[Read]) -> History {
        let write = |version, acknowledged_us| Write {
            user: 7,
            version,
            begun_us: version * 20 - 10,
            acknowledged_us,
        };
        let writes = vec![write(1, Some(20)), write(3, Some(60)), write(2, Some(40)), write(4, None)];
        History { writes, reads: reads.to_vec() }
    }

    #[test]
    fn what_keeps_every_promise_breaks_none() {
        let at = |version, asked_us| Read { version, asked_us, answered_us: asked_us + 5, ..READ };
        let kept = [
            at(0, 1),
            at(1, 15),
            at(3, 62),
            // Another client may be behind, and so may this one about another account.
            Read { client: 2, ..at(1, 90) },
            // A write whose answer was lost may be there, and a version that goes on.
            Read { min_version: 4, ..at(4, 100) },
            // Acknowledged 41 before, 21 before: at an age of 41 the first is due and the second is not.
            Read { client: 3, max_age_us: Some(41), ..at(1, 81) },
            Read { client: 3, max_age_us: Some(20), ..at(3, 81) },
        ];
        assert_eq!(history(&kept).broken(), []);
    }

    /// One of each is planted, and nothing else is said.
    #[test]
    fn each_broken_promise_is_found() {
        let first = Read { version: 3, ..READ };
        let back = Read { version: 2, asked_us: 120, answered_us: 130, ..READ };
        assert_eq!(history(&[back, first]).broken(), [Broken::WentBack { seen: 3, read: back }]);

        let below = Read { version: 2, min_version: 3, ..READ };
        assert_eq!(history(&[below]).broken(), [Broken::BelowMinimum(below)]);

        let old = Read { version: 2, max_age_us: Some(39), ..READ };
        assert_eq!(history(&[old]).broken(), [Broken::TooOld { lacks: 3, read: old }]);
        assert_eq!(history(&[Read { max_age_us: Some(40), ..old }]).broken(), []);

        let made_up = Read { version: 5, ..READ };
        assert_eq!(history(&[made_up]).broken(), [Broken::MadeUp { begun: 4, read: made_up }]);
        let early = Read { version: 3, asked_us: 30, answered_us: 45, ..READ };
        assert_eq!(history(&[early]).broken(), [Broken::MadeUp { begun: 2, read: early }]);
    }
}
