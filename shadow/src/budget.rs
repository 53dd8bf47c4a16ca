//! Memory that copies of what passes may take, over all connections, from their first byte to their verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes, shared by all who copy.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    used: AtomicUsize,
    most: usize,
}

/// Bytes that are in use; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// Nothing of it is in use.
    pub fn new(most: usize) -> Budget {
        Budget(Arc::new(Shared { used: AtomicUsize::new(0), most }))
    }

    /// Nothing yet, of this budget.
    pub fn nothing(&self) -> Held {
        Held { budget: self.clone(), bytes: 0 }
    }

    /// What is in use.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl Held {
    /// Takes more; says whether there was room for it.
    #[must_use]
    pub fn take(&mut self, bytes: usize) -> bool {
        let Shared { used, most } = &*self.budget.0;
        let before = used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= *most;
        if fits {
            self.bytes += bytes;
        } else {
            used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Holds what `other` held as well.
    pub fn join(&mut self, mut other: Held) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_bounded_and_given_back_once() {
        let budget = Budget::new(10);
        let (mut a, mut b) = (budget.nothing(), budget.nothing());
        assert!(a.take(4) && b.take(6));
        assert!(!a.take(1));
        assert_eq!(budget.used(), 10);
        a.join(b);
        assert_eq!(budget.used(), 10);
        drop(a);
        assert_eq!(budget.used(), 0);
        assert!(budget.nothing().take(10) && !budget.nothing().take(11));
        assert_eq!(budget.used(), 0);
    }
}
