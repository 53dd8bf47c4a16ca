//! What is known of a host: the text of files below `/sys`, `/proc` and `/etc`, and what `ethtool` says of its NICs.
//!
//! Facts are gathered once, from the running host or from a recorded tree, and everything else in this crate reads
//! them: so a host with 128 cores is tested from a folder, by the same code that looks at a live one. Only what every
//! user may read is gathered, and only what [`PATTERNS`] names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::limits::{FACT_BYTES_MAX, FACTS_BYTES_MAX};

/// Every file that this crate may read, below the root.
const PATTERNS: &[&str] = &[
    "etc/default/irqbalance",
    "etc/systemd/system/irqbalance.service.d/*.conf",
    "proc/cmdline",
    "proc/interrupts",
    "proc/irq/[0-9]*/effective_affinity_list",
    "proc/irq/[0-9]*/smp_affinity_list",
    "proc/irq/default_smp_affinity",
    "proc/self/cgroup",
    "proc/self/limits",
    "proc/self/status",
    "proc/sys/kernel/io_uring_disabled",
    "proc/sys/kernel/nmi_watchdog",
    "proc/sys/kernel/numa_balancing",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/random/boot_id",
    "proc/sys/kernel/timer_migration",
    "proc/sys/net/core/busy_poll",
    "proc/sys/net/core/busy_read",
    "proc/sys/net/core/netdev_max_backlog",
    "proc/sys/net/core/rps_sock_flow_entries",
    "proc/sys/net/core/somaxconn",
    "proc/sys/net/ipv4/tcp_max_syn_backlog",
    "proc/sys/net/ipv4/tcp_slow_start_after_idle",
    "proc/sys/net/ipv4/tcp_syncookies",
    "proc/sys/vm/swappiness",
    "proc/[0-9]*/status",
    "sys/bus/virtio/devices/virtio*/net/*/ifindex",
    "sys/class/net/*/device/../msi_irqs/[0-9]*",
    "sys/class/net/*/device/msi_irqs/[0-9]*",
    "sys/class/net/*/device/numa_node",
    "sys/class/net/*/device/uevent",
    "sys/class/net/*/gro_flush_timeout",
    "sys/class/net/*/napi_defer_hard_irqs",
    "sys/class/net/*/operstate",
    "sys/class/net/*/queues/rx-*/rps_cpus",
    "sys/class/net/*/queues/rx-*/rps_flow_cnt",
    "sys/class/net/*/queues/tx-*/tx_timeout",
    "sys/class/net/*/queues/tx-*/xps_cpus",
    "sys/class/net/*/speed",
    "sys/devices/cpu_atom/cpus",
    "sys/devices/system/clocksource/clocksource0/available_clocksource",
    "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "sys/devices/system/cpu/cpu[0-9]*/cache/index[0-9]/level",
    "sys/devices/system/cpu/cpu[0-9]*/cache/index[0-9]/shared_cpu_list",
    "sys/devices/system/cpu/cpu[0-9]*/cache/index[0-9]/size",
    "sys/devices/system/cpu/cpu[0-9]*/cpu_capacity",
    "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_available_governors",
    "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor",
    "sys/devices/system/cpu/cpu[0-9]*/cpuidle/state[0-9]*/disable",
    "sys/devices/system/cpu/cpu[0-9]*/cpuidle/state[0-9]*/latency",
    "sys/devices/system/cpu/cpu[0-9]*/cpuidle/state[0-9]*/name",
    "sys/devices/system/cpu/cpu[0-9]*/topology/core_id",
    "sys/devices/system/cpu/cpu[0-9]*/topology/physical_package_id",
    "sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list",
    "sys/devices/system/cpu/isolated",
    "sys/devices/system/cpu/nohz_full",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/vulnerabilities/*",
    "sys/devices/system/node/node[0-9]*/cpulist",
    "sys/devices/system/node/node[0-9]*/distance",
    "sys/devices/virtual/workqueue/cpumask",
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/cpuset.cpus.effective",
    "sys/fs/cgroup/cpuset/cpuset.effective_cpus",
    "sys/kernel/mm/transparent_hugepage/enabled",
];

/// What a journal is compared with: which run of the host this is, and its interrupts.
const SETTINGS_PATTERNS: &[&str] =
    &["proc/interrupts", "proc/irq/[0-9]*/smp_affinity_list", "proc/sys/kernel/random/boot_id"];
/// Of a process that is florin: where its threads run, and with which limits.
const FLORIN_PATTERNS: &[&str] = &["cgroup", "limits", "task/[0-9]*/stat", "task/[0-9]*/status"];
/// Of a control group, in whichever mount it lies.
const GROUP_FILES: &[&str] = &["cpu.max", "cpu.cfs_quota_us"];
/// What of a process's status is kept: no more than is looked at.
const STATUS_FIELDS: &[&str] = &["Name", "PPid", "Cpus_allowed_list", "Seccomp"];
/// What `ethtool` is asked about a NIC, and under which name the answer is kept below `ethtool/NIC/`.
const ETHTOOL: &[(&str, &str)] = &[("channels", "-l"), ("coalesce", "-c"), ("rings", "-g")];

/// Why a host cannot be looked at, or a record not be written.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// No tree there.
    #[error("{} holds no recorded host: expected sys/ and proc/ in it, as `florin tune record` writes them", .0.display())]
    NotATree(PathBuf),
    /// The record would overwrite something.
    #[error("{} is not empty: give a new folder for the record", .0.display())]
    NotEmpty(PathBuf),
    /// More than is reasonable.
    #[error("the host's facts exceed {} MiB, at {path}: this is not a tree of sysfs and procfs", FACTS_BYTES_MAX >> 20)]
    TooMuch {
        /// Where it became too much.
        path: String,
    },
    /// The file system.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The facts, by path below the root, such as `sys/devices/system/cpu/online`. Ends of lines at the end are cut off.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts(BTreeMap<String, String>);

impl Facts {
    /// Looks at the host, or at the recorded tree, below `root`.
    pub fn gather(root: &Path) -> Result<Facts, FactsError> {
        let mut gathering = Gathering::of(root, PATTERNS)?;
        gathering.take_groups("proc/self/cgroup")?;
        gathering.take_florin()?;
        if root == Path::new("/") {
            gathering.ask_ethtool();
        } else {
            gathering.take("ethtool/*/*")?;
        }
        Ok(gathering.facts)
    }

    /// Looks at no more than what a journal is compared with.
    pub fn gather_for_journal(root: &Path) -> Result<Facts, FactsError> {
        Ok(Gathering::of(root, SETTINGS_PATTERNS)?.facts)
    }

    /// The trimmed text of the file at `path` below the root, where there is one.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// The file's number.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.get(path)?.parse().ok()
    }

    /// The names directly below the folder `path`, each once.
    pub fn names(&self, path: &str) -> Vec<&str> {
        let prefix = format!("{path}/");
        let below = self.0.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let mut names: Vec<&str> =
            below.map(|(path, _)| path[prefix.len()..].split('/').next().unwrap_or_default()).collect();
        names.dedup();
        names
    }

    /// The numbers behind `prefix` among the names below `path`, ascending: of `cpu0 cpu1 cpuidle`, 0 and 1.
    pub fn numbered(&self, path: &str, prefix: &str) -> Vec<usize> {
        let number = |name: &str| name.strip_prefix(prefix)?.parse().ok();
        let mut numbers: Vec<usize> = self.names(path).into_iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Puts a fact in, as a recorded tree would have it.
    pub fn insert(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.0.insert(path.into(), text.into());
    }

    /// Takes a fact away.
    pub fn remove(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// Writes the facts as a tree into `folder`, which is made, or is empty.
    pub fn write(&self, folder: &Path) -> Result<(), FactsError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| FactsError::Write { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        if fs::read_dir(folder).map_err(failed(folder))?.next().is_some() {
            return Err(FactsError::NotEmpty(folder.to_owned()));
        }
        for (path, text) in &self.0 {
            let path = folder.join(path);
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent).map_err(failed(parent))?;
            fs::write(&path, format!("{text}\n")).map_err(failed(&path))?;
        }
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Facts in the making.
struct Gathering<'a> {
    root: &'a Path,
    facts: Facts,
    bytes: usize,
}

impl<'a> Gathering<'a> {
    fn of(root: &'a Path, patterns: &[&str]) -> Result<Gathering<'a>, FactsError> {
        if !root.join("sys").is_dir() || !root.join("proc").is_dir() {
            return Err(FactsError::NotATree(root.to_owned()));
        }
        let mut gathering = Gathering { root, facts: Facts::default(), bytes: 0 };
        patterns.iter().try_for_each(|pattern| gathering.take(pattern))?;
        Ok(gathering)
    }

    fn take(&mut self, pattern: &str) -> Result<(), FactsError> {
        let root = glob::Pattern::escape(&self.root.to_string_lossy());
        let pattern = format!("{}/{pattern}", root.trim_end_matches('/'));
        let paths = glob::glob(&pattern).expect("the patterns are constants, and the root is escaped");
        for path in paths.flatten() {
            // What has gone since it was listed, or may not be read by everybody, is not known.
            let (Ok(below), Some(text)) = (path.strip_prefix(self.root), read_public(&path)) else {
                continue;
            };
            let below = below.to_string_lossy().into_owned();
            let text = if below.starts_with("proc/") && below.ends_with("/status") {
                fields_of(&text)
            } else {
                text.trim_end().to_owned()
            };
            self.bytes += below.len() + text.len();
            if self.bytes > FACTS_BYTES_MAX {
                return Err(FactsError::TooMuch { path: below });
            }
            self.facts.0.insert(below, text);
        }
        Ok(())
    }

    /// Of a process's control groups, in version 2 (one mount) and version 1 (a mount for each controller).
    fn take_groups(&mut self, of: &str) -> Result<(), FactsError> {
        let groups = self.facts.get(of).unwrap_or_default().to_owned();
        for folder in groups.lines().flat_map(group_folders) {
            for file in GROUP_FILES {
                self.take(&glob::Pattern::escape(&format!("{folder}/{file}")))?;
            }
        }
        Ok(())
    }

    fn take_florin(&mut self) -> Result<(), FactsError> {
        let processes = self.facts.numbered("proc", "");
        for process in processes {
            let name = self.facts.get(&format!("proc/{process}/status")).and_then(|text| field(text, "Name"));
            if name == Some("florin") {
                for pattern in FLORIN_PATTERNS {
                    self.take(&format!("proc/{process}/{pattern}"))?;
                }
                self.take_groups(&format!("proc/{process}/cgroup"))?;
            }
        }
        Ok(())
    }

    /// Rings, channels and coalescing lie in no file. Where `ethtool` is missing they are not known, and checks say so.
    fn ask_ethtool(&mut self) {
        let nics: Vec<String> = self.facts.names("sys/class/net").into_iter().map(str::to_owned).collect();
        for nic in nics.iter().filter(|nic| *nic != "lo") {
            for (name, flag) in ETHTOOL {
                let answer = Command::new("ethtool").arg(flag).arg(nic).output();
                if let Some(answer) = answer.ok().filter(|answer| answer.status.success()) {
                    let text = String::from_utf8_lossy(&answer.stdout).trim_end().to_owned();
                    self.facts.0.insert(format!("ethtool/{nic}/{name}"), text);
                }
            }
        }
    }
}

/// Where below the root the control group of a line of `/proc/self/cgroup` lies, and behind it all groups that it is in: each of
/// them has its own quota.
pub(super) fn group_folders(line: &str) -> Vec<String> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let mount = match controllers {
        "" => "sys/fs/cgroup".to_owned(),
        "cpuset" | "cpu" | "cpu,cpuacct" => format!("sys/fs/cgroup/{controllers}"),
        _ => return Vec::new(),
    };
    let inner = Path::new(path.trim_matches('/')).ancestors();
    let below = inner.filter(|group| !group.as_os_str().is_empty());
    below.map(|group| format!("{mount}/{}", group.display())).chain([mount.clone()]).collect()
}

/// A field of a file whose lines are `Name:\tvalue`.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

fn fields_of(status: &str) -> String {
    let kept = |line: &&str| line.split_once(':').is_some_and(|(name, _)| STATUS_FIELDS.contains(&name));
    status.lines().filter(kept).collect::<Vec<_>>().join("\n")
}

fn read_public(path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok()?;
    if !file.is_file() || file.mode() & 0o004 == 0 {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FACT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_record_reads_back_as_it_was_and_holds_nothing_private() {
        let host = tempfile::tempdir().unwrap();
        let mut facts = Facts::default();
        facts.insert("sys/devices/system/cpu/online", "0-1");
        facts.insert("proc/cmdline", "quiet");
        facts.insert("proc/7/status", "Name:\tsh\nUid:\t0\nCpus_allowed_list:\t0-1");
        facts.insert("proc/sys/kernel/nmi_watchdog", "1");
        facts.insert("sys/devices/system/cpu/unheard_of", "1");
        facts.write(&host.path().join("tree")).unwrap();
        let secret = host.path().join("tree/proc/sys/kernel/nmi_watchdog");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let gathered = Facts::gather(&host.path().join("tree")).unwrap();
        assert_eq!(gathered.get("proc/7/status"), Some("Name:\tsh\nCpus_allowed_list:\t0-1"));
        assert_eq!(gathered.get("proc/sys/kernel/nmi_watchdog"), None);
        assert_eq!(gathered.get("sys/devices/system/cpu/unheard_of"), None);
        let copy = host.path().join("copy");
        gathered.write(&copy).unwrap();
        assert_eq!(Facts::gather(&copy).unwrap(), gathered);
        assert!(matches!(gathered.write(&copy), Err(FactsError::NotEmpty(_))));
    }

    #[test]
    fn a_folder_without_a_host_is_refused() {
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(Facts::gather(empty.path()), Err(FactsError::NotATree(_))));
    }

    #[test]
    fn names_and_numbers_are_those_of_one_level() {
        let mut facts = Facts::default();
        for path in ["a/cpu0/x", "a/cpu0/y", "a/cpu10/x", "a/cpu2/x", "a/cpuidle/x", "ab/cpu7/x"] {
            facts.insert(path, "");
        }
        assert_eq!(facts.names("a"), ["cpu0", "cpu10", "cpu2", "cpuidle"]);
        assert_eq!(facts.numbered("a", "cpu"), [0, 2, 10]);
    }

    #[test]
    fn control_groups_of_both_versions_are_found() {
        assert_eq!(group_folders("0::/"), ["sys/fs/cgroup"]);
        // A quota of a slice around the unit was not seen.
        assert_eq!(group_folders("0::/a/b"), ["sys/fs/cgroup/a/b", "sys/fs/cgroup/a", "sys/fs/cgroup"]);
        assert_eq!(group_folders("3:cpuset:/x"), ["sys/fs/cgroup/cpuset/x", "sys/fs/cgroup/cpuset"]);
        assert_eq!(group_folders("9:name=systemd:/"), [""; 0]);
    }
}
