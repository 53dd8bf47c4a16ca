//! What a client tells of itself: each call and connection to hooks, counters, how its connections stand.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fake::follower::{map, together};
use crate::fake::{self, Answer, Asked, Fake, Map, eventually, user};
use florin_client::{
    ConnectInfo, Error, Hedge, HedgeInfo, Hooks, Outcome, RequestHooks, RequestInfo, RetryInfo, WindowMask,
};
use florin_schema::{Opcode, Status};

/// What hooks are told, a line each.
#[derive(Clone, Default)]
struct Story {
    calls: Arc<AtomicU32>,
    lines: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<Vec<String>>>,
}

struct Call {
    number: u32,
    story: Story,
}

impl Story {
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }
}

impl Call {
    fn tell(&self, line: &str) {
        self.story.lines.lock().unwrap().push(format!("{} {line}", self.number));
    }
}

impl Hooks for Story {
    fn request(&self, request: &RequestInfo) -> Option<Box<dyn RequestHooks>> {
        let call = Call { number: 1 + self.calls.fetch_add(1, SeqCst), story: self.clone() };
        call.tell(&format!("begins: {} of {}", request.operation, request.users));
        Some(Box::new(call))
    }

    fn connect(&self, connect: &ConnectInfo<'_>) {
        let ended = connect.error.map_or("made", Error::label);
        let line = format!("{} at {}: {ended}", connect.node, connect.address);
        self.connections.lock().unwrap().push(line);
    }
}

impl RequestHooks for Call {
    fn retry(&self, retry: &RetryInfo<'_>) {
        self.tell(&format!("again: attempt {} after {}", retry.attempt, retry.error.label()));
    }

    fn hedge(&self, hedge: &HedgeInfo<'_>) {
        assert!(hedge.first != hedge.node && !hedge.waited.is_zero());
        self.tell("hedged");
    }

    fn end(self: Box<Self>, outcome: &Outcome<'_>) {
        assert_eq!(outcome.error.is_none(), outcome.status == "OK");
        assert_eq!(outcome.node.is_none(), outcome.requests == 0);
        self.tell(&format!("ends: {}, {} sent", outcome.status, outcome.requests));
    }
}

/// A call that was dropped tells no end, and is dropped.
impl Drop for Call {
    fn drop(&mut self) {
        self.tell("is over");
    }
}

#[tokio::test]
async fn hooks_are_told_of_every_step() {
    let asked_of_one = AtomicU32::new(0);
    let node = Fake::tcp(Map::one_shard(), move |asked: &Asked| match asked.user_id() {
        1 if asked_of_one.fetch_add(1, SeqCst) == 0 => {
            Answer::Bytes(asked.reply(Status::Unavailable, 0, b"warming up"))
        }
        9 => Answer::Bytes(asked.reply(Status::NotFound, 0, b"never named")),
        13 => Answer::Nothing,
        _ => Answer::Bytes(asked.right_answer()),
    })
    .await;
    let story = Story::default();
    let client = fake::patient().hooks(story.clone()).connect(&*node.address).await.unwrap();
    client.get_balance(user(7)).await.unwrap();
    assert_eq!(story.told(), ["1 begins: GetBalance of 1", "1 ends: OK, 1 sent", "1 is over"]);
    client.get_balance(user(1)).await.unwrap();
    let again = "2 again: attempt 2 after UNAVAILABLE";
    assert_eq!(story.told(), ["2 begins: GetBalance of 1", again, "2 ends: OK, 2 sent", "2 is over"]);
    client.get_statistics(user(9), WindowMask::ALL).await.unwrap_err();
    assert_eq!(story.told(), ["3 begins: GetStatistics of 1", "3 ends: NOT_FOUND, 1 sent", "3 is over"]);
    client.get_balances(&[user(1), user(2), user(3)]).await.unwrap();
    assert_eq!(story.told(), ["4 begins: GetBalances of 3", "4 ends: OK, 1 sent", "4 is over"]);
    client.ping(b"here").await.unwrap();
    assert_eq!(story.told(), ["5 begins: Ping of 0", "5 ends: OK, 1 sent", "5 is over"]);
    let hasty = client.with_deadline(Duration::from_millis(300));
    hasty.get_balance(user(13)).await.unwrap_err();
    let late = "6 ends: DEADLINE_EXCEEDED, 1 sent";
    assert_eq!(story.told(), ["6 begins: GetBalance of 1", late, "6 is over"]);
    let dropped = tokio::spawn(async move { client.get_balance(user(13)).await });
    eventually("it is asked", || node.asked().iter().filter(|asked| asked.user_id() == 13).count() == 2)
        .await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    assert_eq!(story.told(), ["7 begins: GetBalance of 1", "7 is over"]);
    assert_eq!(*story.connections.lock().unwrap(), [format!("{0} at {0}: made", node.address)]);
}

#[tokio::test]
async fn hooks_are_told_of_second_requests() {
    let story = Story::default();
    let silent = |asked: &Asked| match asked.opcode() {
        Opcode::GetBalance => Answer::Nothing,
        _ => Answer::Bytes(asked.right_answer()),
    };
    let nodes = [Fake::tcp(map(1), silent).await, Fake::tcp(map(2), silent).await];
    let builder = fake::patient().deadline(Duration::from_secs(2)).hooks(story.clone());
    let builder = builder.hedge(Hedge::after(Duration::from_millis(1)).share(1.0));
    let client = builder.connect(&*together(&[&nodes[0], &nodes[1]])).await.unwrap();
    eventually("both are connected", || client.counters().connects == 2).await;
    client.get_balance(user(1)).await.unwrap_err();
    let ends = "1 ends: DEADLINE_EXCEEDED, 2 sent";
    assert_eq!(story.told(), ["1 begins: GetBalance of 1", "1 hedged", ends, "1 is over"]);
}

#[tokio::test]
async fn a_client_tells_how_its_connections_stand() {
    let node = Fake::tcp(Map::one_shard(), |asked: &Asked| match asked.user_id() {
        13 => Answer::Nothing,
        _ => Answer::Bytes(asked.right_answer()),
    })
    .await;
    *node.story.map.lock().unwrap() = Map::of_ports(&[node.port]);
    let story = Story::default();
    let client = fake::patient().connections_per_shard(2).hooks(story.clone());
    let client = client.connect(&*node.address).await.unwrap();
    eventually("all are connected", || client.pool()[0].good == 4).await;
    client.get_balance(user(1)).await.unwrap();
    let [pool] = &client.pool()[..] else { panic!("there is one node") };
    assert_eq!((pool.address.to_string(), pool.shards), (node.address.clone(), 1));
    assert_eq!((pool.connections, pool.silent, pool.in_flight, pool.queued_bytes), (4, 0, 0, 0));
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get_balance(user(13)).await })
        })
        .collect();
    eventually("five are under way", || client.pool()[0].in_flight == 5).await;
    for call in calls {
        call.abort();
        call.await.unwrap_err();
    }
    assert_eq!(client.pool()[0].in_flight, 0);
    let counters = client.counters();
    assert_eq!((counters.replies, counters.retries, counters.connects), (1, 0, 4));
    drop(node);
    eventually("none is left", || client.pool()[0].good == 0).await;
    assert_eq!(client.pool()[0].connections, 4);
    eventually("a failure is told", || {
        story.connections.lock().unwrap().iter().any(|line| line.ends_with("DISCONNECTED"))
    })
    .await;
}
