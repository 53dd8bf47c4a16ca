//! From the kernel's refusal of io_uring to a sentence that says what to do about it.

use std::{fs, io};

use rustix::process::{Resource, getrlimit};

use super::DriverError;

/// Whether this host makes rings at all.
#[cfg(any(feature = "monoio", feature = "glommio"))]
pub(super) fn probe() -> Result<(), DriverError> {
    const ENTRIES: u32 = 2;
    let ring = io_uring::IoUring::new(ENTRIES);
    ring.map(drop).map_err(|source| explain("io_uring_setup", source, locked_bytes(ENTRIES)))
}

/// Bytes that the kernel locks for a ring whose completions are twice its submissions: 64 for a submission and 4 for its
/// place, 16 for a completion, and a page for the heads.
#[cfg(any(feature = "monoio", feature = "glommio"))]
pub(super) fn locked_bytes(entries: u32) -> u64 {
    u64::from(entries) * (64 + 4 + 2 * 16) + 4_096
}

/// The sentence for the kernel's answer to `operation`, for rings that lock `needed_bytes` for each shard.
pub(super) fn explain(operation: &'static str, source: io::Error, needed_bytes: u64) -> DriverError {
    match source.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => {
            let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
            DriverError::Forbidden { sysctl: sysctl.and_then(|text| text.trim().parse().ok()), source }
        }
        Some(libc::ENOMEM) => DriverError::Memlock {
            needed_bytes,
            limit_bytes: getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX),
        },
        Some(libc::EINVAL) => DriverError::KernelTooOld { operation, source },
        _ => DriverError::Operation { operation, source },
    }
}
