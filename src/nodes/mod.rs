//! A node among those that divide a ledger's users: it joins the consumer group, hears the others, agrees with them on the map, and
//! tells its own shards.
//!
//! ```text
//!     brokers ◀── florin-group: a member; who else is? ──▶ florin-nodes: what is known, the map,  ──▶ shards: whose users
//!     others  ◀── GET /v1/nodes, several times a second ──▶ what to follow, what to tell          ──▶ share: which partitions
//! ```
//!
//! What follows from what is known is decided by [`florin_core::nodes`], which the simulation drives too.
//!
//! | module | holds |
//! | --- | --- |
//! | [`config`] | how a node takes part, and where it is reached |
//! | `join` | starts the threads |
//! | `group` | the thread that is a member of the group |
//! | `keeper` | the thread that keeps the map |
//! | `exchange` | what the others know, asked again and again |
//! | [`text`] | what is told, as JSON |
//! | [`status`] | how it stands, for whoever looks |

pub mod config;
#[cfg(feature = "kafka")]
mod exchange;
#[cfg(feature = "kafka")]
mod group;
#[cfg(feature = "kafka")]
mod join;
#[cfg(feature = "kafka")]
mod keeper;
pub mod status;
pub mod text;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use florin_record::LedgerError;

use crate::callers::SecretError;
use crate::node::Node;

pub use config::{Advertise, GroupConfig};
pub use status::NodesStatus;

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    /// Its ledger has no partitions.
    #[error(
        "--group: expected a ledger in a Kafka topic, whose partitions nodes divide: --ledger kafka://HOST:PORT/TOPIC"
    )]
    NoPartitions,
    /// Nobody else would reach it.
    #[error("--group: expected --listen or --tls-listen, where callers and the other nodes reach this one")]
    NoListener,
    /// What proves it to the others.
    #[error("--group-token-file: {0}")]
    Token(#[from] SecretError),
    /// To whose nodes that is shown.
    #[error("--group-tls-ca: {0}")]
    Authorities(#[source] SecretError),
    /// The group cannot be joined.
    #[error(transparent)]
    Group(#[from] LedgerError),
    /// The system gives no thread.
    #[error("cannot start the thread that keeps the map of nodes: {0} (ulimit -u, TasksMax=)")]
    Thread(#[from] std::io::Error),
}

/// The threads, as long as it is held: dropping it ends them.
pub struct Nodes {
    status: Arc<NodesStatus>,
    stop: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
}

impl Nodes {
    /// Lets a node that was started to divide users join others.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn join(node: &mut Node, config: &GroupConfig) -> Result<Nodes, NodesError> {
        #[cfg(feature = "kafka")]
        return join::join(node, config);
        #[cfg(not(feature = "kafka"))]
        {
            let _ = (node, config);
            Err(NodesError::NoPartitions)
        }
    }

    /// How it stands.
    pub fn status(&self) -> &Arc<NodesStatus> {
        &self.status
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.keeper.take() {
            // One that panics ends the process.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("status", &self.status).finish_non_exhaustive()
    }
}
