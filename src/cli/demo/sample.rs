//! What the shards did between two looks at their counters.

use std::time::Instant;

use crate::admin::View;
use crate::shard::metrics::{Histogram, ShardMetrics};

/// The counters of all shards at one moment.
pub(super) struct Sample {
    taken: Instant,
    shards: Vec<Counts>,
}

/// Those of one shard that only grow.
#[derive(Clone)]
struct Counts {
    answers: u64,
    applied: u64,
    times: [u64; Histogram::BUCKETS],
}

/// One shard between two samples.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Rates {
    /// Requests answered, per second.
    pub(super) answers_per_s: f64,
    /// Transactions applied, per second.
    pub(super) applied_per_s: f64,
    /// Service times, µs; 0 where nothing was asked.
    pub(super) p50_us: u64,
    /// The slowest hundredth begins here, µs.
    pub(super) p99_us: u64,
}

impl Sample {
    /// Reads all counters.
    pub(super) fn take(view: &View) -> Sample {
        let shards = view.shards.iter().map(|shard| Counts::read(&shard.metrics)).collect();
        Sample { taken: Instant::now(), shards }
    }

    /// What happened since `earlier`: each shard, and all of them together.
    pub(super) fn since(&self, earlier: &Sample) -> (Vec<Rates>, Rates) {
        let seconds = self.taken.duration_since(earlier.taken).as_secs_f64().max(1e-6);
        let differences = self.shards.iter().zip(&earlier.shards).map(|(now, then)| now.less(then));
        let differences: Vec<Counts> = differences.collect();
        let total = differences.iter().fold(Counts::NONE, |sum, shard| sum.plus(shard));
        (differences.iter().map(|shard| shard.rates(seconds)).collect(), total.rates(seconds))
    }
}

impl Counts {
    const NONE: Counts = Counts { answers: 0, applied: 0, times: [0; Histogram::BUCKETS] };

    fn read(metrics: &ShardMetrics) -> Counts {
        let mut times = [0; Histogram::BUCKETS];
        for opcode in &metrics.opcodes {
            for (sum, count) in times.iter_mut().zip(opcode.service_time.counts()) {
                *sum += count;
            }
        }
        let answers =
            metrics.opcodes.iter().flat_map(|opcode| &opcode.answers).map(|count| count.get()).sum();
        Counts { answers, applied: metrics.applied.get(), times }
    }

    fn less(&self, earlier: &Counts) -> Counts {
        Counts {
            answers: self.answers - earlier.answers,
            applied: self.applied - earlier.applied,
            times: std::array::from_fn(|bucket| self.times[bucket] - earlier.times[bucket]),
        }
    }

    fn plus(&self, other: &Counts) -> Counts {
        Counts {
            answers: self.answers + other.answers,
            applied: self.applied + other.applied,
            times: std::array::from_fn(|bucket| self.times[bucket] + other.times[bucket]),
        }
    }

    fn rates(&self, seconds: f64) -> Rates {
        Rates {
            answers_per_s: self.answers as f64 / seconds,
            applied_per_s: self.applied as f64 / seconds,
            p50_us: self.quantile_us(1, 2),
            p99_us: self.quantile_us(99, 100),
        }
    }

    /// The bound below which so large a part of the times lies.
    fn quantile_us(&self, part: u64, of: u64) -> u64 {
        let wanted = (self.times.iter().sum::<u64>() * part).div_ceil(of);
        let mut seen = 0;
        let reached = self.times.iter().position(|count| {
            seen += count;
            seen >= wanted && wanted > 0
        });
        reached.map_or(0, Histogram::upper_bound_us)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use florin_schema::ShardIndex;

    use crate::clock::Clock;
    use crate::mesh::Latest;
    use crate::node::ShardHandle;

    #[test]
    fn rates_are_of_the_time_between_two_samples() {
        let metrics = [Arc::new(ShardMetrics::default()), Arc::new(ShardMetrics::default())];
        let shard = |metrics: &Arc<ShardMetrics>| ShardHandle {
            index: ShardIndex(0),
            cpu: 0,
            thread_id: 1,
            metrics: Arc::clone(metrics),
            watermark: Arc::new(Latest::new()),
        };
        let view = View::new(metrics.iter().map(shard).collect(), Clock::new(None), "ring".to_owned());
        metrics[0].opcodes[1].answers[0].add(1_000);
        metrics[0].opcodes[1].service_time.record(5_000, 1_000);
        let before = Sample::take(&view);
        metrics[0].opcodes[1].answers[0].add(98);
        metrics[0].opcodes[1].service_time.record(3, 98);
        metrics[1].opcodes[2].answers[0].add(2);
        metrics[1].opcodes[2].service_time.record(1_000, 2);
        metrics[1].applied.add(50);
        let mut after = Sample::take(&view);
        after.taken = before.taken + std::time::Duration::from_secs(2);
        let (shards, total) = after.since(&before);
        assert_eq!(shards[0], Rates { answers_per_s: 49.0, applied_per_s: 0.0, p50_us: 4, p99_us: 4 });
        assert_eq!(shards[1].answers_per_s, 1.0);
        assert_eq!(total.applied_per_s, 25.0);
        assert_eq!(total.p50_us, 4);
        assert!((1_000..1_130).contains(&total.p99_us), "{total:?}");
        let (_, nothing) = after.since(&after);
        assert_eq!((nothing.p50_us, nothing.p99_us), (0, 0));
    }
}
