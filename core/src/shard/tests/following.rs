//! What a shard takes in of its feed: it does not sleep over it, its metrics and the audit hear of it, and its age decides what is answered.

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
        node[0].shard.comes_by(LATER_US);
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
