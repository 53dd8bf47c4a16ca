//! Questions between shards: each gets its own answer, once, also where a link is full.

use super::*;
use crate::limits::{LOOKUPS_PER_BUNDLE, MESH_ASKS_MAX, MESH_BUNDLES_MAX};

/// Users of a shard of so many.
fn users_of(shard: u16, shards: u16) -> impl Iterator<Item = UserId> {
    (0..).filter_map(move |id| UserId::new(id).filter(|user| user.shard(shards) == ShardIndex(shard)))
}

/// The frames that a connection was sent, one by one.
fn replies(output: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut replies) = (output, Vec::new());
    while let Some(length) = rest.first_chunk().map(|&bytes| u32::from_le_bytes(bytes) as usize) {
        let (reply, after) = rest.split_at(length);
        (rest, _) = (after, replies.push(reply));
    }
    replies
}

fn request_id(reply: &[u8]) -> u64 {
    ReplyHeader::read_from_prefix(reply).expect("a whole reply").0.request_id.get()
}

/// The owner looked foreign users up one by one. Now all plain questions of a turn go through its pipeline together, whichever
/// shards sent them. Several groups from two shards, about accounts and strangers, balances and statistics mixed, while the
/// owner has callers of its own: each gets its own answer, once.
#[test]
fn foreign_lookups_of_one_turn_are_told_apart() {
    const EACH: usize = 100;
    let mut node = node(3, 8);
    let users: Vec<UserId> = users_of(2, 3).take(EACH).collect();
    let has_account = |place: usize| !place.is_multiple_of(3) && place < 60;
    for (place, &user_id) in users.iter().enumerate().filter(|&(place, _)| has_account(place)) {
        let amount = place as i64 + 1;
        let row = Transaction { user_id, amount, ..row(0, 1) };
        node[2].events.push(FeedEvent::Row(row)).expect("room");
    }
    node[2].turn(1);
    let is_statistics = |place: usize| place.is_multiple_of(5);
    let frames: Vec<u8> = (0..EACH)
        .flat_map(|place| {
            let opcode = if is_statistics(place) { 2 } else { 1 };
            request(opcode, place as u64, users[place].get(), false, &[])
        })
        .collect();
    for alone in &mut node {
        alone.begin_turn(2);
        alone.shard.open(0, Listener::Any);
        alone.shard.receive(0, &frames);
        alone.end_turn(2);
    }
    let mut outputs = vec![Vec::new(); 3];
    for now_us in 3..40 {
        for (alone, output) in node.iter_mut().zip(&mut outputs) {
            alone.turn(now_us);
            output.extend(alone.send_output());
        }
    }
    for (shard, output) in outputs.iter().enumerate() {
        let mut answered = [false; EACH];
        for reply in replies(output) {
            let place = request_id(reply) as usize;
            assert!(!core::mem::replace(&mut answered[place], true), "{place} is answered once");
            assert_eq!((reply[5] == 2, reply[7] == 0), (is_statistics(place), has_account(place)));
            assert_eq!(reply[26] & 1, u8::from(shard != 2), "FORWARDED");
            if has_account(place) && !is_statistics(place) {
                let balance = florin_schema::layout::BalanceView::new(&reply[32..]).expect("a balance");
                let found = (balance.root.user_id.get(), balance.rows[0].available.get());
                assert_eq!(found, (users[place].get(), place as i64 + 1));
            }
        }
        assert!(answered.iter().all(|&is| is), "shard {shard}'s caller has every answer");
    }
    assert_eq!(node[2].shard.responder.metrics.answered_for_others.get(), 2 * EACH as u64);
    assert!(node[2].shard.forwarding.incoming.is_empty() && node[2].shard.pipeline.is_empty());
}

/// A connection may be owed some 48 answers, so a few callers never fill a link: no simulated one ever was full. Here each of two
/// shards asks the other all that a link takes and more, while neither answers. Nothing is lost, reordered or answered twice, and no
/// shard waits for the other for ever.
#[test]
fn a_full_link_makes_callers_wait_and_loses_nothing() {
    const EACH: u64 = 200;
    let lookups = (MESH_BUNDLES_MAX + 1) * LOOKUPS_PER_BUNDLE;
    // With options a question goes by itself, and there is room for fewer.
    for (has_options, connections, outstanding) in [(false, 64, lookups), (true, 17, MESH_ASKS_MAX)] {
        let mut node = node(2, 8);
        let link = |node: &[Alone], shard: usize| {
            let link = node[shard].shard.forwarding.link(ShardIndex(1 - shard as u16)).expect("a neighbour");
            (link.outstanding(), link.may_look_up(), link.may_ask())
        };
        for (shard, alone) in (0..).zip(&mut node) {
            let user = user_of(1 - shard);
            let requests: Vec<u8> = (0..EACH)
                .flat_map(|id| {
                    let mut frame = request(1, id, user, has_options, &[]);
                    if has_options {
                        // Of any version, and no older than an hour: it need not wait.
                        frame[24..32].fill(0);
                        frame[32..36].copy_from_slice(&3_600_000_u32.to_le_bytes());
                        frame[36..40].fill(0);
                    }
                    frame
                })
                .collect();
            alone.begin_turn(10);
            for connection in 0..connections {
                alone.shard.open(connection, Listener::Any);
                alone.shard.receive(connection, &requests);
            }
        }
        for shard in 0..2 {
            node[shard].shard.finish_lookups();
            let room = if has_options { (true, false) } else { (false, true) };
            assert_eq!(link(&node, shard), (outstanding, room.0, room.1), "all that the link takes");
            assert!(node[shard].shard.responder.metrics.links_full.get() > 0, "and a counter says so");
        }
        let mut answers = vec![vec![Vec::new(); connections as usize]; 2];
        for at_us in 11..200 {
            for (alone, answers) in node.iter_mut().zip(&mut answers) {
                alone.turn(at_us);
                assert!(!alone.shard.forwarding.holds_back(), "what may go has gone");
                for (connection, ids) in (0..connections).zip(answers) {
                    let output = alone.shard.take_output(connection, Vec::new());
                    alone.shard.sent(connection, output.len());
                    ids.extend(replies(&output).into_iter().map(request_id));
                }
            }
        }
        let all: Vec<u64> = (0..EACH).collect();
        for (shard, answers) in answers.iter().enumerate() {
            for (connection, ids) in answers.iter().enumerate() {
                assert_eq!(*ids, all, "shard {shard}, connection {connection}");
            }
            let metrics = &node[shard].shard.responder.metrics;
            let total = EACH * u64::from(connections);
            assert_eq!((metrics.forwarded.get(), metrics.answered_for_others.get()), (total, total));
            assert_eq!((metrics.mesh_depth.get(), link(&node, shard)), (0, (0, true, true)));
            while node[shard].shard.next_touched().is_some() {}
            assert_eq!(node[shard].shard.park(), Park::Idle);
        }
    }
}

/// An answer came for a connection that was gone, and whose index somebody else had meanwhile.
#[test]
fn an_answer_reaches_nobody_but_who_asked() {
    let mut node = node(2, 8);
    node[0].begin_turn(10);
    node[0].shard.open(0, Listener::Any);
    node[0].shard.receive(0, &request(1, 1, user_of(1), false, &[]).repeat(3));
    node[0].end_turn(10);
    node[0].begin_turn(11);
    node[0].shard.closed(0);
    node[0].shard.open(0, Listener::Any);
    node[0].shard.receive(0, &request(1, 2, user_of(1), false, &[]));
    node[0].end_turn(11);
    node[1].turn(12);
    node[0].turn(13);
    let output = node[0].send_output();
    assert_eq!(replies(&output).into_iter().map(request_id).collect::<Vec<_>>(), [2]);
    assert_eq!(node[0].shard.connections[0].owed(), 0);
}

/// However many lookups a turn passes on, the neighbour is woken once.
#[test]
fn a_neighbour_is_woken_once_a_turn() {
    let mut node = node(2, 8);
    node[0].turn(1);
    node[1].turn(1);
    assert_eq!(node[1].shard.park(), Park::Idle);
    node[0].begin_turn(2);
    for connection in 0..8 {
        node[0].shard.open(connection, Listener::Any);
        node[0].shard.receive(connection, &request(1, 1, user_of(1), false, &[]).repeat(40));
    }
    node[0].end_turn(2);
    assert_eq!(node[0].shard.next_to_wake(), Some(ShardIndex(1)));
    assert_eq!(node[0].shard.next_to_wake(), None);
    // All of them in a few messages, and one more to take the rest.
    node[1].turn(3);
    assert_eq!(node[1].shard.responder.metrics.answered_for_others.get(), 8 * 40);
    assert!(!node[1].shard.forwarding.has_messages());
}

/// A place of the link is taken to say that a caller has gone only where its question may wait for long: another is answered soon anyway. Where
/// it has asked nothing, nobody is told.
#[test]
fn a_neighbour_hears_that_a_caller_has_gone_where_it_waits() {
    let is_of_the_second = |user: &UserId| user.shard(3) == ShardIndex(1);
    let user = (1..).filter_map(UserId::new).find(is_of_the_second).expect("there are many").get();
    for (wait_ms, outstanding) in [(0_u32, 1), (1_000, 2)] {
        let mut node = node(3, 8);
        node.iter_mut().for_each(|alone| alone.turn(1));
        node[0].begin_turn(10);
        node[0].shard.open(0, Listener::Any);
        let mut ask = request(Opcode::GetBalance as u8, 1, user, true, &[]);
        ask[36..40].copy_from_slice(&wait_ms.to_le_bytes());
        node[0].shard.receive(0, &ask);
        node[0].end_turn(10);
        node[0].shard.closed(0);
        let links = |node: &[Alone]| {
            let link = |shard| node[0].shard.forwarding.link(ShardIndex(shard)).map(PeerLink::outstanding);
            [link(1), link(2)]
        };
        assert_eq!(links(&node), [Some(outstanding), Some(0)]);
        (11..14).for_each(|at_us| node.iter_mut().for_each(|alone| alone.turn(at_us)));
        assert_eq!(links(&node), [Some(0); 2], "nothing is left of it");
    }
}

/// A connection is promised room by the longest statistics so far, its own shard's or not; HTTP's text says nothing of that.
#[test]
fn statistics_of_a_neighbour_say_how_long_statistics_may_be() {
    let user = user_of(1);
    let get = |options: &str| {
        format!("GET /v1/users/{user}/statistics{options} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
    };
    let native = frame(Opcode::GetStatistics, Encoding::Rkyv, user, &[]);
    // With options a question goes by itself.
    let mut of_version_1 = request(Opcode::GetStatistics as u8, 1, user, true, &[]);
    of_version_1[24..40].copy_from_slice(&1_u128.to_le_bytes());
    let asks = [(get(""), false), (get("?min_version=1"), false), (native, true), (of_version_1, true)];
    for (ask, tells) in asks {
        let mut node = node(2, 8);
        for (version, asset) in [(1, b"AAAA"), (2, b"BBBB"), (3, b"CCCC")] {
            let asset = Asset::parse(asset).expect("a legal code");
            node[1].send(FeedEvent::Row(Transaction { asset, ..row(user, version) }));
        }
        node.iter_mut().for_each(|alone| alone.turn(1));
        node[0].shard.open(0, Listener::Any);
        let before = node[0].shard.responder.statistics_bytes;
        node[0].turn_with(10, &ask);
        node[1].turn(10);
        node[0].turn(10);
        let said = node[0].send_output().len();
        assert!(said > before, "{said}");
        let longest = node[0].shard.responder.statistics_bytes;
        assert_eq!(longest, if tells { said } else { before });
    }
}
