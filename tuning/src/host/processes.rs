//! Processes: who may run where, and where florin's threads do.

use super::facts::field;
use super::{Cpus, Facts};

/// The parent of all kernel threads.
const KTHREADD: u64 = 2;

/// A process of user space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// Its number.
    pub id: usize,
    /// Its command.
    pub name: String,
    /// The CPUs that it may run on.
    pub cpus: Cpus,
}

/// A thread of florin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thread {
    /// Its name: `florin-shard-0` and so on are shards.
    pub name: String,
    /// The CPUs that it may run on.
    pub cpus: Cpus,
    /// The CPU that it ran on last.
    pub ran_on: Option<usize>,
}

impl Thread {
    /// Which shard it is, if it is one.
    pub fn shard(&self) -> Option<usize> {
        self.name.strip_prefix("florin-shard-")?.parse().ok()
    }
}

/// A node of florin that runs on this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Running {
    /// The process.
    pub process: usize,
    /// Its threads, shards by number first.
    pub threads: Vec<Thread>,
}

impl Running {
    /// The shards' threads, by number.
    pub fn shards(&self) -> impl Iterator<Item = (usize, &Thread)> {
        self.threads.iter().filter_map(|thread| Some((thread.shard()?, thread)))
    }
}

/// All that are no kernel threads: those follow isolation and the work queues' mask, which have checks of their own.
pub(super) fn processes(facts: &Facts) -> Vec<Process> {
    let process = |id: usize| {
        let status = facts.get(&format!("proc/{id}/status"))?;
        let parent: u64 = field(status, "PPid").and_then(|parent| parent.parse().ok()).unwrap_or(0);
        if parent == KTHREADD || field(status, "Name") == Some("kthreadd") {
            return None;
        }
        Some(Process { id, name: field(status, "Name")?.to_owned(), cpus: allowed(status)? })
    };
    facts.numbered("proc", "").into_iter().filter_map(process).collect()
}

/// Every process of florin that has a shard.
pub(super) fn running(facts: &Facts) -> Vec<Running> {
    let running = |process: usize| {
        let tasks = facts.numbered(&format!("proc/{process}/task"), "");
        let thread = |task: usize| {
            let status = facts.get(&format!("proc/{process}/task/{task}/status"))?;
            let stat = facts.get(&format!("proc/{process}/task/{task}/stat"));
            let name = field(status, "Name")?.to_owned();
            Some(Thread { name, cpus: allowed(status)?, ran_on: stat.and_then(processor) })
        };
        let mut threads: Vec<Thread> = tasks.into_iter().filter_map(thread).collect();
        threads.sort_by_key(|thread| thread.shard().unwrap_or(usize::MAX));
        threads.iter().any(|thread| thread.shard().is_some()).then_some(Running { process, threads })
    };
    facts.numbered("proc", "").into_iter().filter_map(running).collect()
}

fn allowed(status: &str) -> Option<Cpus> {
    field(status, "Cpus_allowed_list")?.parse().ok()
}

/// Field 39 of `stat`; the name in field 2 may hold anything, so fields are counted from its last parenthesis.
fn processor(stat: &str) -> Option<usize> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(39 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_found_behind_any_name() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("12 (a ) b) {}", fields.join(" "));
        assert_eq!(processor(&stat), Some(39));
    }

    #[test]
    fn shards_are_told_from_other_threads_and_from_other_processes() {
        let mut facts = Facts::default();
        let status =
            |name: &str, parent: usize| format!("Name:\t{name}\nPPid:\t{parent}\nCpus_allowed_list:\t0-1");
        facts.insert("proc/2/status", status("kthreadd", 0));
        facts.insert("proc/9/status", status("kworker/0:1", 2));
        facts.insert("proc/70/status", status("florin", 1));
        facts.insert("proc/71/status", status("sshd", 1));
        for (task, name) in [(70, "florin"), (72, "florin-shard-1"), (73, "florin-shard-0")] {
            facts.insert(format!("proc/70/task/{task}/status"), status(name, 1));
        }
        let names: Vec<String> = processes(&facts).into_iter().map(|process| process.name).collect();
        assert_eq!(names, ["florin", "sshd"]);
        let running = running(&facts);
        assert_eq!(running.len(), 1);
        let shards: Vec<usize> = running[0].shards().map(|(shard, _)| shard).collect();
        assert_eq!(shards, [0, 1]);
    }
}
