//! Whether a node may be sent requests: one rule, for whoever has the node and for the admin port.

use std::fmt;

use crate::{
    clock::Clock,
    feed::{FeedState, FeedStatus},
    node::ShardHandle,
    numbers::counted,
};

/// Why a node is not to be sent requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// It was told to end.
    Draining,
    /// The ledger is on its way to the shards.
    Loading {
        /// Rows so far.
        rows: u64,
        /// How much of it that is.
        percent: u16,
    },
    /// All of the ledger is there, but for accounts that came incomplete.
    Repairing,
    /// The ledger cannot be read.
    LedgerFails {
        /// Why, and what to do.
        reason: String,
    },
    /// It divides users with others, and its group does not name it.
    NotInGroup {
        /// The group.
        group: String,
        /// Why the group says nothing, where it does not.
        trouble: Option<String>,
    },
    /// Nothing was heard of some of those others.
    UnheardNodes {
        /// Where those are, as `host:port`; none = what was heard of them is not put together yet.
        nodes: Vec<String>,
    },
    /// It has not all of the partitions that it is to have.
    LoadingPartitions {
        /// How many not.
        loading: usize,
        /// How many it is to have.
        of: usize,
    },
    /// A shard has not applied the whole ledger yet.
    ShardLoading {
        /// Which.
        shard: usize,
    },
    /// A shard's view is older than the node may answer from.
    ShardStale {
        /// Which.
        shard: usize,
        /// Age of its watermark.
        behind_ms: u64,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Draining => f.write_str("the node is draining: it was told to end"),
            Obstacle::Loading { rows, percent } => {
                let rows = counted(*rows, "transaction");
                write!(f, "the ledger is being loaded: {rows} so far, {percent} %")
            }
            Obstacle::Repairing => f.write_str("accounts whose history came incomplete are being read again"),
            Obstacle::LedgerFails { reason } => write!(f, "the ledger cannot be read: {reason}"),
            Obstacle::NotInGroup { group, trouble: None } => {
                write!(f, "the node is not in group {group} yet")
            }
            Obstacle::NotInGroup { group, trouble: Some(trouble) } => {
                write!(f, "the node is not in group {group} yet: {trouble}")
            }
            Obstacle::UnheardNodes { nodes } if nodes.is_empty() => {
                f.write_str("the node has no map of the nodes that divide the users yet")
            }
            Obstacle::UnheardNodes { nodes } => {
                write!(f, "nothing was heard yet of nodes in the same group: {}", nodes.join(", "))
            }
            Obstacle::LoadingPartitions { loading, of } => {
                write!(f, "{loading} of this node's {of} partitions are being loaded")
            }
            Obstacle::ShardLoading { shard } => write!(f, "shard {shard} does not have the whole ledger yet"),
            Obstacle::ShardStale { shard, behind_ms } => {
                write!(f, "shard {shard} has not heard from the ledger for {behind_ms} ms: the log says why")
            }
        }
    }
}

/// What stands between a node and its callers; nothing where it is ready.
pub fn obstacles(
    is_draining: bool,
    feed: Option<&FeedStatus>,
    shards: &[ShardHandle],
    clock: &Clock,
    max_staleness_ms: u32,
) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if is_draining {
        found.push(Obstacle::Draining);
    }
    match feed.map(|feed| (feed.state(), feed.rows())) {
        Some((FeedState::Loading { thousandths: 1_000, to_repair: 1.. }, _)) => {
            found.push(Obstacle::Repairing)
        }
        Some((FeedState::Loading { thousandths, .. }, rows)) => {
            found.push(Obstacle::Loading { rows, percent: thousandths / 10 });
        }
        Some((FeedState::Failing { reason, .. }, _)) => found.push(Obstacle::LedgerFails { reason }),
        Some((FeedState::Following, _)) | None => {}
    }
    for (shard, handle) in shards.iter().enumerate() {
        match handle.lag_us(clock) {
            None => found.push(Obstacle::ShardLoading { shard }),
            Some(lag_us) if lag_us > u64::from(max_staleness_ms) * 1_000 => {
                found.push(Obstacle::ShardStale { shard, behind_ms: lag_us / 1_000 });
            }
            Some(_) => {}
        }
    }
    found
}
