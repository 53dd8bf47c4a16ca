//! One shard: its table, its connections' protocol state, and what it does in a turn. Does no I/O and is given the
//! time, so that a simulator can run a whole node from a seed.

pub mod account;
pub mod feed_link;
pub mod memory;
pub mod metrics;
pub mod slab;
pub mod table;

pub use feed_link::{Defect, FeedEvent, FeedLink, FeedRequest};
pub use metrics::ShardMetrics;
