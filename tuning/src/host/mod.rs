//! A host as florin sees it: cores, nodes, NICs, interrupts, and florin itself where it runs. Made of [`Facts`] alone.

mod container;
mod cpus;
mod facts;
mod nics;
mod processes;

use std::path::Path;

pub use container::container;
pub use cpus::{Cpus, CpusError};
pub(crate) use facts::field;
pub use facts::{Facts, FactsError};
pub use nics::{Direction, Irq, Nic, QueueIrq};
pub use processes::{Process, Running, Thread};

/// What a core is made for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CoreKind {
    /// All cores of most hosts.
    Performance,
    /// The small cores of a hybrid.
    Efficiency,
}

/// A physical core: its hardware threads that this process may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Core {
    /// Ascending, at least one.
    pub cpus: Cpus,
    /// Its NUMA node.
    pub node: usize,
    /// Its package.
    pub package: usize,
    /// The CPUs with which it shares its last cache, and that cache's size in the kernel's words.
    pub cache: Option<(Cpus, String)>,
    /// Large or small.
    pub kind: CoreKind,
}

impl Core {
    /// The lowest of its CPUs.
    pub fn first(&self) -> usize {
        self.cpus.first().expect("a core has a CPU")
    }
}

/// A NUMA node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Its number.
    pub index: usize,
    /// Its CPUs that are online.
    pub cpus: Cpus,
    /// How far each node is, by number of node; 10 is itself.
    pub distances: Vec<(usize, u32)>,
}

/// Everything that placement and checks look at.
#[derive(Clone, Debug)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// CPUs that are online.
    pub online: Cpus,
    /// CPUs that florin could be given: all that are online, within what the control group around this whole system
    /// leaves (a container's limit). Which of them this process itself may use does not matter: it is not florin.
    pub allowed: Cpus,
    /// CPUs of `isolcpus=` and of isolated partitions.
    pub isolated: Cpus,
    /// CPUs of `nohz_full=`.
    pub nohz_full: Cpus,
    /// Cores with CPUs that are allowed, by their lowest CPU.
    pub cores: Vec<Core>,
    /// By number.
    pub nodes: Vec<Node>,
    /// Without the loopback.
    pub nics: Vec<Nic>,
    /// By number.
    pub irqs: Vec<Irq>,
    /// Processes that are no kernel threads.
    pub processes: Vec<Process>,
    /// Nodes of florin that run.
    pub florin: Vec<Running>,
    /// What all this was read from.
    pub facts: Facts,
}

impl Host {
    /// Looks at the host, or at the recorded tree, below `root`.
    pub fn look(root: &Path) -> Result<Host, FactsError> {
        Ok(Host::of(Facts::gather(root)?))
    }

    /// Understands facts. What they do not tell is empty; a host without NUMA has one node.
    pub fn of(facts: Facts) -> Host {
        let cpus_at = |path: &str| facts.get(path).and_then(|text| text.parse().ok()).unwrap_or_default();
        let online: Cpus = cpus_at("sys/devices/system/cpu/online");
        let isolated: Cpus = cpus_at("sys/devices/system/cpu/isolated");
        let nohz_full: Cpus = cpus_at("sys/devices/system/cpu/nohz_full");
        let allowed = allowed(&facts, &online);
        let nodes = nodes(&facts, &online);
        let cores = cores(&facts, &allowed, &nodes);
        let irqs = nics::irqs(&facts);
        let nics = nics::nics(&facts, &irqs);
        let processes = processes::processes(&facts);
        let florin = processes::running(&facts);
        let kernel = facts.get("proc/sys/kernel/osrelease").unwrap_or_default().to_owned();
        Host {
            kernel,
            online,
            allowed,
            isolated,
            nohz_full,
            cores,
            nodes,
            nics,
            irqs,
            processes,
            florin,
            facts,
        }
    }

    /// The node of a CPU.
    pub fn node_of(&self, cpu: usize) -> usize {
        self.nodes.iter().find(|node| node.cpus.contains(cpu)).map_or(0, |node| node.index)
    }

    /// The core of a CPU that is allowed.
    pub fn core_of(&self, cpu: usize) -> Option<&Core> {
        self.cores.iter().find(|core| core.cpus.contains(cpu))
    }

    /// How far two nodes are from each other; 10 is none.
    pub fn distance(&self, from: usize, to: usize) -> u32 {
        let node = self.nodes.iter().find(|node| node.index == from);
        let known = node.and_then(|node| node.distances.iter().find(|(other, _)| *other == to));
        known.map_or(if from == to { 10 } else { 20 }, |(_, distance)| *distance)
    }

    /// A control file of the group that florin runs in, or else that this process does, and of all groups around that: as many as
    /// have it, the innermost first.
    pub fn group_files(&self, file: &str) -> Vec<&str> {
        let running =
            self.florin.first().and_then(|florin| self.facts.get(&format!("proc/{}/cgroup", florin.process)));
        let groups = running.or_else(|| self.facts.get("proc/self/cgroup")).unwrap_or_default();
        let folders = groups.lines().flat_map(facts::group_folders);
        folders.filter_map(|folder| self.facts.get(&format!("{folder}/{file}"))).collect()
    }
}

/// The root of the mounted control groups is that of the whole host, or of the container that everything here is in. The
/// slice of whoever asks is not looked at: a plan's own drop-ins keep it off the CPUs that are planned for.
fn allowed(facts: &Facts, online: &Cpus) -> Cpus {
    let of_root = ["sys/fs/cgroup/cpuset.cpus.effective", "sys/fs/cgroup/cpuset/cpuset.effective_cpus"];
    let of_root = of_root.into_iter().find_map(|path| facts.get(path)?.parse::<Cpus>().ok());
    let cpus = of_root.map(|cpus| cpus.and(online)).unwrap_or_default();
    if cpus.is_empty() { online.clone() } else { cpus }
}

fn nodes(facts: &Facts, online: &Cpus) -> Vec<Node> {
    let folder = "sys/devices/system/node";
    let indices = facts.numbered(folder, "node");
    let nodes: Vec<Node> = indices
        .iter()
        .filter_map(|&index| {
            let cpus: Cpus = facts.get(&format!("{folder}/node{index}/cpulist"))?.parse().ok()?;
            let distances = facts.get(&format!("{folder}/node{index}/distance")).unwrap_or_default();
            let distances = distances.split_whitespace().filter_map(|distance| distance.parse().ok());
            let distances = indices.iter().copied().zip(distances).collect();
            Some(Node { index, cpus: cpus.and(online), distances })
        })
        .filter(|node| !node.cpus.is_empty())
        .collect();
    if nodes.is_empty() {
        return vec![Node { index: 0, cpus: online.clone(), distances: vec![(0, 10)] }];
    }
    nodes
}

fn cores(facts: &Facts, allowed: &Cpus, nodes: &[Node]) -> Vec<Core> {
    let efficient = efficient(facts, allowed);
    let mut cores: Vec<Core> = Vec::new();
    for cpu in allowed.iter() {
        if cores.iter().any(|core| core.cpus.contains(cpu)) {
            continue;
        }
        let folder = format!("sys/devices/system/cpu/cpu{cpu}");
        let siblings = facts.get(&format!("{folder}/topology/thread_siblings_list"));
        let siblings = siblings.and_then(|list| list.parse::<Cpus>().ok()).unwrap_or_default();
        let cpus = siblings.and(allowed).or(&Cpus::from_iter([cpu]));
        let package = facts.number(&format!("{folder}/topology/physical_package_id")).unwrap_or(0);
        let node = nodes.iter().find(|node| node.cpus.contains(cpu)).map_or(0, |node| node.index);
        let kind = if efficient.contains(cpu) { CoreKind::Efficiency } else { CoreKind::Performance };
        cores.push(Core {
            cpus,
            node,
            package: usize::try_from(package).unwrap_or(0),
            cache: last_cache(facts, &folder),
            kind,
        });
    }
    cores
}

/// The small cores: those that the kernel calls so (x86), and those with much less capacity than the largest (ARM, where a
/// little core has 250 to 530 of 1,024, and a middle one 700 or more).
fn efficient(facts: &Facts, allowed: &Cpus) -> Cpus {
    let named: Cpus =
        facts.get("sys/devices/cpu_atom/cpus").and_then(|list| list.parse().ok()).unwrap_or_default();
    let capacity = |cpu: usize| facts.number(&format!("sys/devices/system/cpu/cpu{cpu}/cpu_capacity"));
    let largest = allowed.iter().filter_map(capacity).max().unwrap_or(0);
    let is_little =
        |cpu: &usize| capacity(*cpu).is_some_and(|own| own.saturating_mul(3) < largest.saturating_mul(2));
    allowed.iter().filter(is_little).chain(named.iter()).collect()
}

fn last_cache(facts: &Facts, folder: &str) -> Option<(Cpus, String)> {
    let level = |index: &usize| facts.number(&format!("{folder}/cache/index{index}/level"));
    let last = facts.numbered(&format!("{folder}/cache"), "index").into_iter().max_by_key(level)?;
    let cpus = facts.get(&format!("{folder}/cache/index{last}/shared_cpu_list"))?.parse().ok()?;
    let size = facts.get(&format!("{folder}/cache/index{last}/size")).unwrap_or_default();
    Some((cpus, size.to_owned()))
}
