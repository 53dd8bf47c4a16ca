//! A shard that wakes comes before whoever else is on its CPU.

use std::fs;

use florin_input::kernel;

use super::support::start;

/// Of the kernel's own account of the thread. Linux has it since 6.12.
#[test]
fn a_shard_asks_for_the_shortest_slices() {
    let node = start(1);
    let thread = fs::read_to_string(format!("/proc/self/task/{}/sched", node.shards()[0].thread_id));
    let own = fs::read_to_string("/proc/thread-self/sched");
    node.drain();
    node.join().unwrap();
    let slice_ns = |sched: String| {
        let line = sched
            .lines()
            .find_map(|line| line.strip_prefix("se.slice")?.split(':').nth(1)?.trim().parse().ok());
        line.unwrap_or_default()
    };
    let (shard, own): (u64, u64) = (thread.map_or(0, slice_ns), own.map_or(0, slice_ns));
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let has_short_ones = kernel::version(&release) >= Some((6, 12));
    if own == 0 || !has_short_ones {
        println!("skipped: this kernel ({release}) does not tell, or has slices of one length");
        return;
    }
    assert_eq!(shard, 100_000);
    assert!(own > shard, "others keep theirs: {own}");
}
