//! What a server costs, seen from outside: its CPU time, memory and context switches, from /proc.

use std::{collections::BTreeMap, ffi::OsString, fs, io, time::Instant};

use rustix::{param, process::Pid};
use serde::{Deserialize, Serialize};

/// One look at a process.
#[derive(Clone, Debug)]
pub struct Sample {
    at: Instant,
    /// Each thread's time on a CPU, ns: a sum of all would fall where one ends.
    cpu_ns: BTreeMap<OsString, u64>,
    /// Time in user mode, in ticks of the clock; coarse, so only its share of user and system counts.
    user_ticks: u64,
    system_ticks: u64,
    rss_bytes: u64,
    voluntary: u64,
    involuntary: u64,
}

impl Sample {
    /// Looks at process `pid` now.
    pub fn take(pid: Pid) -> io::Result<Sample> {
        let stat = Stat::parse(&fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?)?;
        let mut sample = Sample {
            at: Instant::now(),
            cpu_ns: BTreeMap::new(),
            user_ticks: stat.user_ticks,
            system_ticks: stat.system_ticks,
            rss_bytes: stat.rss_pages * param::page_size() as u64,
            voluntary: 0,
            involuntary: 0,
        };
        for task in fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))? {
            let (name, task) = task.map(|task| (task.file_name(), task.path()))?;
            // A thread may have ended since it was listed.
            let (Ok(schedule), Ok(status)) =
                (fs::read_to_string(task.join("schedstat")), fs::read_to_string(task.join("status")))
            else {
                continue;
            };
            let ns = schedule.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default();
            sample.cpu_ns.insert(name, ns);
            sample.voluntary += field(&status, "voluntary_ctxt_switches:");
            sample.involuntary += field(&status, "nonvoluntary_ctxt_switches:");
        }
        if sample.cpu_ns.values().all(|&ns| ns == 0) {
            // A kernel without schedstat: ticks must do.
            let ticks = sample.user_ticks + sample.system_ticks;
            let all = ticks * 1_000_000_000 / param::clock_ticks_per_second();
            sample.cpu_ns = BTreeMap::from([(OsString::from("all"), all)]);
        }
        Ok(sample)
    }

    /// What has been used since `before`, with `requests` answered meanwhile.
    pub fn since(&self, before: &Sample, requests: u64) -> ServerUse {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(1e-9);
        let used = |(thread, ns): (&OsString, &u64)| {
            ns.saturating_sub(before.cpu_ns.get(thread).copied().unwrap_or_default())
        };
        let cpu_seconds = self.cpu_ns.iter().map(used).sum::<u64>() as f64 / 1e9;
        let user = self.user_ticks.saturating_sub(before.user_ticks) as f64;
        let system = self.system_ticks.saturating_sub(before.system_ticks) as f64;
        let user_share = if user + system > 0.0 { user / (user + system) } else { 0.5 };
        ServerUse {
            cpu_share: cpu_seconds / seconds,
            user_share,
            cpu_us_per_request: cpu_seconds * 1e6 / requests.max(1) as f64,
            rss_bytes: self.rss_bytes.max(before.rss_bytes),
            huge_bytes: 0,
            voluntary_switches: self.voluntary.saturating_sub(before.voluntary),
            involuntary_switches: self.involuntary.saturating_sub(before.involuntary),
        }
    }
}

/// How much of a process's memory lies in huge pages now; none of one that has ended. The kernel walks all of its memory for it, which
/// is for when nothing is measured.
pub fn huge_bytes(pid: Pid) -> u64 {
    let rollup =
        fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero())).unwrap_or_default();
    field(&rollup, "AnonHugePages:") * 1_024
}

/// What a server used in a measured window.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServerUse {
    /// CPUs kept busy: 1 is one whole CPU.
    pub cpu_share: f64,
    /// Of that, in user mode: 0 to 1. From coarse ticks.
    pub user_share: f64,
    /// CPU time, user and system, for each request served.
    pub cpu_us_per_request: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Of that, in huge pages, as the window ended.
    #[serde(default)]
    pub huge_bytes: u64,
    /// Times that a thread went to sleep.
    pub voluntary_switches: u64,
    /// Times that a thread was put aside.
    pub involuntary_switches: u64,
}

/// How long some CPUs have worked, for whomever.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    at: Instant,
    /// In user mode, in the kernel, or kept from us by the host that we are a guest of. Not in interrupts: those are ours.
    busy_ns: u64,
}

impl Host {
    /// Looks at these CPUs; at all of them where the list is empty.
    pub fn take(cpus: &[usize]) -> io::Result<Host> {
        let text = fs::read_to_string("/proc/stat")?;
        let ticks = if cpus.is_empty() {
            busy_ticks(&text, "cpu")
        } else {
            cpus.iter().map(|cpu| busy_ticks(&text, &format!("cpu{cpu}"))).sum()
        };
        Ok(Host { at: Instant::now(), busy_ns: ticks * 1_000_000_000 / param::clock_ticks_per_second() })
    }

    /// CPUs that have been kept busy since `before`.
    pub fn since(&self, before: &Host) -> f64 {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(1e-9);
        self.busy_ns.saturating_sub(before.busy_ns) as f64 / 1e9 / seconds
    }
}

/// The ticks of a CPU's line (proc_stat(5)): user, nice, system and steal.
fn busy_ticks(stat: &str, name: &str) -> u64 {
    const BUSY: [usize; 4] = [1, 2, 3, 8];
    let line = stat.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let fields = line.into_iter().find(|fields| fields.first() == Some(&name)).unwrap_or_default();
    BUSY.iter().filter_map(|&index| fields.get(index)?.parse::<u64>().ok()).sum()
}

/// How much every process of this host has worked so far.
#[derive(Clone, Debug)]
pub struct Everyone {
    at: Instant,
    by_pid: BTreeMap<i32, Work>,
}

/// What a process has done so far. An id is given again; with the time of its start it is one process. Its name is not: the kernel's
/// own threads change theirs with what they do.
#[derive(Clone, Debug)]
struct Work {
    name: String,
    started: u64,
    ticks: u64,
}

/// A process that is neither the server nor the generator.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stranger {
    /// As the kernel has its name.
    pub name: String,
    /// Its id.
    pub pid: i32,
    /// CPUs that it kept busy: 1 is one whole CPU.
    pub cpu_share: f64,
}

impl Everyone {
    /// Looks at all processes that may be seen from here.
    pub fn take() -> io::Result<Everyone> {
        let at = Instant::now();
        let mut by_pid = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // It may have ended since it was listed.
            let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
            let name = text.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
            if let (Some((name, _)), Ok(stat)) = (name, Stat::parse(&text)) {
                let ticks = stat.user_ticks + stat.system_ticks;
                by_pid.insert(pid, Work { name: name.to_owned(), started: stat.started, ticks });
            }
        }
        Ok(Everyone { at, by_pid })
    }

    /// The busiest since `before`, but for `ours`, who took at least `share_min` of a CPU; at most `count`, the busiest first.
    pub fn busiest_since(
        &self,
        before: &Everyone,
        ours: &[Pid],
        share_min: f64,
        count: usize,
    ) -> Vec<Stranger> {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(1e-9);
        let is_ours = |pid: i32| ours.iter().any(|own| own.as_raw_nonzero().get() == pid);
        let strangers = self.by_pid.iter().filter(|(pid, _)| !is_ours(**pid)).map(|(&pid, work)| {
            let then = before.by_pid.get(&pid).filter(|then| then.started == work.started);
            let ticks = work.ticks.saturating_sub(then.map_or(0, |then| then.ticks));
            let ns = ticks * 1_000_000_000 / param::clock_ticks_per_second();
            Stranger { name: work.name.clone(), pid, cpu_share: ns as f64 / 1e9 / seconds }
        });
        let mut busy: Vec<Stranger> = strangers.filter(|stranger| stranger.cpu_share >= share_min).collect();
        busy.sort_by(|a, b| b.cpu_share.total_cmp(&a.cpu_share));
        busy.truncate(count);
        busy
    }
}

struct Stat {
    user_ticks: u64,
    system_ticks: u64,
    /// When it began, in ticks since the host did.
    started: u64,
    rss_pages: u64,
}

impl Stat {
    /// Reads /proc/PID/stat (proc_pid_stat(5)); the name in parentheses may hold anything, so count from its end.
    fn parse(text: &str) -> io::Result<Stat> {
        let fields: Vec<&str> =
            text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        // The first field behind the name is number 3.
        let number = |index: usize| fields.get(index - 3).and_then(|field| field.parse().ok());
        match (number(14), number(15), number(22), number(24)) {
            (Some(user_ticks), Some(system_ticks), Some(started), Some(rss_pages)) => {
                Ok(Stat { user_ticks, system_ticks, started, rss_pages })
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "/proc/PID/stat has fewer fields than expected",
            )),
        }
    }
}

fn field(status: &str, name: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn a_stat_line_is_read_from_behind_the_name() {
        let line =
            "7 (a) b (c)) R 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 5 1000 33 18446744073709551615";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.started, stat.rss_pages), (250, 50, 5, 33));
        assert!(Stat::parse("7 (x) R 1").is_err());
    }

    #[test]
    fn a_cpu_is_busy_with_work_and_with_what_is_stolen_from_it() {
        let stat = "cpu  10 1 5 900 7 8 9 2 0 0\ncpu0 4 1 2 400 7 8 9 1 0 0\ncpu1 6 0 3 500 0 0 0 1 0 0\n";
        assert_eq!(["cpu", "cpu0", "cpu1", "cpu2"].map(|name| busy_ticks(stat, name)), [18, 8, 10, 0]);
        assert!(Host::take(&[]).unwrap().busy_ns > 0);
    }

    #[test]
    fn the_busiest_stranger_is_named_and_who_is_ours_is_not() {
        let before = Everyone::take().unwrap();
        let own = rustix::process::getpid();
        let mut after = before.clone();
        after.at += std::time::Duration::from_secs(2);
        let second = param::clock_ticks_per_second();
        for (pid, ticks) in [(own.as_raw_nonzero().get(), 2 * second), (i32::MAX, second), (i32::MAX - 1, 1)]
        {
            let stray = || Work { name: "stray) (florin".to_owned(), started: 1, ticks: 0 };
            after.by_pid.entry(pid).or_insert_with(stray).ticks += ticks;
        }
        let found = after.busiest_since(&before, &[own], 0.12, 3);
        assert_eq!((found.len(), found[0].pid, found[0].cpu_share), (1, i32::MAX, 0.5), "{found:?}");

        // Once a worker of the kernel that had been given another task counted as new, with all that it had ever done.
        let (before, mut after) = (after.clone(), after);
        after.at += std::time::Duration::from_secs(2);
        after.by_pid.get_mut(&i32::MAX).expect("the stray one").name = "kworker/1:2-events".to_owned();
        assert_eq!(after.busiest_since(&before, &[own], 0.12, 3), []);
    }

    fn work() {
        let (started, mut n) = (Instant::now(), 0u64);
        while started.elapsed().as_millis() < 30 {
            n = black_box(n.wrapping_mul(31) + 1);
        }
    }

    /// A thread that ended took what it had worked before out of the sum, and with it what all others had worked meanwhile.
    #[test]
    fn work_shows_as_cpu_time_of_its_process_though_a_thread_ends() {
        let own = rustix::process::getpid();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            work();
            work();
            begun.send(()).unwrap();
            ended.recv().unwrap_err();
        });
        has_begun.recv().unwrap();
        let before = Sample::take(own).unwrap();
        drop(end);
        other.join().unwrap();
        work();
        let used = Sample::take(own).unwrap().since(&before, 1_000);
        assert!(used.cpu_us_per_request > 1.0 && used.cpu_share > 0.01, "{used:?}");
        assert!(used.rss_bytes > 1 << 20, "{used:?}");
    }
}
