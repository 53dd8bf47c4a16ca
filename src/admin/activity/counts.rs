//! What a shard has counted at one moment, as far as that only grows.

use florin_schema::Status;

use super::Load;
use crate::shard::metrics::{Histogram, ShardMetrics};

const STATUSES: usize = Status::ALL.len();

/// So much in `seconds`, as a rate; 0 where no time has passed.
pub(super) fn per_s(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// Of one shard, or of several together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Counts {
    /// By [`Status`].
    pub(super) answers: [u64; STATUSES],
    applied: u64,
    received_bytes: u64,
    sent_bytes: u64,
    /// Service times, by the bucket of [`Histogram`].
    times: [u64; Histogram::BUCKETS],
    /// Time on a CPU; none where the kernel does not say.
    on_cpu_ns: Option<u64>,
}

impl Counts {
    pub(super) const NONE: Counts = Counts {
        answers: [0; STATUSES],
        applied: 0,
        received_bytes: 0,
        sent_bytes: 0,
        times: [0; Histogram::BUCKETS],
        on_cpu_ns: Some(0),
    };

    pub(super) fn read(metrics: &ShardMetrics, on_cpu_ns: Option<u64>) -> Counts {
        let mut counts = Counts {
            applied: metrics.applied.get(),
            received_bytes: metrics.bytes_in.get(),
            sent_bytes: metrics.bytes_out.get(),
            on_cpu_ns,
            ..Counts::NONE
        };
        for opcode in &metrics.opcodes {
            for (sum, count) in counts.answers.iter_mut().zip(&opcode.answers) {
                *sum += count.get();
            }
            for (sum, count) in counts.times.iter_mut().zip(opcode.service_time.counts()) {
                *sum += count;
            }
        }
        counts
    }

    /// What was counted since `earlier`, of the same shard.
    pub(super) fn since(&self, earlier: &Counts) -> Counts {
        self.with(earlier, u64::saturating_sub)
    }

    pub(super) fn plus(&self, other: &Counts) -> Counts {
        self.with(other, |one, other| one + other)
    }

    fn with(&self, other: &Counts, of: impl Fn(u64, u64) -> u64) -> Counts {
        Counts {
            answers: std::array::from_fn(|at| of(self.answers[at], other.answers[at])),
            applied: of(self.applied, other.applied),
            received_bytes: of(self.received_bytes, other.received_bytes),
            sent_bytes: of(self.sent_bytes, other.sent_bytes),
            times: std::array::from_fn(|at| of(self.times[at], other.times[at])),
            on_cpu_ns: self.on_cpu_ns.zip(other.on_cpu_ns).map(|(one, other)| of(one, other)),
        }
    }

    /// As rates, where all of it was counted in `seconds`. What is no rate is left as it is by default.
    pub(super) fn load(&self, seconds: f64) -> Load {
        let per_s = |count: u64| per_s(count, seconds);
        Load {
            reads_per_s: per_s(self.answers.iter().sum()),
            applied_per_s: per_s(self.applied),
            received_bytes_per_s: per_s(self.received_bytes),
            sent_bytes_per_s: per_s(self.sent_bytes),
            p50_us: self.quantile_us(500),
            p99_us: self.quantile_us(990),
            p999_us: self.quantile_us(999),
            cpu_share: self.on_cpu_ns.map(|ns| per_s(ns) / 1e9),
            ..Load::default()
        }
    }

    /// The bound below which so many thousandths of the times lie.
    fn quantile_us(&self, thousandths: u64) -> Option<u64> {
        let wanted = (self.times.iter().sum::<u64>() * thousandths).div_ceil(1_000);
        let mut seen = 0;
        let reached = self.times.iter().position(|count| {
            seen += count;
            seen >= wanted && wanted > 0
        });
        reached.map(Histogram::upper_bound_us)
    }
}
