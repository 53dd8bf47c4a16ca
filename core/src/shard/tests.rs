//! What a shard has got wrong before; found by `tests/simulation`.

use core::sync::atomic::AtomicU64;

use florin_schema::frame::{REPLY_DRAINING, REPLY_QUARANTINED, ReplyHeader, RequestHeader};
use florin_schema::{Asset, Encoding, Opcode, Status, Version, records};
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::ledger::{Kind, Transaction};
use crate::mesh::{self, Latest, Receiver, Sender};

/// A shard by itself, and the feed's ends of its link.
struct Alone {
    shard: Shard,
    events: Sender<FeedEvent>,
    requests: Receiver<FeedRequest>,
}

/// The shards of a node, each with a watermark.
fn node(shards: u16, request_slots: usize) -> Vec<Alone> {
    let parkings: Vec<_> = (0..shards).map(|_| Arc::new(Parking::new())).collect();
    let links = mesh(&parkings).into_iter().enumerate();
    let alone = |(index, peers): (usize, Vec<Option<PeerLink>>)| {
        let (events, shard_events) = mesh::ring(64);
        let (shard_requests, requests) = mesh::ring(request_slots);
        let watermark = Arc::new(Latest::new());
        watermark.store(1, 1);
        let setup = ShardSetup {
            index: ShardIndex(index as u16),
            shards,
            peers,
            parking: Arc::clone(&parkings[index]),
            feed: FeedLink {
                events: shard_events,
                requests: shard_requests,
                applied_batch: Arc::new(AtomicU64::new(0)),
                watermark,
            },
            metrics: Arc::new(ShardMetrics::default()),
            max_staleness_us: u64::MAX,
            server: "test".to_owned(),
            ports: Vec::new(),
            identity: Default::default(),
        };
        Alone { shard: Shard::new(setup), events, requests }
    };
    links.map(alone).collect()
}

impl Alone {
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

/// An HTTP caller asked about a foreign user, and, once the answer was there but before the shard's next turn, sent
/// the head of a request with `Expect: 100-continue`. The turn read the head where it arrived and asked for the body;
/// then it resumed the connection, which the answer had made ready, read the same head and asked a second time.
#[test]
fn a_body_is_asked_for_once() {
    let mut node = node(2, 8);
    let foreign = (0..).find_map(|id| UserId::new(id).filter(|user| user.shard(2) == ShardIndex(1)));
    let get =
        format!("GET /v1/users/{}/balance HTTP/1.1\r\nHost: h\r\n\r\n", foreign.expect("there are many"));
    let head = "POST /v1/balances:batchGet HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 18\r\n\r\n";

    node[0].begin_turn(10);
    node[0].shard.open(0, Listener::Any);
    node[0].shard.receive(0, get.as_bytes());
    node[1].turn(11);
    node[0].turn(12);
    assert!(node[0].take_output().starts_with("HTTP/1.1 404 "));

    node[0].begin_turn(13);
    node[0].shard.receive(0, head.as_bytes());
    node[0].shard.work();
    assert_eq!(node[0].take_output(), "HTTP/1.1 100 Continue\r\n\r\n");
}

/// A refused frame trickled in for nine seconds. The frame behind it began in the same piece as its end and had one
/// second left, for the time of its silence was counted from the refused frame's beginning.
#[test]
fn a_refused_frame_leaves_its_successor_its_own_time() {
    let mut alone = node(1, 8).remove(0);
    let mut refused = vec![0; 2_048];
    refused[..4].copy_from_slice(&2_048_u32.to_le_bytes());
    refused[4..6].copy_from_slice(&[1, 99]);
    let beginning_of_next = [24, 0, 0, 0, 1];

    alone.begin_turn(1_000_000);
    alone.shard.open(0, Listener::Any);
    alone.shard.receive(0, &refused[..1_000]);
    alone.shard.work();
    alone.begin_turn(10_000_000);
    alone.shard.receive(0, &[&refused[1_000..], &beginning_of_next].concat());
    alone.shard.work();
    alone.turn(19_999_999);
    assert_eq!(alone.shard.sessions[0].ending, Ending::Stays, "ten seconds have not passed");
    alone.turn(20_000_000);
    alone.turn(20_000_001);
    assert_eq!(alone.shard.sessions[0].ending, Ending::Closing);
}

/// A process was stopped (SIGSTOP) while a request was half there. Its rest arrived meanwhile and lay in the kernel; the
/// first turn looked at the clock before it had been handed over, and closed the connection without an answer.
#[test]
fn nobody_is_silent_whose_bytes_have_not_been_read() {
    let mut alone = node(1, 8).remove(0);
    let get = b"GET /v1/users/7/balance HTTP/1.1\r\nHost: h\r\n\r\n";
    alone.begin_turn(1_000_000);
    alone.shard.open(0, Listener::Any);
    alone.shard.receive(0, &get[..20]);
    alone.end_turn(1_000_000);
    alone.turn(60_000_000);
    // The driver has more completions than a turn handles: the rest may be among them.
    alone.begin_turn(60_000_001);
    alone.shard.input_waits();
    alone.end_turn(60_000_001);
    assert!(!alone.shard.wants(0).close);
    alone.turn_with(60_000_002, &get[20..]);
    assert!(alone.take_output().starts_with("HTTP/1.1 404 "));
}

/// Ten seconds after half a request had come its connection was closed, and the caller learned nothing.
#[test]
fn a_request_that_does_not_go_on_is_answered_408() {
    for (begun, has_body) in
        [("GET /v1/us", true), ("HEAD /v1/us", false), ("POST /v1/balances:batchGet HTTP/1.1\r\n", true)]
    {
        let mut alone = node(1, 8).remove(0);
        alone.begin_turn(1_000_000);
        alone.shard.open(0, Listener::Any);
        alone.shard.receive(0, begun.as_bytes());
        alone.end_turn(1_000_000);
        alone.turn(11_000_000);
        alone.turn(11_000_001);
        let answer = alone.take_output();
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert_eq!(answer.contains("its rest within 10 s"), has_body, "{answer}");
    }
}

/// Such a head waited ten seconds for its body, and its caller was told 408 in place of what was wrong.
#[test]
fn a_head_that_can_only_be_refused_is_at_once_and_its_body_skipped() {
    let head = "POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n";
    let begun = || {
        let mut alone = node(1, 8).remove(0);
        alone.begin_turn(1_000_000);
        alone.shard.open(0, Listener::Any);
        alone.shard.receive(0, head.as_bytes());
        alone.end_turn(1_000_000);
        assert!(String::from_utf8(alone.send_output()).unwrap().starts_with("HTTP/1.1 404 "));
        assert!(!alone.shard.wants(0).close);
        alone
    };
    let mut goes_on = begun();
    goes_on.turn_with(1_000_001, b"GET /v1/");
    goes_on.turn_with(1_000_002, b"GET /v1/users/7/statistics HTTP/1.1\r\nHost: h\r\n\r\n");
    let answers = String::from_utf8(goes_on.send_output()).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    // A body that does not come has had its answer: a 408 behind it would be taken for the next request's.
    let mut silent = begun();
    silent.turn(11_000_000);
    silent.turn(11_000_001);
    assert_eq!((silent.shard.wants(0).close, silent.shard.wants(0).output), (true, false));
}

/// At SIGTERM the last answer on a keep-alive connection said that it stays, and the next request was never answered.
#[test]
fn a_drain_announces_the_end_with_the_last_answer() {
    let get = "GET /v1/users/7/balance HTTP/1.1\r\nHost: h\r\n\r\n";
    for last in [get, "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n"] {
        let mut alone = node(1, 8).remove(0);
        alone.begin_turn(1_000_000);
        alone.shard.open(0, Listener::Any);
        alone.end_turn(1_000_000);
        alone.shard.drain();
        alone.turn_with(1_000_001, [get, get, last].concat().as_bytes());
        let answers = String::from_utf8(alone.send_output()).unwrap();
        let connections: Vec<_> = answers.lines().filter(|line| line.starts_with("Connection: ")).collect();
        assert_eq!(connections, ["Connection: keep-alive", "Connection: keep-alive", "Connection: close"]);
        assert!(alone.shard.wants(0).close);
    }
}

#[test]
fn a_drain_marks_every_frame_and_closes_after_fifty_quiet_milliseconds() {
    let mut alone = node(1, 8).remove(0);
    let mut ping = [0; 24];
    ping[0] = 24;
    ping[4..6].copy_from_slice(&[1, 4]);
    alone.begin_turn(1_000_000);
    alone.shard.open(0, Listener::Any);
    alone.shard.receive(0, &ping);
    alone.end_turn(1_000_000);
    assert_eq!(alone.send_output()[26], 0);
    alone.shard.drain();
    // As long as something comes every now and then it is answered.
    for at_us in (1_000_010..1_400_000).step_by(40_000) {
        alone.turn_with(at_us, &ping);
        assert_eq!(alone.send_output()[26..28], REPLY_DRAINING.to_le_bytes());
        alone.turn(at_us + 39_000);
        assert!(!alone.shard.wants(0).close, "{at_us}");
    }
    alone.turn(1_500_000);
    alone.turn(1_500_001);
    assert!(alone.shard.wants(0).close);
}

/// One half-sent request, or one caller that never read, stretched every stop to ten seconds.
#[test]
fn a_drain_waits_a_second_for_half_requests_and_for_callers_that_do_not_read() {
    let mut alone = node(1, 8).remove(0);
    alone.begin_turn(1_000_000);
    alone.shard.open(0, Listener::Any);
    alone.shard.open(1, Listener::Any);
    alone.shard.receive(0, b"GET /v1/us");
    alone.shard.receive(1, b"GET /v1/users/7/balance HTTP/1.1\r\nHost: h\r\n\r\n");
    alone.end_turn(1_000_000);
    let stuck = alone.shard.take_output(1, Vec::new());
    alone.shard.drain();
    alone.turn(1_990_000);
    alone.turn(1_990_001);
    assert!(!alone.shard.wants(0).close && !alone.shard.wants(1).cut);
    alone.turn(2_000_001);
    alone.turn(2_000_002);
    assert!(alone.take_output().starts_with("HTTP/1.1 408 "));
    assert!(alone.shard.wants(1).cut);
    assert!(stuck.starts_with(b"HTTP/1.1 404 "));
}

/// A caller that pipelined without end kept a draining node for ten seconds.
#[test]
fn a_drain_reads_nothing_more_after_two_seconds() {
    let mut alone = node(1, 8).remove(0);
    let mut ping = [0; 24];
    ping[0] = 24;
    ping[4..6].copy_from_slice(&[1, 4]);
    alone.begin_turn(0);
    alone.shard.open(0, Listener::Any);
    alone.end_turn(0);
    alone.shard.drain();
    let mut unread = Vec::new();
    for at_us in (0..).step_by(1_000).take_while(|&at_us| at_us < 2_000_000) {
        alone.turn_with(at_us, &ping);
        assert!(alone.shard.wants(0).intake, "{at_us}");
        alone.shard.sent(0, unread.len());
        unread = alone.shard.take_output(0, Vec::new());
    }
    alone.turn_with(2_001_000, &ping);
    alone.turn_with(2_002_000, &ping);
    assert!(!alone.shard.wants(0).intake);
}

/// Two accounts went wrong in one turn while the ring to the feed had room for one request. The shard went to sleep
/// with the second in its hands: the feed, which had only logged the first, had no reason to wake it, and the second
/// account stayed quarantined until somebody happened to ask that shard something.
#[test]
fn a_shard_does_not_sleep_on_a_request() {
    let mut alone = node(1, 1).remove(0);
    for event in [row(1, 1), row(1, 2), row(2, 2)].map(FeedEvent::Row) {
        alone.events.push(event).expect("room");
    }
    alone.turn(10);
    // Nor does it spin until there is room, which may take as long as a ledger that cannot be read.
    assert_eq!(alone.shard.park(), Park::Until(10 + WAITING_POLL_US));
    assert!(matches!(alone.requests.pop(), Some(FeedRequest::Defect { .. })));
    alone.turn(11);
    assert_eq!(
        alone.requests.pop(),
        Some(FeedRequest::Reread { user_id: row(2, 2).user_id, reason: Reason::Gap })
    );
    assert_eq!(alone.shard.park(), Park::Idle);
}

/// The wall clock was set back by a day. Windows stayed where they were until it had caught up, and what had been merged
/// into days could not be told apart any more; before 1970 they stood at 1970. Now they follow the clock, and where what
/// is held does not reach, the answer says so until the account has been read again.
#[test]
fn windows_follow_a_clock_that_is_set_back() {
    const HOUR_US: i64 = 3_600_000_000;
    const STATISTICS: &str = "GET /v1/users/1/statistics?window=24h HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut alone = node(1, 8).remove(0);
    let now_us = 1_795_320_306_000_000;
    let rows: Vec<_> = (1..=60)
        .map(|version: i64| Transaction {
            user_id: UserId::new(1).expect("a legal id"),
            version: Version(version as u64),
            asset: Asset::parse(b"COIN").expect("a legal code"),
            kind: Kind::Recharge,
            amount: 1,
            occurred_at_us: now_us - (60 - version) * HOUR_US,
        })
        .collect();
    for &row in &rows {
        alone.events.push(FeedEvent::Row(row)).expect("room");
    }
    alone.shard.begin_turn(Now { wall_us: now_us, monotonic_us: 10 });
    alone.shard.open(0, Listener::Any);
    alone.shard.work();
    let counts = |answer: &str, count: u32| answer.contains(&format!("\"credit_count\":\"{count}\""));
    let is_flagged = |answer: &str| answer.to_ascii_lowercase().contains("florin-quarantined: true");

    let answer = alone.asked_at(now_us, 11, STATISTICS);
    assert!(counts(&answer, 24) && !is_flagged(&answer), "{answer}");
    let answer = alone.asked_at(now_us - 2 * HOUR_US, 12, STATISTICS);
    assert!(counts(&answer, 24) && !is_flagged(&answer), "two hours back are held: {answer}");
    assert_eq!(alone.requests.pop(), None);

    let answer = alone.asked_at(now_us - 20 * HOUR_US, 13, STATISTICS);
    assert!(is_flagged(&answer), "what is not held is not told as if it were: {answer}");
    assert_eq!(
        alone.requests.pop(),
        Some(FeedRequest::Reread { user_id: rows[0].user_id, reason: Reason::ClockMoved })
    );
    let user = rows[0].user_id;
    alone.events.push(FeedEvent::RereadBegin(user)).expect("room");
    for &row in &rows {
        alone.events.push(FeedEvent::RereadRow(row)).expect("room");
    }
    alone.events.push(FeedEvent::RereadEnd(user)).expect("room");
    alone.shard.begin_turn(Now { wall_us: now_us - 20 * HOUR_US, monotonic_us: 14 });
    alone.shard.work();
    let answer = alone.asked_at(now_us - 20 * HOUR_US, 15, STATISTICS);
    assert!(counts(&answer, 24) && !is_flagged(&answer), "{answer}");
    assert_eq!(alone.shard.responder.metrics.clock_set_back.get(), 2);

    let answer = alone.asked_at(-HOUR_US, 16, STATISTICS);
    assert!(!counts(&answer, 24), "before 1970 nothing had happened: {answer}");
}

/// A row that makes the next credit of its account overflow.
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

/// A node's one shard: user 1's second row overflows, user 2 is known by its second row alone, user 3 is whole.
fn with_incomplete_accounts() -> Alone {
    let mut alone = node(1, 8).remove(0);
    for event in [row(1, 1), row(1, 2), row(2, 2), row(3, 1)].map(FeedEvent::Row) {
        alone.events.push(event).expect("room");
    }
    alone.begin_turn(10);
    alone.shard.open(0, Listener::Any);
    alone.end_turn(10);
    alone
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

/// A user whom a gap alone had named was answered OK with version 0, no balances and the year 1970: a guess that looks like a fact.
#[test]
fn an_account_without_its_first_row_is_not_shown() {
    let mut alone = with_incomplete_accounts();
    for encoding in [Encoding::Rkyv, Encoding::FlatBuffers] {
        for opcode in [Opcode::GetBalance, Opcode::GetStatistics] {
            let (header, body) = alone.reply(&frame(opcode, encoding, 2, &[]));
            assert_eq!(
                (header.status, header.encoding, header.flags.get()),
                (Status::Unavailable as u8, 0, REPLY_QUARANTINED)
            );
            assert!(body.starts_with(b"this account's history is not complete yet"));
            let (header, _) = alone.reply(&frame(opcode, encoding, 1, &[]));
            assert_eq!((header.status, header.flags.get()), (Status::Ok as u8, REPLY_QUARANTINED));
        }
    }
    for what in ["balance", "statistics"] {
        let get = format!("GET /v1/users/2/{what} HTTP/1.1\r\nHost: h\r\n\r\n");
        alone.begin_turn(30);
        alone.shard.open(1, Listener::Any);
        alone.shard.receive(1, get.as_bytes());
        alone.end_turn(30);
        let answer = String::from_utf8(alone.shard.take_output(1, Vec::new())).expect("HTTP");
        alone.shard.sent(1, answer.len());
        alone.shard.closed(1);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        for field in ["Florin-Quarantined: true", "Retry-After: 1"] {
            assert!(answer.contains(&format!("\r\n{field}\r\n")), "{answer}");
        }
    }
}

/// A batch said of itself that some account's history is incomplete, and not which.
#[test]
fn each_entry_of_a_batch_says_whether_its_account_is_incomplete() {
    let mut alone = with_incomplete_accounts();
    let told = |entry: &records::BalanceEntry| {
        let version = entry.balance.as_ref().map(|balance| balance.version);
        (entry.user_id, entry.status, entry.quarantined, version)
    };
    let ids = |ids: &[u64]| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
    let mut ask = |users: &[u64]| {
        let batch = frame(Opcode::GetBalances, Encoding::Rkyv, 0, &ids(users));
        let (header, body) = alone.reply(&batch);
        assert_eq!(header.status, Status::Ok as u8, "{}", String::from_utf8_lossy(&body));
        let mut aligned = rkyv::util::AlignedVec::<16>::new();
        aligned.extend_from_slice(&body);
        let batch =
            rkyv::from_bytes::<records::Balances, rkyv::rancor::Error>(&aligned).expect("it verifies");
        (header.flags.get(), batch.entries.iter().map(told).collect::<Vec<_>>())
    };
    let (ok, not_found, unavailable) = (Status::Ok as u8, Status::NotFound as u8, Status::Unavailable as u8);
    let of_one = (1, ok, true, Some(1));
    let of_two = (2, unavailable, true, None);
    let of_three = (3, ok, false, Some(1));
    let of_four = (4, not_found, false, None);
    assert_eq!(ask(&[4, 1, 3, 2]), (REPLY_QUARANTINED, vec![of_four, of_one, of_three, of_two]));
    assert_eq!(ask(&[3, 4]), (0, vec![of_three, of_four]));
    // The shard can answer: it is the account that has nothing to show.
    assert_eq!(ask(&[2, 2]), (REPLY_QUARANTINED, vec![of_two, of_two]));
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

/// Bytes of memory that shard 0 holds for a connection.
fn held(node: &[Alone], connection: usize) -> usize {
    let shard = &node[0].shard;
    let session = &shard.sessions[connection];
    let gathers = shard.gathers.iter().map(|(_, gather)| {
        let parts: usize = gather.parts.iter().map(Vec::capacity).sum();
        gather.users.capacity() * size_of::<UserId>() + parts
    });
    session.carry.capacity() + session.out.capacity() + session.in_flight + gathers.sum::<usize>()
}

/// 1,024 batches that waited, from a caller that never read, pinned 130 MiB: each answer of 115 KiB was taken for 512 bytes.
#[test]
fn what_is_owed_counts_as_much_as_what_is_there() {
    let mut node = node(2, 8);
    let users: Vec<u64> = (0..1_024).collect();
    let batch = request(3, 1, 0, true, &users);
    node[0].turn(10);
    node[0].shard.open(0, Listener::Any);
    let taken = pour(&mut node, 0, 11, &batch.repeat(64));
    assert!(taken < 32 * 1_024, "{taken} bytes were taken in");
    assert_eq!(node[0].shard.gathers.len(), 1, "one reply more than nothing");
    assert!(held(&node, 0) < 64 * 1_024, "{} bytes are held", held(&node, 0));
    // It is answered in the end, and then the next one is read.
    let end_us = 2_000_000;
    node[1].turn(20_000);
    node[0].turn(end_us);
    node[1].turn(end_us);
    node[0].turn(end_us);
    assert!(node[0].send_output().len() > 8 * 1_024);
    node[0].turn(end_us + 1);
    pour(&mut node, 0, end_us + 2, &batch.repeat(64)[taken..]);
    assert_eq!(node[0].shard.gathers.len(), 1, "the next");
}

/// A thousand callers that never read held 102 to 229 KiB each, against the 64 that are promised.
#[test]
fn a_caller_that_never_reads_holds_less_than_64_kib() {
    for (opcode, shard) in [(1, 0), (1, 1), (2, 0), (2, 1), (4, 0)] {
        let mut node = node(2, 8);
        node[0].turn(10);
        node[1].turn(10);
        node[0].shard.open(0, Listener::Any);
        let user = if opcode == 4 { 0 } else { user_of(shard) };
        let requests = request(opcode, 1, user, false, &[]).repeat(100_000);
        let mut taken = 0;
        let mut in_flight = Vec::new();
        for at_us in 11..200 {
            taken += pour(&mut node, 0, at_us * 1_000, &requests[taken..]);
            if in_flight.is_empty() {
                in_flight = node[0].shard.take_output(0, Vec::new());
            }
            node[1].turn(at_us * 1_000);
            node[0].turn(at_us * 1_000);
        }
        assert!(!in_flight.is_empty() && taken < requests.len());
        // What one wake-up of a multishot receive brings comes whether it is wanted or not.
        let rest = &requests[taken..taken + crate::limits::INTAKE_BYTES_MAX / 2];
        rest.chunks(1_024).for_each(|piece| node[0].shard.receive(0, piece));
        assert!(held(&node, 0) <= 64 * 1_024, "opcode {opcode}, shard {shard}: {} bytes", held(&node, 0));
    }
}

/// 1,024 questions that waited at their owner filled the mesh, and plain ones stood behind them: from 0.12 to 64 ms.
#[test]
fn those_who_wait_stand_in_nobodys_way() {
    let mut node = node(2, 8);
    node[0].turn(10);
    node[1].turn(10);
    let foreign = user_of(1);
    for connection in 0..64 {
        node[0].shard.open(connection, Listener::Any);
        pour(&mut node, connection, 1_000, &request(1, 1, foreign, true, &[]).repeat(32));
        node[1].turn(2_000);
        node[0].turn(2_000);
    }
    node[0].shard.open(64, Listener::Any);
    pour(&mut node, 64, 3_000, &request(1, 7, foreign, false, &[]));
    node[1].turn(4_000);
    node[0].turn(4_000);
    let answer = node[0].shard.take_output(64, Vec::new());
    assert_eq!(answer.first_chunk().map(|&bytes| u32::from_le_bytes(bytes) as usize), Some(answer.len()));
    assert_eq!(answer[7], Status::NotFound as u8);
}

/// One caller took the whole waiting room, and what waited for it stayed there when it had gone.
#[test]
fn a_caller_has_a_share_of_the_waiting_room_and_leaves_it_when_it_goes() {
    for shard in [0, 1] {
        let mut node = node(2, 8);
        node[0].turn(10);
        node[1].turn(10);
        node[0].shard.open(0, Listener::Any);
        let asked = request(1, 1, user_of(shard), true, &[]).repeat(200);
        let (mut taken, mut refused) = (0, 0);
        for at_us in (1_000..30_000).step_by(1_000) {
            taken += pour(&mut node, 0, at_us, &asked[taken..]);
            node[1].turn(at_us);
            node[0].turn(at_us);
            let mut answers = &node[0].send_output()[..];
            while let Some(length) = answers.first_chunk().map(|&bytes| u32::from_le_bytes(bytes) as usize) {
                assert_eq!(answers[7], Status::Overloaded as u8);
                (refused, answers) = (refused + 1, &answers[length..]);
            }
        }
        let waiting = |node: &[Alone]| node.iter().map(|alone| alone.shard.waiting.len()).sum::<usize>();
        assert_eq!((waiting(&node), refused), (32, 168), "those of shard {shard}");
        node[0].shard.closed(0);
        node[0].turn(40_000);
        node[1].turn(40_001);
        node[0].turn(40_002);
        assert_eq!(waiting(&node), 0);
        assert_eq!(node[0].shard.peers[1].as_ref().map(PeerLink::outstanding), Some(0));
    }
}

/// Batches that waited were judged from their first id anew at each watermark: one caller took a shard's CPU.
#[test]
fn a_batch_that_waits_costs_one_look_as_long_as_nothing_changes() {
    let users: Vec<_> = (0..1_024).filter_map(UserId::new).collect();
    let mut looks = 0;
    let mut look = |from, fresh_until: usize| {
        looks += 1;
        let mut count = 0;
        let unmet = waiting::first_unmet(&users, from, |user| {
            count += 1;
            user.get() < fresh_until as u64
        });
        (unmet, count)
    };
    assert_eq!(look(0, 1_023), (Some(1_023), 1_024));
    assert_eq!(look(1_023, 1_023), (Some(1_023), 1));
    assert_eq!(look(1_023, 1_024), (None, 1_024), "all are judged at one moment");
    assert_eq!(looks, 3);
}
