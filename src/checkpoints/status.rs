//! What there is to say of checkpoints, for the admin port.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use super::Made;

/// Shared between the maker and the feed, which write it, and the control plane.
#[derive(Debug, Default)]
pub struct CheckpointStatus {
    last: Mutex<Option<Made>>,
    /// Why a checkpoint that was there was not loaded.
    refused: Mutex<Option<String>>,
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

    /// Checkpoints made.
    pub fn made(&self) -> u64 {
        self.made.load(Relaxed)
    }

    /// Checkpoints that could not be made.
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

    pub(super) fn note_last(&self, made: Made) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
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
