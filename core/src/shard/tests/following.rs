//! What a shard takes in of its feed: it does not sleep over it, its metrics and the audit hear of it, and its age decides what is answered.

use florin_schema::frame::{FLAG_FRESHNESS, FreshnessOptions};
use proptest::prelude::*;

use super::*;
use crate::shard::audit::{AuditAnswer, AuditOrder, Below, Copies, audit_link};

/// A row that adds little, so that others may follow.
fn little(user: u64, version: u64) -> Transaction {
    Transaction { amount: 1, ..row(user, version) }
}

/// Whoever sends a shard something while it does not sleep wakes nobody.
#[test]
fn a_shard_does_not_sleep_over_what_has_come() {
    let mut node = node(2, 8);
    let is_busy = |alone: &mut Alone| alone.shard.park() == Park::Busy;
    node.iter_mut().for_each(|alone| alone.turn(1));
    assert!(!node.iter_mut().any(is_busy));
    node[0].send(FeedEvent::Row(row(user_of(0), 1)));
    assert!(is_busy(&mut node[0]));
    node[0].turn(2);
    assert!(!is_busy(&mut node[0]));
    // A question for the other shard.
    node[0].begin_turn(3);
    node[0].shard.open(0, Listener::Any);
    node[0].shard.receive(0, &request(Opcode::GetBalance as u8, 1, user_of(1), false, &[]));
    node[0].end_turn(3);
    assert!(is_busy(&mut node[1]));
    for now_us in 4..8 {
        node.iter_mut().for_each(|alone| alone.turn(now_us));
    }
    assert!(!is_busy(&mut node[1]) && !node[0].send_output().is_empty());
    // Of one that has asked nothing of it the other shard does not hear.
    node[0].shard.closed(0);
    node[0].turn(9);
    assert!(!is_busy(&mut node[1]));
}

#[test]
fn what_is_held_is_counted() {
    let mut alone = node(1, 8).remove(0);
    for event in [FeedEvent::Row(row(1, 1)), FeedEvent::Row(row(2, 1)), FeedEvent::Row(row(2, 3))] {
        alone.send(event);
    }
    alone.turn(10);
    let metrics = &alone.shard.responder.metrics;
    assert_eq!((metrics.accounts.get(), metrics.quarantined.get()), (2, 1), "one lacks a row");
    let parts: u64 = metrics.table_parts.iter().map(|part| part.get()).sum();
    assert_eq!((metrics.table_bytes.get(), parts > 0), (parts, true));
}

/// Who comes, alone or with a commit, between the word to watch and the moment at which accounts are copied is named.
#[test]
fn the_audit_hears_of_everybody_new_and_of_nobody_else() {
    let (mut port, link) = audit_link();
    let Alone { shard, events, requests } = node(1, 8).remove(0);
    let mut alone = Alone { shard: shard.with_audit(link), events, requests };
    alone.send(FeedEvent::Row(little(1, 1)));
    alone.turn(10);
    assert!(port.orders.push(AuditOrder::Begin).is_ok() && port.orders.push(AuditOrder::Watch).is_ok());
    alone.turn(20);
    assert!(matches!(port.answers.pop(), Some(AuditAnswer::Watching)));
    for event in [
        FeedEvent::Row(little(1, 2)),
        FeedEvent::Row(little(2, 1)),
        FeedEvent::Part(little(1, 3)),
        FeedEvent::Part(little(3, 1)),
        FeedEvent::Part(little(3, 2)),
        FeedEvent::CommitEnd,
    ] {
        alone.send(event);
    }
    alone.turn(30);
    let copy = AuditOrder::Copy { users: Vec::new(), below: Some(Below::End), copies: Copies::default() };
    assert!(port.orders.push(copy).is_ok());
    alone.turn(40);
    let Some(AuditAnswer::NewUsers { new: Some(mut new), .. }) = port.answers.pop() else {
        panic!("somebody came")
    };
    new.sort_unstable();
    assert_eq!(new, [2, 3].map(|id| UserId::new(id).unwrap()));
}

/// To the microsecond: as old as it may be it is answered.
#[test]
fn what_is_too_old_is_not_answered_and_who_waits_for_newer_is_when_it_comes() {
    const OLD_US: u64 = 1_000;
    let mut alone = node(1, 8).remove(0);
    alone.shard.follow.max_staleness_us = OLD_US;
    alone.send(FeedEvent::Row(row(1, 1)));
    alone.turn(10);
    alone.shard.open(0, Listener::Any);
    let get = "GET /v1/users/1/balance HTTP/1.1\r\nHost: h\r\n\r\n";
    // The watermark is of the first microsecond.
    assert!(alone.asked_at(0, 1 + OLD_US, get).starts_with("HTTP/1.1 200"));
    assert!(alone.asked_at(0, 2 + OLD_US, get).starts_with("HTTP/1.1 503"));
    alone.shard.follow.max_staleness_us = u64::MAX;
    let waits = "GET /v1/users/1/balance?max_age_ms=1&wait_ms=1000 HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(alone.asked_at(0, 10_000, waits), "", "it waits");
    alone.turn(10_001);
    assert_eq!(alone.send_output(), b"");
    alone.shard.follow.feed.watermark.store(2, 10_001);
    alone.turn(10_002);
    assert!(alone.take_output().starts_with("HTTP/1.1 200"), "it has come");
}

/// Each shard looks at the clock and then stands still, as a host may let it, for five seconds; a question that came meanwhile was taken for
/// one of before, and answered with what was five seconds old.
#[test]
fn what_is_asked_is_judged_by_when_it_had_come() {
    const LATER_US: u64 = 5_000_000;
    // The watermark is of the first microsecond. By the caller's limit, and by the node's for who names none.
    let cases = [
        (u64::MAX, "?max_age_ms=4999", "412"),
        (u64::MAX, "?max_age_ms=5000", "200"),
        (LATER_US - 2, "", "503"),
        (LATER_US - 1, "", "200"),
    ];
    for (owner, (max_staleness_us, query, status)) in
        [0, 1].into_iter().flat_map(|owner| cases.map(|case| (owner, case)))
    {
        let mut node = node(2, 8);
        let user = user_of(owner as u16);
        node.iter_mut().for_each(|alone| alone.shard.follow.max_staleness_us = max_staleness_us);
        node[owner].send(FeedEvent::Row(row(user, 1)));
        node[owner].turn(1);
        node.iter_mut().for_each(|alone| alone.begin_turn(10));
        node[0].shard.open(0, Listener::Any);
        node[0].shard.input_came_by(LATER_US);
        let get = format!("GET /v1/users/{user}/balance{query} HTTP/1.1\r\nHost: h\r\n\r\n");
        node[0].shard.receive(0, get.as_bytes());
        node.iter_mut().for_each(|alone| alone.end_turn(LATER_US));
        // The answer of the other one comes in a later turn.
        let mut said = node[0].take_output();
        if said.is_empty() {
            node[0].turn(LATER_US);
            said = String::from_utf8(node[0].send_output()).unwrap();
        }
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "shard {owner}, {query:?}: {said}");
    }
}

/// A caller that says how long it waits waits as long as that from when it asked, however long the turn had lasted then.
#[test]
fn a_question_waits_as_long_as_it_said_from_when_it_had_come() {
    const LATER_US: u64 = 5_000_000;
    for owner in [0, 1] {
        let mut node = node(2, 8);
        let user = user_of(owner as u16);
        node[owner].send(FeedEvent::Row(row(user, 1)));
        node.iter_mut().for_each(|alone| alone.turn(1));
        node.iter_mut().for_each(|alone| alone.begin_turn(10));
        node[0].shard.open(0, Listener::Any);
        node[0].shard.input_came_by(LATER_US);
        let get =
            format!("GET /v1/users/{user}/balance?min_version=2&wait_ms=1000 HTTP/1.1\r\nHost: h\r\n\r\n");
        node[0].shard.receive(0, get.as_bytes());
        node.iter_mut().for_each(|alone| alone.end_turn(LATER_US));
        let mut said_at = |at_us: u64| {
            node[owner].turn(at_us);
            node[0].turn(at_us);
            String::from_utf8(node[0].send_output()).unwrap()
        };
        assert_eq!(said_at(LATER_US), "", "it waits");
        assert_eq!(said_at(LATER_US + 999_999), "", "it waits");
        assert!(said_at(LATER_US + 1_000_000).starts_with("HTTP/1.1 412"));
    }
}

/// Who looks from the control plane is told nothing that is older than the node may tell, however long the shard stood still before.
#[test]
fn a_look_is_judged_by_when_it_was_asked_for() {
    for (max_staleness_us, status) in [(99, "503"), (100, "200")] {
        let (mut port, link) = look_link();
        let Alone { shard, events, requests } = node(1, 8).remove(0);
        let mut alone = Alone { shard: shard.with_looks(link), events, requests };
        alone.shard.follow.max_staleness_us = max_staleness_us;
        alone.send(FeedEvent::Row(row(1, 1)));
        alone.turn(1);
        alone.begin_turn(2);
        // The watermark is of the first microsecond.
        let look = Look::Balance(UserId::new(1).expect("a legal id"));
        assert!(port.orders.push(LookOrder { look, asked_by_us: 101 }).is_ok());
        alone.end_turn(101);
        let answer = String::from_utf8(port.answers.pop().expect("an answer")).expect("HTTP");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

/// What befalls a node of three shards, whose threads stand still wherever they like.
#[derive(Clone, Copy, Debug)]
enum Act {
    Begin(usize),
    End(usize),
    /// At a shard about these users, which are one of each shard: what must be no older than so many milliseconds, for which it may wait.
    Ask {
        at: usize,
        of: [bool; 3],
        max_age_ms: u32,
        wait_ms: u32,
    },
    /// The ledger is read for a shard.
    Look(usize),
}

const SHARDS: u16 = 3;
const STALE_US: u64 = 40_000;

/// Each act, after so many microseconds.
fn acts() -> impl Strategy<Value = Vec<(u64, Act)>> {
    let shard = || 0..usize::from(SHARDS);
    let ask = (shard(), any::<[bool; 3]>(), 0..60_u32, prop_oneof![Just(0), 1..50_u32])
        .prop_map(|(at, of, max_age_ms, wait_ms)| Act::Ask { at, of, max_age_ms, wait_ms });
    let act = prop_oneof![
        3 => shard().prop_map(Act::Begin),
        3 => shard().prop_map(Act::End),
        4 => ask,
        2 => shard().prop_map(Act::Look),
    ];
    let after_us = prop_oneof![3 => 0..200_u64, 1 => 0..30_000_u64];
    proptest::collection::vec((after_us, act), 20..300)
}

/// A question, when it was asked.
struct Asked {
    at_us: u64,
    max_age_us: u64,
}

/// Replies to `asked`, read at `now_us`: none with data is older than was asked for, and who is refused asked for more than there was. A batch
/// with a refused entry is not judged, for its `as_of` is the oldest of all entries.
fn judge(asked: &[Asked], mut replies: &[u8], now_us: u64) -> Result<(), TestCaseError> {
    while !replies.is_empty() {
        let (header, rest) = ReplyHeader::read_from_prefix(replies).expect("a reply");
        let (body, rest) = rest.split_at(header.length.get() as usize - size_of::<ReplyHeader>());
        replies = rest;
        let Asked { at_us, max_age_us } = asked[header.request_id.get() as usize];
        // The watermark of these shards is the time when their ledger was read.
        let read_us = header.as_of_us.get().cast_unsigned();
        let is_refused = match Status::try_from(header.status) {
            Ok(Status::Ok) if header.opcode == Opcode::GetBalances as u8 => {
                let mut aligned = rkyv::util::AlignedVec::<16>::new();
                aligned.extend_from_slice(body);
                let balances = rkyv::from_bytes::<records::Balances, rkyv::rancor::Error>(&aligned);
                balances.expect("it verifies").entries.iter().any(|entry| entry.status != Status::Ok as u8)
            }
            Ok(Status::Ok) => false,
            Ok(Status::Stale | Status::Unavailable) => true,
            other => panic!("{other:?}"),
        };
        let oldest_us = max_age_us.min(STALE_US);
        if !is_refused {
            prop_assert!(read_us + oldest_us >= at_us, "of {read_us}, asked at {at_us}");
        } else if header.opcode != Opcode::GetBalances as u8 {
            prop_assert!(read_us + oldest_us < now_us, "of {read_us}, asked at {at_us}, refused by {now_us}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn however_threads_stand_still_no_answer_is_older_than_was_asked_for(acts in acts()) {
        let mut node = node(SHARDS, 8);
        let of = |shard| (1..).find(|&id| UserId::new(id).is_some_and(|user| user.shard(SHARDS) == ShardIndex(shard)));
        let users = [0, 1, 2].map(|shard| of(shard).expect("there are many"));
        for (alone, user) in node.iter_mut().zip(users) {
            alone.shard.follow.max_staleness_us = STALE_US;
            alone.send(FeedEvent::Row(row(user, 1)));
            alone.turn(1);
            alone.begin_turn(1);
            alone.shard.open(0, Listener::Any);
            alone.end_turn(1);
        }
        let (mut now_us, mut is_in_turn, mut asked) = (1, [false; 3], Vec::new());
        let quiet = (0..8).flat_map(|_| [0, 1, 2].map(|shard| (1_000_000, Act::End(shard))));
        for (after_us, act) in acts.into_iter().chain(quiet) {
            now_us += after_us;
            match act {
                Act::Begin(shard) if !is_in_turn[shard] => {
                    is_in_turn[shard] = true;
                    node[shard].begin_turn(now_us);
                }
                Act::Begin(_) => {}
                Act::Ask { at, of, max_age_ms, wait_ms } => {
                    if !is_in_turn[at] {
                        is_in_turn[at] = true;
                        node[at].begin_turn(now_us);
                    }
                    let users: Vec<u64> = users.into_iter().zip(of).filter(|&(_, is)| is).map(|(user, _)| user).collect();
                    let ask = ask(asked.len(), &users, max_age_ms, wait_ms);
                    let max_age_us = if max_age_ms == 0 { u64::MAX } else { u64::from(max_age_ms) * 1_000 };
                    asked.push(Asked { at_us: now_us, max_age_us });
                    node[at].shard.input_came_by(now_us);
                    node[at].shard.receive(0, &ask);
                }
                Act::End(shard) => {
                    if !core::mem::take(&mut is_in_turn[shard]) {
                        node[shard].begin_turn(now_us);
                    }
                    node[shard].end_turn(now_us);
                    let replies = node[shard].send_output();
                    judge(&asked, &replies, now_us)?;
                }
                Act::Look(shard) => node[shard].shard.follow.feed.watermark.store(now_us.cast_signed(), now_us),
            }
        }
    }
}

/// About one user, or several.
fn ask(id: usize, users: &[u64], max_age_ms: u32, wait_ms: u32) -> Vec<u8> {
    let (opcode, user, users) = match users {
        [] => (Opcode::GetBalance, 1, &[][..]),
        &[user] => (Opcode::GetBalance, user, &[][..]),
        users => (Opcode::GetBalances, 0, users),
    };
    let freshness =
        FreshnessOptions { min_version: 0.into(), max_age_ms: max_age_ms.into(), wait_ms: wait_ms.into() };
    let flags = if max_age_ms + wait_ms > 0 { FLAG_FRESHNESS } else { 0 };
    let mut frame = request(opcode as u8, id as u64, user, false, users);
    if flags > 0 {
        frame[7] = flags;
        frame.splice(24..24, freshness.as_bytes().iter().copied());
        let length = frame.len() as u32;
        frame[..4].copy_from_slice(&length.to_le_bytes());
    }
    frame
}
