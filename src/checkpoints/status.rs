//! What there is to say of checkpoints, for the admin port.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Made;

/// The system's clock, whatever the node's says: it outlives the process, as checkpoints do.
pub(super) fn wall_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// Shared between the maker and the feed, which write it, and the control plane.
#[derive(Debug, Default)]
pub struct CheckpointStatus {
    last: Mutex<Option<Made>>,
    /// Why a checkpoint that was there was not loaded.
    refused: Mutex<Option<String>>,
    /// µs since 1970 UTC at which the newest held everything that was followed then; 0 = there is none.
    current_at_us: AtomicI64,
    made: AtomicU64,
    failures: AtomicU64,
    restored: AtomicU64,
}

impl CheckpointStatus {
    /// The newest that is there: made by this node, or loaded.
    pub fn last(&self) -> Option<Made> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why a checkpoint that was there was not loaded; the last such reason.
    pub fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long ago the newest held everything that was followed then.
    pub fn age_seconds(&self) -> Option<f64> {
        let at_us = self.current_at_us.load(Relaxed);
        (at_us != 0).then(|| wall_us().saturating_sub(at_us).max(0) as f64 / 1e6)
    }

    /// Checkpoints made.
    pub fn made(&self) -> u64 {
        self.made.load(Relaxed)
    }

    /// Checkpoints that could not be made, or removed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Accounts that came from a checkpoint when the node started.
    pub fn restored(&self) -> u64 {
        self.restored.load(Relaxed)
    }

    pub(super) fn note_made(&self, made: Made) {
        self.made.fetch_add(1, Relaxed);
        self.note_last(made);
    }

    /// The newest still holds everything.
    pub(super) fn note_current(&self) {
        self.current_at_us.store(wall_us(), Relaxed);
    }

    pub(super) fn note_last(&self, made: Made) {
        self.current_at_us.store(made.made_at_us, Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
    }

    /// There is none any more.
    pub(super) fn note_none(&self) {
        self.current_at_us.store(0, Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn note_failure(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(super) fn note_restored(&self, accounts: u64) {
        self.restored.store(accounts, Relaxed);
    }

    pub(super) fn note_refused(&self, reason: String) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}
