//! What a GetBalance costs a shard without any kernel: `cargo run --release --example lookup_speed [USERS] [DEPTH] [rkyv|resp|http]`.
//!
//! One shard, rkyv, RESP or HTTP, uniform keys, DEPTH requests a buffer, 16 connections' buffers a turn; prints ns a request, parsing and
//! encoding included. Run it with `/sys/kernel/mm/transparent_hugepage/enabled` at `never` and at `madvise` to see what huge pages do. A
//! difference of instructions is exact where nothing else is: `valgrind --tool=callgrind --toggle-collect='*round_ns*' …` counts them.

use std::sync::Arc;
use std::time::Instant;

use florin::clock::Now;
use florin::follower::{Outlet, link};
use florin::ledger::{Kind, Transaction};
use florin::mesh::Parking;
use florin::shard::{FeedEvent, Listener, Shard, ShardMetrics, ShardSetup};
use florin_schema::frame::{RequestHeader, VERSION};
use florin_schema::{Asset, Encoding, Opcode, Status, UserId, Version};
use rand::{Rng, SeedableRng, rngs::StdRng};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

const NOW: Now = Now { wall_us: 1_795_320_306_000_000, monotonic_us: 1_000_000 };
/// Of one round.
const REQUESTS: u64 = 1_000_000;
const ROUNDS: usize = 15;
/// Amounts are below, and times as far back at most.
const AMOUNT_MAX: i64 = 1_000_000;
const DAYS_US: i64 = 30 * 86_400_000_000;
/// Connections that have sent when a turn begins.
const BUFFERS_PER_TURN: usize = 16;
const ASSETS: [&[u8]; 3] = [b"COIN", b"DIAMOND", b"USD"];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |otherwise| match arguments.next() {
        Some(argument) => argument.parse().expect("USERS and DEPTH are numbers"),
        None => otherwise,
    };
    let (users, depth) = (number(1_000_000), number(32));
    let request = match arguments.next().as_deref() {
        None | Some("rkyv") => frame,
        Some("resp") => command,
        Some("http") => head,
        Some(other) => panic!("{other}: one asks over rkyv, resp or http"),
    };
    let mut loaded = Loaded::new(users);
    for connection in 0..BUFFERS_PER_TURN as u32 {
        loaded.shard.open(connection, Listener::Any);
    }
    let inputs = Inputs::new(users, depth, request);
    let mut times_ns: Vec<f64> = (0..ROUNDS).map(|_| round_ns(&mut loaded, &inputs)).collect();
    times_ns.sort_by(f64::total_cmp);
    println!(
        "{:.1} ns a request (median of {ROUNDS} rounds; {:.1} to {:.1})",
        times_ns[ROUNDS / 2],
        times_ns[0],
        times_ns[ROUNDS - 1]
    );
}

/// How many assets a user has: from one to three, and not to be guessed.
fn assets(user: u64) -> u64 {
    1 + UserId::new(user).expect("a legal id").hashed().hash() % ASSETS.len() as u64
}

fn frame(user: u64) -> Vec<u8> {
    let header = RequestHeader {
        length: U32::new(24),
        version: VERSION,
        opcode: Opcode::GetBalance as u8,
        encoding: Encoding::Rkyv as u8,
        flags: 0,
        request_id: U64::new(7),
        user_id: U64::new(user),
    };
    header.as_bytes().to_vec()
}

fn command(user: u64) -> Vec<u8> {
    let key = format!("balance:{user}");
    format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).into_bytes()
}

fn head(user: u64) -> Vec<u8> {
    format!("GET /v1/users/{user}/balance HTTP/1.1\r\nHost: florin\r\n\r\n").into_bytes()
}

/// Buffers of requests, as a driver would hand them in.
struct Inputs {
    buffers: Vec<Vec<u8>>,
    requests: u64,
}

impl Inputs {
    fn new(users: u64, depth: u64, request: fn(u64) -> Vec<u8>) -> Inputs {
        let mut random = StdRng::seed_from_u64(7);
        let mut buffer = |_| (0..depth).flat_map(|_| request(random.random_range(0..users))).collect();
        let buffers: Vec<Vec<u8>> = (0..REQUESTS / depth).map(&mut buffer).collect();
        Inputs { requests: buffers.len() as u64 * depth, buffers }
    }
}

/// Every buffer once, and a turn for as many as there are connections.
#[inline(never)]
fn round_ns(loaded: &mut Loaded, inputs: &Inputs) -> f64 {
    let Loaded { shard, metrics } = loaded;
    let answered = |metrics: &ShardMetrics| {
        metrics.opcodes[Opcode::GetBalance as usize].answers[Status::Ok as usize].get()
    };
    let answered_before = answered(metrics);
    let begun = Instant::now();
    for turn in inputs.buffers.chunks(BUFFERS_PER_TURN) {
        shard.begin_turn(NOW);
        for (connection, input) in (0..).zip(turn) {
            shard.receive(connection, input);
        }
        shard.work();
        while let Some(connection) = shard.next_touched() {
            if shard.wants(connection).output {
                let output = shard.take_output(connection, Vec::new());
                shard.sent(connection, output.len());
                shard.recycle(output);
            }
        }
        shard.end_turn(NOW.monotonic_us);
        shard.park();
    }
    let took_ns = begun.elapsed().as_nanos() as f64;
    let answers = answered(metrics) - answered_before;
    assert_eq!(answers, inputs.requests, "every request is answered with a balance");
    took_ns / inputs.requests as f64
}

/// A shard with one transaction for each of a user's assets, of different amounts and times.
struct Loaded {
    shard: Shard,
    metrics: Arc<ShardMetrics>,
}

impl Loaded {
    fn new(users: u64) -> Loaded {
        let parking = Arc::new(Parking::new());
        let (mut outlet, feed) = link(Arc::clone(&parking), Arc::new(|| {}));
        outlet.publish(NOW.wall_us, NOW.monotonic_us);
        let setup = ShardSetup::alone(parking, feed);
        let metrics = Arc::clone(&setup.metrics);
        let mut shard = Shard::new(setup);
        let mut random = StdRng::seed_from_u64(11);
        for version in 1..=ASSETS.len() as u64 {
            for user in (0..users).filter(|&user| assets(user) >= version) {
                let before_us = random.random_range(0..DAYS_US);
                let mut row = FeedEvent::Row(Transaction {
                    user_id: UserId::new(user).expect("a legal id"),
                    version: Version(version),
                    asset: Asset::parse(ASSETS[version as usize - 1]).expect("a legal code"),
                    kind: Kind::Recharge,
                    amount: random.random_range(1..AMOUNT_MAX),
                    occurred_at_us: NOW.wall_us - before_us,
                });
                while let Err(same) = outlet.send(row) {
                    row = same;
                    shard.begin_turn(NOW);
                    shard.work();
                }
            }
        }
        while shard.park() == florin::shard::Park::Busy {
            shard.begin_turn(NOW);
            shard.work();
        }
        shard.begin_turn(NOW);
        Loaded { shard, metrics }
    }
}
