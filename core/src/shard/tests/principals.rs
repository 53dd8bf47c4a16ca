//! Who may not ask is refused on every path, before anything is looked up, waits or is passed on.

use super::*;

/// Every way in which data can be asked for, of shard 0 of two; and the status, of frames and of HTTP, that a caller who may
/// ask is answered with.
fn ways() -> Vec<(String, Vec<u8>)> {
    let mut ways = Vec::new();
    for (whose, shard) in [("own", 0), ("foreign", 1)] {
        let user = user_of(shard);
        let mut way = |name: &str, bytes: Vec<u8>| ways.push((format!("{whose} {name}"), bytes));
        for (name, opcode) in [("balance", 1), ("statistics", 2)] {
            way(name, request(opcode, 7, user, false, &[]));
            way(&format!("{name} that would wait"), request(opcode, 7, user, true, &[]));
            for query in ["", "?min_version=9&wait_ms=1000"] {
                let get = format!("GET /v1/users/{user}/{name}{query} HTTP/1.1\r\nHost: h\r\n\r\n");
                way(&format!("{name} over HTTP {query}"), get.into_bytes());
            }
        }
        for (name, users) in [("batch", vec![user; 3]), ("mixed batch", vec![user_of(0), user_of(1), user])] {
            way(name, request(3, 7, 0, false, &users));
            way(&format!("{name} that would wait"), request(3, 7, 0, true, &users));
            let body = format!("{{\"user_ids\":{users:?}}}");
            let post = format!(
                "POST /v1/balances:batchGet HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            way(&format!("{name} over HTTP"), post.into_bytes());
        }
    }
    ways
}

/// The statuses of what was answered on connection 0: of frames as they are, of HTTP its own.
fn statuses(node: &mut [Alone]) -> Vec<u16> {
    let output = node[0].send_output();
    if output.starts_with(b"HTTP") {
        let text = String::from_utf8(output).expect("HTTP");
        return text
            .split("HTTP/1.1 ")
            .skip(1)
            .map(|answer| answer[..3].parse().expect("a status"))
            .collect();
    }
    let (mut rest, mut statuses) = (&output[..], Vec::new());
    while let Some(length) = rest.first_chunk().map(|&bytes| u32::from_le_bytes(bytes) as usize) {
        statuses.push(u16::from(rest[7]));
        rest = &rest[length..];
    }
    statuses
}

/// A node in which users of both shards have accounts, and whose first shard has one connection.
fn loaded(principal: Option<Principal>) -> Vec<Alone> {
    let mut node = node(2, 8);
    for shard in 0..2 {
        node[shard as usize].events.push(FeedEvent::Row(row(user_of(shard), 1))).expect("room");
        node[shard as usize].turn(10);
    }
    node[0].begin_turn(11);
    node[0].shard.open_as(0, Listener::Any, principal);
    node[0].end_turn(11);
    node
}

#[test]
fn who_may_nothing_is_refused_on_every_path() {
    let refused = [
        (Principal::anonymous(Rights::NONE), Status::Unauthenticated as u16, 401),
        (Principal::known(3, Rights::NONE), Status::PermissionDenied as u16, 403),
    ];
    for (principal, of_frame, of_http) in refused {
        for (name, bytes) in ways() {
            let mut node = loaded(Some(principal));
            // Several at once: none of them slips by in a group.
            let times = 40;
            node[0].turn_with(12, &bytes.repeat(times));
            let mut found = statuses(&mut node);
            for at_us in 13..20 {
                node[1].turn(at_us);
                node[0].turn(at_us);
                found.extend(statuses(&mut node));
            }
            let is_http = bytes.starts_with(b"GET") || bytes.starts_with(b"POST");
            let expected = if is_http { of_http } else { of_frame };
            assert!(found.len() >= 20 && found.iter().all(|&status| status == expected), "{name}: {found:?}");
            let shard = &node[0].shard;
            assert_eq!(shard.responder.metrics.forwarded.get(), 0, "{name}");
            assert_eq!(shard.forwarding.waiting.len() + shard.forwarding.gathers().len(), 0, "{name}");
            assert_eq!((shard.connections[0].owed(), shard.pipeline.is_empty()), (0, true), "{name}");
        }
    }
}

/// The same over RESP, where each command has a reply of its own.
#[test]
fn who_may_nothing_is_refused_over_resp_too() {
    let command = |words: &[&str]| {
        let bulk = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
        format!("*{}\r\n{}", words.len(), words.iter().map(bulk).collect::<String>())
    };
    let times = 40;
    for (principal, refusal) in [
        (Principal::anonymous(Rights::NONE), "-NOAUTH "),
        (Principal::known(3, Rights::NONE), "-NOPERM "),
        (Principal::ANONYMOUS, ""),
    ] {
        for user in [user_of(0), user_of(1)].map(|user| user.to_string()) {
            let (balance, statistics) = (format!("balance:{user}"), format!("statistics:{user}"));
            for words in [
                &["GET", &balance][..],
                &["GET", &statistics],
                &["MGET", &balance, &balance],
                &["FLORIN.BALANCE", &user],
                &["FLORIN.STATISTICS", &user],
                &["FLORIN.BALANCE", &user, "MINVERSION", "9", "WAIT", "1000"],
            ] {
                let mut node = loaded(Some(principal));
                node[0].turn_with(12, command(words).repeat(times).as_bytes());
                let mut replies = node[0].send_output();
                for at_us in 13..20 {
                    node[1].turn(at_us);
                    node[0].turn(at_us);
                    replies.extend(node[0].send_output());
                }
                let replies = String::from_utf8(replies).expect("RESP");
                if refusal.is_empty() {
                    assert!(!replies.contains("-NO"), "{words:?}: {replies}");
                    continue;
                }
                assert_eq!(replies.lines().count(), times, "{words:?}: {replies}");
                assert!(replies.lines().all(|reply| reply.starts_with(refusal)), "{words:?}: {replies}");
                let shard = &node[0].shard;
                assert_eq!(shard.responder.metrics.forwarded.get(), 0, "{words:?}");
                let under_way = shard.forwarding.waiting.len() + shard.forwarding.gathers().len();
                assert_eq!((under_way, shard.connections[0].owed()), (0, 0), "{words:?}");
            }
        }
    }
}

#[test]
fn who_may_ask_is_answered_on_every_path() {
    for principal in [Principal::ANONYMOUS, Principal::known(3, Rights::ALL)] {
        for (name, bytes) in ways() {
            let mut node = loaded(Some(principal));
            node[0].turn_with(12, &bytes);
            let mut found = statuses(&mut node);
            for at_us in [13, 14, 1_100_000, 1_100_001, 1_100_002] {
                node[1].turn(at_us);
                node[0].turn(at_us);
                found.extend(statuses(&mut node));
            }
            assert_eq!(found.len(), 1, "{name}");
            let forbidden = [Status::Unauthenticated as u16, Status::PermissionDenied as u16, 401, 403];
            assert!(!forbidden.contains(&found[0]), "{name}: {found:?}");
        }
    }
}

#[test]
fn one_right_is_not_another() {
    let balance = request(1, 7, user_of(0), false, &[]);
    let statistics = request(2, 7, user_of(1), false, &[]);
    let batch = request(3, 7, 0, false, &[user_of(0)]);
    let mut ping = [0; 24];
    ping[0] = 24;
    ping[4..6].copy_from_slice(&[1, 4]);
    let asked = [&balance[..], &statistics, &batch, &ping].concat();
    for (rights, expected) in [
        (Rights::BALANCE, [0, 7, 7, 0]),
        (Rights::STATISTICS, [7, 0, 7, 0]),
        (Rights::BATCH.and(Rights::BALANCE), [0, 7, 0, 0]),
    ] {
        let mut node = loaded(Some(Principal::known(3, rights)));
        node[0].turn_with(12, &asked);
        node[1].turn(13);
        node[0].turn(14);
        let output = node[0].send_output();
        let mut found = [u8::MAX; 4];
        let mut rest = &output[..];
        while let Some(length) = rest.first_chunk().map(|&bytes| u32::from_le_bytes(bytes) as usize) {
            let place = match rest[5] {
                1 => 0,
                2 => 1,
                3 => 2,
                _ => 3,
            };
            (found[place], rest) = (rest[7], &rest[length..]);
        }
        assert_eq!(found, expected, "{rights:?}");
    }
}

/// A handshake that other threads carry out ends after the first requests have come.
#[test]
fn requests_wait_until_it_is_known_who_asks() {
    for (principal, status) in [(Principal::ANONYMOUS, 0), (Principal::anonymous(Rights::NONE), 6)] {
        let mut node = loaded(None);
        let frames = request(1, 7, user_of(0), false, &[]);
        node[0].turn_with(12, &frames[..10]);
        node[0].turn_with(13, &[&frames[10..], &frames, &frames].concat());
        node[0].turn(60_000_000);
        assert_eq!(statuses(&mut node), [0; 0], "nothing is answered, nor is its caller taken for silent");
        assert!(node[0].shard.wants(0).intake && !node[0].shard.wants(0).close);
        node[0].begin_turn(60_000_001);
        node[0].shard.identify(0, principal);
        node[0].end_turn(60_000_001);
        assert_eq!(statuses(&mut node), [status; 3]);
        node[0].turn_with(60_000_002, &frames);
        assert_eq!(statuses(&mut node), [status]);
    }
}

#[test]
fn a_caller_who_goes_before_it_is_known_is_forgotten() {
    let mut node = loaded(None);
    node[0].turn_with(12, &request(1, 7, user_of(0), false, &[]));
    node[0].begin_turn(13);
    node[0].shard.end_of_input(0);
    node[0].end_turn(13);
    assert!(!node[0].shard.wants(0).close, "what has come may still be answered");
    node[0].shard.closed(0);
    node[0].begin_turn(14);
    node[0].shard.open(0, Listener::Any);
    node[0].shard.receive(0, &request(1, 8, user_of(0), false, &[]));
    node[0].end_turn(14);
    assert_eq!(statuses(&mut node), [0]);
}

#[test]
#[should_panic(expected = "a connection is one principal's")]
fn nobody_becomes_somebody_else() {
    loaded(Some(Principal::ANONYMOUS))[0].shard.identify(0, Principal::known(1, Rights::ALL));
}
