//! One shard: its table, its connections' protocol state, and what it does in a turn. Does no I/O and is given the
//! time, so that a simulator can run a whole node from a seed.

pub mod metrics;

pub use metrics::ShardMetrics;
