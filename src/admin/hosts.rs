//! Further names under which the admin port may be asked to write; they can be changed while it runs.

use std::sync::{Arc, Mutex, PoisonError};

/// Names of hosts. Clones are of the same list.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<Mutex<Vec<String>>>);

impl Hosts {
    /// Those of now.
    pub(super) fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the place of all that were there.
    pub fn set(&self, names: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }
}

impl From<Vec<String>> for Hosts {
    fn from(names: Vec<String>) -> Hosts {
        Hosts(Arc::new(Mutex::new(names)))
    }
}
