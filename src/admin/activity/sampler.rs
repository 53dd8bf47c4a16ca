//! Looks at a node's counters, and says what happened between two looks.

use std::time::Instant;

use florin_schema::Status;

use super::counts::{Counts, per_s};
use super::nodes;
use super::words::{self, Drift};
use super::{Activity, Answers, Caller, Load, Shard};
use crate::admin::metrics::resident_bytes;
use crate::admin::threads::Scheduled;
use crate::admin::view::View;
use crate::callers::Callers;
use crate::node::ShardHandle;

/// One that looks; each look is compared with its last.
#[derive(Debug, Default)]
pub struct Sampler {
    last: Option<(Instant, Vec<Counts>)>,
    drift: Drift,
}

impl Sampler {
    /// Looks now. No shard is asked: their counters are read, and what the kernel tells of their threads.
    pub fn look(&mut self, view: &View) -> Activity {
        self.look_at(view, Instant::now())
    }

    /// Forgets the last look: rates since then would be an average over too long a time.
    pub fn forget(&mut self) {
        self.last = None;
    }

    fn look_at(&mut self, view: &View, now: Instant) -> Activity {
        let scheduled: Vec<Scheduled> =
            view.shards.iter().map(|shard| Scheduled::of(shard.thread_id)).collect();
        let counts: Vec<Counts> = view
            .shards
            .iter()
            .zip(&scheduled)
            .map(|(shard, scheduled)| Counts::read(&shard.metrics, scheduled.on_cpu_ns))
            .collect();
        let (over_s, differences): (f64, Vec<Counts>) = match &self.last {
            Some((at, before)) => {
                let differences = counts.iter().zip(before).map(|(now, then)| now.since(then)).collect();
                (now.duration_since(*at).as_secs_f64(), differences)
            }
            None => (0.0, vec![Counts::NONE; counts.len()]),
        };
        let sum = |counts: &[Counts]| counts.iter().fold(Counts::NONE, |sum, shard| sum.plus(shard));
        let (all, total) = (sum(&differences), sum(&counts));
        let shards: Vec<Shard> = view
            .shards
            .iter()
            .zip(&scheduled)
            .zip(&differences)
            .map(|((shard, scheduled), counted)| shard_of(view, shard, scheduled, counted.load(over_s)))
            .collect();
        self.last = Some((now, counts));
        let (nodes, partitions) = view.nodes.as_ref().map(|nodes| nodes::look(nodes)).unwrap_or_default();
        Activity {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            driver: view.driver.clone(),
            uptime_s: view.clock.monotonic_us() as f64 / 1e6,
            over_s,
            ready: view.readiness().ready,
            said: words::said(view, &shards, self.drift.look(now)),
            memory_bytes: resident_bytes(),
            node: together(all.load(over_s), &shards),
            shards,
            answers: answers(&total, &differences, over_s),
            callers: view.callers.as_ref().map(callers).unwrap_or_default(),
            // Whoever guards the port has counted them.
            refusals: 0,
            nodes,
            partitions,
        }
    }
}

fn shard_of(view: &View, shard: &ShardHandle, scheduled: &Scheduled, load: Load) -> Shard {
    let (index, metrics) = (usize::from(shard.index.0), &shard.metrics);
    Shard {
        index,
        cpu: shard.cpu,
        runs_on: scheduled.runs_on,
        listen: view.addresses.shard_listen.get(index).map(ToString::to_string),
        load: Load {
            lag_ms: shard.lag_us(&view.clock).map(|us| us as f64 / 1e3),
            connections: metrics.connections.get(),
            accounts: metrics.accounts.get(),
            quarantined: metrics.quarantined.get(),
            table_bytes: metrics.table_bytes.get(),
            ..load
        },
    }
}

/// What all shards have: sums, and the longest lag, where each has one.
fn together(load: Load, shards: &[Shard]) -> Load {
    let sum = |of: fn(&Load) -> u64| shards.iter().map(|shard| of(&shard.load)).sum();
    let lags: Option<Vec<f64>> = shards.iter().map(|shard| shard.load.lag_ms).collect();
    Load {
        lag_ms: lags.and_then(|lags| lags.into_iter().reduce(f64::max)),
        connections: sum(|load| load.connections),
        accounts: sum(|load| load.accounts),
        quarantined: sum(|load| load.quarantined),
        table_bytes: sum(|load| load.table_bytes),
        ..load
    }
}

/// By status, with what each shard has given `lately`.
fn answers(total: &Counts, lately: &[Counts], over_s: f64) -> Vec<Answers> {
    let given = Status::ALL.iter().zip(total.answers).enumerate().filter(|(_, (_, total))| *total > 0);
    let answers = given.map(|(at, (&status, total))| Answers {
        status: status.name().to_owned(),
        words: words::meaning(status).to_owned(),
        total,
        per_s: per_s(lately.iter().map(|shard| shard.answers[at]).sum(), over_s),
        shards_per_s: lately.iter().map(|shard| per_s(shard.answers[at], over_s)).collect(),
    });
    answers.collect()
}

fn callers(callers: &Callers) -> Vec<Caller> {
    let directory = callers.current();
    let caller = |(name, usage): (&str, &crate::shard::quota::Usage)| Caller {
        name: name.to_owned(),
        connections: usage.connections().into(),
        shed: usage.shed(),
        turned_away: usage.turned_away(),
    };
    directory.all().map(|(entry, quota)| caller((&entry.name, quota.usage()))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use florin_schema::ShardIndex;

    use super::*;
    use crate::clock::Clock;
    use crate::mesh::Latest;

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let shard = |index| ShardHandle {
            index: ShardIndex(index),
            cpu: usize::from(index),
            thread_id: u32::MAX,
            metrics: Arc::default(),
            watermark: Arc::new(Latest::new()),
        };
        let view = View::new(vec![shard(0), shard(1)], Clock::new(None), "ring".to_owned());
        let (first, second) = (&view.shards[0].metrics, &view.shards[1].metrics);
        first.opcodes[1].answers[0].add(1_000);
        first.opcodes[1].service_time.record(5_000, 1_000);
        let (mut sampler, now) = (Sampler::default(), Instant::now());
        let before = sampler.look_at(&view, now);
        assert_eq!((before.over_s, before.node.reads_per_s, before.node.p50_us), (0.0, 0.0, None));
        assert_eq!((before.answers[0].total, before.answers[0].per_s), (1_000, 0.0));
        first.opcodes[1].answers[0].add(98);
        first.opcodes[1].service_time.record(3, 98);
        second.opcodes[2].answers[1].add(2);
        second.opcodes[2].service_time.record(1_000, 2);
        second.applied.add(50);
        second.connections.set(4);
        let after = sampler.look_at(&view, now + Duration::from_secs(2));
        let [one, other] = &after.shards[..] else { panic!("{after:?}") };
        assert_eq!((one.load.reads_per_s, one.load.p50_us, one.load.p99_us), (49.0, Some(4), Some(4)));
        assert_eq!((other.load.reads_per_s, other.load.applied_per_s), (1.0, 25.0));
        assert_eq!((after.node.reads_per_s, after.node.p50_us, after.node.connections), (50.0, Some(4), 4));
        assert!((1_000..1_130).contains(&after.node.p99_us.unwrap()), "{after:?}");
        assert_eq!((after.node.lag_ms, after.ready), (None, false));
        let given = after.answers.iter().map(|of| (of.total, of.per_s, &of.shards_per_s[..]));
        assert_eq!(given.collect::<Vec<_>>(), [(1_098, 49.0, &[49.0, 0.0][..]), (2, 1.0, &[0.0, 1.0])]);
        let idle = sampler.look_at(&view, now + Duration::from_secs(3));
        assert_eq!((idle.node.p99_us, idle.node.reads_per_s), (None, 0.0));
        // As it goes over the wire.
        let text = serde_json::to_vec(&after).unwrap();
        assert_eq!(florin_input::json::<Activity>(&text).unwrap(), after);
        // A node of another version says less, or more.
        let other =
            br#"{"node":{"reads_per_s":2,"planted":1},"shards":[{}],"answers":[{"status":"OK"}],"more":{}}"#;
        assert_eq!(florin_input::json::<Activity>(other).unwrap().node.reads_per_s, 2.0);
        sampler.forget();
        assert_eq!(sampler.look_at(&view, now + Duration::from_secs(9)).over_s, 0.0);
    }
}
