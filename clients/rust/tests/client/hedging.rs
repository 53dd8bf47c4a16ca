//! Second requests: where the first takes long, at most one a call, no more than a share of all, and never back in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::fake::follower::{Follower, map, together};
use crate::fake::{self, Answer, Asked, Fake, Map, eventually, user};
use florin_client::{Builder, Client, Hedge, Version};
use florin_schema::Status;
use florin_schema::frame::REPLY_QUARANTINED;
use futures_util::future::join_all;

/// A second request follows soon, and nothing else moves a call.
fn hedging(hedge: Hedge) -> Builder {
    fake::patient().hedge(hedge)
}

fn soon(share: f64) -> Hedge {
    Hedge::after(Duration::from_millis(1)).share(share)
}

async fn connected(builder: Builder, nodes: &[&Fake]) -> Client {
    let client = builder.connect(&*together(nodes)).await.unwrap();
    eventually("all are connected", || client.counters().connects == nodes.len() as u64).await;
    client
}

/// Which of two nodes is asked for user 1 first, and the other.
async fn in_order(nodes: [&Fake; 2]) -> [&Fake; 2] {
    let client = connected(fake::patient(), &nodes).await;
    client.get_balance(user(1)).await.unwrap();
    if nodes[0].asked().is_empty() { [nodes[1], nodes[0]] } else { nodes }
}

fn in_flight(client: &Client) -> usize {
    client.pool().iter().map(|node| node.in_flight).sum()
}

/// A node stands still: each of its users is asked of the other, once, and nothing is kept of what it was asked.
#[tokio::test]
async fn a_second_request_answers_where_the_first_takes_long() {
    let (slow, other) = (Fake::tcp(map(1), |_| Answer::Nothing).await, Fake::faultless(map(2)).await);
    let client = connected(hedging(soon(1.0)), &[&slow, &other]).await;
    for id in 0..40 {
        assert_eq!(client.get_balance(user(id)).await.unwrap().to_record(), fake::balance(id));
    }
    let batch = client.get_balances(&[user(1), user(2), user(3)]).await.unwrap();
    assert_eq!(batch.len(), 3);
    let counters = client.counters();
    assert!(counters.hedges_won > 5 && counters.hedges_won <= counters.hedges, "{counters:?}");
    assert_eq!((counters.replies, counters.retries), (41, 0));
    assert!(slow.asked().len() + other.asked().len() <= 41 + counters.hedges as usize);
    assert_eq!(in_flight(&client), 0);
}

/// Everything is slow: nodes get no more than the share on top, for more would be what breaks them.
#[tokio::test]
async fn where_all_is_slow_the_share_is_all_that_comes_on_top() {
    const CALLS: u64 = 300;
    let nodes = [Fake::tcp(map(1), |_| Answer::Nothing).await, Fake::tcp(map(2), |_| Answer::Nothing).await];
    let client = connected(hedging(soon(0.1)), &[&nodes[0], &nodes[1]]).await;
    let call = |id| {
        let client = client.clone();
        tokio::spawn(async move { client.get_balance(user(id)).await })
    };
    let calls: Vec<_> = (0..CALLS).map(call).collect();
    let due = || client.counters().hedges + client.counters().hedges_withheld;
    eventually("all are due", || due() == CALLS).await;
    let hedges = client.counters().hedges;
    assert!((1..=CALLS / 10).contains(&hedges), "{hedges}");
    let asked = || (nodes[0].asked().len() + nodes[1].asked().len()) as u64;
    eventually("all have come", || asked() == CALLS + hedges).await;
    // Whoever leaves takes both of its requests along.
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    join_all(calls).await;
    assert_eq!(in_flight(&client), 0);
}

#[tokio::test]
async fn no_second_request_is_sent_unless_asked_for() {
    let nodes = [Fake::faultless(map(1)).await, Fake::faultless(map(2)).await];
    let client = connected(fake::patient(), &[&nodes[0], &nodes[1]]).await;
    for id in 0..20 {
        client.get_balance(user(id)).await.unwrap();
    }
    assert_eq!(nodes[0].asked().len() + nodes[1].asked().len(), 20);
    assert_eq!(client.counters().hedges, 0);
}

/// The other node follows behind: it is asked for what was shown, has less, and the first one's answer is waited for.
#[tokio::test]
async fn a_second_request_never_goes_back_in_time() {
    for batch in [false, true] {
        let nodes = [Follower::new(1, 5).await, Follower::new(2, 5).await];
        let [first, _] = in_order([&nodes[0].fake, &nodes[1].fake]).await;
        let [ahead, behind] =
            if first.port == nodes[0].fake.port { [&nodes[0], &nodes[1]] } else { [&nodes[1], &nodes[0]] };
        let client = connected(hedging(soon(1.0)), &[&nodes[0].fake, &nodes[1].fake]).await;
        let read = |client: Client| async move {
            if batch {
                let both = client.get_balances(&[user(1), user(1)]).await.unwrap();
                return both.get(1).unwrap().version().unwrap();
            }
            client.get_balance(user(1)).await.unwrap().version()
        };
        assert_eq!(read(client.clone()).await, Version(5));
        let won = client.counters().hedges_won;
        ahead.is_held.store(true, SeqCst);
        for version in [3, 0] {
            behind.version.store(version, SeqCst);
            let before = client.counters().hedges;
            let reading = tokio::spawn(read(client.clone()));
            eventually("the other is asked", || client.counters().hedges > before).await;
            ahead.fake.story.resume.notify_one();
            assert_eq!(reading.await.unwrap(), Version(5), "the other is at {version}");
        }
        assert_eq!(client.counters().hedges_won, won);
    }
}

/// An answer that lacks something does not overtake one that may have it.
#[tokio::test]
async fn an_answer_that_lacks_something_does_not_win() {
    let quarantined = |asked: &Asked| {
        let mut frame = asked.right_answer();
        frame[26..28].copy_from_slice(&REPLY_QUARANTINED.to_le_bytes());
        frame
    };
    // The node whose answer is held; 0 while each says what it has.
    let first = Arc::new(AtomicU64::new(0));
    let script = |node_id: u64| {
        let first = Arc::clone(&first);
        move |asked: &Asked| match first.load(SeqCst) {
            0 => Answer::Bytes(asked.right_answer()),
            held if held == node_id => Answer::Held(asked.right_answer()),
            _ => Answer::Bytes(quarantined(asked)),
        }
    };
    let nodes = [Fake::tcp(map(1), script(1)).await, Fake::tcp(map(2), script(2)).await];
    let [ahead, _] = in_order([&nodes[0], &nodes[1]]).await;
    first.store(if ahead.port == nodes[0].port { 1 } else { 2 }, SeqCst);
    let client = connected(hedging(soon(1.0)), &[&nodes[0], &nodes[1]]).await;
    let reading = tokio::spawn({
        let client = client.clone();
        async move { client.get_balance(user(1)).await }
    });
    eventually("its answer has come", || client.counters().replies == 1).await;
    ahead.story.resume.notify_one();
    assert!(!reading.await.unwrap().unwrap().origin().is_quarantined());
    assert_eq!(client.counters().hedges_won, 0);
}

/// The first one fails once the second is on its way: that one's answer is the call's, and nobody is asked a third time.
#[tokio::test]
async fn a_second_request_is_waited_for_where_the_first_fails() {
    for status in [Status::Unavailable, Status::Overloaded, Status::Stale] {
        let asked_once = Arc::new(AtomicBool::new(false));
        let script = |asked_once: Arc<AtomicBool>| {
            move |asked: &Asked| match asked_once.swap(true, SeqCst) {
                false => Answer::Held(asked.reply(status, 0, b"not now")),
                true => Answer::Held(asked.right_answer()),
            }
        };
        let nodes = [
            Fake::tcp(map(1), script(Arc::clone(&asked_once))).await,
            Fake::tcp(map(2), script(Arc::clone(&asked_once))).await,
        ];
        let client = connected(hedging(soon(1.0)), &[&nodes[0], &nodes[1]]).await;
        let reading = tokio::spawn({
            let client = client.clone();
            async move { client.get_balance(user(1)).await }
        });
        eventually("both are asked", || nodes.iter().all(|node| node.asked().len() == 1)).await;
        nodes.iter().for_each(|node| node.story.resume.notify_one());
        assert_eq!(reading.await.unwrap().unwrap().to_record(), fake::balance(1));
        assert_eq!(client.counters().retries, 0);
        assert!(nodes.iter().all(|node| node.asked().len() == 1));
    }
}

/// There is but one node, and the way to the shard's port loses what it is given: another connection carries the second request.
/// How long is long is observed.
#[tokio::test]
async fn the_only_node_is_asked_over_another_connection() {
    let is_silent = Arc::new(AtomicBool::new(false));
    let silent = Arc::clone(&is_silent);
    // The first connection is the one to the address, the second that to the shard.
    let script = move |asked: &Asked| match asked.connection == 1 && silent.load(SeqCst) {
        true => Answer::Nothing,
        false => Answer::Bytes(asked.right_answer()),
    };
    let node = Fake::tcp(Map::one_shard(), script).await;
    *node.story.map.lock().unwrap() = Map::of_ports(&[node.port]);
    let client = hedging(Hedge::at_p95().share(1.0)).connect(&*node.address).await.unwrap();
    eventually("both are connected", || client.counters().connects == 2).await;
    for id in 0..64 {
        client.get_balance(user(id)).await.unwrap();
    }
    assert!(node.asked().iter().all(|asked| asked.connection == 1));
    assert_eq!(client.counters().hedges, 0, "nothing is known of what requests take");
    is_silent.store(true, SeqCst);
    assert_eq!(client.get_balance(user(7)).await.unwrap().to_record(), fake::balance(7));
    assert_eq!(client.counters().hedges_won, 1);
    assert_eq!(in_flight(&client), 0);
}
