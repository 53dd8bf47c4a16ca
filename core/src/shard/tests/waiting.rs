//! Questions that wait until what they ask for is there: as many as there is room for, each to its own end, and what is said of one that
//! has waited in vain.

use super::*;
use crate::limits::{CONNECTION_WAITS_MAX, MESH_WAITS_MAX, WAIT_MS_MAX, WAITING_MAX};

/// Questions of so many connections, each as many as one may have waiting; user 1's version 9 is not there.
fn ask_to_wait(alone: &mut Alone, connections: u32, user: u64) {
    let each: Vec<u8> = (0..u64::from(CONNECTION_WAITS_MAX))
        .flat_map(|id| request(Opcode::GetBalance as u8, id, user, true, &[]))
        .collect();
    for connection in 0..connections {
        alone.shard.open(connection, Listener::Any);
        alone.shard.receive(connection, &each);
    }
}

/// The statuses that a connection was told.
fn statuses(alone: &mut Alone, connection: u32) -> Vec<u8> {
    let output = alone.shard.take_output(connection, Vec::new());
    alone.shard.sent(connection, output.len());
    let (mut rest, mut told) = (&output[..], Vec::new());
    while let Ok((header, _)) = ReplyHeader::read_from_prefix(rest) {
        told.push(header.status);
        rest = &rest[header.length.get() as usize..];
    }
    told
}

#[test]
fn who_has_waited_in_vain_is_told_for_how_long_and_what_may_help() {
    let mut alone = node(1, 8).remove(0);
    alone.send(FeedEvent::Row(row(1, 1)));
    alone.turn(10);
    alone.begin_turn(20);
    alone.shard.open(0, Listener::Any);
    let most = format!("at 1 here after {WAIT_MS_MAX} ms: ask again\"");
    for (query, waits_us, told) in [
        ("", 0, "at 1 here: ask again, or give a wait_ms\"".to_owned()),
        (
            "&wait_ms=5",
            5_000,
            format!("at 1 here after 5 ms: ask again, or wait longer: wait_ms may be {WAIT_MS_MAX}\""),
        ),
        ("&wait_ms=1000", 1_000_000, most.clone()),
        ("&wait_ms=1001", 1_000_000, most),
    ] {
        let at_us = alone.shard.now.monotonic_us + 10_000_000;
        let get = format!("GET /v1/users/1/balance?min_version=9{query} HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut answer = alone.asked_at(0, at_us, &get);
        if waits_us > 0 {
            assert_eq!(answer, "", "it waits");
            alone.turn(at_us + waits_us - 1);
            assert_eq!(alone.send_output(), b"", "for all of its time");
            alone.turn(at_us + waits_us + 1);
            answer = alone.take_output();
            alone.shard.sent(0, answer.len());
        }
        assert!(answer.contains(&told), "{query}: {answer}");
    }
}

#[test]
fn as_many_wait_as_there_is_room_for_and_the_next_are_told_so() {
    const CONNECTIONS: u32 = WAITING_MAX as u32 / CONNECTION_WAITS_MAX;
    let mut alone = node(1, 8).remove(0);
    alone.begin_turn(10);
    ask_to_wait(&mut alone, CONNECTIONS + 1, 1);
    alone.end_turn(10);
    assert_eq!(alone.shard.forwarding.waiting.len(), WAITING_MAX);
    let overloaded = vec![Status::Overloaded as u8; CONNECTION_WAITS_MAX as usize];
    let told: Vec<_> = (0..=CONNECTIONS).map(|connection| statuses(&mut alone, connection)).collect();
    assert_eq!(told.iter().filter(|told| **told == overloaded).count(), 1, "{told:?}");
    assert_eq!(told.iter().filter(|told| told.is_empty()).count(), CONNECTIONS as usize);
}

#[test]
fn as_many_wait_with_a_neighbour_as_its_link_has_places_for() {
    const CONNECTIONS: u32 = MESH_WAITS_MAX as u32 / CONNECTION_WAITS_MAX;
    let mut node = node(2, 8);
    node[0].begin_turn(10);
    ask_to_wait(&mut node[0], CONNECTIONS + 1, user_of(1));
    node[0].end_turn(10);
    for at_us in 11..20 {
        node.iter_mut().for_each(|alone| alone.turn(at_us));
    }
    assert_eq!(node[1].shard.forwarding.waiting.len(), MESH_WAITS_MAX);
    let told: Vec<_> = (0..=CONNECTIONS).map(|connection| statuses(&mut node[0], connection)).collect();
    let overloaded = vec![Status::Overloaded as u8; CONNECTION_WAITS_MAX as usize];
    assert_eq!(told.iter().filter(|told| **told == overloaded).count(), 1, "{told:?}");
}

/// What waits goes with its connection, here and at a neighbour, and what waits for others stays.
#[test]
fn who_ends_takes_no_other_questions_along() {
    for user in [user_of(0), user_of(1)] {
        let mut node = node(2, 8);
        let owner = usize::from(UserId::new(user).expect("a user").shard(2).0);
        node[0].begin_turn(10);
        ask_to_wait(&mut node[0], 2, user);
        node[0].end_turn(10);
        node.iter_mut().for_each(|alone| alone.turn(11));
        let each = CONNECTION_WAITS_MAX as usize;
        assert_eq!(node[owner].shard.forwarding.waiting.len(), 2 * each);
        node[0].begin_turn(20);
        node[0].shard.closed(0);
        node[0].end_turn(20);
        for at_us in 21..30 {
            node.iter_mut().for_each(|alone| alone.turn(at_us));
        }
        assert_eq!(node[owner].shard.forwarding.waiting.len(), each);
        node[owner].send(FeedEvent::Row(row(user, 1)));
        (2..=9).for_each(|version| node[owner].send(FeedEvent::Row(row_of_one(user, version))));
        for at_us in 31..50 {
            node.iter_mut().for_each(|alone| alone.turn(at_us));
        }
        assert_eq!(statuses(&mut node[0], 1), vec![Status::Ok as u8; each]);
    }
}

/// Each part of a batch waits by itself, and what was gathered of it goes with the last.
#[test]
fn nothing_is_kept_of_a_batch_whose_caller_has_gone() {
    let mut node = node(2, 8);
    node[0].begin_turn(10);
    node[0].shard.open(0, Listener::Any);
    node[0].shard.receive(0, &request(3, 1, 0, true, &[user_of(0), user_of(1)]));
    node[0].end_turn(10);
    node[1].turn(11);
    let under_way = |node: &[Alone]| {
        let waiting = node.iter().map(|alone| alone.shard.forwarding.waiting.len()).sum::<usize>();
        (waiting, node[0].shard.forwarding.gathers().len())
    };
    assert_eq!(under_way(&node), (2, 1));
    node[0].begin_turn(20);
    node[0].shard.closed(0);
    node[0].end_turn(20);
    for at_us in 21..30 {
        node.iter_mut().for_each(|alone| alone.turn(at_us));
    }
    assert_eq!(under_way(&node), (0, 0));
}

/// Another row, of an amount that a balance of many of them has room for.
fn row_of_one(user: u64, version: u64) -> Transaction {
    Transaction { amount: 1, kind: Kind::Withdrawal, ..row(user, version) }
}
