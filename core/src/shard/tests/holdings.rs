//! A node that has some of the users: what it says of others.

use florin_schema::{MapNode, NodeId, NodeMap, Partitioner, generated as fb};

use super::*;

const PARTITIONS: u32 = 3;
const EPOCH: u64 = 1_795_320_306_001;

/// A node that has partition 0, is loading 1, and leaves 2 to another; and the way to tell it more.
fn divided() -> (Alone, HoldingsPort) {
    let Alone { shard, events, requests } = node(1, 8).remove(0);
    let (port, link) = holdings_link();
    let mut alone = Alone { shard: shard.with_holdings(link), events, requests };
    alone.begin_turn(10);
    alone.shard.open(0, Listener::Any);
    alone.end_turn(10);
    (alone, port)
}

fn holdings(holds: [Hold; 3]) -> Arc<Holdings> {
    let node =
        |id: u64, host: &str| MapNode { id: NodeId(id), host: host.to_owned(), port: 7_400, tls_port: 0 };
    let nodes = vec![node(1, "here.example"), node(2, "2001:db8::2")];
    let mut map = NodeMap::new(EPOCH, Partitioner::Murmur2, nodes, 2);
    map.push(Some(0), []);
    map.push(None, []);
    map.push(Some(1), []);
    Arc::new(Holdings::new(map, holds.to_vec()))
}

fn told(port: &mut HoldingsPort, holds: [Hold; 3]) {
    assert!(port.orders.push(NodesNews::Holdings(holdings(holds))).is_ok());
}

/// The first user of a partition.
fn of(partition: u32) -> u64 {
    let is_of = |user: UserId| Partitioner::Murmur2.partition_of_user(user, PARTITIONS) == partition;
    (0..).find(|&id| UserId::new(id).is_some_and(is_of)).expect("there are many")
}

#[test]
fn a_shard_that_is_told_of_a_map_does_not_sleep_before_it_has_taken_it_over() {
    let (mut alone, mut port) = divided();
    alone.turn(20);
    while alone.shard.next_touched().is_some() {}
    assert_eq!(alone.shard.park(), Park::Idle);
    told(&mut port, [Hold::Ready, Hold::No, Hold::No]);
    assert_eq!(alone.shard.park(), Park::Busy);
    alone.turn(30);
    assert_eq!(alone.shard.park(), Park::Idle);
}

#[test]
fn users_of_others_are_told_to_be_theirs() {
    let (mut alone, mut port) = divided();
    let balance = |user| frame(Opcode::GetBalance, Encoding::Rkyv, user, &[]);
    let hello = |alone: &mut Alone| {
        let mut builder = flatbuffers::FlatBufferBuilder::new();
        let client = Some(builder.create_string("test"));
        let root = fb::Hello::create(&mut builder, &fb::HelloArgs { client, token: None });
        builder.finish_minimal(root);
        alone.reply(&frame(Opcode::Hello, Encoding::FlatBuffers, 0, builder.finished_data()))
    };
    // Before it has a map it answers nobody, so that nobody goes on without one.
    let status = |(header, _): (ReplyHeader, Vec<u8>)| Status::try_from(header.status).expect("a status");
    assert_eq!(status(hello(&mut alone)), Status::Unavailable);
    assert_eq!(status(alone.reply(&balance(of(0)))), Status::Unavailable);

    told(&mut port, [Hold::Ready, Hold::Loading, Hold::No]);
    let (header, body) = hello(&mut alone);
    assert_eq!(status((header, vec![])), Status::Ok);
    let map = flatbuffers::root::<fb::HelloReply<'_>>(&body).expect("a reply").nodes().expect("a map");
    let expected = holdings([Hold::Ready, Hold::Loading, Hold::No]);
    assert_eq!(NodeMap::read(map).as_ref(), Ok(expected.map()));

    assert_eq!(status(alone.reply(&balance(of(0)))), Status::NotFound);
    assert_eq!(status(alone.reply(&balance(of(1)))), Status::Unavailable);
    let (header, message) = alone.reply(&balance(of(2)));
    assert_eq!((header.status, header.as_of_us.get()), (Status::NotOwner as u8, EPOCH.cast_signed()));
    let expected = format!("user_id: {} belongs to partition 2, which [2001:db8::2]:7400 has", of(2));
    assert_eq!(String::from_utf8(message), Ok(expected));

    // A batch in a frame is its caller's to split.
    let batch = |users: &[u64]| request(Opcode::GetBalances as u8, 1, 0, false, users);
    assert_eq!(status(alone.reply(&batch(&[of(0), of(2)]))), Status::NotOwner);
    assert_eq!(status(alone.reply(&batch(&[of(0), of(1)]))), Status::Ok);

    // What is given up is answered no more, from the next turn on.
    told(&mut port, [Hold::No, Hold::Ready, Hold::Ready]);
    assert_eq!(status(alone.reply(&balance(of(0)))), Status::NotOwner);
    assert_eq!(status(alone.reply(&balance(of(2)))), Status::NotFound);
}

/// A shard takes over another map a turn later than its neighbour, and what that has passed on meanwhile is of users whose partition is let go
/// already, or not yet whole.
#[test]
fn what_a_neighbour_passes_on_is_answered_by_the_map_of_whoever_has_the_account() {
    let [had, gained] = [0, 1].map(|partition| {
        let is_one = |user: &UserId| {
            Partitioner::Murmur2.partition_of_user(*user, PARTITIONS) == partition
                && user.shard(2) == ShardIndex(1)
        };
        (0..).filter_map(UserId::new).find(is_one).expect("there are many").get()
    });
    let before = [Hold::Ready, Hold::Loading, Hold::No];
    let after = [Hold::No, Hold::Ready, Hold::No];
    // Who hears of it first, and a user whom one of the two maps has.
    for (first, user) in [(1, had), (0, gained)] {
        let (mut ports, mut node): (Vec<_>, Vec<_>) = node(2, 8)
            .into_iter()
            .map(|Alone { shard, events, requests }| {
                let (port, link) = holdings_link();
                (port, Alone { shard: shard.with_holdings(link), events, requests })
            })
            .unzip();
        ports.iter_mut().for_each(|port| told(port, before));
        node[1].send(FeedEvent::Row(row(user, 1)));
        node.iter_mut().for_each(|alone| alone.turn(1));
        node[0].begin_turn(10);
        node[0].shard.open(0, Listener::Any);
        node[0].end_turn(10);
        told(&mut ports[first], after);
        for opcode in [Opcode::GetBalance, Opcode::GetStatistics] {
            node[0].turn_with(11, &frame(opcode, Encoding::Rkyv, user, &[]));
            node[1].turn(11);
            node[0].turn(12);
            let reply = node[0].send_output();
            let (header, _) = ReplyHeader::read_from_prefix(&reply).expect("a reply");
            assert_eq!(header.status, Status::Unavailable as u8, "{opcode:?} of {user}");
        }
    }
}

/// Who waits for a version that comes once the user is another node's is told to ask again, and not shown what was left here.
#[test]
fn who_waits_is_not_answered_with_what_was_given_up() {
    let (mut alone, mut port) = divided();
    told(&mut port, [Hold::Ready, Hold::Loading, Hold::No]);
    alone.turn_with(20, &request(Opcode::GetBalance as u8, 7, of(0), true, &[]));
    told(&mut port, [Hold::No, Hold::Loading, Hold::Ready]);
    alone.turn(2_000_000);
    let reply = alone.send_output();
    let (header, _) = ReplyHeader::read_from_prefix(&reply).expect("a reply");
    assert_eq!((header.request_id.get(), header.status), (7, Status::Unavailable as u8));
}

#[test]
fn http_is_sent_on_and_a_batchs_entries_say_it() {
    let (mut alone, mut port) = divided();
    told(&mut port, [Hold::Ready, Hold::Loading, Hold::No]);
    let (here, other) = (of(0), of(2));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let query = "statistics?window=24h,7d&min_version=3&wait_ms=5";
    let answer = alone.asked_at(0, 20, &get(&format!("/v1/users/{other}/{query}")));
    assert!(answer.starts_with("HTTP/1.1 307 Temporary Redirect\r\n"), "{answer}");
    let location = format!(
        "\r\nFlorin-Owner: [2001:db8::2]:7400\r\nLocation: http://[2001:db8::2]:7400/v1/users/{other}/{query}\r\n"
    );
    assert!(answer.contains(&location), "{answer}");
    let answer = alone.asked_at(0, 21, &get(&format!("/v1/users/{here}/balance")));
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");

    let body = format!("{{\"user_ids\":[{here},{other},{}]}}", of(1));
    let post = format!(
        "POST /v1/balances:batchGet HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = alone.asked_at(0, 22, &post);
    let statuses = ["NOT_FOUND", "NOT_OWNER", "UNAVAILABLE"];
    let places = statuses.map(|status| answer.find(&format!("\"status\":\"{status}\"")));
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{answer}");
}

#[test]
fn resp_names_the_owner() {
    let (mut alone, mut port) = divided();
    told(&mut port, [Hold::Ready, Hold::Loading, Hold::No]);
    let (here, other) = (of(0), of(2));
    let get = |id: u64| {
        let key = format!("balance:{id}");
        format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())
    };
    let answer = alone.asked_at(0, 20, &(get(here) + &get(other)));
    let error =
        format!("-NOT_OWNER user_id: {other} belongs to partition 2, which [2001:db8::2]:7400 has\r\n");
    assert_eq!(answer, format!("$-1\r\n{error}"));
}

/// Those of the nodes who do not know each other yet are told of each other before there is a map.
#[test]
fn whoever_asks_for_the_nodes_is_told_what_was_prepared() {
    let (mut alone, mut port) = divided();
    let ask = |alone: &mut Alone, at, method| {
        alone.asked_at(0, at, &format!("{method} /v1/nodes HTTP/1.1\r\nHost: h\r\n\r\n"))
    };
    let answer = ask(&mut alone, 20, "GET");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let bytes = |text: &str| text.as_bytes().to_vec();
    let parts = [(7, bytes("{\"a\":1}")), (7, bytes("{}")), (4, bytes("{\"c\":3}"))];
    for (at, parts) in [(21, &parts[..0]), (22, &parts)] {
        let text = NodesText::new(bytes("{\"map\":0,\"nodes\":["), bytes("{\"nodes\":["), parts);
        assert!(port.orders.push(NodesNews::Told(Arc::new(text))).is_ok());
        let answer = ask(&mut alone, at, "GET");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"), "{answer}");
    }
    for (asked, told) in [
        ("", "{\"map\":0,\"nodes\":[{\"a\":1},{},{\"c\":3}]}"),
        ("?since=0", "{\"nodes\":[{\"a\":1},{},{\"c\":3}]}"),
        ("?since=4", "{\"nodes\":[{\"a\":1},{}]}"),
        ("?since=6", "{\"nodes\":[{\"a\":1},{}]}"),
        ("?since=7", "{\"nodes\":[]}"),
    ] {
        let asked = format!("GET /v1/nodes{asked} HTTP/1.1\r\nHost: h\r\n\r\n");
        let answer = alone.asked_at(0, 22, &asked);
        let length = format!("\r\nContent-Length: {}\r\n", told.len());
        assert!(answer.contains(&length) && answer.ends_with(&format!("\r\n\r\n{told}")), "{answer}");
    }
    let answer = ask(&mut alone, 23, "HEAD");
    assert!(answer.contains("\r\nContent-Length: 38\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = ask(&mut alone, 24, "POST");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

/// While a partition is loaded the watermark is that of the others: an account that was found incomplete then was taken for whole until just
/// before, with whatever was missing of it.
#[test]
fn who_was_found_incomplete_while_it_was_loaded_never_was_whole() {
    let (mut alone, mut port) = divided();
    told(&mut port, [Hold::Ready, Hold::Loading, Hold::No]);
    alone.turn(11);
    alone.shard.follow.feed.watermark.store(5, 5);
    for user in [of(0), of(1)] {
        // The second is missing.
        [1, 3].into_iter().for_each(|version| alone.send(FeedEvent::Row(row(user, version))));
    }
    alone.turn(12);
    told(&mut port, [Hold::Ready, Hold::Ready, Hold::No]);
    alone.turn(13);
    for (user, as_of_us, status) in [(of(0), 5, Status::Ok), (of(1), 0, Status::Stale)] {
        let (header, _) = alone.reply(&frame(Opcode::GetBalance, Encoding::Rkyv, user, &[]));
        assert_eq!((header.as_of_us.get(), header.flags.get()), (as_of_us, REPLY_QUARANTINED), "{user}");
        let mut ask = request(Opcode::GetBalance as u8, 1, user, true, &[]);
        // Of any version, and no older than an hour.
        ask[24..32].fill(0);
        ask[32..36].copy_from_slice(&3_600_000_u32.to_le_bytes());
        ask[36..40].fill(0);
        assert_eq!(alone.reply(&ask).0.status, status as u8, "{user}");
    }
}
