//! What a node is doing: rates, percentiles and sentences, made of the same counters as `GET /metrics`. This is the one place where they
//! are computed; the console's page, `florin top` and the demonstration show them.
//!
//! | module | holds |
//! | --- | --- |
//! | `counts` | what a shard has counted at one moment, and what that is less than at another |
//! | `sampler` | two looks at a node → an [`Activity`] |
//! | `nodes` | the nodes that divide the users |
//! | `words` | how the node stands, in sentences |

mod counts;
mod nodes;
mod sampler;
mod words;

use serde::{Deserialize, Serialize};

pub use sampler::Sampler;

/// What a node is doing at one moment. As JSON it is what `GET /v1/activity` sends each second; fields are only
/// ever added, and those that a node does not send yet are as by default.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Activity {
    /// Of florin.
    pub version: String,
    /// How the shards talk to the kernel.
    pub driver: String,
    /// Since the node started, s.
    pub uptime_s: f64,
    /// What rates and percentiles are of: the time since the look before, s. 0 = this is the first, and they say nothing.
    pub over_s: f64,
    /// Whether callers should be sent here, as `GET /readyz` has it.
    pub ready: bool,
    /// How the node stands.
    pub said: Vec<Said>,
    /// Resident memory of the process, bytes; none where the kernel does not say.
    pub memory_bytes: Option<u64>,
    /// All shards together.
    pub node: Load,
    /// In their order.
    pub shards: Vec<Shard>,
    /// Answers by their status; those that were never given are left out.
    pub answers: Vec<Answers>,
    /// Callers that are known by name.
    pub callers: Vec<Caller>,
    /// Refusals that were written down since the start: whoever may know them asks for them when this has changed.
    pub refusals: u64,
    /// Where nodes divide the users, all that this one knows.
    pub nodes: Vec<Peer>,
    /// Where they do, the partitions that this one follows, those furthest behind first.
    pub partitions: Vec<Partition>,
}

/// One of several nodes that divide the users.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Where it is asked.
    pub address: String,
    /// Whether it is the one that tells.
    pub is_this: bool,
    /// Partitions that it owns.
    pub owns: usize,
    /// Partitions that it answers about where their owners are gone.
    pub stands_by: usize,
}

/// A partition of the ledger that this node follows.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Partition {
    /// Its number.
    pub partition: u32,
    /// `owner`, `standby` or `loading`.
    pub role: String,
    /// Records to its end; none where that is not known.
    pub lag_records: Option<u64>,
}

/// A sentence about the node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Said {
    /// What of it: `node`, `ledger`, `checkpoint`, …
    pub about: String,
    /// The sentence.
    pub words: String,
    /// What it means for an operator.
    pub weight: Weight,
}

/// What a sentence means for an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// It is as it should be.
    Well,
    /// It is worth knowing.
    Note,
    /// Somebody should look after it.
    Fault,
}

/// What was asked and done.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Answers a second, whatever their status.
    pub reads_per_s: f64,
    /// Transactions applied a second.
    pub applied_per_s: f64,
    /// From callers, a second.
    pub received_bytes_per_s: f64,
    /// To callers, a second.
    pub sent_bytes_per_s: f64,
    /// Half of the service times lie below, µs; none where nothing was asked.
    pub p50_us: Option<u64>,
    /// The slowest hundredth begins here, µs.
    pub p99_us: Option<u64>,
    /// The slowest thousandth begins here, µs.
    pub p999_us: Option<u64>,
    /// Time since the ledger was last heard to hold nothing more; of all shards the longest. None before it is loaded, ms.
    pub lag_ms: Option<f64>,
    /// Of one CPU's time: of all shards the sum. None where the kernel does not say.
    pub cpu_share: Option<f64>,
    /// Open connections.
    pub connections: u64,
    /// Accounts held.
    pub accounts: u64,
    /// Of them, those whose history is known to be incomplete.
    pub quarantined: u64,
    /// Memory of the table, bytes.
    pub table_bytes: u64,
}

/// One shard.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Shard {
    /// Its place.
    pub index: usize,
    /// The CPU that its thread is pinned to.
    pub cpu: usize,
    /// The CPU that it ran on last.
    pub runs_on: Option<usize>,
    /// Its own port.
    pub listen: Option<String>,
    /// What it does.
    pub load: Load,
}

/// Answers of one status.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Answers {
    /// As replies have it.
    pub status: String,
    /// What it tells a caller.
    pub words: String,
    /// Since the start.
    pub total: u64,
    /// A second.
    pub per_s: f64,
    /// A second, of each shard in their order.
    pub shards_per_s: Vec<f64>,
}

/// One that is known by name.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Caller {
    /// As `principals.toml` has it.
    pub name: String,
    /// Open connections.
    pub connections: u64,
    /// Requests refused since the start, for it asked more often than it may.
    pub shed: u64,
    /// Connections refused since the start, for it had as many as it may.
    pub turned_away: u64,
}
