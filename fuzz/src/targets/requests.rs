//! What callers send: requests of each protocol, and whole conversations with a shard.

use florin::clock::Now;
use florin::follower::{Outlet, link_of};
use florin::ledger::{Kind, Transaction};
use florin::mesh::Parking;
use florin::shard::{FeedEvent, Listener, Shard, ShardSetup};
use florin::wire::{self, Parsed};
use florin_schema::{Asset, UserId, Version};
use std::sync::Arc;

/// The native parser.
pub fn frame(input: &[u8]) {
    parser(input, wire::frame::parse);
}

/// The HTTP parser.
pub fn http(input: &[u8]) {
    parser(input, wire::http::parse);
}

/// The RESP parser; its fast way takes nothing that it does not.
pub fn resp(input: &[u8]) {
    parser(input, |bytes, users| {
        let parsed = wire::resp::parse(bytes, wire::RespVersion::Two, users);
        if let Some((user, length)) = wire::resp::plain_balance(bytes) {
            let is_alike = matches!(parsed, Parsed::Request(request, bytes)
                if (request.query, bytes) == (wire::Query::Balance(user), length));
            assert!(is_alike, "{user}: {parsed:?}");
        }
        assert!(parsed != Parsed::Incomplete || wire::resp::least_bytes(bytes) > bytes.len());
        parsed
    });
}

type Parse = for<'a> fn(&'a [u8], &mut Vec<UserId>) -> Parsed<'a>;

/// A parser never panics, always gets on, and does not take a request for whole before it is.
fn parser(mut input: &[u8], parse: Parse) {
    let mut users = Vec::new();
    loop {
        let consumed = match parse(input, &mut users) {
            Parsed::Request(_, bytes) => {
                assert!((1..=input.len()).contains(&bytes), "{bytes} of {} bytes", input.len());
                for cut in [0, 1, bytes / 2, bytes - 1] {
                    let early = parse(&input[..cut], &mut users);
                    assert!(
                        matches!(early, Parsed::Incomplete | Parsed::Continue),
                        "cut at {cut}: {early:?}"
                    );
                }
                bytes
            }
            Parsed::Rejected(rejection) => {
                assert!(!rejection.message.is_empty());
                match rejection.consumed {
                    Some(bytes) => bytes,
                    None => return,
                }
            }
            Parsed::Incomplete | Parsed::Continue => return,
        };
        assert!(consumed > 0, "a parser that takes nothing never ends");
        let Some(rest) = input.get(consumed..) else { return };
        input = rest;
    }
}

/// One connection answers the same, in whatever pieces its input comes.
pub fn session(input: &[u8]) {
    let whole = Session::new().converse(std::iter::once(input));
    let mut seed = input.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    // At most 400 pieces: at a µs each, less than the millisecond in which messages tell an age.
    let longest = input.len() / 200 + 1 + seed as usize % 64;
    let mut rest = input;
    let pieces = std::iter::from_fn(|| {
        seed = florin_schema::ids::mix(seed);
        let bytes = (longest / 2 + 1 + seed as usize % longest).min(rest.len());
        let (piece, after) = rest.split_at(bytes);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    });
    assert_alike(input, whole, Session::new().converse(pieces));
}

/// The same for each of these places to cut it in two.
#[allow(dead_code, reason = "the fuzzers cut at places of their own")]
pub fn cuts(input: &[u8], places: impl Iterator<Item = usize>) {
    let whole = Session::new().converse(std::iter::once(input));
    for at in places {
        let (first, second) = input.split_at(at);
        let pieces = [first, second].into_iter().filter(|piece| !piece.is_empty());
        assert_alike(input, whole.clone(), Session::new().converse(pieces));
    }
}

fn assert_alike(input: &[u8], whole: Vec<u8>, cut: Vec<u8>) {
    // To a refused head that expects 100-continue the answer depends on whether its body is already here.
    if !input.to_ascii_lowercase().windows(6).any(|six| six == b"expect") {
        assert_eq!(in_any_order(whole, input), in_any_order(cut, input));
    }
}

/// Answers, without what may differ: the order of frames, and the opcode and id that the refusal of an illegal length
/// echoes, for it comes as soon as the length is here.
fn in_any_order(answers: Vec<u8>, input: &[u8]) -> Vec<Vec<u8>> {
    if wire::detect(input) != Some(wire::Protocol::Native) {
        return vec![answers];
    }
    let (mut frames, mut rest) = (Vec::new(), &answers[..]);
    while let Some(length) = rest.first_chunk() {
        let (frame, after) = rest.split_at(u32::from_le_bytes(*length) as usize);
        let mut frame = frame.to_vec();
        if frame[32..].starts_with(b"length: expected 24 to") {
            frame[5] = 0;
            frame[8..16].fill(0);
        }
        frames.push(frame);
        rest = after;
    }
    assert!(rest.is_empty(), "answers end with a whole frame");
    frames.sort();
    frames
}

/// One shard with a few accounts and one connection.
struct Session {
    shard: Shard,
    now: Now,
    answers: Vec<u8>,
    is_open: bool,
}

impl Session {
    fn new() -> Session {
        let parking = Arc::new(Parking::new());
        let (mut outlet, feed) = link_of(64, 8, Arc::clone(&parking), Arc::new(|| {}));
        outlet.publish(1_000, 1);
        for (user, version) in [(0, 1), (1, 1), (1, 2), (42, 1), (7, 3)] {
            let row = Transaction {
                user_id: UserId::new(user).expect("a legal id"),
                version: Version(version),
                asset: Asset::parse(b"COIN").expect("a legal code"),
                kind: Kind::Recharge,
                amount: 5,
                occurred_at_us: 0,
            };
            assert!(outlet.send(FeedEvent::Row(row)).is_ok(), "room");
        }
        let mut shard = Shard::new(ShardSetup::alone(parking, feed));
        let now = Now { wall_us: 1_000, monotonic_us: 1 };
        shard.begin_turn(now);
        shard.work();
        shard.open(0, Listener::Any);
        Session { shard, now, answers: Vec::new(), is_open: true }
    }

    /// Everything that the connection answers to its input; long enough after it for whatever may wait.
    fn converse<'a>(mut self, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        for piece in pieces {
            self.now.monotonic_us += 1;
            self.turn(piece);
        }
        self.settle();
        for second in [2, 4, 6, 8] {
            self.now.monotonic_us = second * 1_000_000;
            self.settle();
        }
        if self.is_open {
            self.shard.begin_turn(self.now);
            self.shard.end_of_input(0);
            self.settle();
        }
        self.answers
    }

    /// Turns until nothing more is answered.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let before = self.answers.len();
            self.turn(&[]);
            if self.answers.len() == before {
                return;
            }
        }
        panic!("answers without end");
    }

    fn turn(&mut self, piece: &[u8]) {
        if !self.is_open {
            return;
        }
        self.shard.begin_turn(self.now);
        if !piece.is_empty() {
            self.shard.receive(0, piece);
        }
        self.shard.work();
        while let Some(connection) = self.shard.next_touched() {
            let wants = self.shard.wants(connection);
            if wants.output {
                let output = self.shard.take_output(connection, Vec::new());
                self.shard.sent(connection, output.len());
                self.answers.extend(output);
            } else if wants.close {
                self.shard.closed(connection);
                self.is_open = false;
            }
        }
        self.shard.end_turn(self.now.monotonic_us);
    }
}
