//! A shard's own counters: written by its thread alone, read by anyone.

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use florin_schema::{Opcode, Status};

/// A count that only one thread writes: a load and a store instead of a locked addition.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; the shard's thread alone.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    /// Replaces a gauge's value; the shard's thread alone.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value, from any thread.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Service times in µs, in buckets an eighth of a power of two wide: at most 12.5 % from the true value.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; Histogram::BUCKETS],
    sum_us: Counter,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: core::array::from_fn(|_| Counter::default()), sum_us: Counter::default() }
    }
}

impl Histogram {
    const STEPS_BITS: u32 = 3;
    /// Up to 2^27 µs, more than two minutes; what takes longer counts in the last.
    pub const BUCKETS: usize = 8 * 25;

    /// Counts `n` requests that took `us` each.
    #[inline]
    pub fn record(&self, us: u64, n: u64) {
        self.buckets[Histogram::bucket(us)].add(n);
        self.sum_us.add(us * n);
    }

    #[inline]
    fn bucket(us: u64) -> usize {
        let shift = us.max(1).ilog2().saturating_sub(Histogram::STEPS_BITS);
        let bucket = ((shift as usize) << Histogram::STEPS_BITS) + (us >> shift) as usize;
        bucket.min(Histogram::BUCKETS - 1)
    }

    /// The first value, in µs, above those that bucket `index` counts.
    pub fn upper_bound_us(index: usize) -> u64 {
        let steps = 1 << Histogram::STEPS_BITS;
        if index < 2 * steps {
            return index as u64 + 1;
        }
        let shift = index / steps - 1;
        ((index - shift * steps) as u64 + 1) << shift
    }

    /// A copy of the counts, by bucket.
    pub fn counts(&self) -> [u64; Histogram::BUCKETS] {
        core::array::from_fn(|index| self.buckets[index].get())
    }

    /// The sum of all values, µs.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.get()
    }
}

/// One opcode's share.
#[derive(Debug, Default)]
pub struct OpcodeMetrics {
    /// Answers by [`Status`].
    pub answers: [Counter; Status::ALL.len()],
    /// From the turn in which a request was read to the end of the turn in which its reply was handed over.
    pub service_time: Histogram,
}

/// What a turn did besides answering. One that did several things counts as the first of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Moved a piece of the index, or asked the system for memory.
    Growth,
    /// Copied accounts out for a checkpoint, or took them in.
    Checkpoint,
    /// Took in what the feed had sent.
    Feed,
    /// Nothing.
    Answers,
}

impl Work {
    /// All of them, by their numbers.
    pub const ALL: [Work; 4] = [Work::Growth, Work::Checkpoint, Work::Feed, Work::Answers];

    /// In metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Work::Growth => "growth",
            Work::Checkpoint => "checkpoint",
            Work::Feed => "feed",
            Work::Answers => "answers",
        }
    }
}

/// What a table's bytes are taken up by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// From users to accounts, empty places included.
    Index,
    /// Balances as they are sent, and 8 bytes before each.
    Balances,
    /// What stands before statistics.
    Headers,
    /// Totals of lifetimes.
    Lifetimes,
    /// What happened in an hour or a day.
    Buckets,
    /// What blocks have more than their records need.
    Slack,
    /// Blocks that nobody has.
    Free,
}

impl Part {
    /// All of them, by their numbers.
    pub const ALL: [Part; 7] =
        [Part::Index, Part::Balances, Part::Headers, Part::Lifetimes, Part::Buckets, Part::Slack, Part::Free];

    /// In metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Index => "index",
            Part::Balances => "balances",
            Part::Headers => "headers",
            Part::Lifetimes => "lifetimes",
            Part::Buckets => "buckets",
            Part::Slack => "slack",
            Part::Free => "free",
        }
    }
}

/// What the turns of one kind of [`Work`] took.
#[derive(Debug, Default)]
pub struct TurnMetrics {
    /// From a turn's begin to its end.
    pub times: Histogram,
    /// The longest since the start, µs.
    pub max_us: Counter,
}

impl TurnMetrics {
    /// Counts one; the shard's thread alone.
    #[inline]
    pub fn record(&self, took_us: u64) {
        self.times.record(took_us, 1);
        if took_us > self.max_us.get() {
            self.max_us.set(took_us);
        }
    }
}

/// Everything that a shard counts.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// By [`Opcode`].
    pub opcodes: [OpcodeMetrics; Opcode::ALL.len()],
    /// Bytes that were no request at all, or one of an unknown opcode.
    pub rejected: Counter,
    /// Requests over HTTP, among those above.
    pub http_requests: Counter,
    /// Commands that came over RESP.
    pub resp_commands: Counter,
    /// Requests for another shard's users, passed on.
    pub forwarded: Counter,
    /// Other shards' requests answered here.
    pub answered_for_others: Counter,
    /// Requests that wait for their freshness now.
    pub waiting: Counter,
    /// Questions to other shards not yet answered.
    pub mesh_depth: Counter,
    /// Times that a connection's input waited, for its link to another shard had as many questions under way as it takes.
    pub links_full: Counter,
    /// Connections open now.
    pub connections: Counter,
    /// Connections ever opened.
    pub connections_opened: Counter,
    /// Times that a connection could not be accepted, for want of descriptors or memory.
    pub accepts_refused: Counter,
    /// Times that the last slot for connections was taken, so that further callers wait.
    pub connections_full: Counter,
    /// Connections closed because a request began and did not go on.
    pub timed_out: Counter,
    /// Times that a connection's input was paused because it did not read its answers.
    pub paused: Counter,
    /// Tokens that were nobody's, or whose time was over.
    pub wrong_tokens: Counter,
    /// Tokens that were not looked at, for their address had shown too many wrong ones.
    pub tokens_not_looked_at: Counter,
    /// Refusals of which the audit log was not told, for it could not keep up.
    pub refusals_untold: Counter,
    /// Slow answers of which the log was not told, for it could not keep up.
    pub slow_untold: Counter,
    /// Bytes received.
    pub bytes_in: Counter,
    /// Bytes sent.
    pub bytes_out: Counter,
    /// Times that the wall clock stood earlier than a turn before.
    pub clock_set_back: Counter,
    /// Turns of the loop.
    pub turns: Counter,
    /// What they took, by [`Work`].
    pub turns_with: [TurnMetrics; Work::ALL.len()],
    /// Accounts held.
    pub accounts: Counter,
    /// Bytes of the table: index and slabs.
    pub table_bytes: Counter,
    /// Where they go, by [`Part`].
    pub table_parts: [Counter; Part::ALL.len()],
    /// Rows applied.
    pub applied: Counter,
    /// Rows skipped, for they had been applied.
    pub duplicates: Counter,
    /// Rows that came before one that must precede them.
    pub gaps: Counter,
    /// Accounts quarantined now.
    pub quarantined: Counter,
    /// The longest turn since the last checkpoint began in which something was done for it, µs.
    pub checkpoint_turn_max_us: Counter,
    /// The watermark that answers carry, µs since 1970 UTC; 0 = none yet.
    pub watermark_us: Gauge,
    /// When it was taken, µs of the node's monotonic clock.
    pub watermark_monotonic_us: Counter,
}

/// A signed value that only one thread writes.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Replaces it; the shard's thread alone.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// The value, from any thread.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_below_its_buckets_bound_and_not_below_the_one_before() {
        for us in (0..4_000).chain((12..27).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let bucket = Histogram::bucket(us);
            assert!(us < Histogram::upper_bound_us(bucket), "{us} in {bucket}");
            assert!(bucket == 0 || us >= Histogram::upper_bound_us(bucket - 1), "{us} in {bucket}");
        }
        assert_eq!(Histogram::bucket(u64::MAX), Histogram::BUCKETS - 1);
    }
}
