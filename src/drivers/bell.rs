//! Waking a shard that sleeps in the kernel.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, AtomicU16, Ordering},
};

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd that its shard watches. Shards ring each other's through their own rings, so that it costs no system call
/// of its own; the control plane writes to it.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// What one ring adds; the number is never read, only the edge is seen.
    pub const STROKE: [u8; 8] = 1_u64.to_ne_bytes();

    /// A silent bell.
    pub fn new() -> io::Result<Bell> {
        // Non-blocking, because io_uring completes writes to an eventfd in place only then, instead of on a worker thread.
        Ok(Bell(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes the shard, by a system call: for threads that have no ring.
    pub fn ring(&self) {
        // It can fail only when 2^64 - 1 strokes have gathered, and then the bell is ringing anyway.
        let _ = rustix::io::write(&self.0, &Bell::STROKE);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the control plane orders of a node's shards, and how far they are. Ring every bell after giving an order.
#[derive(Debug)]
pub struct Orders {
    drain: AtomicBool,
    /// Shards that still have something to answer.
    undrained: AtomicU16,
    #[cfg(feature = "fault-injection")]
    hang: AtomicBool,
}

impl Orders {
    /// To serve.
    pub fn new(shards: u16) -> Orders {
        Orders {
            drain: AtomicBool::new(false),
            undrained: AtomicU16::new(shards),
            #[cfg(feature = "fault-injection")]
            hang: AtomicBool::new(false),
        }
    }

    /// A fault: one shard is never to turn again.
    #[cfg(feature = "fault-injection")]
    pub fn hang(&self) {
        self.hang.store(true, Ordering::Release);
    }

    /// Does not return to the first shard that comes after that was ordered.
    #[cfg(feature = "fault-injection")]
    pub fn hang_if_ordered(&self) {
        if self.hang.swap(false, Ordering::AcqRel) {
            loop {
                std::thread::park();
            }
        }
    }

    /// Accept nothing more, answer what has arrived, end.
    pub fn drain(&self) {
        self.drain.store(true, Ordering::Release);
    }

    /// Whether that was ordered.
    pub fn drain_ordered(&self) -> bool {
        self.drain.load(Ordering::Acquire)
    }

    /// One shard has nothing left to do, and says so once. True if it was the last: it must ring every bell.
    #[must_use = "the others sleep until their bells are rung"]
    pub fn note_drained(&self) -> bool {
        self.undrained.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether no shard has anything left to do.
    pub fn all_drained(&self) -> bool {
        self.undrained.load(Ordering::Acquire) == 0
    }
}
