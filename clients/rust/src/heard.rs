//! The map of partitions, on its way from whichever connection has heard it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use florin_schema::NodeMap;

/// The latest map that a Hello of any node has told.
#[derive(Default)]
pub(crate) struct Heard {
    /// Its epoch, for who looks often.
    epoch: AtomicU64,
    map: Mutex<Option<Arc<NodeMap>>>,
}

impl Heard {
    /// Takes in what a Hello told.
    pub fn hear(&self, map: Option<NodeMap>) {
        let Some(map) = map else { return };
        let mut held = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_none_or(|held| held.epoch < map.epoch) {
            self.epoch.store(map.epoch, Relaxed);
            *held = Some(Arc::new(map));
        }
    }

    /// The map, where it is later than that of `epoch`.
    pub fn later_than(&self, epoch: u64) -> Option<Arc<NodeMap>> {
        if self.epoch.load(Relaxed) <= epoch {
            return None;
        }
        self.map.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
