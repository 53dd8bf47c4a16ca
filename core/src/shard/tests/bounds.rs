//! What one caller may hold, and whom it keeps waiting.

use super::*;
use crate::limits::{ASKED_US, FEED_EVENTS_BESIDE_ANSWERS, FEED_EVENTS_PER_TURN};
use crate::shard::forwarding::waiting::first_unmet;

/// Bytes of memory that shard 0 holds for a connection.
fn held(node: &[Alone], connection: u32) -> usize {
    let shard = &node[0].shard;
    let session = &shard.connections[connection];
    let gathers = shard.forwarding.gathers().map(|gather| {
        let parts: usize = gather.parts.iter().map(Vec::capacity).sum();
        gather.users.capacity() * size_of::<UserId>() + parts
    });
    session.input.capacity() + session.out.capacity() + session.unsent() - session.out.len()
        + gathers.sum::<usize>()
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
    assert_eq!(node[0].shard.forwarding.gathers().len(), 1, "one reply more than nothing");
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
    assert_eq!(node[0].shard.forwarding.gathers().len(), 1, "the next");
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
        let waiting =
            |node: &[Alone]| node.iter().map(|alone| alone.shard.forwarding.waiting.len()).sum::<usize>();
        assert_eq!((waiting(&node), refused), (32, 168), "those of shard {shard}");
        node[0].shard.closed(0);
        node[0].turn(40_000);
        node[1].turn(40_001);
        node[0].turn(40_002);
        assert_eq!(waiting(&node), 0);
        assert_eq!(node[0].shard.forwarding.link(ShardIndex(1)).map(PeerLink::outstanding), Some(0));
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
        let unmet = first_unmet(&users, from, |user| {
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

/// A feed that brings a million rows keeps nobody waiting who asks: a turn that has answered takes fewer of them, and so do those in which
/// the next question is on its way.
#[test]
fn a_shard_that_is_asked_takes_less_from_the_feed() {
    let mut alone = node_with(1, 2_048, 8).remove(0);
    alone.turn(10);
    alone.shard.open(0, Listener::Any);
    let ping = request(4, 1, 0, false, &[]);
    for (at_us, frame, expected) in [
        (20, &[][..], FEED_EVENTS_PER_TURN),
        (30, &ping[..], FEED_EVENTS_BESIDE_ANSWERS),
        (29 + ASKED_US, &[][..], FEED_EVENTS_BESIDE_ANSWERS),
        (30 + ASKED_US, &[][..], FEED_EVENTS_PER_TURN),
    ] {
        while alone.events.push(FeedEvent::BatchEnd(at_us)).is_ok() {}
        alone.turn_with(at_us, frame);
        assert_eq!(alone.events.free(), expected, "at {at_us} µs");
    }
}
