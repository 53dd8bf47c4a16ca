//! Where transactions come from: one thread that loads the ledger, follows it, and says how far the shards are.
//!
//! ```text
//!     ledger ──▶ reader 0 ──┐                                    ┌──▶ shard 0   rows, in the order of commits,
//!       │        reader 1 ──┴─ stripes, in order ──▶ route by ───┤              then the end of the batch
//!       └─ every 5 ms, what is new ────────────────▶ user        └──▶ shard N
//!                                                     │  ◀── applied_batch: each shard has applied it
//!                                                     └──▶ watermark: the time before the ledger was asked
//! ```
//!
//! Readers help only while there is much to catch up with. A full ring makes the feed wait: it never drops a row. The
//! watermark is published only after every shard has applied all that the ledger held when it was taken.
//!
//! | module | holds |
//! | --- | --- |
//! | [`mod@link`] | the feed's side of the link to each shard: back-pressure, wake-ups, acknowledgements |
//! | `follow` | the thread's loop |
//! | `stripes` | reading in parallel |
//! | [`status`] | what the admin port says of it |

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};

use crate::clock::Clock;
use crate::store::{Reader, StoreError};

mod follow;
pub mod link;
pub mod status;
mod stripes;

#[cfg(test)]
mod tests;

use follow::Follower;
use link::Router;
pub use link::{Bell, Outlet, link};
pub use status::{FeedState, FeedStatus};

/// What a feed is made of.
#[derive(Clone, Debug)]
pub struct FeedConfig {
    /// The SQLite file.
    pub ledger: PathBuf,
    /// The node's.
    pub clock: Clock,
}

/// Why a feed did not begin.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] StoreError),
    /// The system gave no thread.
    #[error("cannot start the feed's thread: {0}")]
    Thread(#[source] io::Error),
}

/// The feed's thread, as long as it is held: dropping it ends the thread.
#[derive(Debug)]
pub struct Feed {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    status: Arc<FeedStatus>,
}

impl Feed {
    /// Opens the ledger, then starts loading it into the shards: `outlets` in the order of their indices.
    ///
    /// # Errors
    /// Those of opening; later trouble is retried, logged and told by [`Feed::status`].
    pub fn spawn(config: FeedConfig, outlets: Vec<Outlet>) -> Result<Feed, FeedError> {
        let stop = Arc::new(AtomicBool::new(false));
        let status = Arc::new(FeedStatus::new());
        let reader = Reader::open(&config.ledger)?;
        let router = Router::new(outlets, Arc::clone(&stop));
        let follower = Follower::new(reader, config.clock, router, Arc::clone(&status))?;
        let thread = thread::Builder::new().name("florin-feed".to_owned()).spawn(move || follower.run());
        Ok(Feed { thread: Some(thread.map_err(FeedError::Thread)?), stop, status })
    }

    /// What it does at the moment.
    pub fn status(&self) -> &Arc<FeedStatus> {
        &self.status
    }

    /// Whether its thread has ended. Before [`Feed::stop`] that is a defect: its panic message is in the log.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the thread, whatever it waits for.
    ///
    /// # Panics
    /// If the feed's thread had panicked: it does so with a message of its own.
    pub fn stop(mut self) {
        if let Err(panic) = self.end() {
            std::panic::resume_unwind(panic);
        }
    }

    fn end(&mut self) -> thread::Result<()> {
        self.stop.store(true, Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.thread().unpark();
        thread.join()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // Whoever wants to know of a panic calls `stop`.
        let _ = self.end();
    }
}
