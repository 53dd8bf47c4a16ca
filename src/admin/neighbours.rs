//! Whether something else runs on the shards' cores: what a core was busy, less what the shards on it were.
//!
//! What shares a shard's CPU makes its callers wait for a time slice, and what shares its core halves it; neither shows
//! in a shard's own counters. The kernel counts how long each CPU was busy, and how long each thread ran.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::threads::Scheduled;
use crate::limits::{NEIGHBOURS_LOOK, NEIGHBOURS_SHARE_WARNED};
use crate::node::ShardHandle;

/// What was found the last time.
#[derive(Debug)]
pub struct Neighbours {
    /// By shard: the share, as the bits of an `f64`.
    shares: Vec<AtomicU64>,
    last: Mutex<Option<Look>>,
}

/// What was counted at one moment, by shard.
#[derive(Debug)]
struct Look {
    at: Instant,
    cores: Vec<Core>,
}

/// The core that a shard runs on.
#[derive(Clone, Debug)]
struct Core {
    cpus: BTreeSet<usize>,
    /// Of all its CPUs together, without interrupts, which are the shard's own packets.
    busy_ns: u64,
    /// Of all shards on it together.
    shards_ns: u64,
}

impl Neighbours {
    /// Nothing is known of any of `shards` shards.
    pub fn new(shards: usize) -> Neighbours {
        Neighbours { shares: (0..shards).map(|_| AtomicU64::new(0)).collect(), last: Mutex::new(None) }
    }

    /// The share of its core's time that something else took from shard `index`, the last time that was looked at.
    pub fn share(&self, index: usize) -> f64 {
        self.shares.get(index).map_or(0.0, |share| f64::from_bits(share.load(Ordering::Relaxed)))
    }

    /// Looks, and warns of what is new.
    pub fn look(&self, shards: &[ShardHandle]) {
        let now = Look { at: Instant::now(), cores: cores(shards) };
        let mut last = self.last.lock().expect("nothing panics while it is held");
        if let Some(before) = last.replace(now) {
            let now = last.as_ref().expect("just put there");
            let ns = u64::try_from(now.at.duration_since(before.at).as_nanos()).unwrap_or(u64::MAX);
            for (index, (before, now)) in before.cores.iter().zip(&now.cores).enumerate() {
                self.judge(index, now, foreign_share(before, now, ns));
            }
        }
    }

    fn judge(&self, index: usize, core: &Core, share: f64) {
        let Some(slot) = self.shares.get(index) else { return };
        let before = f64::from_bits(slot.swap(share.to_bits(), Ordering::Relaxed));
        if share >= NEIGHBOURS_SHARE_WARNED && before < NEIGHBOURS_SHARE_WARNED {
            let cpus: Vec<String> = core.cpus.iter().map(usize::to_string).collect();
            tracing::warn!(
                shard = index,
                "something else ran on this shard's core (CPU {}) for {:.0} % of the last {} s: \
                 `florin tune check` says what may",
                cpus.join(", "),
                share * 100.0,
                NEIGHBOURS_LOOK.as_secs()
            );
        }
    }
}

/// 1 = one CPU's whole time.
fn foreign_share(before: &Core, now: &Core, interval_ns: u64) -> f64 {
    let busy = now.busy_ns.saturating_sub(before.busy_ns);
    let own = now.shards_ns.saturating_sub(before.shards_ns);
    if interval_ns == 0 { 0.0 } else { busy.saturating_sub(own) as f64 / interval_ns as f64 }
}

fn cores(shards: &[ShardHandle]) -> Vec<Core> {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let own: Vec<u64> =
        shards.iter().map(|shard| Scheduled::of(shard.thread_id).on_cpu_ns.unwrap_or(0)).collect();
    let core = |shard: &ShardHandle| {
        let cpus = siblings(shard.cpu);
        let busy_ns = cpus.iter().filter_map(|&cpu| busy_ticks(&stat, cpu)).sum::<u64>() * tick_ns;
        let on_core = shards.iter().zip(&own).filter(|(other, _)| cpus.contains(&other.cpu));
        Core { busy_ns, shards_ns: on_core.map(|(_, ns)| ns).sum(), cpus }
    };
    shards.iter().map(core).collect()
}

/// The CPUs of a CPU's core; itself where the host does not say.
fn siblings(cpu: usize) -> BTreeSet<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let list = fs::read_to_string(path).unwrap_or_default();
    let mut cpus: BTreeSet<usize> = florin_tune::numbers(&list).unwrap_or_default().into_iter().collect();
    cpus.insert(cpu);
    cpus
}

/// User, nice and system time of a CPU. A line of `/proc/stat` is `cpu3 user nice system idle …`.
fn busy_ticks(stat: &str, cpu: usize) -> Option<u64> {
    let name = format!("cpu{cpu}");
    let line = stat.lines().find(|line| line.split(' ').next() == Some(&name))?;
    line.split_whitespace().skip(1).take(3).map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(busy_ns: u64, shards_ns: u64) -> Core {
        Core { cpus: BTreeSet::from([1]), busy_ns, shards_ns }
    }

    #[test]
    fn what_the_shards_did_not_do_was_done_by_others() {
        let share = |before, now| foreign_share(&before, &now, 1_000);
        assert_eq!(share(core(0, 0), core(900, 900)), 0.0);
        assert_eq!(share(core(100, 50), core(700, 450)), 0.2);
        // Ticks are coarser than what threads are charged.
        assert_eq!(share(core(0, 0), core(100, 140)), 0.0);
        assert_eq!(foreign_share(&core(0, 0), &core(5, 0), 0), 0.0);
    }

    #[test]
    fn a_cpus_busy_time_is_found_by_its_whole_name() {
        let stat = "cpu  9 9 9 9\ncpu1 1 2 3 400 5\ncpu11 10 20 30 400 5\nintr 7\n";
        assert_eq!(busy_ticks(stat, 1), Some(6));
        assert_eq!(busy_ticks(stat, 11), Some(60));
        assert_eq!(busy_ticks(stat, 2), None);
    }

    #[test]
    fn the_share_is_kept_for_whoever_asks() {
        let neighbours = Neighbours::new(1);
        assert_eq!(neighbours.share(0), 0.0);
        neighbours.judge(0, &core(0, 0), 0.25);
        assert_eq!(neighbours.share(0), 0.25);
        assert_eq!(neighbours.share(7), 0.0);
    }
}
