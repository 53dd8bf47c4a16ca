//! NUMA nodes: which CPUs are theirs, and on which of them this process's memory lies.
//!
//! A shard's memory is on its node because its own thread touches it first, after it is pinned. Whether that came true is
//! read back from the kernel: a process that inherits another policy (`numactl --interleave`) has its memory elsewhere.

use std::collections::BTreeMap;
use std::fs;

use super::StartError;

const NODES: &str = "/sys/devices/system/node";

/// The CPUs of all nodes, by node. A kernel without NUMA has one node, with all CPUs; then this is empty.
pub fn nodes() -> BTreeMap<usize, Vec<usize>> {
    let Ok(folder) = fs::read_dir(NODES) else { return BTreeMap::new() };
    let names = folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let numbers = names.filter_map(|name| name.strip_prefix("node")?.parse().ok());
    let cpus = |node: usize| {
        let list = fs::read_to_string(format!("{NODES}/node{node}/cpulist")).ok()?;
        // A node without CPUs has an empty list.
        Some((node, florin_tune::numbers(&list).unwrap_or_default()))
    };
    numbers.filter_map(cpus).collect()
}

/// The CPUs of `wanted` nodes.
pub(super) fn cpus_of(wanted: &[usize]) -> Result<Vec<usize>, StartError> {
    let nodes = nodes();
    let known: Vec<usize> = nodes.keys().copied().collect();
    let mut cpus = Vec::new();
    for &node in wanted {
        match nodes.get(&node) {
            Some(of_node) => cpus.extend(of_node),
            None => return Err(StartError::NoSuchNode { node, known }),
        }
    }
    Ok(cpus)
}

/// Bytes of this process's own memory (not of files) on each node. The kernel walks all of it to answer, so this is for
/// once after the start, not for every scrape.
pub fn memory_by_node() -> BTreeMap<usize, u64> {
    fs::read_to_string("/proc/self/numa_maps").map(|maps| sum(&maps)).unwrap_or_default()
}

/// Bytes of `memory` on nodes where none of `shard_cpus` is.
pub fn far_bytes(
    memory: &BTreeMap<usize, u64>,
    nodes: &BTreeMap<usize, Vec<usize>>,
    shard_cpus: &[usize],
) -> u64 {
    let has_shard = |node: &usize| {
        nodes.get(node).is_some_and(|cpus| shard_cpus.iter().any(|shard_cpu| cpus.contains(shard_cpu)))
    };
    memory.iter().filter(|(node, _)| !has_shard(node)).map(|(_, bytes)| bytes).sum()
}

/// A line is an address, a policy, and words like `anon=7 N0=4 N1=3 kernelpagesize_kB=4`.
fn sum(maps: &str) -> BTreeMap<usize, u64> {
    let mut bytes = BTreeMap::new();
    for line in maps.lines().filter(|line| line.contains(" anon=")) {
        let value =
            |word: &str| line.split(' ').find_map(|part| part.strip_prefix(word)?.parse::<u64>().ok());
        let page = value("kernelpagesize_kB=").unwrap_or(4) * 1_024;
        for part in line.split(' ') {
            let Some((node, pages)) = part.strip_prefix('N').and_then(|part| part.split_once('=')) else {
                continue;
            };
            if let (Ok(node), Ok(pages)) = (node.parse::<usize>(), pages.parse::<u64>()) {
                *bytes.entry(node).or_default() += pages * page;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_added_up_by_node_in_its_own_page_size() {
        let maps = "7f00 default anon=3 dirty=3 N0=1 N1=2 kernelpagesize_kB=4\n\
                    7f10 default anon=2 dirty=2 N1=2 kernelpagesize_kB=2048\n\
                    7f20 default file=/usr/bin/x mapped=9 N0=9 kernelpagesize_kB=4\n";
        assert_eq!(sum(maps), BTreeMap::from([(0, 4_096), (1, 8_192 + 4 * 1_024 * 1_024)]));
    }

    #[test]
    fn memory_without_a_shard_on_its_node_is_far() {
        let nodes = BTreeMap::from([(0, vec![0, 1]), (1, vec![2, 3])]);
        let memory = BTreeMap::from([(0, 100), (1, 7)]);
        assert_eq!(far_bytes(&memory, &nodes, &[0, 3]), 0);
        assert_eq!(far_bytes(&memory, &nodes, &[0, 1]), 7);
        assert_eq!(far_bytes(&memory, &nodes, &[2]), 100);
    }

    #[test]
    fn a_pinned_threads_memory_is_read_back_from_its_node() {
        const TOUCHED: usize = 64 << 20;
        let nodes = nodes();
        let Some(cpu) = nodes.values().flatten().next().copied() else {
            eprintln!("skipped: a_pinned_threads_memory_is_read_back_from_its_node needs a kernel with NUMA");
            return;
        };
        let touch = move || {
            super::super::host::pin(cpu).unwrap();
            let touched = std::hint::black_box(vec![1_u8; TOUCHED]);
            let memory = memory_by_node();
            (touched.len(), memory)
        };
        let (touched, memory) = std::thread::spawn(touch).join().unwrap();
        let far = far_bytes(&memory, &nodes, &[cpu]);
        assert!(memory.values().sum::<u64>() >= far + touched as u64, "{memory:?}");
    }

    #[test]
    fn this_hosts_nodes_have_cpus_and_an_unknown_one_is_refused() {
        let nodes = nodes();
        assert!(nodes.values().all(|cpus| !cpus.is_empty()) || nodes.len() > 1, "{nodes:?}");
        let refusal = cpus_of(&[4_000]).unwrap_err();
        assert!(refusal.to_string().contains("no NUMA node 4000"), "{refusal}");
    }
}
