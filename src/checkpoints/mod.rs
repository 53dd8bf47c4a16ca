//! Checkpoints on disk: a restart reads what the accounts were, and of the ledger only what came since.
//!
//! ```text
//!     feed ──how far the shards are──▶ maker ◀──accounts, a bounded number a turn── shards
//!      │                                 └──▶ DIR/checkpoint-000000000042/{section-0, section-1, …, manifest}
//!      └── at the start: newest checkpoint that is whole and of this ledger ──blocks──▶ shards; else the ledger from its start
//! ```
//!
//! A checkpoint is written beside the others, and renamed into its place when all of it is on the disk: what has a name is
//! whole, and is checked all the same. The newest two are kept. What is loaded is decided before the first answer, wholly or
//! not at all.
//!
//! | module | holds |
//! | --- | --- |
//! | [`store`] | the folder: names, the lock, publishing, what is kept |
//! | `write` | accounts into sections |
//! | [`load`] | sections into shards; checking them |
//! | [`cut`] | what feed and maker tell each other: how far the shards are, and what is safe |
//! | [`doubts`] | what the audit has found wrong has no name |
//! | [`maker`] | the thread: when one is made, and how |
//! | [`status`] | what there is to say of it |

use std::path::PathBuf;
use std::time::Duration;

use crate::orders;
use crate::shard::{CheckpointAnswer, CheckpointOrder};

pub mod cut;
pub mod doubts;
pub mod load;
pub mod maker;
pub mod status;
pub mod store;
mod write;

pub use cut::Cut;
pub use doubts::Doubts;
pub use load::{Refusal, Restoring};
pub use maker::{Made, Maker, MakerHandle, Shared};
pub use status::CheckpointStatus;
pub use store::{Store, StoreError};

/// The way to a shard, for whoever makes or loads a checkpoint.
pub type Port = orders::Port<CheckpointOrder, CheckpointAnswer>;

/// What a node does about checkpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointConfig {
    /// Where they lie.
    pub folder: PathBuf,
    /// One is made when the last is so old and rows have come since; none = by rows alone.
    pub every: Option<Duration>,
    /// One is made when so many rows have come since the last; none = by time alone.
    pub every_rows: Option<u64>,
    /// One is made before the node ends.
    pub at_end: bool,
}
