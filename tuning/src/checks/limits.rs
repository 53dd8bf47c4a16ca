//! Checks of what the kernel and the control group allow.

use florin_input::kernel;

use super::{Finding, Scene, Status};
use crate::host::{Host, field};
use crate::limits::{MEMLOCK_BYTES_PER_SHARD, NOFILE_MIN};

/// The oldest kernel that the ring driver runs on.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Whether the kernel has what the ring driver uses.
pub(super) fn kernel(scene: &Scene<'_>) -> Finding {
    let release = &scene.host.kernel;
    Finding {
        status: match kernel::version(release) {
            None => Status::Unknown,
            Some(version) if version >= KERNEL_MIN => Status::Ok,
            Some(_) => Status::Fail,
        },
        found: if release.is_empty() { "this host does not say".to_owned() } else { release.clone() },
        wanted: "6.1 or newer".to_owned(),
        why: "below it io_uring lacks what the ring driver needs, and florin serves on epoll",
        how: "a newer kernel; Debian 12 has 6.1".to_owned(),
    }
}

/// Whether io_uring is permitted.
pub(super) fn io_uring(scene: &Scene<'_>) -> Finding {
    let host = scene.host;
    let disabled = host.facts.get("proc/sys/kernel/io_uring_disabled");
    let filter = host.facts.get("proc/self/status").and_then(|status| field(status, "Seccomp"));
    let (status, found) = match (disabled, filter) {
        (Some("2"), _) => (Status::Fail, "forbidden to all (kernel.io_uring_disabled = 2)"),
        (Some("1"), _) => {
            (Status::Warn, "allowed to kernel.io_uring_group only (kernel.io_uring_disabled = 1)")
        }
        (_, Some("2")) => (Status::Unknown, "a system call filter is in force here and may forbid it"),
        (Some(_), _) => (Status::Ok, "allowed"),
        (None, _) => (Status::Ok, "allowed: this kernel has no switch for it"),
    };
    Finding {
        status,
        found: found.to_owned(),
        wanted: "allowed".to_owned(),
        why: "without it florin serves on epoll, at a system call for each read and each write",
        how: "sysctl -w kernel.io_uring_disabled=0; in containers, a seccomp profile that allows io_uring_*"
            .to_owned(),
    }
}

/// Whether rings and buffers can be registered.
pub(super) fn memlock(scene: &Scene<'_>) -> Finding {
    let wanted = MEMLOCK_BYTES_PER_SHARD * scene.placement.shards.len().max(1) as u64;
    let (status, found) = limit(scene.host, "Max locked memory", wanted);
    Finding {
        status,
        found,
        wanted: format!("{wanted} bytes or unlimited"),
        why: "io_uring locks its buffers; without enough, a shard does not start (exit code 12)",
        how: "LimitMEMLOCK=infinity in the unit, or ulimit -l".to_owned(),
    }
}

/// Whether there are enough descriptors for connections.
pub(super) fn nofile(scene: &Scene<'_>) -> Finding {
    let (status, found) = limit(scene.host, "Max open files", NOFILE_MIN);
    Finding {
        status,
        found,
        wanted: format!("{NOFILE_MIN} or more"),
        why: "each connection is one; beyond the limit callers are not accepted",
        how: "LimitNOFILE=1048576 in the unit, or ulimit -n".to_owned(),
    }
}

/// Whether the control group leaves CPUs out, or throttles.
pub(super) fn cpuset(scene: &Scene<'_>) -> Finding {
    let host = scene.host;
    // Of the groups around it as well, and as version 1 of control groups has it.
    let quota = ["cpu.max", "cpu.cfs_quota_us"].into_iter().find_map(|file| {
        let quotas = host.group_files(file).into_iter().filter_map(|text| text.split_whitespace().next());
        let least = quotas.filter_map(|quota| quota.parse::<u64>().ok()).min()?;
        Some(format!("a quota of {least} µs ({file})"))
    });
    let outside = host.online.without(&host.allowed);
    Finding {
        status: match (quota.is_none(), outside.is_empty()) {
            (false, _) => Status::Fail,
            (true, false) => Status::Warn,
            (true, true) => Status::Ok,
        },
        found: format!(
            "CPUs {} of {}, {}",
            host.allowed.or_none(),
            host.online.or_none(),
            quota.as_deref().unwrap_or("no quota")
        ),
        wanted: "all CPUs, no quota".to_owned(),
        why: "a quota stops every shard at once until the period ends, tens of milliseconds; CPUs outside serve nobody",
        how: "CPUQuota= and AllowedCPUs= of the unit and its slices; in Kubernetes, whole CPUs with the static policy".to_owned(),
    }
}

/// Whether a limit is `wanted` or more, and what it is: florin's where it runs, else this process's, which may be another one
/// than the unit's.
fn limit(host: &Host, name: &str, wanted: u64) -> (Status, String) {
    let running = host.florin.first().map(|running| running.process);
    let of_florin = running.and_then(|process| host.facts.get(&format!("proc/{process}/limits")));
    let (text, of) = match (of_florin, running) {
        (Some(text), Some(process)) => (Some(text), format!("florin, process {process}")),
        _ => (host.facts.get("proc/self/limits"), "this shell's; the unit sets its own".to_owned()),
    };
    // A line is: name, soft limit, hard limit, unit.
    let line = text.and_then(|text| text.lines().find_map(|line| line.strip_prefix(name)));
    let hard = line.and_then(|line| line.split_whitespace().nth(1));
    match hard.map(str::parse::<u64>) {
        None => (Status::Unknown, "this host does not say".to_owned()),
        Some(Err(_)) => (Status::Ok, format!("unlimited ({of})")),
        Some(Ok(hard)) if hard < wanted => (Status::Warn, format!("{hard} ({of})")),
        Some(Ok(hard)) => (Status::Ok, format!("{hard} ({of})")),
    }
}
