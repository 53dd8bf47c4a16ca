//! What the feed does at the moment, for whoever asks: the readiness check and the metrics.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// What the feed does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FeedState {
    /// The shards do not have the whole ledger yet.
    Loading {
        /// Rows that are on their way to the shards.
        done: u64,
        /// Rows that the ledger held when loading began.
        total: u64,
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
}

impl FeedStatus {
    pub(super) fn new() -> FeedStatus {
        FeedStatus {
            state: Mutex::new(FeedState::Loading { done: 0, total: 0 }),
            rows: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            rereads: AtomicU64::new(0),
        }
    }

    /// What it does at the moment.
    pub fn state(&self) -> FeedState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    pub(super) fn set(&self, state: FeedState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(super) fn add_rows(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Relaxed);
    }

    /// How many there are now.
    pub(super) fn add_unreadable(&self) -> u64 {
        self.unreadable.fetch_add(1, Relaxed) + 1
    }

    pub(super) fn add_reread(&self) {
        self.rereads.fetch_add(1, Relaxed);
    }
}
