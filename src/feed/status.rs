//! What the feed does at the moment, for whoever asks: the readiness check and the metrics.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use florin_record::Figure;

use crate::follower::Counts;

/// What the feed does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FeedState {
    /// The shards do not have the whole ledger yet.
    Loading {
        /// How much of it is on its way to the shards, in thousandths.
        thousandths: u16,
        /// Accounts that came incomplete and are still to be read again.
        to_repair: usize,
    },
    /// The shards have what the ledger has, to within milliseconds.
    Following,
    /// The ledger cannot be read; it is tried again and again, and the watermark ages.
    Failing {
        /// Since when.
        since: SystemTime,
        /// Why, and what to do.
        reason: String,
    },
}

/// Shared between the feed, which writes it, and the control plane.
#[derive(Debug)]
pub struct FeedStatus {
    state: Mutex<FeedState>,
    rows: AtomicU64,
    unreadable: AtomicU64,
    rereads: AtomicU64,
    clock_steps: AtomicU64,
    /// What is told of the servers that have the ledger, where it is on any.
    figures: OnceLock<Figures>,
}

/// Asked anew each time.
struct Figures(Box<dyn Fn() -> Vec<Figure> + Send + Sync>);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((self.0)()).finish()
    }
}

impl FeedStatus {
    pub(super) fn new() -> FeedStatus {
        FeedStatus {
            state: Mutex::new(FeedState::Loading { thousandths: 0, to_repair: 0 }),
            rows: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            rereads: AtomicU64::new(0),
            clock_steps: AtomicU64::new(0),
            figures: OnceLock::new(),
        }
    }

    /// What is told of the servers that have the ledger; nothing where it is a file.
    pub fn figures(&self) -> Vec<Figure> {
        self.figures.get().map(|Figures(ask)| ask()).unwrap_or_default()
    }

    #[cfg(any(feature = "postgres", feature = "kafka"))]
    pub(super) fn tell_of(&self, figures: impl Fn() -> Vec<Figure> + Send + Sync + 'static) {
        // A feed has one source.
        let _ = self.figures.set(Figures(Box::new(figures)));
    }

    /// What it does at the moment.
    pub fn state(&self) -> FeedState {
        self.lock().clone()
    }

    /// Rows taken from the ledger, unreadable ones included, re-read ones not.
    pub fn rows(&self) -> u64 {
        self.rows.load(Relaxed)
    }

    /// Rows that no transaction could be made of.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Relaxed)
    }

    /// Accounts read again because of a gap.
    pub fn rereads(&self) -> u64 {
        self.rereads.load(Relaxed)
    }

    /// Times that the wall clock was set.
    pub fn clock_steps(&self) -> u64 {
        self.clock_steps.load(Relaxed)
    }

    pub(super) fn loading(&self, thousandths: u16, to_repair: usize) {
        *self.lock() = FeedState::Loading { thousandths, to_repair };
    }

    pub(super) fn following(&self) {
        let mut state = self.lock();
        if *state != FeedState::Following {
            *state = FeedState::Following;
        }
    }

    pub(super) fn failing(&self, reason: &str) {
        let mut state = self.lock();
        let since = match &*state {
            FeedState::Failing { reason: same, .. } if same == reason => return,
            FeedState::Failing { since, .. } => *since,
            _ => SystemTime::now(),
        };
        *state = FeedState::Failing { since, reason: reason.to_owned() };
    }

    pub(super) fn count(&self, counts: Counts) {
        self.rows.store(counts.rows, Relaxed);
        self.unreadable.store(counts.unreadable, Relaxed);
        self.rereads.store(counts.rereads, Relaxed);
        self.clock_steps.store(counts.clock_steps, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
