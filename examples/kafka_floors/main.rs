//! What following a Kafka topic reaches on this machine: `cargo run --release --example kafka_floors [RECORDS [SECONDS]]`.
//!
//! It makes a broker of its own, which `scripts/kafka` has fetched (see `sources/kafka/tests/live/broker.rs`), and a topic of 24
//! partitions that `florin publish` would write, and prints
//! - records a second of a node of two shards that loads it, and beside it, in turns, what librdkafka alone reads of it,
//! - what a record costs each of the node's threads,
//! - from before a record is sent until it is answered, at about 1,000 records a second,
//! - the same one record after the other, of a partition beside which a node that divides the users takes up all others.

use std::collections::BTreeSet;
use std::io::{Write, stdout};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use florin::node::{Node, NodeConfig};
use florin::shard::{Hold, Holdings};
use florin::sources::{Ledger, LedgerAddress};
use florin_kafka::{Address, Publisher, Share};
use florin_schema::{MapNode, NodeMap, Partitioner};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};

#[path = "../../sources/kafka/tests/live/broker.rs"]
#[allow(dead_code)]
mod broker;
#[path = "../floors/mod.rs"]
mod floors;
#[path = "../recharges/mod.rs"]
mod recharges;

use broker::{Broker, put};
use floors::{Caller, applied, now_us, quantiles, ticks_by_thread, told, told_of_threads, until};
use recharges::recharge;

const TOPIC: &str = "floors";
const PARTITIONS: i32 = 24;
const USERS: u64 = 16_384;
/// Loads of each kind; the middle one is what counts.
const TURNS: usize = 3;
/// Accounts that records come to while a caller waits for one of them: they lie in several partitions.
const LIVE_USERS: u64 = 16;
/// The first of them: no other record is theirs.
const LIVE_FIRST: u64 = 3_000_000;
const LIVE_A_SECOND: u64 = 1_000;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let records = arguments.next().unwrap_or(2_000_000);
    let seconds = arguments.next().unwrap_or(20);
    let broker = Broker::start().expect("a broker: scripts/kafka fetches it");
    broker.make_topic(TOPIC, PARTITIONS);
    let began = Instant::now();
    publish(&broker, records);
    told("publish", records, began.elapsed());

    let (mut alone, mut loaded) = (Vec::new(), Vec::new());
    for turn in 1..=TURNS {
        alone.push(read_alone(&broker, records));
        let (node, took) = load(&broker, records);
        loaded.push(took);
        if turn == TURNS {
            visible(&broker, &node, seconds);
        }
        node.drain();
        node.join().expect("a clean end");
    }
    beside(&broker, records);
    let middle = |took: &mut Vec<Duration>| {
        took.sort_unstable();
        took[TURNS / 2]
    };
    let (alone, loaded) = (middle(&mut alone), middle(&mut loaded));
    told("middle: librdkafka alone", records, alone);
    told("middle: load", records, loaded);
    println!("ratio: {:.2} of what librdkafka alone reads", alone.as_secs_f64() / loaded.as_secs_f64());
}

fn publish(broker: &Broker, records: u64) {
    let address: Address = broker.address(TOPIC).parse().expect("an address");
    let mut publisher = Publisher::begin(&address, &mut |_| {}).expect("a topic");
    for row in 0..records {
        let entered = recharge(row, row % USERS, row / USERS + 1, 1 + row as i64 % 1_000);
        publisher.offer(&entered).expect("it is sent");
    }
    publisher.finish().expect("it is there");
}

/// The same records, read by the client library and let go: with a node's settings where they matter.
fn read_alone(broker: &Broker, records: u64) -> Duration {
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", "alone")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.min.messages", "10000")
        .set("queued.max.messages.kbytes", "4096")
        .create()
        .expect("a consumer");
    let mut partitions = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        partitions.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("a partition");
    }
    let began = Instant::now();
    consumer.assign(&partitions).expect("an assignment");
    let (mut read, mut bytes) = (0, 0);
    while read < records {
        if let Some(message) = consumer.poll(Duration::from_millis(5)) {
            bytes += message.expect("a record").payload().map_or(0, <[u8]>::len);
            read += 1;
        }
    }
    let took = began.elapsed();
    told(&format!("librdkafka alone ({} bytes a record)", bytes as u64 / records), records, took);
    took
}

fn load(broker: &Broker, records: u64) -> (Node, Duration) {
    let ledger: LedgerAddress = broker.address(TOPIC).parse().expect("an address");
    let (began, spent) = (Instant::now(), ticks_by_thread());
    let config = NodeConfig { shards: Some(2), shards_per_cpu: 2, ..NodeConfig::local(ledger) };
    let node = Node::start(config).expect("a node");
    until("the topic is loaded", || node.obstacles().is_empty());
    let took = began.elapsed();
    assert_eq!(applied(&node), records);
    told("load", records, took);
    told_of_threads(&spent, &ticks_by_thread(), records);
    let _ = stdout().flush();
    (node, took)
}

/// A node that follows one partition takes up all others: how long a record of the one takes before, meanwhile and after.
fn beside(broker: &Broker, records: u64) {
    let ledger: LedgerAddress = broker.address(TOPIC).parse().expect("an address");
    let config =
        NodeConfig { shards: Some(2), shards_per_cpu: 2, divides_users: true, ..NodeConfig::local(ledger) };
    let mut node = Node::start(config).expect("a node");
    let share = answers_for_all(&mut node);
    let followed = Partitioner::Murmur2.partition_of(LIVE_FIRST.to_string().as_bytes(), PARTITIONS as u32);
    share.want(&BTreeSet::from([followed]));
    let is_in = |share: &Share| share.standings().values().all(Option::is_some);
    until("a partition is loaded", || is_in(&share));
    let mut caller = Caller::connect(node.addresses().listen.expect("a port"));
    let producer = broker.producer(&[("linger.ms", "0")]);
    let (mut version, _) = caller.balance(LIVE_FIRST, 1);
    let mut one = || {
        version += 1;
        let sent_us = now_us();
        put_live(&producer, LIVE_FIRST, version, version);
        producer.poll(Duration::ZERO);
        caller.balance(LIVE_FIRST, version);
        now_us() - sent_us
    };
    one();
    println!("visible, one after the other: {}", quantiles((0..2_000).map(|_| one()).collect()));
    let (before, began, mut took) = (applied(&node), Instant::now(), Vec::new());
    share.want(&(0..PARTITIONS as u32).collect());
    while !is_in(&share) {
        took.push(one());
    }
    let (rows, loaded) = (applied(&node) - before, began.elapsed());
    assert!(rows > records / 2, "there is much beside it");
    told("load beside one that is followed", rows, loaded);
    println!("visible meanwhile: {}", quantiles(took));
    node.drain();
    node.join().expect("a clean end");
}

/// Has a node that divides the users answer for all of them; what it follows.
fn answers_for_all(node: &mut Node) -> Arc<Share> {
    let Ledger::Kafka(ledger) = node.ledger() else { unreachable!("it follows a topic") };
    let share = Arc::clone(ledger.share().expect("a share"));
    let place = MapNode {
        id: node.identity().node,
        host: "127.0.0.1".to_owned(),
        port: node.addresses().listen.expect("a port").port(),
        tls_port: 0,
    };
    let mut map = NodeMap::new(1, Partitioner::Murmur2, vec![place], 1);
    (0..PARTITIONS).for_each(|_| map.push(Some(0), []));
    let mut division = node.take_division().expect("it divides its users");
    assert!(division.tell(Holdings::new(map, vec![Hold::Ready; PARTITIONS as usize])));
    share
}

/// One producer sends about 1,000 records a second; one caller waits for each version of one of the accounts.
fn visible(broker: &Broker, node: &Node, seconds: u64) {
    let versions = (LIVE_A_SECOND * seconds).div_ceil(LIVE_USERS);
    let listen = node.addresses().listen.expect("a port");
    let began = Instant::now();
    let took = thread::scope(|scope| {
        let caller = scope.spawn(move || {
            let (mut caller, mut took, mut version) = (Caller::connect(listen), Vec::new(), 0);
            while version < versions {
                let (at, sent_us) = caller.balance(LIVE_FIRST, version + 1);
                took.push(now_us() - sent_us);
                version = at;
            }
            took
        });
        send(broker, versions);
        caller.join().expect("answers")
    });
    let rate = (versions * LIVE_USERS) as f64 / began.elapsed().as_secs_f64();
    println!("visible: {}, at {rate:.0} records/s", quantiles(took));
}

fn send(broker: &Broker, versions: u64) {
    let producer = broker.producer(&[("linger.ms", "0")]);
    let began = Instant::now();
    for row in 0..versions * LIVE_USERS {
        let due = Duration::from_secs(1) * row as u32 / LIVE_A_SECOND as u32;
        thread::park_timeout(due.saturating_sub(began.elapsed()));
        put_live(&producer, LIVE_FIRST + row % LIVE_USERS, row / LIVE_USERS + 1, row);
        producer.poll(Duration::ZERO);
    }
    producer.flush(Duration::from_secs(60)).expect("it is there");
}

fn put_live(producer: &BaseProducer, user: u64, version: u64, id: u64) {
    let at = florin_record::time::text(now_us());
    let value = format!(
        r#"{{"transaction_id":"00000000-0000-4000-8000-{id:012x}","user_id":"{user}","version":"{version}","asset":"COIN","kind":"recharge","amount":"1","occurred_at":"{at}"}}"#
    );
    put(producer, TOPIC, -1, user.to_string().as_bytes(), Some(value.as_bytes()));
}
