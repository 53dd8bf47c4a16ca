//! Two nodes of one ledger, one of which stands still: what a caller's second requests are for.

use std::time::Duration;

use florin_client::{Client, Hedge, UserId};
use rustix::process::Signal;

use crate::support::{PATIENCE, Server, folder_with_ledger, wait_for};

fn stands_still(process: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let mut states = tasks.map(|task| std::fs::read_to_string(task.expect("an entry").path().join("stat")));
    states.all(|stat| stat.is_ok_and(|stat| stat.contains(") T ")))
}

/// Nothing but second requests moves a call here. Each is answered while the node stands still, by the other; what the frozen one says in
/// the end is nobody's.
#[test]
fn who_sends_second_requests_does_not_notice_that_a_node_stands_still() {
    let folder = folder_with_ledger();
    let nodes = [1, 2].map(|_| Server::start(folder.path(), &["--shards", "1"]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let never = Duration::from_secs(1_000);
        let client = Client::builder()
            .deadline(PATIENCE)
            .stall_after(never)
            .silence_max(2 * never)
            .hedge(Hedge::after(Duration::from_millis(1)).share(1.0))
            .connect(&*format!("florin://{},{}", nodes[0].addr(), nodes[1].addr()))
            .await
            .expect("two nodes");
        let connected = async {
            while client.pool().iter().any(|node| node.good < node.connections) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, connected).await.expect("every connection");
        for node in &nodes {
            node.signal(Signal::STOP);
            wait_for("every thread to stand still", || stands_still(node.id()).then_some(()));
            for _ in 0..5 {
                for user in 1..=2 {
                    let balance =
                        client.get_balance(UserId::new(user).expect("small")).await.expect("an answer");
                    assert!(balance.version().0 > 0);
                }
            }
            node.signal(Signal::CONT);
        }
        // Each user's own node was the frozen one in one half of the reads.
        let counters = client.counters();
        assert_eq!((counters.hedges_won, counters.retries), (10, 0), "{counters:?}");
        assert_eq!(client.pool().iter().map(|node| node.in_flight).sum::<usize>(), 0);
    });
}
