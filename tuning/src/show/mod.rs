//! The topology that matters, as a picture: which CPU does what, and which NIC reaches it.

mod svg;
mod terminal;

use std::collections::BTreeMap;

pub use svg::svg;
pub use terminal::terminal;

use crate::host::{Core, Host, Node};
use crate::plan::{Placement, count};

/// What a CPU does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Shard(usize),
    Housekeeping,
    /// Beside a shard, on the same core.
    Idle,
    /// For whatever else runs.
    Spare,
}

fn role(placement: &Placement, cpu: usize) -> Role {
    if let Some(shard) = placement.shards.iter().find(|shard| shard.cpu == cpu) {
        Role::Shard(shard.shard)
    } else if placement.housekeeping.contains(cpu) {
        Role::Housekeeping
    } else if placement.idle.contains(cpu) {
        Role::Idle
    } else {
        Role::Spare
    }
}

/// Nodes by package; a node belongs to the package of its first core.
fn packages(host: &Host) -> BTreeMap<usize, Vec<(&Node, Vec<&Core>)>> {
    let mut packages: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for node in &host.nodes {
        let cores: Vec<&Core> = host.cores.iter().filter(|core| core.node == node.index).collect();
        if let Some(first) = cores.first() {
            packages.entry(first.package).or_default().push((node, cores));
        }
    }
    packages
}

/// The caches of a node's cores, each named once.
fn caches(cores: &[&Core]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (cpus, size) in cores.iter().filter_map(|core| core.cache.as_ref()) {
        let name = format!("{size} for {cpus}");
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What is shown: florin as it runs, or as it would.
fn title(host: &Host, placement: &Placement) -> String {
    match host.florin.first() {
        Some(running) => {
            format!("florin runs {} (process {})", count(running.shards().count(), "shard"), running.process)
        }
        None => format!("florin would run {}", count(placement.shards.len(), "shard")),
    }
}

/// What a NIC is, in a line.
fn describe_nic(host: &Host, name: &str) -> Option<String> {
    let nic = host.nics.iter().find(|nic| nic.name == name)?;
    let speed = nic.speed_mbit.map_or_else(String::new, |mbit| format!(", {mbit} Mbit/s"));
    let driver = if nic.driver.is_empty() { "no device" } else { &nic.driver };
    let (receive, transmit) = (count(nic.rx_queues, "receive queue"), count(nic.tx_queues, "transmit queue"));
    Some(format!("{name} ({driver}{speed}): {receive}, {transmit}"))
}

/// Whether a NIC is drawn with `node`; one that does not say where it hangs is drawn with the first.
fn hangs_on(host: &Host, name: &str, node: usize) -> bool {
    let nic = host.nics.iter().find(|nic| nic.name == name);
    let first = host.nodes.first().map_or(0, |node| node.index);
    nic.is_some_and(|nic| nic.node.unwrap_or(first) == node)
}
