//! Sockets and completions. A driver moves bytes between the kernel and one shard; it never knows what a frame means.
//!
//! Each driver is one implementation of [`Driver`] and gets the same [`ShardContext`]: the shard, the sockets that it listens
//! on, the clock, and the wakers that wake sleeping neighbours. What has to be the same for all of them lies here:
//! [`listen`] binds the sockets, [`waker`] wakes, [`choice`] names the drivers, `refusal` explains io_uring's refusals.
//! [`handshakes`] are TLS's, on threads of their own, and [`handover`] is the way from there to a shard.
//! [`ring`] is our own io_uring loop; [`monoio`] and [`glommio`] run on those runtimes and share `tasks`.

use std::{io, sync::Arc};

use crate::{clock::Clock, shard::Shard};

pub mod accept_turn;
pub mod choice;
pub mod engine;
#[cfg(feature = "glommio")]
pub mod glommio;
pub mod handover;
pub mod handshakes;
pub mod inherited;
mod lingering;
pub mod listen;
#[cfg(feature = "monoio")]
pub mod monoio;
mod peer;
mod refusal;
pub mod ring;
mod scarcity;
pub mod shutdown;
#[cfg(any(feature = "monoio", feature = "glommio"))]
pub mod tasks;
pub mod tcp;
pub mod waker;

pub use choice::{DriverChoice, DriverKind, RunningDriver};
pub use engine::Engine;
pub use listen::Listening;
pub use ring::Spin;
pub use shutdown::Shutdown;
pub use waker::ShardWaker;

/// Everything that one shard's thread works with.
pub struct ShardContext<E = Shard> {
    /// The shard itself, built on the thread that runs it, so that its memory is local to that CPU.
    pub shard: E,
    /// The node's clock.
    pub clock: Clock,
    /// The sockets that this shard accepts on.
    pub listening: Vec<Listening>,
    /// Where connections by TLS come from, if any do.
    pub arrivals: Option<handover::Arrivals>,
    /// Every shard's waker, by [`florin_schema::ShardIndex`].
    pub wakers: Arc<[ShardWaker]>,
    /// Which of the wakers is this shard's own.
    pub own_shard: usize,
    /// Whether the node is to end; looked at when the shard is woken.
    pub shutdown: Arc<Shutdown>,
}

/// Drives one shard from its own thread.
pub trait Driver: Sized {
    /// What can be set besides the context.
    type Settings;

    /// Gets everything ready that can fail for a reason a user can do something about. Runs on the shard's thread.
    fn set_up(context: ShardContext, settings: Self::Settings) -> Result<Self, DriverError>;

    /// Serves until [`Shutdown::begin`] and the last answer, or [`crate::limits::DRAIN_US`] after it.
    fn run(self) -> Result<(), DriverError>;
}

/// Why a driver cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The kernel does not know what the driver asks of it.
    #[error(
        "this kernel's io_uring refuses the rings' settings ({operation}: {source}): florin needs Linux 6.1 or newer"
    )]
    KernelTooOld {
        /// What was asked.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A system call filter, or the administrator.
    #[error("{}", forbidden(*sysctl, source))]
    Forbidden {
        /// The value of `kernel.io_uring_disabled`, where there is such a setting.
        sysctl: Option<u8>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Rings are locked memory.
    #[error(
        "not enough lockable memory for the rings: each shard locks about {needed_bytes} bytes, and RLIMIT_MEMLOCK is \
         {limit_bytes} for all of this user's processes: raise it (ulimit -l, or LimitMEMLOCK= in the systemd unit)"
    )]
    Memlock {
        /// What one shard's rings lock.
        needed_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// It was left out when florin was built.
    #[error(
        "this florin was built without the driver {driver}: build it with --features {driver}, or choose another"
    )]
    NotBuiltIn {
        /// Its name, which is that of its cargo feature.
        driver: &'static str,
    },
    /// Anything else that the kernel refused.
    #[error("{operation}: {source}")]
    Operation {
        /// What was asked.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

fn forbidden(sysctl: Option<u8>, source: &io::Error) -> String {
    match sysctl {
        Some(value) if value > 0 => format!(
            "io_uring is forbidden by kernel.io_uring_disabled = {value} ({source}): set it to 0 \
             (sysctl kernel.io_uring_disabled=0, kept in /proc/sys/kernel/io_uring_disabled)"
        ),
        _ => format!(
            "io_uring is forbidden ({source}) although kernel.io_uring_disabled (/proc/sys/kernel/io_uring_disabled) does \
             not say so: a seccomp filter or a security module does it; allow io_uring_setup, io_uring_enter and \
             io_uring_register in the container's seccomp profile, or SystemCallFilter=@io-event io_uring_setup \
             io_uring_enter io_uring_register in the systemd unit"
        ),
    }
}

#[cfg(test)]
mod tests;
