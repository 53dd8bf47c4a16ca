//! What the feed and the maker of checkpoints tell each other.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Mutex, PoisonError};

/// How far all shards are: everything that was committed before the time that was asked for lies up to there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reached {
    /// Which ledger, in the source's words.
    pub ledger: String,
    /// Every row up to here is applied, in the source's bytes.
    pub position: Vec<u8>,
    /// How often everything was loaded by then.
    pub loads: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Cut {
    /// The maker waits for a position that is complete up to this (monotonic µs); 0 = it waits for none.
    wanted_us: AtomicU64,
    reached: Mutex<Option<Result<Reached, String>>>,
    /// The begin of the newest checkpoint on disk, of which the source has not been told.
    durable: Mutex<Option<Vec<u8>>>,
}

impl Cut {
    /// The maker asks for a position up to which everything is applied that was committed before this.
    pub fn want(&self, complete_us: u64) {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.wanted_us.store(complete_us.max(1), Release);
    }

    /// Whether a position that is complete up to `complete_us` is waited for.
    #[inline]
    pub fn wants(&self, complete_us: u64) -> bool {
        let wanted_us = self.wanted_us.load(Acquire);
        wanted_us > 0 && wanted_us <= complete_us
    }

    /// The feed answers.
    pub fn put(&self, reached: Result<Reached, String>) {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(reached);
        self.wanted_us.store(0, Release);
    }

    /// The answer, once.
    pub fn take(&self) -> Option<Result<Reached, String>> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A checkpoint that begins here is on disk.
    pub fn note_durable(&self, begin: Vec<u8>) {
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner) = Some(begin);
    }

    /// What is on disk since this was last asked.
    pub fn take_durable(&self) -> Option<Vec<u8>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
