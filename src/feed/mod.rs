//! Where transactions come from: one thread that loads the ledger, follows it, and says how far the shards are.
//!
//! ```text
//!                    ┌──────────── the feed's thread ────────────┐
//!     ledger ──▶ source ──rows, in the order of commits──▶ follower ──▶ shard 0 … shard N    rows, then the end of the batch
//!                    │                                       ▲   ▲──────  applied_batch: each shard has applied it
//!                    └── one account's whole history, where ─┘   └─────▶  watermark: the time before the ledger was asked
//!                        a shard asks for it
//! ```
//!
//! A source knows how its kind of ledger is read; each kind is a crate of its own, and may have threads of its own. The
//! [`Follower`] decides what is done when; it is pure. This module gives them what they need of the world: a thread,
//! waiting, and the log. [`status`] is what the admin port says of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use florin_record::LedgerError;
#[cfg(feature = "sqlite")]
use florin_sqlite::SqliteSource;

use crate::checkpoints::cut::Reached;
use crate::checkpoints::{Cut, Restoring};
use crate::clock::Clock;
use crate::follower::{Doing, Follower, Note, Position, Source, SourceError, Wait};
use crate::limits::{FEED_LOGGED_MAX, FEED_LOOK_AGAIN};
use crate::sources::Ledger;
use crate::threads::{Vital, spawn_vital};

pub mod status;

#[cfg(test)]
mod tests;

pub use crate::follower::{MeshOutlet as Outlet, Waker, link};
pub use status::{FeedState, FeedStatus};

/// Why a feed did not begin.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger cannot be told from others.
    #[error("cannot tell which ledger this is: {0}")]
    Identity(#[from] SourceError),
    /// The system gave no thread.
    #[error("cannot start the feed's thread: {0} (ulimit -u, TasksMax=)")]
    Thread(#[source] io::Error),
}

/// The feed's thread, as long as it is held: dropping it ends the thread. One that panics ends the process.
#[derive(Debug)]
pub struct Feed {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    status: Arc<FeedStatus>,
}

impl Feed {
    /// Starts loading `ledger` into the shards, and follows it: `outlets` in the order of their indices.
    ///
    /// # Errors
    /// Those of opening a connection; later trouble is retried, logged and told by [`Feed::status`].
    pub fn spawn(
        ledger: &Ledger,
        clock: Clock,
        outlets: Vec<Outlet>,
        restoring: Option<Restoring>,
    ) -> Result<Feed, FeedError> {
        match ledger {
            #[cfg(feature = "sqlite")]
            Ledger::Sqlite(file) => {
                let source = SqliteSource::open(file).map_err(LedgerError::from)?;
                Feed::follow(source, clock, outlets, restoring)
            }
            #[cfg(feature = "postgres")]
            Ledger::Postgres(ledger) => {
                let source = florin_postgres::PgSource::open(ledger)?;
                let server = source.status();
                let feed = Feed::follow(source, clock, outlets, restoring)?;
                feed.status.tell_of(move || server.figures().into());
                Ok(feed)
            }
            #[cfg(feature = "kafka")]
            Ledger::Kafka(ledger) => {
                let source = florin_kafka::KafkaSource::new(ledger);
                let brokers = source.status();
                let feed = Feed::follow(source, clock, outlets, restoring)?;
                feed.status.tell_of(move || brokers.figures().into());
                Ok(feed)
            }
        }
    }

    /// The same with a source that is open already.
    ///
    /// # Errors
    /// Where the source cannot be asked who it is, or the system gives no thread.
    pub fn follow<S>(
        source: S,
        clock: Clock,
        outlets: Vec<Outlet>,
        restoring: Option<Restoring>,
    ) -> Result<Feed, FeedError>
    where
        S: Source<Identity: Send, Position: Send> + Send + 'static,
    {
        let (stop, status) = (Arc::new(AtomicBool::new(false)), Arc::new(FeedStatus::new()));
        let mut follower = Follower::new(source, outlets)?;
        let log = Log { status: Arc::clone(&status), unreadable: 0, changed: 0, rereading: 0 };
        let stopped = Arc::clone(&stop);
        let thread = spawn_vital(Vital::Feed, move || {
            let cut = restoring.map(|restoring| restore(&mut follower, restoring, &log.status, &stopped));
            match cut {
                Some(cut) => run(follower.with_checkpoints(), clock, log, Some(&cut), &stopped),
                None => run(follower, clock, log, None, &stopped),
            }
        });
        Ok(Feed { thread: Some(thread.map_err(FeedError::Thread)?), stop, status })
    }

    /// What it does at the moment.
    pub fn status(&self) -> &Arc<FeedStatus> {
        &self.status
    }

    /// Ends the thread, whatever it waits for.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // One that panics ends the process.
            let _ = thread.join();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.end();
    }
}

/// Loads a checkpoint where there is one, and lets its maker begin.
fn restore<S: Source>(
    follower: &mut Follower<S, Outlet>,
    mut restoring: Restoring,
    status: &FeedStatus,
    stop: &AtomicBool,
) -> Arc<Cut> {
    let progress = |thousandths| status.loading(thousandths, 0);
    if let Some(begin) = restoring.restore(follower.source(), stop, &progress) {
        follower.resume_after(begin);
    }
    // Nobody takes them where the node ends already.
    let _ = restoring.maker.send(restoring.ports);
    restoring.cut
}

/// Tells the maker of checkpoints how far the shards are, and the source what is safe.
fn serve_maker<S: Source>(follower: &mut Follower<S, Outlet>, cut: &Cut) {
    if let Some((position, complete_us)) = follower.reached()
        && cut.wants(complete_us)
    {
        let position = position.encode();
        let loads = follower.source().loads();
        let reached = follower.source().lasting_identity().map(|ledger| Reached { ledger, position, loads });
        cut.put(reached.map_err(|error| error.to_string()));
    }
    if let Some(begin) = cut.take_durable().and_then(|begin| S::Position::decode(&begin)) {
        follower.note_durable(&begin);
    }
}

/// The thread's life.
fn run<S: Source>(
    mut follower: Follower<S, Outlet>,
    clock: Clock,
    mut log: Log,
    cut: Option<&Cut>,
    stop: &AtomicBool,
) {
    while !stop.load(Relaxed) {
        Vital::Feed.at_work();
        let wait = follower.step(clock.now());
        log.take(&mut follower);
        if let Some(cut) = cut {
            serve_maker(&mut follower, cut);
        }
        match wait {
            Wait::No => {}
            Wait::Shard => thread::park_timeout(FEED_LOOK_AGAIN),
            Wait::Until(us) => {
                thread::park_timeout(Duration::from_micros(us.saturating_sub(clock.monotonic_us())));
            }
        }
    }
}

/// Logs what the follower has to say, and tells its status.
struct Log {
    status: Arc<FeedStatus>,
    unreadable: u64,
    changed: u64,
    rereading: u64,
}

impl Log {
    fn take<S: Source>(&mut self, follower: &mut Follower<S, Outlet>) {
        while let Some(note) = follower.next_note() {
            self.say(&note, follower.source());
        }
        self.status.count(follower.counts());
        match follower.doing() {
            Doing::Loading { thousandths, to_repair } => self.status.loading(thousandths, to_repair),
            Doing::Following => self.status.following(),
            Doing::Failing(reason) => self.status.failing(reason),
        }
    }

    fn say(&mut self, note: &Note, source: &mut impl Source) {
        match note {
            Note::Loaded => tracing::info!("the ledger is loaded; following it"),
            Note::Failing(reason) => tracing::error!("the feed stands still: {reason}"),
            Note::Recovered => tracing::info!("the feed follows the ledger again"),
            Note::Unreadable(unreadable) => {
                let user =
                    unreadable.user_id.map_or_else(|| "nobody known".to_owned(), |user| user.to_string());
                if is_logged(&mut self.unreadable, "rows that are no transactions") {
                    tracing::error!(user, "the ledger holds what is no transaction: {unreadable}");
                }
            }
            Note::Changed(user) => {
                if is_logged(&mut self.changed, "accounts of which rows were changed") {
                    tracing::error!(
                        user = user.get(),
                        "rows of the account were changed or removed in the ledger, which may only grow, or came behind what could not \
                         be read: it is quarantined until it is read again"
                    );
                }
            }
            Note::Rereading(user) => {
                if is_logged(&mut self.rereading, "accounts that are read again") {
                    tracing::warn!(user = user.get(), "the account's history had a gap: it is read again");
                }
            }
            Note::RereadFailed(reason) => tracing::error!("an account cannot be read again: {reason}"),
            Note::Incomplete { user_id, whole, again_us } => tracing::error!(
                user = user_id.get(),
                version = whole.0,
                "the ledger lacks the account's row after this version: it stays quarantined, and is read again at the \
                 earliest {} s from now, when a further row of it comes",
                again_us / 1_000_000
            ),
            Note::Defect { user_id, version, defect } => {
                let id = source.transaction_id_of(*user_id, *version).unwrap_or_else(|| "unknown".to_owned());
                let (user, version) = (user_id.get(), version.0);
                tracing::error!(user, version, transaction_id = id, "quarantined: {defect}");
            }
            Note::ClockStepped { by_us } => tracing::warn!(
                by_ms = by_us / 1_000,
                "the wall clock was set; the watermark never goes back, and waits where the clock was set back"
            ),
        }
    }
}

/// Whether one more of its kind is logged; says so when the last is.
fn is_logged(count: &mut u64, kind: &str) -> bool {
    *count += 1;
    if *count == FEED_LOGGED_MAX + 1 {
        tracing::warn!("further {kind} are only counted");
    }
    *count <= FEED_LOGGED_MAX
}
