//! The fuzz targets' common part: what must hold of any input, and in which time.

mod targets;

pub use targets::*;

/// What one input may take of a thread's time, µs. A decoder that takes longer is a way to keep a shard from its callers.
const INPUT_US_MAX: u128 = 1_000;
/// The same of one that is a conversation with a whole shard, and takes hundreds of turns of it, twice.
const SESSION_US_MAX: u128 = 100_000;
/// The same of one that shakes hands before anything else.
const SEALED_US_MAX: u128 = 20_000;
/// The same of what no shard reads: a file of an operator's, who is told everything that is wrong with it; bodies that the shadow compares,
/// which are read once more for each level of what is within each other.
const ASIDE_US_MAX: u128 = 50_000;
/// An input is tried so often before it is called slow: a thread of a busy host takes its time for other reasons, but not each time.
const TRIES_MAX: usize = 20;

/// Tries an input, and sees to it that it does not take too long.
///
/// # Panics
/// Where it does, or where the target does.
pub fn watched(target: fn(&[u8]), input: &[u8]) {
    within(INPUT_US_MAX, target, input);
}

/// The same for a conversation.
///
/// # Panics
/// As [`watched`].
pub fn watched_session(input: &[u8]) {
    within(SESSION_US_MAX, session, input);
}

/// The same for what comes behind a handshake.
///
/// # Panics
/// As [`watched`].
pub fn watched_sealed(input: &[u8]) {
    within(SEALED_US_MAX, sealed, input);
}

/// The same for what no shard reads.
///
/// # Panics
/// As [`watched`].
pub fn watched_aside(target: fn(&[u8]), input: &[u8]) {
    within(ASIDE_US_MAX, target, input);
}

fn within(us_max: u128, target: fn(&[u8]), input: &[u8]) {
    let took_us = || {
        let begun = std::time::Instant::now();
        target(input);
        begun.elapsed().as_micros()
    };
    let quickest_us = (0..TRIES_MAX).map(|_| took_us()).find(|&us| us <= us_max);
    assert!(quickest_us.is_some(), "{} bytes took more than {us_max} µs, {TRIES_MAX} times", input.len());
}
