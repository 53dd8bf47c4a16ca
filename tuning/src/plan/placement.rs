//! Which CPU does what: a pure function of the host and of what is asked for.
//!
//! One shard to a physical core, nearest to the NICs first; the first core of each node, or one in sixteen, keeps house;
//! an interrupt goes to the CPU of the shard whose packets it announces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::host::{Core, CoreKind, Cpus, Host, Nic};
use crate::limits::{CORES_PER_HOUSEKEEPER, SHARDS_MAX};

use super::{PlanError, count};

/// What becomes of the second hardware thread of a shard's core.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Siblings {
    /// Nothing runs there: the shard has its core to itself.
    #[default]
    Idle,
    /// It keeps house: more room for everything else, at the shards' cost.
    Housekeeping,
    /// It carries a shard of its own.
    Shards,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Request {
    /// How many shards; none = as many as there is room for.
    pub shards: Option<usize>,
    /// The NICs that callers come by; empty = every device that is up.
    pub nics: Vec<String>,
    /// See [`Siblings`].
    pub siblings: Siblings,
    /// The shards' CPUs, where they are given rather than chosen.
    pub cpus: Option<Cpus>,
    /// The CPUs that keep house, where they are given.
    pub housekeeping: Option<Cpus>,
}

/// A shard's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardPlace {
    /// The shard.
    pub shard: usize,
    /// Its CPU.
    pub cpu: usize,
    /// Its node.
    pub node: usize,
}

/// An interrupt's place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IrqPlace {
    /// Its number.
    pub irq: usize,
    /// Whose it is.
    pub nic: String,
    /// Which queue it announces.
    pub queue: usize,
    /// Where it should be served.
    pub cpus: Cpus,
}

/// The shards that a NIC's queues serve.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NicPlace {
    /// The NIC.
    pub nic: String,
    /// CPUs of the shards that its packets go to, in the order of its queues.
    pub cpus: Vec<usize>,
    /// Interrupts of its that stay where they are, because their names do not say which queue they announce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_alone: Vec<usize>,
}

/// Which CPU does what.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Placement {
    /// By number, which is also by CPU.
    pub shards: Vec<ShardPlace>,
    /// For florin's other threads, for interrupts of no NIC, and for everything else that runs.
    pub housekeeping: Cpus,
    /// For everything else that runs, too: cores that no shard needs.
    pub spare: Cpus,
    /// Left idle, beside shards.
    pub idle: Cpus,
    /// By NIC and queue.
    pub irqs: Vec<IrqPlace>,
    /// By NIC.
    pub nics: Vec<NicPlace>,
    /// Why so, in sentences.
    pub reasons: Vec<String>,
}

impl Placement {
    /// The shards' CPUs.
    pub fn shard_cpus(&self) -> Cpus {
        self.shards.iter().map(|shard| shard.cpu).collect()
    }

    /// CPUs on which nothing but shards should run: theirs, and those left idle beside them.
    pub fn quiet(&self) -> Cpus {
        self.shard_cpus().or(&self.idle).without(&self.housekeeping)
    }

    /// CPUs for everything that is not florin.
    pub fn others(&self) -> Cpus {
        self.housekeeping.or(&self.spare)
    }

    /// The transmit, or receive, queue's shards among `queues` of a NIC: their CPUs.
    pub fn cpus_of_queue(nic: &NicPlace, queue: usize, queues: usize) -> Cpus {
        let shards = nic.cpus.len();
        if shards == 0 || queues == 0 {
            return Cpus::default();
        }
        if queues >= shards {
            return Cpus::from_iter([nic.cpus[queue % shards]]);
        }
        nic.cpus[queue * shards / queues..(queue + 1) * shards / queues].iter().copied().collect()
    }
}

/// Decides.
pub fn place(host: &Host, request: &Request) -> Result<Placement, PlanError> {
    let nics = nics(host, &request.nics)?;
    let mut placement = Placement::default();
    let chosen = choose(host, request, &nics, &mut placement.reasons)?;
    let shard_cpus = &chosen.shards;
    let place = |(shard, cpu): (usize, usize)| ShardPlace { shard, cpu, node: host.node_of(cpu) };
    placement.shards = shard_cpus.iter().enumerate().map(place).collect();
    let beside: Cpus = host
        .cores
        .iter()
        .filter(|core| !core.cpus.and(shard_cpus).is_empty())
        .flat_map(|core| core.cpus.without(shard_cpus).0)
        .collect();
    placement.housekeeping = match request.siblings {
        Siblings::Housekeeping => chosen.housekeeping.or(&beside),
        Siblings::Idle | Siblings::Shards => chosen.housekeeping,
    };
    placement.idle = beside.without(&placement.housekeeping);
    let taken = shard_cpus.or(&placement.housekeeping).or(&placement.idle);
    placement.spare = host.allowed.without(&taken);
    for nic in nics {
        steer(host, nic, &mut placement);
    }
    explain(host, request, &mut placement);
    Ok(placement)
}

struct Chosen {
    shards: Cpus,
    housekeeping: Cpus,
}

fn nics<'a>(host: &'a Host, named: &[String]) -> Result<Vec<&'a Nic>, PlanError> {
    if named.is_empty() {
        return Ok(host.nics.iter().filter(|nic| nic.is_device() && nic.is_up).collect());
    }
    let known = || host.nics.iter().map(|nic| nic.name.clone()).collect();
    let find = |name: &String| host.nics.iter().find(|nic| nic.name == *name);
    named
        .iter()
        .map(|name| find(name).ok_or_else(|| PlanError::UnknownNic { nic: name.clone(), known: known() }))
        .collect()
}

fn choose(
    host: &Host,
    request: &Request,
    nics: &[&Nic],
    reasons: &mut Vec<String>,
) -> Result<Chosen, PlanError> {
    if host.cores.is_empty() {
        return Err(PlanError::NoCpus);
    }
    for (flag, cpus) in [("--cpus", &request.cpus), ("--housekeeping-cpus", &request.housekeeping)] {
        let strangers = cpus.as_ref().map(|cpus| cpus.without(&host.allowed)).unwrap_or_default();
        if !strangers.is_empty() {
            return Err(PlanError::NotAllowed { flag, cpus: strangers, allowed: host.allowed.clone() });
        }
    }
    if let Some(shards) = &request.cpus {
        return given(host, request, shards);
    }
    let cores = match &request.housekeeping {
        Some(kept) => host.cores.iter().filter(|core| core.cpus.and(kept).is_empty()).collect(),
        None => host.cores.iter().collect::<Vec<_>>(),
    };
    let per_core = |core: &Core| if request.siblings == Siblings::Shards { core.cpus.len() } else { 1 };
    let room: usize = cores.iter().map(|core| per_core(core)).sum();
    let wanted = request.shards;
    if wanted.is_some_and(|shards| shards > room) {
        return Err(PlanError::NotEnough {
            shards: wanted.unwrap_or_default(),
            cores: cores.len(),
            threads: cores.iter().map(|core| core.cpus.len()).sum(),
        });
    }
    let keepers = match &request.housekeeping {
        Some(_) => Vec::new(),
        None => housekeepers(&cores, room, wanted, per_core, reasons),
    };
    let free: Vec<&Core> = cores.iter().filter(|core| !keepers.contains(*core)).copied().collect();
    let order = by_nearness(host, nics, &free, wanted);
    let limit = wanted.unwrap_or(SHARDS_MAX).min(SHARDS_MAX);
    // Every core's first thread comes before any core's second.
    let threads = order.iter().map(|core| per_core(core)).max().unwrap_or(0);
    let nth = |thread| {
        order
            .iter()
            .filter(move |core| thread < per_core(core))
            .filter_map(move |core| core.cpus.iter().nth(thread))
    };
    let shards: Cpus = (0..threads).flat_map(nth).take(limit).collect();
    let kept: Cpus = keepers.iter().flat_map(|core| core.cpus.iter()).collect();
    let kept = request.housekeeping.clone().unwrap_or(kept);
    // With nothing left to keep house, everything shares the shards' CPUs.
    let housekeeping = if kept.is_empty() { shards.clone() } else { kept };
    Ok(Chosen { shards, housekeeping })
}

fn given(host: &Host, request: &Request, shards: &Cpus) -> Result<Chosen, PlanError> {
    if shards.is_empty() || request.shards.is_some_and(|count| count != shards.len()) {
        return Err(PlanError::CountDiffers {
            shards: request.shards.unwrap_or_default(),
            cpus: shards.clone(),
        });
    }
    let rest: Cpus = host
        .cores
        .iter()
        .filter(|core| core.cpus.and(shards).is_empty())
        .flat_map(|core| core.cpus.iter())
        .collect();
    let kept = request.housekeeping.clone().unwrap_or(rest);
    let housekeeping = if kept.is_empty() { shards.clone() } else { kept };
    Ok(Chosen { shards: shards.clone(), housekeeping })
}

/// One core of each node or one in sixteen, small cores before large ones and low numbers before high; fewer where that
/// would leave too little room for the shards that are asked for.
fn housekeepers<'a>(
    cores: &[&'a Core],
    room: usize,
    wanted: Option<usize>,
    per_core: impl Fn(&Core) -> usize,
    reasons: &mut Vec<String>,
) -> Vec<&'a Core> {
    let mut by_node: BTreeMap<usize, Vec<&Core>> = BTreeMap::new();
    cores.iter().for_each(|core| by_node.entry(core.node).or_default().push(core));
    let mut keepers = Vec::new();
    for of_node in by_node.values_mut() {
        of_node.sort_by_key(|core| (std::cmp::Reverse(core.kind), core.first()));
        let count = (of_node.len() / CORES_PER_HOUSEKEEPER).max(1);
        keepers.extend(of_node.iter().take(count).copied());
    }
    let usual = keepers.len();
    let wanted = wanted.unwrap_or(1);
    while !keepers.is_empty() && room - keepers.iter().map(|core| per_core(core)).sum::<usize>() < wanted {
        keepers.pop();
    }
    if keepers.is_empty() {
        reasons.push(format!(
            "{wanted} shards take every core: nothing is left to keep house, and what else runs will interrupt them"
        ));
    } else if keepers.len() < usual {
        reasons.push(format!(
            "{wanted} shards leave {} cores to keep house, where {usual} would be usual",
            keepers.len()
        ));
    }
    keepers
}

/// Large cores before small ones, then nodes by their distance to the nearest NIC, and nodes as near as each other in
/// turn, so that shards are spread over them evenly. Unless a number is asked for, small cores carry none.
fn by_nearness<'a>(host: &Host, nics: &[&Nic], cores: &[&'a Core], wanted: Option<usize>) -> Vec<&'a Core> {
    let nic_nodes: Vec<usize> = nics.iter().filter_map(|nic| nic.node).collect();
    let nearness = |node: usize| nic_nodes.iter().map(|&nic| host.distance(node, nic)).min().unwrap_or(10);
    let has_large = cores.iter().any(|core| core.kind == CoreKind::Performance);
    let mut taken: BTreeMap<(CoreKind, usize), usize> = BTreeMap::new();
    let mut order: Vec<_> = cores
        .iter()
        .filter(|core| wanted.is_some() || !has_large || core.kind == CoreKind::Performance)
        .map(|core| {
            let turn = taken.entry((core.kind, core.node)).or_default();
            *turn += 1;
            ((core.kind, nearness(core.node), *turn, core.node), *core)
        })
        .collect();
    order.sort_by_key(|(key, core)| (*key, core.first()));
    order.into_iter().map(|(_, core)| core).collect()
}

/// Spreads a NIC's queues over the shards on its node, or over all where none is there.
fn steer(host: &Host, nic: &Nic, placement: &mut Placement) {
    let near = |shard: &&ShardPlace| nic.node.is_none_or(|node| shard.node == node);
    let mut cpus: Vec<usize> = placement.shards.iter().filter(near).map(|shard| shard.cpu).collect();
    if cpus.is_empty() {
        cpus = placement.shards.iter().map(|shard| shard.cpu).collect();
        placement.reasons.push(format!(
            "{} is on node {}, which has no shard: its packets cross to node {}",
            nic.name,
            nic.node.unwrap_or_default(),
            cpus.first().map_or(0, |&cpu| host.node_of(cpu)),
        ));
    }
    let place = NicPlace { nic: nic.name.clone(), cpus, left_alone: nic.unknown_irqs.clone() };
    for found in &nic.irqs {
        let queues = nic.irqs.iter().filter(|irq| irq.direction == found.direction).count();
        let of_queue = Placement::cpus_of_queue(&place, found.queue, queues.max(found.queue + 1));
        // One CPU: an interrupt with a choice goes to the first of them anyway, and then it is not known which.
        let cpus = of_queue.first().into_iter().collect();
        placement.irqs.push(IrqPlace { irq: found.irq, nic: nic.name.clone(), queue: found.queue, cpus });
    }
    placement.nics.push(place);
}

fn explain(host: &Host, request: &Request, placement: &mut Placement) {
    let threads: usize = host.cores.iter().map(|core| core.cpus.len()).sum();
    let packages: std::collections::BTreeSet<usize> = host.cores.iter().map(|core| core.package).collect();
    let mut reasons = vec![format!(
        "{} with {} may be used, in {} and {}",
        count(host.cores.len(), "core"),
        count(threads, "CPU"),
        count(packages.len(), "package"),
        count(host.nodes.len(), "NUMA node")
    )];
    let outside = host.online.without(&host.allowed);
    if !outside.is_empty() {
        reasons.push(format!(
            "outside the control group that all of this system is in, and not used: {outside}"
        ));
    }
    let mut by_node: BTreeMap<usize, usize> = BTreeMap::new();
    placement.shards.iter().for_each(|shard| *by_node.entry(shard.node).or_default() += 1);
    let nodes: Vec<String> =
        by_node.iter().map(|(node, shards)| format!("{shards} on node {node}")).collect();
    reasons.push(format!("{}: {}", count(placement.shards.len(), "shard"), nodes.join(", ")));
    reasons.push(format!("housekeeping on CPU {}", placement.housekeeping));
    if !placement.idle.is_empty() {
        reasons.push(format!(
            "beside shards, on their cores: {}, left idle (--siblings says otherwise)",
            placement.idle
        ));
    }
    if request.siblings == Siblings::Shards && threads > host.cores.len() {
        reasons.push("two shards share a core, as asked: each is slower than one alone".to_owned());
    }
    if !placement.spare.is_empty() {
        reasons.push(format!("left to everything else: {}", placement.spare));
    }
    for nic in &host.nics {
        if let (Some(place), true) =
            (placement.nics.iter().find(|place| place.nic == nic.name), nic.rx_queues > 0)
        {
            reasons.push(format!(
                "{} {}has {} for {}",
                nic.name,
                nic.node.map_or_else(String::new, |node| format!("is on node {node}, and ")),
                count(nic.rx_queues, "receive queue"),
                count(place.cpus.len(), "shard"),
            ));
        }
    }
    reasons.append(&mut placement.reasons);
    placement.reasons = reasons;
}
