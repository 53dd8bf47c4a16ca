//! The time as it is handed down: nothing in this crate reads a clock.

/// One reading of both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// The wall clock, µs since 1970 UTC: decides which buckets a window holds. Fixed by `--now`.
    pub wall_us: i64,
    /// A monotonic clock, µs since the node started: measures ages, deadlines and service times. Goes on while the host sleeps. Never fixed.
    pub monotonic_us: u64,
}
