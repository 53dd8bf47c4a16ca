//! How fast this host's memory answers: a chase of pointers, each of which lies in a cache line of its own. One chain tells how long a
//! line takes, several at once how many of them are under way together. A lookup is three lines, and two hosts of one kind that differ
//! here differ in all that is deep.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use florin::shard::Pages;
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};
use zerocopy::FromZeros;

use crate::campaign::median;
use crate::limits::{CHASE_ROUNDS as ROUNDS, CHASE_STEPS as STEPS};

/// What of a host's memory makes a table of lookups comparable to another's.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MemoryFacts {
    /// ns a line in 16 MiB of huge pages, one after the other.
    pub line_ns: f64,
    /// ns a line, sixteen at once.
    pub lines_16_ns: f64,
    /// What the kernel says of huge pages: `always`, `madvise` or `never`.
    pub huge_pages: String,
}

impl MemoryFacts {
    /// Some 50 ms of the calling thread's CPU.
    pub fn look() -> MemoryFacts {
        let chase = Chase::new(16 << 20, true);
        let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
        let chosen = setting.split(['[', ']']).nth(1).unwrap_or("not built in");
        MemoryFacts { line_ns: chase.ns::<1>(), lines_16_ns: chase.ns::<16>(), huge_pages: chosen.to_owned() }
    }
}

/// Memory of one size, in pages of one kind.
#[derive(Clone, PartialEq, Debug)]
pub struct Speeds {
    /// How much was chased through.
    pub bytes: usize,
    /// Of it, in huge pages.
    pub huge_bytes: u64,
    /// ns a line with 1, 4, 8, 16 and 32 chains at once.
    pub ns: [f64; 5],
}

impl Speeds {
    /// How many chains each of the numbers is of.
    pub const CHAINS: [usize; 5] = [1, 4, 8, 16, 32];

    /// Of `bytes` of memory.
    pub fn measure(bytes: usize, in_huge_pages: bool) -> Speeds {
        let before = crate::sample::huge_bytes(rustix::process::getpid());
        let chase = Chase::new(bytes, in_huge_pages);
        let after = crate::sample::huge_bytes(rustix::process::getpid());
        let ns = [chase.ns::<1>(), chase.ns::<4>(), chase.ns::<8>(), chase.ns::<16>(), chase.ns::<32>()];
        Speeds { bytes, huge_bytes: after.saturating_sub(before), ns }
    }
}

/// A cache line, and where the next one is.
#[derive(Clone, FromZeros)]
#[repr(C, align(64))]
struct Line {
    next: usize,
    rest: [usize; 7],
}

enum Memory {
    Huge(Pages<Line>),
    Small(Vec<Line>),
}

/// Lines that lead from one to the other in one circle, in an order that nobody guesses.
struct Chase {
    lines: Memory,
    /// Places that lie as far from each other along the circle as they can.
    starts: [usize; 32],
}

impl Chase {
    fn new(bytes: usize, in_huge_pages: bool) -> Chase {
        let count = bytes / size_of::<Line>();
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut SmallRng::seed_from_u64(7));
        let mut lines = match in_huge_pages {
            true => Memory::Huge(Pages::zeroed(count)),
            false => Memory::Small(vec![Line { next: 0, rest: [0; 7] }; count]),
        };
        let places = match &mut lines {
            Memory::Huge(pages) => &mut pages[..],
            Memory::Small(lines) => &mut lines[..],
        };
        for (at, &place) in order.iter().enumerate() {
            places[place].next = order[(at + 1) % count];
        }
        Chase { lines, starts: std::array::from_fn(|chain| order[chain * count / 32]) }
    }

    /// ns a line with so many chains at once; the median of some rounds, after one that warms up.
    fn ns<const CHAINS: usize>(&self) -> f64 {
        let lines = match &self.lines {
            Memory::Huge(pages) => &pages[..],
            Memory::Small(lines) => &lines[..],
        };
        let mut at: [usize; CHAINS] = std::array::from_fn(|chain| self.starts[chain * 32 / CHAINS]);
        let mut rounds: Vec<f64> = (0..=ROUNDS)
            .map(|_| {
                let begun = Instant::now();
                for _ in 0..STEPS / CHAINS {
                    for place in &mut at {
                        *place = lines[*place].next;
                    }
                }
                black_box(at);
                begun.elapsed().as_nanos() as f64 / STEPS as f64
            })
            .collect();
        median(rounds.split_off(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line is come to once before the first is again: a chase that turned in a small circle would measure the cache.
    #[test]
    fn a_chase_comes_to_every_line() {
        for in_huge_pages in [false, true] {
            let chase = Chase::new(1 << 16, in_huge_pages);
            let lines = match &chase.lines {
                Memory::Huge(pages) => &pages[..],
                Memory::Small(lines) => &lines[..],
            };
            let mut seen = vec![false; lines.len()];
            let mut at = chase.starts[0];
            for _ in 0..lines.len() {
                assert!(!std::mem::replace(&mut seen[at], true));
                at = lines[at].next;
            }
            assert_eq!(at, chase.starts[0]);
        }
    }
}
