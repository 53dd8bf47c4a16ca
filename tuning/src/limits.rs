//! Every bound of the tuner, and why it is what it is.

use std::time::Duration;

/// The longest file that is read: `/proc/interrupts` of a host with 256 CPUs has about 3 MiB.
pub const FACT_BYTES_MAX: u64 = 8 * 1_024 * 1_024;
/// All files of a host together.
pub const FACTS_BYTES_MAX: usize = 32 * 1_024 * 1_024;
/// What Linux can number: CONFIG_NR_CPUS ends at 8,192 on every architecture, and there are fewer nodes than CPUs.
pub const NUMBERS_MAX: usize = 8_192;
/// Cores for each of which one keeps house, at the least one on each node.
pub const CORES_PER_HOUSEKEEPER: usize = 16;
/// As many shards as a node of florin may have.
pub const SHARDS_MAX: usize = 256;
/// An idle state from which waking takes longer than this, in µs, is one that a shard should not enter.
pub const WAKE_US_MAX: u64 = 50;
/// Files that one line of the plan stands for, beyond which they are counted instead of named.
pub const FILES_NAMED_MAX: usize = 3;
/// Interrupts of a NIC that are named.
pub const INTERRUPTS_NAMED_MAX: usize = 16;
/// What a shard's ring, its buffers and some room for a second node take, for each shard.
pub const MEMLOCK_BYTES_PER_SHARD: u64 = 16 * 1_024 * 1_024;
/// Connections, listeners and files of a node under load.
pub const NOFILE_MIN: u64 = 65_536;
/// A plan: one of 256 shards with an interrupt for each of 8,192 CPUs takes less.
pub const PLAN_BYTES_MAX: usize = 16 << 20;
/// How long a plan that is no file may take to come.
pub const PLAN_PATIENCE: Duration = Duration::from_secs(2);
/// The longest value of a setting: a mask of 8,192 CPUs has 2.3 KiB.
pub const VALUE_BYTES_MAX: u64 = 64 * 1_024;
