//! The latest of two words that belong together: one writer, any readers.
#![allow(unsafe_code)]

use super::sync::{Alone, AtomicI64, AtomicU64, Ordering, fence, hint};

/// A pair of words that one thread keeps renewing and others read whole.
///
/// A seqlock over two copies: store n goes into copy n mod 2, so a reader looks at a copy that the writer leaves alone
/// until it has published another. A reader therefore starts over only if the writer has got ahead meanwhile, and never
/// waits for one that was descheduled in the middle of a store.
#[derive(Debug)]
pub struct Latest {
    /// How many stores have been published; the copy to read is this number's lowest bit.
    published: Alone<AtomicU64>,
    copies: [Copy; 2],
}

#[derive(Debug)]
struct Copy {
    a: AtomicI64,
    b: AtomicU64,
}

impl Latest {
    /// Holds (0, 0).
    pub fn new() -> Latest {
        Latest { published: Alone(AtomicU64::new(0)), copies: [Copy::new(), Copy::new()] }
    }

    /// Replaces the pair. Only one thread may call this; two would lose stores, though never mix memory up.
    pub fn store(&self, a: i64, b: u64) {
        let next = self.published.0.load(Ordering::Relaxed).wrapping_add(1);
        // Whoever reads a word written below also sees, after its own fence, that the previous store was published,
        // and so knows that the copy it was reading has been given up.
        fence(Ordering::Release);
        let copy = self.copy(next);
        copy.a.store(a, Ordering::Relaxed);
        copy.b.store(b, Ordering::Relaxed);
        self.published.0.store(next, Ordering::Release);
    }

    /// The latest pair, never a mixture of two.
    #[inline]
    pub fn load(&self) -> (i64, u64) {
        loop {
            let published = self.published.0.load(Ordering::Acquire);
            let copy = self.copy(published);
            let pair = (copy.a.load(Ordering::Relaxed), copy.b.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if self.published.0.load(Ordering::Relaxed) == published {
                return pair;
            }
            hint::spin_loop();
        }
    }

    fn copy(&self, published: u64) -> &Copy {
        &self.copies[usize::from(published & 1 == 1)]
    }
}

impl Default for Latest {
    fn default() -> Latest {
        Latest::new()
    }
}

impl Copy {
    fn new() -> Copy {
        Copy { a: AtomicI64::new(0), b: AtomicU64::new(0) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{sync::Arc, thread};

    use super::Latest;

    #[test]
    fn a_pair_is_read_as_it_was_stored_and_never_goes_back() {
        let count = if cfg!(miri) { 200 } else { 200_000_i64 };
        let latest = Arc::new(Latest::new());
        assert_eq!(latest.load(), (0, 0));
        let writer = Arc::clone(&latest);
        let writer = thread::spawn(move || {
            for a in 1..=count {
                writer.store(a, a.unsigned_abs() * 3);
            }
        });
        let mut before = 0;
        while before < count {
            let (a, b) = latest.load();
            assert_eq!(b, a.unsigned_abs() * 3);
            assert!(a >= before, "{a} after {before}");
            before = a;
            thread::yield_now();
        }
        writer.join().unwrap();
    }
}
