//! The bounded ring of one producer and one consumer.
//!
//! ```text
//!              head (consumer's line)          tail (producer's line)
//!               ▼                               ▼
//!     ┌───┬───┬───┬───┬───┬───┬───┬───┐
//!     │   │   │ a │ b │ c │ d │   │   │   head and tail only ever grow (and wrap); slot = index & mask
//!     └───┴───┴───┴───┴───┴───┴───┴───┘
//! ```
//!
//! Each side owns one index and keeps the last value it saw of the other, so that in the steady state a message costs
//! one store to a line that the other side reads once a batch, and no read-modify-write at all.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use core::{fmt, mem::MaybeUninit};

use super::sync::{Alone, Arc, AtomicUsize, Ordering, UnsafeCell};

/// Makes a ring of `slots`, a power of two.
///
/// # Panics
/// If `slots` is not a power of two: the sizes are constants of ours.
pub fn ring<T>(slots: usize) -> (Sender<T>, Receiver<T>) {
    assert!(slots.is_power_of_two(), "a ring's slots are a power of two, not {slots}");
    let shared = Arc::new(Shared {
        slots: (0..slots).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        head: Alone(AtomicUsize::new(0)),
        tail: Alone(AtomicUsize::new(0)),
    });
    (
        Sender { shared: Arc::clone(&shared), tail: 0, head_seen: 0 },
        Receiver { shared, head: 0, tail_seen: 0 },
    )
}

/// The producer's end.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    head_seen: usize,
}

/// The consumer's end.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    tail_seen: usize,
}

struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// The next index to pop. Written by the receiver alone.
    head: Alone<AtomicUsize>,
    /// The next index to push. Written by the sender alone.
    tail: Alone<AtomicUsize>,
}

// SAFETY: a slot is touched by the sender only while it lies outside head..tail and by the receiver only while it lies
// inside; release stores and acquire loads of the two indices hand it over. So a `T` moves between threads (hence
// `T: Send`) and is never reached from two at once.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; the last end to go drops what is left, which moves each `T` to that thread.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Sender<T> {
    /// Appends one message, or gives it back if the ring is full.
    #[inline]
    pub fn push(&mut self, message: T) -> Result<(), T> {
        let slots = self.shared.slots.len();
        if self.tail.wrapping_sub(self.head_seen) == slots {
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) == slots {
                return Err(message);
            }
        }
        // SAFETY: fewer than `slots` messages are in the ring, so the slot at `tail` is free, and it stays ours until
        // the release store below hands it over. The acquire load of `head` put the receiver's last read before this.
        self.shared.slot(self.tail).with_mut(|slot| unsafe { (*slot).write(message) });
        self.tail = self.tail.wrapping_add(1);
        self.shared.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Messages for which there is room at this moment; it can only grow until the next push.
    #[inline]
    pub fn free(&mut self) -> usize {
        self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        self.shared.slots.len() - self.tail.wrapping_sub(self.head_seen)
    }
}

impl<T> Receiver<T> {
    /// Takes the oldest message.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: `head` lies before a `tail` that was loaded with acquire, so the sender's write of this slot
        // happened before, and the slot stays ours until the release store below gives it back. It is read once,
        // because `head` then passes it.
        let message = self.shared.slot(self.head).with(|slot| unsafe { (*slot).assume_init_read() });
        self.head = self.head.wrapping_add(1);
        self.shared.head.0.store(self.head, Ordering::Release);
        Some(message)
    }

    /// Whether nothing is here at this moment.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages that are here at this moment; it can only grow until the next pop.
    #[inline]
    pub fn len(&self) -> usize {
        self.shared.tail.0.load(Ordering::Acquire).wrapping_sub(self.head)
    }
}

impl<T> Shared<T> {
    #[inline]
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[index & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Both ends are gone, and the counter that told us so ordered their last accesses before this one.
        let (mut head, tail) = (self.head.0.load(Ordering::Relaxed), self.tail.0.load(Ordering::Relaxed));
        while head != tail {
            // SAFETY: head..tail holds the messages that were pushed and never popped, and nobody else is left.
            self.slot(head).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = head.wrapping_add(1);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("slots", &self.shared.slots.len()).field("tail", &self.tail).finish()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("slots", &self.shared.slots.len()).field("head", &self.head).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{rc::Rc, thread};

    use super::ring;

    #[test]
    fn a_full_ring_gives_the_message_back_and_an_empty_one_has_none() {
        let (mut sender, mut receiver) = ring(4);
        assert_eq!((sender.free(), receiver.len(), receiver.is_empty()), (4, 0, true));
        for message in 0..4 {
            sender.push(message).unwrap();
        }
        assert_eq!(sender.push(4), Err(4));
        assert_eq!((sender.free(), receiver.len(), receiver.is_empty()), (0, 4, false));
        assert_eq!(receiver.pop(), Some(0));
        sender.push(4).unwrap();
        assert_eq!(core::iter::from_fn(|| receiver.pop()).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(receiver.pop(), None);
    }

    #[test]
    fn what_nobody_took_is_dropped_with_the_ring() {
        let token = Rc::new(());
        let (mut sender, mut receiver) = ring(8);
        for _ in 0..5 {
            sender.push(Rc::clone(&token)).unwrap();
        }
        drop(receiver.pop());
        assert_eq!(Rc::strong_count(&token), 5);
        drop(sender);
        drop(receiver);
        assert_eq!(Rc::strong_count(&token), 1);
    }

    #[test]
    fn two_threads_pass_every_message_once_and_in_order() {
        let count = if cfg!(miri) { 300 } else { 300_000_u64 };
        let (mut sender, mut receiver) = ring(16);
        let producer = thread::spawn(move || {
            for message in 0..count {
                while sender.push(message).is_err() {
                    thread::yield_now();
                }
            }
        });
        for expected in 0..count {
            let message = loop {
                match receiver.pop() {
                    Some(message) => break message,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(message, expected);
        }
        producer.join().unwrap();
        assert!(receiver.is_empty());
    }
}
