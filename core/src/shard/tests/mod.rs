//! What a shard has got wrong before; found by `tests/simulation`.

use core::sync::atomic::AtomicU64;

use florin_schema::frame::{REPLY_DRAINING, REPLY_LASTING, REPLY_QUARANTINED, ReplyHeader, RequestHeader};
use florin_schema::{Asset, Encoding, Opcode, Status, Version, records};
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::ledger::{Kind, Transaction};
use crate::mesh::{self, Latest, Receiver, Sender};

mod answering;
mod bounds;
mod callers;
mod ending;
mod following;
mod holdings;
mod links;
mod principals;
mod resp;
mod slow;
mod waiting;

/// A shard by itself, and the feed's ends of its link.
pub(super) struct Alone {
    pub(super) shard: Shard,
    pub(super) events: Sender<FeedEvent>,
    pub(super) requests: Receiver<FeedRequest>,
}

/// The shards of a node, each with a watermark.
pub(super) fn node(shards: u16, request_slots: usize) -> Vec<Alone> {
    node_with(shards, 64, request_slots)
}

/// The same, with room for so many events of the feed.
fn node_with(shards: u16, event_slots: usize, request_slots: usize) -> Vec<Alone> {
    let parkings: Vec<_> = (0..shards).map(|_| Arc::new(Parking::new())).collect();
    let links = mesh(&parkings).into_iter().enumerate();
    let alone = |(index, peers): (usize, Vec<Option<PeerLink>>)| {
        let (events, shard_events) = mesh::ring(event_slots);
        let (shard_requests, requests) = mesh::ring(request_slots);
        let watermark = Arc::new(Latest::new());
        watermark.store(1, 1);
        let feed = FeedLink {
            events: shard_events,
            requests: shard_requests,
            applied_batch: Arc::new(AtomicU64::new(0)),
            watermark,
            housekeeping: Default::default(),
        };
        let alone = ShardSetup::alone(Arc::clone(&parkings[index]), feed);
        let server = "test".to_owned();
        let setup = ShardSetup { index: ShardIndex(index as u16), shards, peers, server, ..alone };
        Alone { shard: Shard::new(setup), events, requests }
    };
    links.map(alone).collect()
}

impl Alone {
    /// Sends what the feed would.
    pub(super) fn send(&mut self, event: FeedEvent) {
        assert!(self.events.push(event).is_ok(), "the shard has taken what came before");
    }

    fn begin_turn(&mut self, monotonic_us: u64) {
        self.shard.begin_turn(Now { wall_us: 0, monotonic_us });
    }

    fn turn(&mut self, monotonic_us: u64) {
        self.begin_turn(monotonic_us);
        self.end_turn(monotonic_us);
    }

    fn end_turn(&mut self, monotonic_us: u64) {
        self.shard.work();
        self.shard.end_turn(monotonic_us);
    }

    /// A turn in which `bytes` come on connection 0.
    fn turn_with(&mut self, monotonic_us: u64, bytes: &[u8]) {
        self.begin_turn(monotonic_us);
        self.shard.receive(0, bytes);
        self.end_turn(monotonic_us);
    }

    /// The reply to a frame of these bytes, on connection 0.
    fn reply(&mut self, frame: &[u8]) -> (ReplyHeader, Vec<u8>) {
        self.turn_with(20, frame);
        let reply = self.send_output();
        let (header, body) = ReplyHeader::read_from_prefix(&reply).expect("a reply");
        assert_eq!(header.length.get() as usize, reply.len(), "one reply");
        (header, body.to_vec())
    }

    /// All that is to be sent on connection 0, as if it went at once.
    fn send_output(&mut self) -> Vec<u8> {
        let output = self.shard.take_output(0, Vec::new());
        self.shard.sent(0, output.len());
        output
    }

    /// A turn at another time of day, in which the first connection asks over HTTP; the answer.
    fn asked_at(&mut self, wall_us: i64, monotonic_us: u64, request: &str) -> String {
        self.shard.begin_turn(Now { wall_us, monotonic_us });
        self.shard.receive(0, request.as_bytes());
        self.shard.work();
        let output = self.take_output();
        self.shard.sent(0, output.len());
        output
    }

    fn take_output(&mut self) -> String {
        String::from_utf8(self.shard.take_output(0, Vec::new())).expect("HTTP")
    }
}

fn frame(opcode: Opcode, encoding: Encoding, user_id: u64, body: &[u8]) -> Vec<u8> {
    let header = RequestHeader {
        length: (24 + body.len() as u32).into(),
        version: 1,
        opcode: opcode as u8,
        encoding: encoding as u8,
        flags: 0,
        request_id: 1.into(),
        user_id: user_id.into(),
    };
    [header.as_bytes(), body].concat()
}

/// What a caller sends, received in pieces as long as the shard wants more; how many bytes it took.
fn pour(node: &mut [Alone], connection: u32, at_us: u64, bytes: &[u8]) -> usize {
    let mut taken = 0;
    for (piece, at_us) in bytes.chunks(1_024).zip(at_us..) {
        if !node[0].shard.wants(connection).intake {
            break;
        }
        node[0].begin_turn(at_us);
        node[0].shard.receive(connection, piece);
        node[0].end_turn(at_us);
        taken += piece.len();
    }
    taken
}

/// A request of `opcode`, which waits a second for version 9 where `waits`.
fn request(opcode: u8, id: u64, user: u64, waits: bool, users: &[u64]) -> Vec<u8> {
    let options = if waits { 16 } else { 0 };
    let mut frame = (24 + options + 8 * users.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&[1, opcode, 1, u8::from(waits)]);
    frame.extend_from_slice(&id.to_le_bytes());
    frame.extend_from_slice(&user.to_le_bytes());
    if waits {
        frame.extend_from_slice(&9_u64.to_le_bytes());
        frame.extend_from_slice(&0_u32.to_le_bytes());
        frame.extend_from_slice(&1_000_u32.to_le_bytes());
    }
    users.iter().for_each(|user| frame.extend_from_slice(&user.to_le_bytes()));
    frame
}

/// The first user of a shard of two.
fn user_of(shard: u16) -> u64 {
    (0..)
        .find(|&id| UserId::new(id).is_some_and(|user| user.shard(2) == ShardIndex(shard)))
        .expect("there are many")
}

fn row(user_id: u64, version: u64) -> Transaction {
    Transaction {
        user_id: UserId::new(user_id).expect("a legal id"),
        version: Version(version),
        asset: Asset::parse(b"COIN").expect("a legal code"),
        kind: Kind::Recharge,
        amount: i64::MAX,
        occurred_at_us: 0,
    }
}
