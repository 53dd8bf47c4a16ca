//! What a node asks of its host before it starts: a kernel that is new enough, CPUs, files.

use std::io;

use florin_input::kernel;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{NodeConfig, StartError, numa};
use crate::drivers::DriverKind;
use crate::limits;

/// The oldest kernel whose io_uring has all that the ring driver uses.
pub(super) const KERNEL_MIN: (u32, u32) = (6, 1);

/// Refuses a kernel older than [`KERNEL_MIN`].
pub(super) fn check_kernel() -> Result<(), StartError> {
    check_release(&rustix::system::uname().release().to_string_lossy())
}

fn check_release(release: &str) -> Result<(), StartError> {
    match kernel::version(release) {
        Some(version) if version < KERNEL_MIN => {
            Err(StartError::KernelTooOld { release: release.to_owned() })
        }
        // A release that says nothing is not held against it: the rings' set-up will tell.
        _ => Ok(()),
    }
}

/// A CPU for each shard: of those named, or of those that this process may use and that do not keep house; in either
/// case only of the nodes that are named, where any are. Each CPU gets one before any gets a second.
pub(super) fn choose_cpus(config: &NodeConfig) -> Result<Vec<usize>, StartError> {
    let allowed = allowed_cpus()?;
    let mut named = config.cpus.clone();
    if let (None, Some(kept)) = (&named, &config.housekeeping_cpus) {
        let rest: Vec<usize> = allowed.iter().copied().filter(|cpu| !kept.contains(cpu)).collect();
        named = (!rest.is_empty()).then_some(rest);
    }
    if let Some(nodes) = &config.numa {
        let of_nodes = numa::cpus_of(nodes)?;
        let mut cpus = named.unwrap_or_else(|| allowed.clone());
        cpus.retain(|cpu| of_nodes.contains(cpu));
        named = Some(cpus);
    }
    refuse_absent(&allowed, named.as_deref())?;
    // The standard library reads the quotas of this process's control groups (cpu.max, and cfs_quota_us of version 1), and
    // counts the CPUs that are allowed where these are fewer.
    let quota =
        std::thread::available_parallelism().ok().map(usize::from).filter(|cpus| *cpus < allowed.len());
    let cpus = named.as_ref().map_or(allowed.len(), Vec::len);
    let wanted = wanted_shards(config.shards, config.shards_per_cpu, cpus, quota);
    choose_among(&allowed, wanted, named.as_deref(), config.shards_per_cpu)
}

/// As many shards as were asked for; where that is for florin to decide, no more than the CPU time that this process may use
/// keeps busy. A quota is spent by all threads together, and once it is, all of them stand still.
fn wanted_shards(asked: Option<u16>, shards_per_cpu: u16, cpus: usize, quota: Option<usize>) -> Option<u16> {
    let Some(granted) = quota else { return asked };
    match asked {
        None if granted < cpus => {
            let shards = granted.max(1) * usize::from(shards_per_cpu);
            tracing::info!(
                cpus,
                granted,
                "a CPU quota (cpu.max) grants the time of fewer CPUs than there are: fewer shards"
            );
            Some(u16::try_from(shards).unwrap_or(limits::SHARDS_MAX).min(limits::SHARDS_MAX))
        }
        Some(shards) if granted < usize::from(shards) => {
            tracing::warn!(
                shards,
                granted,
                "a CPU quota (cpu.max) grants the time of fewer CPUs than there are shards: all of them stand still once it is spent, until its period ends"
            );
            asked
        }
        _ => asked,
    }
}

/// Those that this process may use.
pub(crate) fn allowed_cpus() -> Result<Vec<usize>, StartError> {
    Ok(core_affinity::get_core_ids().ok_or(StartError::Affinity)?.into_iter().map(|core| core.id).collect())
}

/// Keeps the calling thread, and every thread that it starts from now on, on `kept`, and makes sure of it.
pub(super) fn keep_house(kept: &[usize], shards: &[usize]) -> Result<(), StartError> {
    let allowed = allowed_cpus()?;
    if let Some(&cpu) = kept.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(StartError::CpuNotAllowed { flag: "--housekeeping-cpus", cpu, allowed });
    }
    if let Some(cpu) = kept.iter().find(|cpu| shards.contains(cpu)) {
        tracing::warn!(cpu, "a CPU keeps house and has a shard: the shard will be interrupted");
    }
    affine(kept).map_err(|source| StartError::Housekeeping { cpus: kept.to_vec(), source })
}

/// Moves the calling thread, and reads back that it has moved.
fn affine(cpus: &[usize]) -> io::Result<()> {
    let mut wanted = CpuSet::new();
    cpus.iter().for_each(|&cpu| wanted.set(cpu));
    sched_setaffinity(None, &wanted)?;
    if sched_getaffinity(None)? != wanted {
        return Err(io::Error::other("the kernel put the thread on other CPUs"));
    }
    Ok(())
}

/// CPUs that were named are there: asked before anything is said of how many are.
fn refuse_absent(allowed: &[usize], named: Option<&[usize]>) -> Result<(), StartError> {
    match named.into_iter().flatten().find(|cpu| !allowed.contains(cpu)) {
        None => Ok(()),
        Some(&cpu) => Err(StartError::CpuNotAllowed { flag: "--cpus", cpu, allowed: allowed.to_vec() }),
    }
}

fn choose_among(
    allowed: &[usize],
    shards: Option<u16>,
    named: Option<&[usize]>,
    shards_per_cpu: u16,
) -> Result<Vec<usize>, StartError> {
    let cpus = named.map_or_else(|| allowed.to_vec(), <[usize]>::to_vec);
    if (1..cpus.len()).any(|place| cpus[..place].contains(&cpus[place])) {
        return Err(StartError::CpuTwice { cpus });
    }
    let places = cpus.len() * usize::from(shards_per_cpu);
    let available = places.min(usize::from(limits::SHARDS_MAX));
    let wanted = shards.map_or(available, usize::from);
    if wanted == 0 {
        return Err(StartError::NoShards);
    }
    if wanted > available {
        return Err(StartError::NotEnoughCpus { shards: wanted, cpus: cpus.len() });
    }
    if wanted > cpus.len() {
        tracing::warn!(
            shards = wanted,
            cpus = cpus.len(),
            "shards take turns on their CPUs: good for trying out, not for speed"
        );
    }
    Ok(cpus.into_iter().cycle().take(wanted).collect())
}

/// Keeps the calling thread on `cpu`, and makes sure of it.
pub(super) fn pin(cpu: usize) -> Result<(), StartError> {
    affine(&[cpu]).map_err(|source| StartError::Pin { cpu, source })
}

/// Raises the number of open files to what the host allows, and says how many connections each of `shards` may have so
/// that the ledger, the logs and the admin port always find a descriptor. Where connections need none (the ring), only the
/// tables of connections may be no larger than the limit.
pub(super) fn connections_per_shard(shards: u16, files: FilesOfConnections) -> u32 {
    raise_open_files();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = match files {
        FilesOfConnections::None => limit,
        FilesOfConnections::One => {
            // Under a very low limit half of it has to do.
            let reserved = limits::OPEN_FILES_RESERVED.min(limit / 2);
            (limit - reserved) / u64::from(shards)
        }
    };
    let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
    if let Some(said) = shortage(most, limit) {
        if most < limits::CONNECTIONS_FEW {
            tracing::warn!("{said}");
        } else {
            tracing::info!("{said}");
        }
    }
    most
}

/// What is said where the limit of `files` keeps a shard from as many connections as it could have.
fn shortage(connections: u32, files: u64) -> Option<String> {
    let most = limits::CONNECTIONS_MAX;
    (connections < most).then(|| {
        format!(
            "each shard takes {connections} connections at once where it could take {most}, for this process may have {files} files \
             open; further callers wait. To let in more raise that limit (ulimit -Hn, LimitNOFILE= in the systemd unit)"
        )
    })
}

/// Whether a connection takes a descriptor of the process's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FilesOfConnections {
    /// It lies in its ring's own table.
    None,
    One,
}

impl FilesOfConnections {
    /// Of a shard that this drives.
    pub(super) fn of(driver: DriverKind) -> FilesOfConnections {
        match driver {
            DriverKind::Ring => FilesOfConnections::None,
            DriverKind::MonoioIoUring | DriverKind::MonoioEpoll | DriverKind::Glommio => {
                FilesOfConnections::One
            }
        }
    }
}

fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "cannot raise the number of open files; fewer connections will be accepted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With 20,000 files "few files may be open" was warned of, without saying how many connections there can be.
    #[test]
    fn what_the_limit_of_files_costs_is_told_in_numbers() {
        let said = shortage(20_000, 20_000).unwrap();
        assert!(said.contains("20000 connections") && said.contains("could take 32768"), "{said}");
        assert_eq!(shortage(limits::CONNECTIONS_MAX, u64::MAX), None);
    }

    #[test]
    fn a_kernel_before_6_1_is_refused_by_its_release() {
        for release in ["5.15.0-91-generic", "6.0.19", "4.18.0-553.el8_10.x86_64", "2.6"] {
            let refusal = check_release(release).unwrap_err();
            assert_eq!(refusal.exit_code(), 10);
            assert!(
                refusal.to_string().contains(release) && refusal.to_string().contains("6.1"),
                "{refusal}"
            );
        }
        for release in ["6.1", "6.1.0-rc1", "6.18.44-fc-v657", "7.0.1", "10.2.3", "unheard of"] {
            check_release(release).unwrap();
        }
    }

    #[test]
    fn shards_get_one_cpu_each_in_order() {
        let allowed = [0, 2, 4, 6];
        assert_eq!(choose_among(&allowed, None, None, 1).unwrap(), [0, 2, 4, 6]);
        assert_eq!(choose_among(&allowed, Some(2), None, 1).unwrap(), [0, 2]);
        assert_eq!(choose_among(&allowed, None, Some(&[6, 2]), 1).unwrap(), [6, 2]);
        assert_eq!(choose_among(&allowed, Some(1), Some(&[6, 2]), 1).unwrap(), [6]);
    }

    /// `--shards auto` once made a shard for each of a host's 64 CPUs where a container was granted the time of two.
    #[test]
    fn a_quota_bounds_how_many_shards_there_are_by_themselves() {
        assert_eq!(wanted_shards(None, 1, 64, Some(64)), None);
        // Two CPUs and four shards on them were warned of a quota that nobody had set.
        assert_eq!(wanted_shards(Some(4), 2, 2, None), Some(4));
        assert_eq!(wanted_shards(None, 1, 64, Some(2)), Some(2));
        assert_eq!(wanted_shards(None, 3, 64, Some(2)), Some(6));
        assert_eq!(wanted_shards(None, 200, 64, Some(2)), Some(limits::SHARDS_MAX));
        assert_eq!(wanted_shards(None, 1, 2, Some(4)), None, "--cpus names fewer than the quota grants");
        assert_eq!(wanted_shards(Some(8), 1, 64, Some(2)), Some(8), "who asks for more gets it");
    }

    #[test]
    fn shards_that_may_share_share_evenly() {
        let allowed = [0, 2];
        assert_eq!(choose_among(&allowed, Some(5), None, 4).unwrap(), [0, 2, 0, 2, 0]);
        assert_eq!(choose_among(&allowed, None, None, 2).unwrap(), [0, 2, 0, 2]);
        assert_eq!(choose_among(&allowed, Some(1), None, 8).unwrap(), [0]);
        assert_eq!(choose_among(&allowed, Some(5), None, 2).unwrap_err().exit_code(), 14);
    }

    #[test]
    fn cpus_that_are_not_there_are_refused_by_number() {
        let allowed = [0, 2];
        let refusal = choose_among(&allowed, Some(3), None, 1).unwrap_err();
        assert_eq!(refusal.exit_code(), 14);
        assert!(
            refusal.to_string().contains("3 shards") && refusal.to_string().contains("2 CPUs"),
            "{refusal}"
        );
        let refusal = refuse_absent(&allowed, Some(&[0, 1])).unwrap_err();
        assert_eq!(refusal.exit_code(), 14);
        assert!(refusal.to_string().contains("CPU 1") && refusal.to_string().contains("0, 2"), "{refusal}");
        let refusal = choose_among(&allowed, Some(2), Some(&[2]), 1).unwrap_err();
        assert_eq!(refusal.exit_code(), 14);
        assert_eq!(choose_among(&allowed, Some(0), None, 1).unwrap_err().exit_code(), 2);
        assert_eq!(choose_among(&allowed, None, Some(&[0, 0]), 1).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_pinned_thread_stays_where_it_was_put() {
        let cpu = allowed_cpus().unwrap()[0];
        std::thread::spawn(move || pin(cpu).unwrap()).join().unwrap();
        let refusal = std::thread::spawn(|| pin(1_000)).join().unwrap().unwrap_err();
        assert!(matches!(refusal, StartError::Pin { cpu: 1_000, .. }), "{refusal}");
    }
    #[test]
    fn who_keeps_house_stays_there_and_so_do_its_threads() {
        let cpu = *allowed_cpus().unwrap().last().unwrap();
        let found = std::thread::spawn(move || {
            keep_house(&[cpu], &[]).unwrap();
            std::thread::spawn(|| sched_getaffinity(None).unwrap()).join().unwrap()
        });
        let found = found.join().unwrap();
        assert_eq!((found.count(), found.is_set(cpu)), (1, true));
        let refusal = std::thread::spawn(|| keep_house(&[1_000], &[])).join().unwrap().unwrap_err();
        assert_eq!(refusal.exit_code(), 14);
        assert!(refusal.to_string().contains("--housekeeping-cpus"), "{refusal}");
    }
}
