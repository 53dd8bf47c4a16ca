//! RESP: the exchanges of `schemas/golden-resp.json`, and replies in the order of their commands whoever owns the users.

use serde_json::Value;

use super::*;

/// 2026-11-22T04:05:06.000007Z.
const AS_OF_US: i64 = 1_795_320_306_000_007;

/// Whom the golden exchanges are about: 42 has two transactions, 7 one and lacks another, nobody knows 9.
fn golden_node(shards: u16) -> Vec<Alone> {
    let mut node = node(shards, 8);
    let coin = |user, version, amount| Transaction { amount, occurred_at_us: AS_OF_US, ..row(user, version) };
    for transaction in [
        coin(42, 1, 1_500),
        Transaction { kind: Kind::Withdrawal, ..coin(42, 2, 300) },
        coin(7, 1, 10),
        coin(7, 3, 1),
    ] {
        let owner = transaction.user_id.shard(shards);
        assert!(node[usize::from(owner.0)].events.push(FeedEvent::Row(transaction)).is_ok(), "room");
    }
    for alone in &mut node {
        alone.shard.follow.feed.watermark.store(AS_OF_US, 1);
        alone.shard.begin_turn(Now { wall_us: AS_OF_US, monotonic_us: 1 });
        alone.end_turn(1);
        alone.shard.open(0, Listener::Any);
    }
    node
}

fn exchanges() -> Vec<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/golden-resp.json");
    let told: Value = serde_json::from_slice(&std::fs::read(path).expect(path)).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let all: Vec<_> = told["exchanges"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|told| (text(&told["ask"]), text(&told["reply"])))
        .collect();
    assert!(all.len() > 30);
    all
}

/// What the first shard's connection 0 is sent when `bytes` have come, and the others have had some turns too.
fn ask(node: &mut [Alone], now_us: u64, bytes: &[u8]) -> String {
    let mut output = Vec::new();
    for monotonic_us in now_us..now_us + 16 {
        for (index, alone) in node.iter_mut().enumerate() {
            alone.shard.begin_turn(Now { wall_us: AS_OF_US, monotonic_us });
            if (index, monotonic_us) == (0, now_us) {
                alone.shard.receive(0, bytes);
            }
            alone.end_turn(monotonic_us);
        }
        output.extend(node[0].send_output());
    }
    String::from_utf8(output).expect("these replies are text")
}

/// Who asks for users of another shard is told so by FLORIN's commands; nothing else differs.
fn but_for_the_shard(reply: &str) -> &str {
    match reply.contains("forwarded") {
        true => reply.split("$5\r\nshard").next().expect("a begin"),
        false => reply,
    }
}

/// Each golden exchange, one after the other on one connection, whole and cut at every byte, on one shard and where others own the users.
#[test]
fn golden_exchanges() {
    let exchanges = exchanges();
    let longest = exchanges.iter().map(|(request, _)| request.len()).max().expect("there are some");
    for shards in [1, 2, 3] {
        for cut in 0..longest {
            let mut node = golden_node(shards);
            let mut now_us = 10;
            for (request, reply) in exchanges.iter().filter(|(request, _)| request.len() > cut) {
                let (begin, rest) = request.as_bytes().split_at(cut);
                let got = ask(&mut node, now_us, begin) + &ask(&mut node, now_us + 16, rest);
                now_us += 32;
                let expected = if shards == 1 { reply } else { but_for_the_shard(reply) };
                let got = if shards == 1 { &got } else { but_for_the_shard(&got) };
                assert_eq!(got, expected, "{request:?} cut at {cut} on {shards} shards");
            }
        }
    }
}

/// The same, all of them at once: what is answered in a loop of its own keeps its place among the others.
#[test]
fn golden_exchanges_at_once() {
    let (requests, replies): (Vec<_>, Vec<_>) = exchanges().into_iter().unzip();
    assert_eq!(ask(&mut golden_node(1), 10, requests.concat().as_bytes()), replies.concat());
}

#[test]
fn each_get_is_counted() {
    let mut node = golden_node(1);
    ask(&mut node, 10, "*2\r\n$3\r\nGET\r\n$10\r\nbalance:42\r\n".repeat(20).as_bytes());
    let metrics = &node[0].shard.responder.metrics;
    assert_eq!(metrics.opcodes[Opcode::GetBalance as usize].answers[Status::Ok as usize].get(), 20);
    assert_eq!(metrics.resp_commands.get(), 20);
}

/// Half an MGET that comes byte by byte was read anew with every byte.
#[test]
fn a_long_command_that_comes_in_pieces_is_read_a_few_times() {
    let mut node = golden_node(1);
    let keys = 1_000;
    let mut command = format!("*{}\r\n$4\r\nMGET\r\n", keys + 1).into_bytes();
    (0..keys).for_each(|_| command.extend_from_slice(b"$27\r\nbalance:1000000000000000042\r\n"));
    let mut looks = 0;
    for (now_us, &byte) in (10..).zip(&command) {
        let before = node[0].shard.connections[0].least_input;
        node[0].turn_with(now_us, &[byte]);
        looks += usize::from(node[0].shard.connections[0].least_input != before);
    }
    assert!((1..100).contains(&looks), "{looks} looks at {} bytes", command.len());
    let reply = node[0].send_output();
    assert_eq!(reply, [b"*1000\r\n".as_slice(), &b"$-1\r\n".repeat(keys)].concat());
}

/// A batch of which no user can be answered says so once. GETs that were sent together are gathered as a batch is, and each has its own
/// answer all the same: with one for all of them, a caller takes every later reply for another's.
#[test]
fn each_of_several_gets_is_refused_by_itself() {
    for shards in [1, 2, 3] {
        let mut node = node(shards, 8);
        node.iter_mut().for_each(|alone| alone.shard.follow.feed.watermark.store(0, 0));
        node[0].shard.open(0, Listener::Any);
        let gets: String = (0..20)
            .map(|user| format!("*2\r\n$3\r\nGET\r\n${}\r\nbalance:{user}\r\n", 8 + user.to_string().len()))
            .collect();
        let replies = ask(&mut node, 10, (gets + "*1\r\n$4\r\nPING\r\n").as_bytes());
        let replies: Vec<&str> = replies.lines().collect();
        assert_eq!(replies.len(), 21, "{shards} shards: {replies:?}");
        assert!(replies[..20].iter().all(|reply| reply.starts_with("-UNAVAILABLE ")), "{replies:?}");
        assert_eq!(replies[20], "+PONG");
        let mesh_of = |alone: &Alone| {
            let metrics = &alone.shard.responder.metrics.opcodes[Opcode::GetBalance as usize];
            metrics.answers[Status::Unavailable as usize].get()
        };
        assert_eq!(node.iter().map(mesh_of).sum::<u64>(), 20, "each is counted");
    }
}
