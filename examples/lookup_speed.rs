//! What a GetBalance costs a shard without any kernel: `cargo run --release --example lookup_speed [USERS] [DEPTH]`.
//!
//! One shard, rkyv, uniform keys, DEPTH requests a buffer, 16 connections' buffers a turn; prints ns a request, parsing and encoding included. Run it
//! with `/sys/kernel/mm/transparent_hugepage/enabled` at `never` and at `madvise` to see what huge pages do.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use florin::clock::Now;
use florin::ledger::{Kind, Transaction};
use florin::limits::{FEED_RING_SLOTS, REREADS_MAX};
use florin::mesh::{self, Latest, Parking};
use florin::shard::{FeedEvent, FeedLink, Listener, Shard, ShardSetup};
use florin_schema::frame::{RequestHeader, VERSION};
use florin_schema::{Asset, Encoding, Opcode, UserId, Version};
use rand::{Rng, SeedableRng, rngs::StdRng};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

const NOW: Now = Now { wall_us: 1_795_320_306_000_000, monotonic_us: 1_000_000 };
/// Of one round.
const REQUESTS: u64 = 1_000_000;
const ROUNDS: usize = 15;
/// Connections that have sent when a turn begins.
const BUFFERS_PER_TURN: usize = 16;
/// A reply without any asset, and what each adds.
const REPLY_BYTES: u64 = 64;
const ASSET_BYTES: u64 = 24;
const ASSETS: [&[u8]; 3] = [b"COIN", b"DIAMOND", b"USD"];

fn main() {
    let mut arguments =
        std::env::args().skip(1).map(|argument| argument.parse().expect("an argument is a number"));
    let users: u64 = arguments.next().unwrap_or(1_000_000);
    let depth: u64 = arguments.next().unwrap_or(32);
    let mut shard = loaded(users);
    for connection in 0..BUFFERS_PER_TURN as u32 {
        shard.open(connection, Listener::Any);
    }
    let inputs = Inputs::new(users, depth);
    let mut times_ns: Vec<f64> = (0..ROUNDS).map(|_| round_ns(&mut shard, &inputs)).collect();
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

/// Buffers of requests, as a driver would hand them in.
struct Inputs {
    buffers: Vec<Vec<u8>>,
    requests: u64,
    reply_bytes: u64,
}

impl Inputs {
    fn new(users: u64, depth: u64) -> Inputs {
        let mut random = StdRng::seed_from_u64(7);
        let mut reply_bytes = 0;
        let mut header = |request_id| {
            let user = random.random_range(0..users);
            reply_bytes += REPLY_BYTES + ASSET_BYTES * assets(user);
            RequestHeader {
                length: U32::new(24),
                version: VERSION,
                opcode: Opcode::GetBalance as u8,
                encoding: Encoding::Rkyv as u8,
                flags: 0,
                request_id: U64::new(request_id),
                user_id: U64::new(user),
            }
        };
        let buffers: Vec<Vec<u8>> = (0..REQUESTS / depth)
            .map(|_| (0..depth).flat_map(|id| header(id).as_bytes().to_vec()).collect())
            .collect();
        Inputs { requests: buffers.len() as u64 * depth, buffers, reply_bytes }
    }
}

/// Every buffer once, and a turn for as many as there are connections.
fn round_ns(shard: &mut Shard, inputs: &Inputs) -> f64 {
    let mut sent = 0;
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
                sent += output.len();
                shard.recycle(output);
            }
        }
        shard.end_turn(NOW.monotonic_us);
        shard.park();
    }
    let took_ns = begun.elapsed().as_nanos() as f64;
    assert_eq!(sent as u64, inputs.reply_bytes, "every request is answered with a balance");
    took_ns / inputs.requests as f64
}

/// A shard with one transaction for each of a user's assets.
fn loaded(users: u64) -> Shard {
    let (mut rows, events) = mesh::ring(FEED_RING_SLOTS);
    let (requests, _) = mesh::ring(REREADS_MAX);
    let watermark = Arc::new(Latest::new());
    watermark.store(NOW.wall_us, NOW.monotonic_us);
    let feed = FeedLink {
        events,
        requests,
        applied_batch: Arc::new(AtomicU64::new(0)),
        watermark,
        housekeeping: Default::default(),
    };
    let mut shard = Shard::new(ShardSetup::alone(Arc::new(Parking::new()), feed));
    for version in 1..=ASSETS.len() as u64 {
        for user in (0..users).filter(|&user| assets(user) >= version) {
            let mut row = FeedEvent::Row(Transaction {
                user_id: UserId::new(user).expect("a legal id"),
                version: Version(version),
                asset: Asset::parse(ASSETS[version as usize - 1]).expect("a legal code"),
                kind: Kind::Recharge,
                amount: 5,
                occurred_at_us: NOW.wall_us,
            });
            while let Err(same) = rows.push(row) {
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
    shard
}
