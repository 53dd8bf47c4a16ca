//! Waking a shard that sleeps in the kernel.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::{EventfdFlags, eventfd};

/// An eventfd that its shard watches. Shards wake each other through their own rings, so that it costs no system call of
/// its own; the control plane writes to it.
#[derive(Debug)]
pub struct ShardWaker(OwnedFd);

impl ShardWaker {
    /// What one wake-up adds; the number is never read, only the edge is seen.
    pub const WAKE: [u8; 8] = 1_u64.to_ne_bytes();

    /// A waker that nobody has used.
    pub fn new() -> io::Result<ShardWaker> {
        // Non-blocking, because io_uring completes writes to an eventfd in place only then, instead of on a worker thread.
        Ok(ShardWaker(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes the shard, by a system call: for threads that have no ring.
    pub fn wake(&self) {
        // It can fail only when 2^64 - 1 wake-ups have gathered, and then the shard is being woken anyway.
        let _ = rustix::io::write(&self.0, &ShardWaker::WAKE);
    }
}

impl AsFd for ShardWaker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
