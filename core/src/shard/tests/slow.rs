//! What is told of answers that take long.

use super::*;
use crate::shard::metrics::Work;
use crate::shard::slow::{SlowAnswers, Waited, slow_link};

const SLOW_US: u64 = 1_000;

/// To the microsecond, and only where somebody was answered: so many of them.
#[test]
fn a_turn_that_took_long_is_told_with_those_it_answered() {
    let (mut heard, link) = slow_link(SLOW_US);
    let Alone { shard, events, requests } = node(1, 8).remove(0);
    let mut alone = Alone { shard: shard.with_slow(link), events, requests };
    alone.turn(1);
    alone.shard.open(0, Listener::Any);
    let ask = request(Opcode::GetBalance as u8, 1, 1, false, &[]);
    let mut at_us = 10;
    for (asked, took_us) in [(3, SLOW_US - 1), (0, SLOW_US), (3, SLOW_US)] {
        alone.begin_turn(at_us);
        (0..asked).for_each(|_| alone.shard.receive(0, &ask));
        at_us += took_us;
        alone.end_turn(at_us);
        alone.send_output();
    }
    let turn = SlowAnswers { count: 3, took_us: SLOW_US, waited: Waited::Turn(Work::Answers) };
    assert_eq!((heard.pop(), heard.pop()), (Some(turn), None));
}

/// From when they had come, which may be after the turn began.
#[test]
fn what_a_neighbour_took_long_for_is_told_with_its_name() {
    let (mut heard, link) = slow_link(SLOW_US);
    let mut node = node(2, 8);
    let Alone { shard, events, requests } = node.remove(0);
    node.insert(0, Alone { shard: shard.with_slow(link), events, requests });
    node.iter_mut().for_each(|alone| alone.turn(1));
    node[0].shard.open(0, Listener::Any);
    let ask = request(Opcode::GetBalance as u8, 1, user_of(1), false, &[]);
    let mut at_us = 10;
    for took_us in [SLOW_US - 1, SLOW_US] {
        node[0].begin_turn(at_us);
        node[0].shard.input_came_by(at_us + 5);
        (0..2).for_each(|_| node[0].shard.receive(0, &ask));
        node[0].end_turn(at_us + 5);
        at_us += 5 + took_us;
        node[1].turn(at_us);
        node[0].turn(at_us);
        assert!(!node[0].send_output().is_empty());
    }
    let neighbour = SlowAnswers { count: 2, took_us: SLOW_US, waited: Waited::Neighbour(ShardIndex(1)) };
    assert_eq!((heard.pop(), heard.pop()), (Some(neighbour), None));
}
