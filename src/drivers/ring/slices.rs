//! Short slices of the CPU: the kernel lets whoever asks for less at a time come first. A shard works for microseconds between sleeps;
//! without this, one that wakes waits until whoever else is on its CPU (handshakes, a scraper) has had its turn, a millisecond or more.

use std::io;

use libc::{SCHED_OTHER, SYS_sched_getattr, SYS_sched_setattr, sched_attr, syscall};

use crate::limits::SHARD_SLICE_NS;

/// Asks for them, for the calling thread. Linux before 6.12 has one length for all, and ignores it; where a filter forbids the call, or
/// the thread is of another policy than the usual (`CPUSchedulingPolicy=` in its unit), all stays as it is.
pub(super) fn take_short() {
    if let Err(error) = short(SHARD_SLICE_NS) {
        tracing::debug!(%error, "a shard takes slices of the CPU as long as anybody's");
    }
}

fn short(slice_ns: u64) -> io::Result<()> {
    let mut terms = sched_attr {
        size: size_of::<sched_attr>() as u32,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel writes no more than the `size` bytes of `terms`, which nobody else has; 0 is the calling thread.
    called(unsafe { syscall(SYS_sched_getattr, 0, &raw mut terms, terms.size, 0) })?;
    if terms.sched_policy != SCHED_OTHER as u32 {
        return Ok(());
    }
    terms.sched_runtime = slice_ns;
    // SAFETY: the kernel reads the `size` bytes of `terms`.
    called(unsafe { syscall(SYS_sched_setattr, 0, &raw const terms, 0) })
}

fn called(outcome: i64) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
