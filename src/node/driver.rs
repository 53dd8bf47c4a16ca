//! Which driver runs: what was asked for, or what this host permits instead.

use super::{
    StartError, host,
    shard_thread::{self, ShardThread, StartedShard},
};
#[cfg(feature = "glommio")]
use crate::drivers::glommio::GlommioDriver;
#[cfg(feature = "monoio")]
use crate::drivers::monoio::{self, Backend, MonoioDriver, MonoioSettings};
use crate::drivers::{
    DriverChoice, DriverError, DriverKind, RunningDriver, Spin,
    ring::{self, RingDriver, RingSizes},
};

/// Finds the driver for `choice`. Where it is not the best there is, says so in the log.
pub(super) fn choose(choice: DriverChoice) -> Result<RunningDriver, StartError> {
    let running = match choice {
        DriverChoice::Ring => host::check_kernel().map(|()| fulfilled(DriverKind::Ring)),
        DriverChoice::Auto => match host::check_kernel().and_then(|()| Ok(ring::probe()?)) {
            Ok(()) => Ok(fulfilled(DriverKind::Ring)),
            Err(refusal) if is_permanent(&refusal) => monoio_instead(refusal),
            Err(refusal) => Err(refusal),
        },
        DriverChoice::Monoio => monoio(),
        DriverChoice::MonoioEpoll => built_in("monoio", cfg!(feature = "monoio"), DriverKind::MonoioEpoll),
        DriverChoice::Glommio => built_in("glommio", cfg!(feature = "glommio"), DriverKind::Glommio),
    }?;
    if let Some(reason) = &running.fallback {
        tracing::warn!(driver = %running.kind, "falling back to a slower driver: {reason}");
    }
    Ok(running)
}

fn fulfilled(kind: DriverKind) -> RunningDriver {
    RunningDriver { kind, fallback: None }
}

fn built_in(driver: &'static str, is_built_in: bool, kind: DriverKind) -> Result<RunningDriver, StartError> {
    if is_built_in { Ok(fulfilled(kind)) } else { Err(DriverError::NotBuiltIn { driver }.into()) }
}

/// Whether the host does not permit io_uring by its making or by its administrator's will. Too little lockable memory is
/// neither: it is put right by a setting, and a node that were slower for want of one would hide that.
fn is_permanent(refusal: &StartError) -> bool {
    matches!(
        refusal,
        StartError::KernelTooOld { .. }
            | StartError::Driver(DriverError::KernelTooOld { .. } | DriverError::Forbidden { .. })
    )
}

#[cfg(feature = "monoio")]
fn monoio() -> Result<RunningDriver, StartError> {
    match monoio::probe() {
        Ok(()) => Ok(fulfilled(DriverKind::MonoioIoUring)),
        Err(refusal @ DriverError::Memlock { .. }) => Err(refusal.into()),
        Err(refusal) => {
            Ok(RunningDriver { kind: DriverKind::MonoioEpoll, fallback: Some(refusal.to_string()) })
        }
    }
}

#[cfg(feature = "monoio")]
fn monoio_instead(refusal: StartError) -> Result<RunningDriver, StartError> {
    let RunningDriver { kind, .. } = monoio()?;
    Ok(RunningDriver { kind, fallback: Some(refusal.to_string()) })
}

#[cfg(not(feature = "monoio"))]
fn monoio() -> Result<RunningDriver, StartError> {
    Err(DriverError::NotBuiltIn { driver: "monoio" }.into())
}

#[cfg(not(feature = "monoio"))]
fn monoio_instead(refusal: StartError) -> Result<RunningDriver, StartError> {
    Err(refusal)
}

/// Says where spinning was asked for in vain.
pub(super) fn check_spinning(kind: DriverKind, spin: Spin) {
    if spin != Spin::default() && kind != DriverKind::Ring {
        tracing::warn!(driver = %kind, ?spin, "only the driver ring spins before it sleeps; this one sleeps at once");
    }
}

/// Starts a thread for each shard on the driver of `kind`.
pub(super) fn launch(
    kind: DriverKind,
    shard_threads: impl Iterator<Item = ShardThread>,
    sizes: RingSizes,
) -> Result<Vec<StartedShard>, StartError> {
    match kind {
        DriverKind::Ring => shard_thread::launch::<RingDriver>(shard_threads, sizes),
        #[cfg(feature = "monoio")]
        DriverKind::MonoioIoUring => {
            let settings = MonoioSettings { backend: Backend::IoUring, sizes: sizes.into() };
            shard_thread::launch::<MonoioDriver>(shard_threads, settings)
        }
        #[cfg(feature = "monoio")]
        DriverKind::MonoioEpoll => {
            let settings = MonoioSettings { backend: Backend::Epoll, sizes: sizes.into() };
            shard_thread::launch::<MonoioDriver>(shard_threads, settings)
        }
        #[cfg(feature = "glommio")]
        DriverKind::Glommio => shard_thread::launch::<GlommioDriver>(shard_threads, sizes.into()),
        #[cfg(not(all(feature = "monoio", feature = "glommio")))]
        absent => unreachable!("{absent} was not built in, and `choose` has said so"),
    }
}
