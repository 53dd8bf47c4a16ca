//! Callers that prove who they are: by a Hello once a connection, over HTTP with each request; and what a directory that changes does
//! to those who are there.

use alloc::format;
use core::net::IpAddr;
use core::sync::atomic::Ordering::Relaxed;

use super::super::quota::{Bounds, Quota};
use super::*;
use crate::limits::{LATE_SERVED_PER_TURN, UNPROVED_US, WRONG_TOKEN_US, WRONG_TOKENS_BURST};

/// One caller of a [`Book`]: its token, its number, its rights, its quota, and when its token's time is over.
struct Entry(&'static str, u16, Rights, Bounds, i64);

/// A directory of a few callers, which counts what it is asked.
struct Book {
    entries: Vec<(Entry, Quota)>,
    anonymous: Rights,
    asked: AtomicU64,
}

const NO_BOUNDS: Bounds = Bounds { requests_per_s: 0, burst: 0, connections: 0, in_flight: 0 };
const EVER: i64 = i64::MAX;

impl Book {
    fn of(entries: impl IntoIterator<Item = Entry>) -> Arc<Book> {
        Book::open(entries, Rights::NONE)
    }

    fn open(entries: impl IntoIterator<Item = Entry>, anonymous: Rights) -> Arc<Book> {
        let entries = entries.into_iter().map(|entry| {
            let quota = Quota::new(entry.3, Arc::default());
            (entry, quota)
        });
        Arc::new(Book { entries: entries.collect(), anonymous, asked: AtomicU64::new(0) })
    }

    fn principal_of(&self, Entry(token, number, rights, bounds, until_us): &Entry) -> Principal {
        let principal = Principal::known(*number, *rights).proved_by(token.len() as u64, *until_us);
        if bounds.looks_at_requests() { principal.metered() } else { principal }
    }
}

impl Directory for Book {
    fn principal(&self, proof: Proof<'_>, wall_us: i64) -> Option<Principal> {
        self.asked.fetch_add(1, Relaxed);
        let Proof::Token(token) = proof else { return None };
        let (entry, _) = self.entries.iter().find(|(entry, _)| entry.0.as_bytes() == token)?;
        (wall_us < entry.4).then(|| self.principal_of(entry))
    }

    fn again(&self, principal: Principal, wall_us: i64) -> Principal {
        let is_it = |entry: &Entry| {
            Some(entry.1) == principal.number()
                && entry.0.len() as u64 == principal.mark()
                && wall_us < entry.4
        };
        let found = self.entries.iter().find(|(entry, _)| is_it(entry));
        found.map_or(self.anonymous(), |(entry, _)| self.principal_of(entry))
    }

    fn anonymous(&self) -> Principal {
        Principal::anonymous(self.anonymous)
    }

    fn quota(&self, number: u16) -> Option<&Quota> {
        Some(&self.entries.iter().find(|(entry, _)| entry.1 == number)?.1)
    }
}

/// One shard with an account of user 0, which knows callers, and the other side of its link.
fn node_of(book: &Arc<Book>) -> (Vec<Alone>, CallersPort) {
    let mut node = node(1, 8);
    let (port, link) = callers_link(Arc::clone(book) as Arc<dyn Directory>);
    let Alone { shard, mut events, requests } = node.remove(0);
    events.push(FeedEvent::Row(row(0, 1))).expect("room");
    node.push(Alone { shard: shard.with_callers(link), events, requests });
    node[0].turn(10);
    node[0].shard.open(0, Listener::Any);
    (node, port)
}

fn hello(token: &str) -> Vec<u8> {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let (client, token) = (builder.create_string("test"), builder.create_string(token));
    let arguments = florin_schema::generated::HelloArgs { client: Some(client), token: Some(token) };
    let root = florin_schema::generated::Hello::create(&mut builder, &arguments);
    builder.finish(root, None);
    frame(Opcode::Hello, Encoding::FlatBuffers, 0, builder.finished_data())
}

fn get(authorization: &str) -> Vec<u8> {
    format!("GET /v1/users/0/balance HTTP/1.1\r\nHost: h\r\n{authorization}\r\n").into_bytes()
}

/// The statuses of the frames that were answered on connection 0.
fn statuses(node: &mut [Alone]) -> Vec<u8> {
    let output = node[0].send_output();
    let (mut rest, mut statuses) = (&output[..], Vec::new());
    while let Some(length) = rest.first_chunk().map(|&bytes| u32::from_le_bytes(bytes) as usize) {
        statuses.push(rest[7]);
        rest = &rest[length..];
    }
    statuses
}

/// What a turn in which this comes over HTTP answers, without its numbers.
fn http(node: &mut [Alone], at_us: u64, bytes: &[u8]) -> Vec<u16> {
    node[0].turn_with(at_us, bytes);
    let output = node[0].take_output();
    node[0].shard.sent(0, output.len());
    output.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().expect("a status")).collect()
}

fn balance() -> Vec<u8> {
    request(1, 7, 0, false, &[])
}

#[test]
fn a_hello_proves_who_asks_and_another_that_it_is_somebody_else() {
    let reader = Entry("reader", 1, Rights::BALANCE, NO_BOUNDS, EVER);
    let (mut node, _port) = node_of(&Book::of([reader, Entry("all", 2, Rights::READS, NO_BOUNDS, EVER)]));
    let statistics = request(2, 7, 0, false, &[]);
    let asked = [balance(), hello(""), hello("reader"), balance(), statistics.clone()].concat();
    node[0].turn_with(20, &asked);
    assert_eq!(statuses(&mut node), [6, 6, 0, 7, 0], "who is refused is answered before who is looked up");
    node[0].turn_with(21, &[hello("wrong"), balance(), hello("all"), statistics, balance()].concat());
    let mut found = statuses(&mut node);
    found.sort_unstable();
    assert_eq!(found, [0, 0, 0, 0, 6], "a wrong token takes nothing from who has shown a right one");
    assert_eq!(node[0].shard.responder.metrics.wrong_tokens.get(), 1);
}

#[test]
fn over_http_each_request_says_who_makes_it() {
    let book = Book::of([
        Entry("a", 1, Rights::BALANCE, NO_BOUNDS, EVER),
        Entry("bb", 2, Rights::NONE, NO_BOUNDS, EVER),
    ]);
    let (mut node, _port) = node_of(&book);
    let [a, b, none] = [get("Authorization: Bearer a\r\n"), get("authorization: bearer  bb\r\n"), get("")];
    assert_eq!(http(&mut node, 20, &[a.clone(), a.clone(), a.clone()].concat()), [200; 3]);
    assert_eq!(book.asked.load(Relaxed), 1, "the same bytes are not looked at again");
    assert_eq!(
        http(&mut node, 21, &[none.clone(), b.clone(), a.clone(), none, a].concat()),
        [401, 403, 200, 401, 200]
    );
    for (header, status) in [
        ("Authorization: Basic YTpi\r\n", 401),
        ("Authorization: Bearer \r\n", 401),
        ("Authorization: Bearera\r\n", 401),
        ("Authorization: Bearer aa\r\n", 401),
        ("Authorization: Bearer a\r\nAuthorization: Bearer a\r\n", 400),
    ] {
        assert_eq!(http(&mut node, 22, &get(header)), [status], "{header}");
    }
}

#[test]
fn who_has_proved_nothing_may_do_what_the_directory_says() {
    let (mut node, _port) = node_of(&Book::open([], Rights::BALANCE));
    node[0].turn_with(20, &[hello(""), balance(), request(2, 7, 0, false, &[])].concat());
    let mut found = statuses(&mut node);
    found.sort_unstable();
    assert_eq!(found, [0, 0, 6]);
}

#[test]
fn a_new_directory_holds_for_those_who_are_there() {
    let all = |rights| Entry("all", 1, rights, NO_BOUNDS, EVER);
    let (mut node, mut port) = node_of(&Book::of([all(Rights::READS)]));
    node[0].shard.open(1, Listener::Any);
    node[0].turn_with(20, &[hello("all"), balance()].concat());
    assert_eq!(statuses(&mut node), [0, 0]);
    node[0].begin_turn(21);
    node[0].shard.receive(1, &get("Authorization: Bearer all\r\n"));
    node[0].end_turn(21);
    node[0].shard.take_output(1, Vec::new());
    for (entries, frame, of_http) in [
        (vec![all(Rights::STATISTICS)], 7, "HTTP/1.1 403"),
        (vec![all(Rights::READS)], 0, "HTTP/1.1 200"),
        (vec![], 6, "HTTP/1.1 401"),
        // Whoever has lost its rights proves itself again, and is not given them.
        (vec![all(Rights::READS)], 6, "HTTP/1.1 200"),
    ] {
        assert!(port.news.push(Book::of(entries)).is_ok());
        node[0].turn_with(22, &balance());
        assert_eq!(statuses(&mut node), [frame]);
        node[0].begin_turn(23);
        node[0].shard.receive(1, &get("Authorization: Bearer all\r\n"));
        node[0].end_turn(23);
        let answer = String::from_utf8(node[0].shard.take_output(1, Vec::new())).expect("HTTP");
        assert!(answer.starts_with(of_http), "{answer}");
    }
}

#[test]
fn a_proof_ends_while_its_connection_is_there() {
    let (mut node, _port) = node_of(&Book::of([Entry("all", 1, Rights::READS, NO_BOUNDS, 1_000)]));
    let mut statuses_at = |wall_us, bytes: &[u8]| {
        node[0].shard.begin_turn(Now { wall_us, monotonic_us: 20 });
        node[0].shard.receive(0, bytes);
        node[0].end_turn(20);
        statuses(&mut node)
    };
    assert_eq!(statuses_at(998, &[hello("all"), balance()].concat()), [0, 0]);
    assert_eq!(statuses_at(999, &balance()), [0]);
    assert_eq!(statuses_at(1_000, &balance()), [6]);
    assert_eq!(statuses_at(1_001, &[hello("all"), balance()].concat()), [6, 6]);
}

/// Else strangers who connect and stay would take every place.
#[test]
fn who_proves_nothing_is_let_go() {
    let knows = || Entry("all", 1, Rights::READS, NO_BOUNDS, EVER);
    // What connection 0 says at first and in the middle of its time, and whether it is still there when that is over.
    let stays = |book: Arc<Book>, first: &[u8], then: &[u8]| {
        let (mut node, port) = node_of(&book);
        node[0].turn_with(20, first);
        node[0].turn_with(20 + UNPROVED_US / 2, then);
        node[0].turn(9 + UNPROVED_US);
        node[0].send_output();
        assert!(!node[0].shard.wants(0).close, "it has not had its time");
        node[0].turn(10 + UNPROVED_US);
        // Judged by what had been read when the turn began.
        node[0].turn(10 + UNPROVED_US);
        node[0].send_output();
        (!node[0].shard.wants(0).close, node, port)
    };
    let strangers = || Book::of([knows()]);
    let unknown = [get(""), get("Authorization: Bearer wrong\r\n")];
    for said in [&[][..], &hello("wrong"), &balance(), &unknown[0], &unknown[1]] {
        assert!(!stays(strangers(), said, said).0, "{}", said.escape_ascii());
    }
    let known = get("Authorization: Bearer all\r\n");
    for (first, then) in [(&hello("all")[..], &[][..]), (&[], &hello("all")), (&known, &unknown[0])] {
        assert!(stays(strangers(), first, then).0, "{}, {}", first.escape_ascii(), then.escape_ascii());
    }
    assert!(stays(Book::open([knows()], Rights::STATISTICS), &[], &[]).0, "who need not prove anything");

    // Who need not prove anything any more.
    let (mut node, mut port) = node_of(&strangers());
    assert!(port.news.push(Book::open([knows()], Rights::STATISTICS)).is_ok());
    node[0].turn(20);
    node[0].turn(20 + UNPROVED_US);
    node[0].turn(20 + UNPROVED_US);
    assert!(!node[0].shard.wants(0).close);

    // Whoever is not known any more has as long to be known again.
    let (_, mut node, mut port) = stays(strangers(), &hello("all"), &[]);
    assert!(port.news.push(Book::of([])).is_ok());
    let later_us = 3 * UNPROVED_US;
    node[0].turn(later_us);
    node[0].turn(later_us - 1 + UNPROVED_US);
    assert!(!node[0].shard.wants(0).close);
    node[0].turn(later_us + UNPROVED_US);
    node[0].turn(later_us + UNPROVED_US);
    assert!(node[0].shard.wants(0).close);
}

#[test]
fn an_address_shows_so_many_wrong_tokens_and_no_more() {
    let (mut node, _port) = node_of(&Book::of([Entry("all", 1, Rights::READS, NO_BOUNDS, EVER)]));
    let address = |last| IpAddr::from([192, 0, 2, last]);
    node[0].shard.comes_from(0, address(1));
    let wrong = hello("wrong").repeat(WRONG_TOKENS_BURST as usize);
    node[0].turn_with(20, &wrong);
    assert_eq!(statuses(&mut node), [6; WRONG_TOKENS_BURST as usize]);
    node[0].turn_with(21, &hello("all"));
    assert_eq!(statuses(&mut node), [5], "not looked at");
    assert_eq!(node[0].shard.responder.metrics.tokens_not_looked_at.get(), 1);
    // Another's are looked at, and this one's after a while.
    node[0].shard.open(1, Listener::Any);
    node[0].shard.comes_from(1, address(2));
    node[0].begin_turn(22);
    node[0].shard.receive(1, &hello("all"));
    node[0].end_turn(22);
    assert_eq!(node[0].shard.take_output(1, Vec::new())[7], 0);
    node[0].turn_with(22 + WRONG_TOKEN_US, &hello("all"));
    assert_eq!(statuses(&mut node), [0]);
}

/// However its requests come: in a run of plain frames, between others, or as a batch.
#[test]
fn requests_are_counted_against_their_callers_quota() {
    let bounds = Bounds { requests_per_s: 1_000, burst: 50, ..NO_BOUNDS };
    let book = Book::of([Entry("all", 1, Rights::READS, bounds, EVER)]);
    let (mut node, _port) = node_of(&book);
    node[0].turn_with(20, &hello("all"));
    assert_eq!(statuses(&mut node), [0]);
    let mixed =
        [balance().repeat(5), request(2, 7, 0, false, &[]), request(3, 7, 0, false, &[0, 0, 0, 0])].concat();
    let ok = |node: &mut Vec<Alone>, at_us: u64, bytes: &[u8]| {
        node[0].turn_with(at_us, bytes);
        node[0].turn(at_us);
        let found = statuses(node);
        assert!(found.iter().all(|status| [0, 5].contains(status)), "{found:?}");
        found.iter().filter(|&&status| status == 0).count()
    };
    assert_eq!(ok(&mut node, 30, &mixed.repeat(10)), 5 * 7, "a batch of four users is four requests");
    assert_eq!(ok(&mut node, 40, &balance()), 0);
    assert_eq!(ok(&mut node, 10_030, &balance().repeat(100)), 10);
    assert_eq!(ok(&mut node, 1_000_000, &balance().repeat(100)), 50);
    assert!(book.entries[0].1.usage().shed() > 90);
    // A batch has more than may come at once: it waits for that much, and what it has beyond is waited for by who comes after it.
    let large = request(3, 7, 0, false, &[0; 200]);
    assert_eq!(ok(&mut node, 2_000_000, &[large, balance()].concat()), 1);
    assert_eq!(ok(&mut node, 2_140_000, &balance()), 0);
    assert_eq!(ok(&mut node, 2_160_000, &balance()), 1);
}

/// However many connections one refuses to be heard on, others do not wait until all of its refusals are sent.
#[test]
fn whoever_is_over_its_quota_is_served_behind_all_others() {
    let over = Bounds { requests_per_s: 1, burst: 1, ..NO_BOUNDS };
    let many = Bounds { in_flight: 1, ..NO_BOUNDS };
    for bounds in [over, many] {
        let book = Book::of([
            Entry("flood", 1, Rights::READS, bounds, EVER),
            Entry("other", 2, Rights::READS, NO_BOUNDS, EVER),
        ]);
        let (mut node, _port) = node_of(&book);
        let served = |node: &mut Vec<Alone>| {
            let mut served = Vec::new();
            while let Some(connection) = node[0].shard.next_touched() {
                if node[0].shard.wants(connection).output {
                    let output = node[0].shard.take_output(connection, Vec::new());
                    node[0].shard.sent(connection, output.len());
                    served.push((connection, output[7]));
                }
            }
            served
        };
        // Who was touched last is served first: the other is touched first.
        let all = 0..=3 * LATE_SERVED_PER_TURN as u32;
        node[0].begin_turn(20);
        for connection in all.clone() {
            if connection > 0 {
                node[0].shard.open(connection, Listener::Any);
            }
            node[0].shard.receive(connection, &hello(if connection == 0 { "other" } else { "flood" }));
        }
        assert_eq!(served(&mut node).len(), all.clone().count(), "who is greeted has asked for nothing yet");
        node[0].end_turn(20);

        // The first of the flood may ask, and wait for its answer; whatever comes behind it is too much.
        let (once, waits) = (balance(), request(1, 7, 0, true, &[]).repeat(2));
        node[0].begin_turn(30);
        for connection in all {
            node[0].shard.receive(connection, if connection == 0 { &once } else { &waits });
        }
        node[0].shard.work();
        let first = served(&mut node);
        node[0].end_turn(30);
        assert_eq!((first[0].0, first.len()), (0, 1 + LATE_SERVED_PER_TURN), "{first:?}");
        let is_refused = |&(_, status): &(u32, u8)| status == Status::Overloaded as u8;
        assert!(first[1..].iter().all(is_refused) && !is_refused(&first[0]), "{first:?}");
    }
}

#[test]
fn a_caller_has_so_many_connections_and_no_more() {
    let bounds = Bounds { connections: 2, ..NO_BOUNDS };
    let book = Book::of([Entry("all", 1, Rights::READS, bounds, EVER)]);
    let (mut node, _port) = node_of(&book);
    let greet = |node: &mut Vec<Alone>, connection: u32| {
        node[0].begin_turn(20);
        node[0].shard.open(connection, Listener::Any);
        node[0].shard.receive(connection, &hello("all").repeat(3));
        node[0].end_turn(20);
        node[0].shard.take_output(connection, Vec::new())[7]
    };
    assert_eq!([greet(&mut node, 1), greet(&mut node, 2), greet(&mut node, 3)], [0, 0, 5]);
    node[0].shard.closed(1);
    assert_eq!((greet(&mut node, 4), book.entries[0].1.usage().connections()), (0, 2));
    // Who is somebody else by now is counted there.
    node[0].shard.closed(2);
    node[0].shard.closed(4);
    assert_eq!(book.entries[0].1.usage().connections(), 0);
}

/// One that asks ten times as often as it may, from 1,000 connections to four shards, gets its rate over all of them together, to 5 %; and
/// nobody else is refused anything because of it.
#[test]
fn a_flood_gets_its_rate_over_all_shards_and_others_all_that_they_ask_for() {
    const SECONDS: u64 = 3;
    // Of each shard's connections the last is another's.
    const OTHER: u32 = 250;
    let bounds = Bounds { requests_per_s: 1_000, burst: 100, ..NO_BOUNDS };
    let book = Book::of([
        Entry("flood", 1, Rights::READS, bounds, EVER),
        Entry("other", 2, Rights::READS, NO_BOUNDS, EVER),
    ]);
    let mut ports = Vec::new();
    let mut node: Vec<Alone> = node(4, 8)
        .into_iter()
        .map(|Alone { shard, events, requests }| {
            let (port, link) = callers_link(Arc::clone(&book) as Arc<dyn Directory>);
            ports.push(port);
            Alone { shard: shard.with_callers(link), events, requests }
        })
        .collect();
    let users: Vec<u64> = (0..4)
        .map(|shard| {
            (0..).find(|&id| UserId::new(id).expect("small").shard(4) == ShardIndex(shard)).expect("one")
        })
        .collect();
    let mut counts = [[0_u64; 2]; 2];
    for step in 0..SECONDS * 1_000 {
        // Ten times a second each.
        let asks =
            |connection: u32| connection == OTHER || (u64::from(connection) + step).is_multiple_of(100);
        for (alone, &user) in node.iter_mut().zip(&users) {
            alone.begin_turn(1_000_000 + step * 1_000);
            for connection in 0..=OTHER {
                if step == 0 {
                    alone.shard.open(connection, Listener::Shard);
                    alone
                        .shard
                        .receive(connection, &hello(if connection == OTHER { "other" } else { "flood" }));
                }
                if asks(connection) {
                    alone.shard.receive(connection, &request(1, 7, user, false, &[]));
                }
            }
            alone.end_turn(1_000_000 + step * 1_000);
            for connection in (0..=OTHER).filter(|&connection| step == 0 || asks(connection)) {
                let output = alone.shard.take_output(connection, Vec::new());
                alone.shard.sent(connection, output.len());
                let mut rest = &output[..];
                while let Some(length) = rest.first_chunk().map(|&bytes| u32::from_le_bytes(bytes) as usize) {
                    let is_balance = rest[5] == Opcode::GetBalance as u8;
                    let count = &mut counts[usize::from(connection == OTHER)][usize::from(rest[7] == 5)];
                    *count += u64::from(is_balance);
                    rest = &rest[length..];
                }
            }
        }
    }
    let [[granted, shed], others] = counts;
    let due = SECONDS * 1_000 + 100;
    assert!((due * 95 / 100..=due).contains(&granted), "{granted} of {due}, {shed} refused");
    assert_eq!(granted + shed, 10 * 1_000 * SECONDS, "each is answered");
    assert_eq!(others, [4 * 1_000 * SECONDS, 0]);
    assert_eq!(book.entries[0].1.usage().shed(), shed);
}

/// Whoever left requests waiting by the thousand held room that others' would have taken.
#[test]
fn a_caller_has_so_many_requests_unanswered_and_no_more() {
    let bounds = Bounds { in_flight: 2, ..NO_BOUNDS };
    let book = Book::of([Entry("all", 1, Rights::READS, bounds, EVER)]);
    let (mut node, _port) = node_of(&book);
    let usage = Arc::clone(book.entries[0].1.usage());
    node[0].turn_with(20, &hello("all"));
    assert_eq!(statuses(&mut node), [0]);
    let settle = |node: &mut Vec<Alone>| while node[0].shard.next_touched().is_some() {};
    // What is answered at once waits for nobody, however much of it comes.
    node[0].turn_with(30, &balance().repeat(40));
    assert_eq!(statuses(&mut node), [0; 40]);
    let waiting = request(1, 7, 0, true, &[]);
    node[0].turn_with(40, &[waiting.repeat(3), balance()].concat());
    assert_eq!((statuses(&mut node), usage.in_flight()), (vec![5, 5], 2));
    // Nor on another connection.
    node[0].begin_turn(50);
    node[0].shard.open(1, Listener::Any);
    node[0].shard.receive(1, &[hello("all"), balance()].concat());
    node[0].end_turn(50);
    assert_eq!(usage.shed(), 3);
    // Once they are answered there is room again.
    node[0].turn(1_100_000);
    settle(&mut node);
    assert_eq!((statuses(&mut node).len(), usage.in_flight()), (2, 0));
    node[0].turn_with(1_100_010, &[waiting.repeat(3), balance()].concat());
    assert_eq!((statuses(&mut node), usage.in_flight()), (vec![5, 5], 2));
    // What is owed to nobody any more counts no more.
    node[0].shard.closed(0);
    assert_eq!(usage.in_flight(), 0);
}

#[test]
fn who_was_refused_is_told_to_whoever_keeps_the_log() {
    let (mut node, mut port) = node_of(&Book::of([Entry("all", 7, Rights::BALANCE, NO_BOUNDS, EVER)]));
    node[0].shard.comes_from(0, IpAddr::from([192, 0, 2, 1]));
    node[0].turn_with(20, &[balance(), hello("wrong"), hello("all"), request(2, 7, 0, false, &[])].concat());
    let told: Vec<_> = core::iter::from_fn(|| port.refusals.pop()).collect();
    let user = UserId::new(0);
    let as_expected = |refused: &Refused, principal, opcode, user, status| {
        let from = Some(IpAddr::from([192, 0, 2, 1]));
        *refused == Refused { at_us: 0, from, principal, opcode, user, status }
    };
    assert!(as_expected(&told[0], None, Opcode::GetBalance, user, Status::Unauthenticated), "{told:?}");
    assert!(as_expected(&told[1], None, Opcode::Hello, None, Status::Unauthenticated), "{told:?}");
    assert!(
        as_expected(&told[2], Some(7), Opcode::GetStatistics, user, Status::PermissionDenied),
        "{told:?}"
    );
    node[0].turn_with(21, &request(2, 7, 0, false, &[]).repeat(1_000));
    let told = core::iter::from_fn(|| port.refusals.pop()).count() as u64;
    let untold = node[0].shard.responder.metrics.refusals_untold.get();
    node[0].turn(22);
    assert!(told > 0 && told + untold >= 128, "{told} {untold}");
}
