//! What a refused io_uring means to whoever has to do something about it.

use std::{fs, io};

use rustix::process::{Resource, getrlimit};

use super::DriverError;

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
