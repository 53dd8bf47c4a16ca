//! Two nodes of one ledger: one is killed or stands still, and callers go over to the other, which may be ahead or behind. For each of
//! them every promise holds through that, for its client remembers what it was shown.

use std::io;
use std::sync::Arc;

use florin_client::{Client, Freshness, Version};

use super::*;

/// Where each of the two nodes is at the moment: what a name service would say.
type Places = Arc<[Mutex<SocketAddr>; 2]>;

/// A client of this repository, which may ask either node.
async fn client(places: Places) -> Client {
    let resolve = move |host: &str, _: u16| {
        let place = *places[usize::from(host == "second")].lock().unwrap();
        async move { io::Result::Ok(vec![place]) }
    };
    let client = Client::builder().deadline(PATIENCE).resolver(resolve);
    client.connect("first:1,second:1").await.expect("two nodes")
}

/// Asks by such a client, a reader's own.
fn by_client<'a>(places: &Places) -> Asks<'a> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = runtime.block_on(client(Arc::clone(places)));
    Box::new(move |Question { user, min_version, max_age_ms }| {
        let least = Freshness::at_least(Version(min_version)).waiting(Duration::from_millis(WAIT_MS));
        let freshness = max_age_ms.map_or(least, |ms| least.and_no_older_than(Duration::from_millis(ms)));
        let asked = client.with_freshness(freshness);
        let answer = runtime.block_on(asked.get_balance(UserId::new(user).unwrap())).ok()?;
        (!answer.origin().is_quarantined()).then(|| answer.version().0)
    })
}

/// Nobody waits for the node that was lost: its callers are answered by the other before it comes back. `FLORIN_ENDS=100` loses one so
/// often, by turns.
#[test]
fn no_promise_is_broken_while_callers_go_over_from_node_to_node() {
    let folders = [folder_with_ledger(), tempfile::tempdir().unwrap()];
    let ledger = folders[0].path().join("florin.db");
    let more = ["--ledger", ledger.to_str().unwrap()];
    let mut nodes = [0, 1].map(|node| start(folders[node].path(), 1 + node, &more));
    let places: Places = Arc::new([0, 1].map(|node: usize| Mutex::new(nodes[node].any)));
    let serving = (nodes[0].any, nodes[0].admin);
    with_callers_by(
        |_| by_client(&places),
        into_file(&ledger),
        serving,
        |scene| {
            for end in 0..variable("FLORIN_ENDS", 4) as usize {
                let (lost, other) = (end / 2 % 2, 1 - end / 2 % 2);
                scene.go_on();
                scene.serve(&nodes[other]);
                if end % 2 == 0 {
                    nodes[lost].signal(Signal::KILL);
                    scene.go_on();
                    nodes[lost] = start(folders[lost].path(), 1 + end % 3, &more);
                    *places[lost].lock().unwrap() = nodes[lost].any;
                } else {
                    // One that was in the middle of a commit holds the ledger's lock, and nobody writes until it goes on.
                    nodes[lost].signal(Signal::STOP);
                    scene.go_on();
                    nodes[lost].signal(Signal::CONT);
                }
            }
            scene.go_on();
        },
    );
}
