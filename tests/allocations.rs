//! In the steady state a shard answers GetBalance, GetStatistics and Ping without allocating, in each encoding, over HTTP and RESP, for
//! its own users and for its neighbour's; and it takes in rows, grows, and copies its accounts out without.
//!
//! `cargo test --test allocations`. The counter stands in for the global allocator of this test alone, and counts
//! what its own thread asks for.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use florin::callers::{Callers, TokenHash};
use florin::clock::Now;
use florin::follower::{MeshOutlet, Outlet, link};
use florin::ledger::{Kind, Transaction};
use florin::limits::{CHECKPOINT_PIECE_BYTES, CHECKPOINT_PIECE_ROOM};
use florin::mesh::Parking;
use florin::shard::{
    AuditAnswer, AuditOrder, CheckpointAnswer, CheckpointOrder, FeedEvent, Listener, Shard, ShardMetrics,
    ShardSetup, audit_link, checkpoint_link,
};
use florin_schema::frame::{RequestHeader, VERSION};
use florin_schema::generated;
use florin_schema::{Asset, Encoding, Opcode, ShardIndex, UserId, Version};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: each call is passed on unchanged to the system's allocator, which upholds the contract; counting touches a
// thread-local integer and nothing of the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from `System`, with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: Now = Now { wall_us: 1_795_320_306_000_000, monotonic_us: 1_000_000 };
const USERS: u64 = 64;

/// Two shards that know each other, loaded with a few accounts.
struct Node {
    shards: Vec<Shard>,
    turn: u64,
    /// The buffers that a driver keeps a connection.
    spare: Vec<Vec<u8>>,
}

impl Node {
    fn new() -> Node {
        Node::of(None)
    }

    /// The same, where callers have to prove who they are.
    fn of(callers: Option<&Callers>) -> Node {
        let parkings = [Arc::new(Parking::new()), Arc::new(Parking::new())];
        let mut shards = Vec::new();
        for (index, peers) in florin::shard::mesh(&parkings).into_iter().enumerate() {
            let index = ShardIndex(index as u16);
            let parking = &parkings[usize::from(index.0)];
            let (mut outlet, feed) = link(Arc::clone(parking), Arc::new(|| {}));
            outlet.publish(NOW.wall_us, NOW.monotonic_us);
            for row in rows().filter(|row| row.user_id.shard(2) == index) {
                outlet.send(FeedEvent::Row(row)).expect("room for every row");
            }
            let alone = ShardSetup::alone(Arc::clone(parking), feed);
            let shard = Shard::new(ShardSetup { index, shards: 2, peers, ports: vec![1, 2], ..alone });
            shards.push(match callers {
                Some(callers) => shard.with_callers(callers.link()),
                None => shard,
            });
        }
        let mut node = Node { shards, turn: 0, spare: vec![Vec::new(), Vec::new()] };
        node.shards[0].begin_turn(NOW);
        node.shards[0].open(0, Listener::Any);
        node.shards[0].open(1, Listener::Any);
        for _ in 0..8 {
            node.turn(0, &[]);
        }
        node
    }

    /// One turn of each shard, as a driver takes it; the bytes that shard 0 answered to `connection`.
    fn turn(&mut self, connection: u32, input: &[u8]) -> usize {
        self.turn += 1;
        let now = Now { monotonic_us: NOW.monotonic_us + self.turn, ..NOW };
        let mut answered = 0;
        for (index, shard) in self.shards.iter_mut().enumerate() {
            shard.begin_turn(now);
            if index == 0 && !input.is_empty() {
                shard.receive(connection, input);
            }
            shard.work();
            while let Some(touched) = shard.next_touched() {
                if shard.wants(touched).output {
                    let empty = std::mem::take(&mut self.spare[touched as usize]);
                    let mut output = shard.take_output(touched, empty);
                    answered += output.len();
                    shard.sent(touched, output.len());
                    output.clear();
                    self.spare[touched as usize] = output;
                }
            }
            while shard.next_to_wake().is_some() {}
            shard.end_turn(now.monotonic_us);
            shard.park();
        }
        answered
    }

    /// What `input` allocates once it has been answered a few times.
    fn allocations(&mut self, connection: u32, input: &[u8]) -> u64 {
        let answer = |node: &mut Node| {
            (0..4).map(|turn| node.turn(connection, if turn == 0 { input } else { &[] })).sum()
        };
        let expected: usize = (0..50).map(|_| answer(self)).last().expect("fifty rounds");
        assert!(expected > 0, "it was answered");
        let before = ALLOCATIONS.with(Cell::get);
        for _ in 0..1_000 {
            assert_eq!(answer(self), expected);
        }
        ALLOCATIONS.with(Cell::get) - before
    }
}

fn rows() -> impl Iterator<Item = Transaction> {
    (0..USERS).flat_map(|user| {
        (1..=12u64).map(move |version| Transaction {
            user_id: UserId::new(user).expect("a legal id"),
            version: Version(version),
            asset: Asset::parse([b"COIN".as_slice(), b"USD", b"DIAMOND"][version as usize % 3])
                .expect("a legal code"),
            kind: Kind::ALL[version as usize % Kind::ALL.len()],
            amount: 100 + version as i64,
            occurred_at_us: NOW.wall_us - version as i64 * 7_200_000_000,
        })
    })
}

/// One request for each user, as one caller's pipeline.
fn frames(opcode: Opcode, encoding: Encoding) -> Vec<u8> {
    let mut frames = Vec::new();
    for user in 0..USERS {
        let payload: &[u8] = if opcode == Opcode::Ping { b"pong" } else { &[] };
        let header = RequestHeader {
            length: U32::new(24 + payload.len() as u32),
            version: VERSION,
            opcode: opcode as u8,
            encoding: encoding as u8,
            flags: 0,
            request_id: U64::new(user),
            user_id: U64::new(if opcode == Opcode::Ping { 0 } else { user }),
        };
        frames.extend_from_slice(header.as_bytes());
        frames.extend_from_slice(payload);
    }
    frames
}

#[test]
fn native_requests_allocate_nothing() {
    let mut node = Node::new();
    for opcode in [Opcode::GetBalance, Opcode::GetStatistics, Opcode::Ping] {
        for &encoding in Encoding::ALL {
            let allocations = node.allocations(0, &frames(opcode, encoding));
            assert_eq!(allocations, 0, "1,000 times 64 {opcode:?} over {encoding:?}, half of them forwarded");
        }
    }
}

fn hello(token: &str) -> Vec<u8> {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let (client, token) = (builder.create_string("test"), builder.create_string(token));
    let arguments = generated::HelloArgs { client: Some(client), token: Some(token) };
    let root = generated::Hello::create(&mut builder, &arguments);
    builder.finish(root, None);
    let body = builder.finished_data();
    let mut frame = (24 + body.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&[VERSION, Opcode::Hello as u8, 0, 0]);
    frame.extend_from_slice(&[0; 16]);
    frame.extend_from_slice(body);
    frame
}

/// Whether their requests are counted or not; nor does the proof itself, where it comes again.
#[test]
fn callers_who_are_known_allocate_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("principals.toml");
    let entry = |name: &str, quota: &str| {
        let (may, hash) = ("[\"balance\", \"statistics\"]", TokenHash::of(name.as_bytes()));
        format!("[[principal]]\nname = \"{name}\"\nmay = {may}\ntokens = [\"{hash}\"]\n{quota}")
    };
    // A microsecond a turn is a rate that no quota grants: a burst has to do.
    let text = entry("free", "") + &entry("counted", "requests_per_s = 10000000\n");
    std::fs::write(&path, text).expect("a writable folder");
    let callers = Callers::open(&path).expect("a file of principals");
    for name in ["free", "counted"] {
        let mut node = Node::of(Some(&callers));
        assert_eq!(node.allocations(0, &hello(name)), 0, "a Hello by {name}");
        for opcode in [Opcode::GetBalance, Opcode::GetStatistics, Opcode::Ping] {
            assert_eq!(node.allocations(0, &frames(opcode, Encoding::Rkyv)), 0, "{opcode:?} by {name}");
        }
        let header = format!("Authorization: Bearer {name}");
        let request = format!("GET /v1/users/1/balance HTTP/1.1\r\nHost: florin\r\n{header}\r\n\r\n");
        assert_eq!(node.allocations(1, request.as_bytes()), 0, "over HTTP by {name}");
    }
}

#[test]
fn requests_over_http_allocate_nothing() {
    let mut node = Node::new();
    for path in ["balance", "statistics", "statistics?window=24h"] {
        for user in [1, 2] {
            let request = format!("GET /v1/users/{user}/{path} HTTP/1.1\r\nHost: florin\r\n\r\n");
            assert_eq!(node.allocations(1, request.as_bytes()), 0, "1,000 times {path} of user {user}");
        }
    }
}

#[test]
fn requests_over_resp_allocate_nothing() {
    let get = |key: &str| format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len());
    let is_own = |user: &u64| UserId::new(*user).expect("a legal id").shard(2) == ShardIndex(0);
    let own: Vec<u64> = (0..USERS).filter(is_own).collect();
    let all = |name: &str| own.iter().map(|user| get(&format!("{name}:{user}"))).collect::<String>();
    let told = |word: &str| format!("*2\r\n${}\r\n{word}\r\n$1\r\n{}\r\n", word.len(), own[0]);
    let theirs = (0..USERS).find(|user| !is_own(user)).expect("some are the neighbour's");
    for commands in [
        all("balance"),
        all("statistics"),
        get(&format!("balance:{theirs}")),
        get(&format!("statistics:{theirs}")),
        told("FLORIN.BALANCE"),
        told("FLORIN.STATISTICS"),
        "*1\r\n$4\r\nPING\r\n".to_owned(),
    ] {
        let mut node = Node::new();
        assert_eq!(node.allocations(0, commands.as_bytes()), 0, "1,000 times {commands:?}");
    }
}

#[test]
fn users_who_are_not_there_allocate_nothing() {
    let mut node = Node::new();
    let mut frame = frames(Opcode::GetBalance, Encoding::Rkyv);
    frame.truncate(24);
    frame[16..24].copy_from_slice(&999_999u64.to_le_bytes());
    assert_eq!(node.allocations(0, &frame), 0);
}

/// One shard, and the feed's end of its link.
struct Fed {
    shard: Shard,
    metrics: Arc<ShardMetrics>,
    outlet: MeshOutlet,
    turn: u64,
}

impl Fed {
    fn new() -> Fed {
        let parking = Arc::new(Parking::new());
        let (mut outlet, feed) = link(Arc::clone(&parking), Arc::new(|| {}));
        outlet.publish(NOW.wall_us, NOW.monotonic_us);
        let setup = ShardSetup::alone(parking, feed);
        let metrics = Arc::clone(&setup.metrics);
        Fed { shard: Shard::new(setup), metrics, outlet, turn: 0 }
    }

    fn turn(&mut self) {
        self.turn += 1;
        let now = Now { monotonic_us: NOW.monotonic_us + self.turn, ..NOW };
        self.shard.begin_turn(now);
        self.shard.work();
        self.shard.end_turn(now.monotonic_us);
    }

    fn send(&mut self, mut event: FeedEvent) {
        while let Err(same) = self.outlet.send(event) {
            event = same;
            self.turn();
        }
    }

    /// What a commit allocates that has a row of each of so many accounts, and tells only at its end that there are no more.
    fn commit(&mut self, users: u64, version: u64) -> u64 {
        let before = ALLOCATIONS.with(Cell::get);
        for user in 0..users {
            self.send(FeedEvent::Part(Transaction {
                user_id: UserId::new(user).expect("a legal id"),
                version: Version(version),
                asset: Asset::parse([b"COIN".as_slice(), b"USD"][version as usize % 2])
                    .expect("a legal code"),
                kind: Kind::Recharge,
                amount: 1,
                occurred_at_us: NOW.wall_us - version as i64 * 7_200_000_000,
            }));
        }
        self.send(FeedEvent::CommitEnd);
        self.send(FeedEvent::BatchEnd(version));
        while self.outlet.applied_batch() < version {
            self.turn();
        }
        ALLOCATIONS.with(Cell::get) - before
    }
}

/// Once each account of a commit that had not ended took a node of a tree from the C library, which asked the system for more memory while
/// callers waited: up to 20 ms for a commit of 20,000.
#[test]
fn commits_that_concern_many_accounts_allocate_nothing() {
    let mut fed = Fed::new();
    // The first also makes the index grow; with the others the accounts' records do.
    for version in 1..=4 {
        assert_eq!(fed.commit(20_000, version), 0, "version {version}");
        assert_eq!(fed.metrics.accounts.get(), 20_000);
    }
}

/// Nor does what compares them with the ledger, once its buffers have their size.
#[test]
fn accounts_are_copied_out_without_allocating() {
    let (mut port, link) = checkpoint_link();
    let (mut audit, audit_end) = audit_link();
    let mut fed = Fed::new();
    fed.shard = fed.shard.with_checkpoints(link).with_audit(audit_end);
    fed.commit(20_000, 1);
    let mut buffer = Vec::with_capacity(CHECKPOINT_PIECE_BYTES + CHECKPOINT_PIECE_ROOM);
    for round in 0..2 {
        let before = ALLOCATIONS.with(Cell::get);
        let mut copied = 0;
        assert!(port.orders.push(CheckpointOrder::Begin).is_ok());
        loop {
            assert!(port.orders.push(CheckpointOrder::Fill(buffer)).is_ok());
            let (records, is_last) = loop {
                match port.answers.pop() {
                    Some(CheckpointAnswer::Filled { records, is_last }) => break (records, is_last),
                    _ => fed.turn(),
                }
            };
            copied += records.len();
            buffer = records;
            buffer.clear();
            if is_last {
                break;
            }
        }
        assert!(copied > 20_000 * 100, "all of them");
        let allocations = ALLOCATIONS.with(Cell::get) - before;
        assert!(
            allocations <= 1 - round,
            "{allocations} for checkpoint {round}: the first keeps a list of 16 accounts"
        );
    }
    let mut order = (Vec::new(), Default::default());
    order.0.extend((0..64).map(|user| UserId::new(user).expect("a legal id")));
    for round in 0..10 {
        let before = ALLOCATIONS.with(Cell::get);
        let (users, copies) = order;
        assert!(audit.orders.push(AuditOrder::Copy { users, below: None, copies }).is_ok());
        order = loop {
            match audit.answers.pop() {
                Some(AuditAnswer::Copied { users, copies }) => break (users, copies),
                _ => fed.turn(),
            }
        };
        assert!(round < 2 || ALLOCATIONS.with(Cell::get) == before, "round {round} of the audit");
    }
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 1);
}
