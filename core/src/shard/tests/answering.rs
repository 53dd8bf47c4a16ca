//! What is asked for, and what is answered.

use super::*;

/// An HTTP caller asked about a foreign user, and, once the answer was there but before the shard's next turn, sent
/// the head of a request with `Expect: 100-continue`. The turn read the head where it arrived and asked for the body;
/// then it resumed the connection, which the answer had made ready, read the same head and asked a second time.
#[test]
fn a_body_is_asked_for_once() {
    let mut node = node(2, 8);
    let foreign = (0..).find_map(|id| UserId::new(id).filter(|user| user.shard(2) == ShardIndex(1)));
    let get =
        format!("GET /v1/users/{}/balance HTTP/1.1\r\nHost: h\r\n\r\n", foreign.expect("there are many"));
    let head = "POST /v1/balances:batchGet HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 18\r\n\r\n";

    node[0].begin_turn(10);
    node[0].shard.open(0, Listener::Any);
    node[0].shard.receive(0, get.as_bytes());
    node[0].end_turn(10);
    node[1].turn(11);
    node[0].turn(12);
    assert!(node[0].take_output().starts_with("HTTP/1.1 404 "));

    node[0].begin_turn(13);
    node[0].shard.receive(0, head.as_bytes());
    node[0].shard.work();
    assert_eq!(node[0].take_output(), "HTTP/1.1 100 Continue\r\n\r\n");
}

/// Each look-up over HTTP waited for memory by itself: the last that has come waits with those of other connections now, and what one
/// connection asks is answered in its order all the same.
#[test]
fn lookups_over_http_go_through_the_pipeline_in_order() {
    let mut alone = node(1, 8).remove(0);
    alone.events.push(FeedEvent::Row(row(1, 1))).expect("room");
    alone.begin_turn(10);
    alone.shard.open(0, Listener::Any);
    alone.shard.open(1, Listener::Any);
    alone.end_turn(10);
    let ask =
        |method: &str, user: u64| format!("{method} /v1/users/{user}/balance HTTP/1.1\r\nHost: h\r\n\r\n");
    alone.begin_turn(11);
    alone.shard.receive(0, ask("GET", 1).as_bytes());
    assert_eq!((alone.shard.connections[0].owed(), alone.shard.connections[0].out.len()), (1, 0), "it waits");
    let mixed = [ask("GET", 1), ask("PUT", 1), ask("GET", 2), ask("HEAD", 1), ask("GET", 1)].concat();
    alone.shard.receive(1, mixed.as_bytes());
    alone.end_turn(11);
    assert!(alone.take_output().starts_with("HTTP/1.1 200 "));
    let answers = String::from_utf8(alone.shard.take_output(1, Vec::new())).expect("HTTP");
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "405", "404", "200", "200"]);
}

/// The wall clock was set back by a day. Windows stayed where they were until it had caught up, and what had been merged
/// into days could not be told apart any more; before 1970 they stood at 1970. Now they follow the clock, and where what
/// is held does not reach, the answer says so until the account has been read again.
#[test]
fn windows_follow_a_clock_that_is_set_back() {
    const HOUR_US: i64 = 3_600_000_000;
    const STATISTICS: &str = "GET /v1/users/1/statistics?window=24h HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut alone = node(1, 8).remove(0);
    let now_us = 1_795_320_306_000_000;
    let rows: Vec<_> = (1..=60)
        .map(|version: i64| Transaction {
            user_id: UserId::new(1).expect("a legal id"),
            version: Version(version as u64),
            asset: Asset::parse(b"COIN").expect("a legal code"),
            kind: Kind::Recharge,
            amount: 1,
            occurred_at_us: now_us - (60 - version) * HOUR_US,
        })
        .collect();
    for &row in &rows {
        alone.events.push(FeedEvent::Row(row)).expect("room");
    }
    alone.shard.begin_turn(Now { wall_us: now_us, monotonic_us: 10 });
    alone.shard.open(0, Listener::Any);
    alone.shard.work();
    let counts = |answer: &str, count: u32| answer.contains(&format!("\"credit_count\":\"{count}\""));
    let is_flagged = |answer: &str| answer.to_ascii_lowercase().contains("florin-quarantined: true");

    let answer = alone.asked_at(now_us, 11, STATISTICS);
    assert!(counts(&answer, 24) && !is_flagged(&answer), "{answer}");
    let answer = alone.asked_at(now_us - 2 * HOUR_US, 12, STATISTICS);
    assert!(counts(&answer, 24) && !is_flagged(&answer), "two hours back are held: {answer}");
    assert_eq!(alone.requests.pop(), None);

    let answer = alone.asked_at(now_us - 20 * HOUR_US, 13, STATISTICS);
    assert!(is_flagged(&answer), "what is not held is not told as if it were: {answer}");
    assert_eq!(
        alone.requests.pop(),
        Some(FeedRequest::Reread { user_id: rows[0].user_id, reason: Reason::ClockMoved })
    );
    let user = rows[0].user_id;
    alone.events.push(FeedEvent::RereadBegin(user)).expect("room");
    for &row in &rows {
        alone.events.push(FeedEvent::RereadRow(row)).expect("room");
    }
    alone.events.push(FeedEvent::RereadEnd(user)).expect("room");
    alone.shard.begin_turn(Now { wall_us: now_us - 20 * HOUR_US, monotonic_us: 14 });
    alone.shard.work();
    let answer = alone.asked_at(now_us - 20 * HOUR_US, 15, STATISTICS);
    assert!(counts(&answer, 24) && !is_flagged(&answer), "{answer}");
    assert_eq!(alone.shard.responder.metrics.clock_set_back.get(), 2);

    let answer = alone.asked_at(-HOUR_US, 16, STATISTICS);
    assert!(!counts(&answer, 24), "before 1970 nothing had happened: {answer}");
}

/// A row that makes the next credit of its account overflow.
/// A node's one shard: user 1's second row overflows, user 2 is known by its second row alone, user 3 is whole.
fn with_incomplete_accounts() -> Alone {
    let mut alone = node(1, 8).remove(0);
    for event in [row(1, 1), row(1, 2), row(2, 2), row(3, 1)].map(FeedEvent::Row) {
        alone.events.push(event).expect("room");
    }
    alone.begin_turn(10);
    alone.shard.open(0, Listener::Any);
    alone.end_turn(10);
    alone
}

/// A user whom a gap alone had named was answered OK with version 0, no balances and the year 1970: a guess that looks like a fact.
#[test]
fn an_account_without_its_first_row_is_not_shown() {
    let mut alone = with_incomplete_accounts();
    for encoding in [Encoding::Rkyv, Encoding::FlatBuffers] {
        for opcode in [Opcode::GetBalance, Opcode::GetStatistics] {
            let (header, body) = alone.reply(&frame(opcode, encoding, 2, &[]));
            assert_eq!(
                (header.status, header.encoding, header.flags.get()),
                (Status::Unavailable as u8, 0, REPLY_QUARANTINED)
            );
            assert!(body.starts_with(b"this account's history is not complete yet"));
            let (header, _) = alone.reply(&frame(opcode, encoding, 1, &[]));
            // What overflows does so again, however often it is read.
            let flags = REPLY_QUARANTINED | REPLY_LASTING;
            assert_eq!((header.status, header.flags.get()), (Status::Ok as u8, flags));
        }
    }
    for what in ["balance", "statistics"] {
        let get = format!("GET /v1/users/2/{what} HTTP/1.1\r\nHost: h\r\n\r\n");
        alone.begin_turn(30);
        alone.shard.open(1, Listener::Any);
        alone.shard.receive(1, get.as_bytes());
        alone.end_turn(30);
        let answer = String::from_utf8(alone.shard.take_output(1, Vec::new())).expect("HTTP");
        alone.shard.sent(1, answer.len());
        alone.shard.closed(1);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        for field in ["Florin-Quarantined: true", "Retry-After: 1"] {
            assert!(answer.contains(&format!("\r\n{field}\r\n")), "{answer}");
        }
    }
}

/// An account whose hole lasts was answered as one that comes back in a moment, and clients asked until their deadline.
#[test]
fn an_account_that_was_read_again_in_vain_is_told_from_one_that_comes_back() {
    let mut alone = with_incomplete_accounts();
    let ask = |alone: &mut Alone| {
        let (header, body) = alone.reply(&frame(Opcode::GetBalance, Encoding::Rkyv, 2, &[]));
        (header.status, header.flags.get(), String::from_utf8_lossy(&body).into_owned())
    };
    let read_again = |alone: &mut Alone, versions: &[u64]| {
        let user = row(2, 1).user_id;
        alone.events.push(FeedEvent::RereadBegin(user)).expect("room");
        for &version in versions {
            alone.events.push(FeedEvent::RereadRow(row(2, version))).expect("room");
        }
        alone.events.push(FeedEvent::RereadEnd(user)).expect("room");
        alone.turn(20);
    };
    let (unavailable, ok) = (Status::Unavailable as u8, Status::Ok as u8);
    let (status, flags, message) = ask(&mut alone);
    assert_eq!((status, flags), (unavailable, REPLY_QUARANTINED));
    assert!(message.contains("ask again in a moment"), "{message}");
    read_again(&mut alone, &[2]);
    let (status, flags, message) = ask(&mut alone);
    assert_eq!((status, flags), (unavailable, REPLY_QUARANTINED | REPLY_LASTING));
    assert!(message.contains("of no use until the ledger is mended"), "{message}");
    // Further rows behind the hole mend nothing.
    alone.events.push(FeedEvent::Row(row(2, 3))).expect("room");
    alone.turn(30);
    assert_eq!(ask(&mut alone).1, REPLY_QUARANTINED | REPLY_LASTING);
    // The row that was missing comes: what was skipped behind it is being read.
    alone.events.push(FeedEvent::Row(row(2, 1))).expect("room");
    alone.turn(40);
    assert_eq!((ask(&mut alone).0, ask(&mut alone).1 & REPLY_QUARANTINED), (ok, REPLY_QUARANTINED));
    read_again(&mut alone, &[1]);
    assert_eq!((ask(&mut alone).0, ask(&mut alone).1), (ok, 0));
}

/// A batch said of itself that some account's history is incomplete, and not which.
#[test]
fn each_entry_of_a_batch_says_whether_its_account_is_incomplete() {
    let mut alone = with_incomplete_accounts();
    let told = |entry: &records::BalanceEntry| {
        let version = entry.balance.as_ref().map(|balance| balance.version);
        (entry.user_id, entry.status, entry.quarantined, version)
    };
    let ids = |ids: &[u64]| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
    let mut ask = |users: &[u64]| {
        let batch = frame(Opcode::GetBalances, Encoding::Rkyv, 0, &ids(users));
        let (header, body) = alone.reply(&batch);
        assert_eq!(header.status, Status::Ok as u8, "{}", String::from_utf8_lossy(&body));
        let mut aligned = rkyv::util::AlignedVec::<16>::new();
        aligned.extend_from_slice(&body);
        let batch =
            rkyv::from_bytes::<records::Balances, rkyv::rancor::Error>(&aligned).expect("it verifies");
        (header.flags.get(), batch.entries.iter().map(told).collect::<Vec<_>>())
    };
    let (ok, not_found, unavailable) = (Status::Ok as u8, Status::NotFound as u8, Status::Unavailable as u8);
    let of_one = (1, ok, true, Some(1));
    let of_two = (2, unavailable, true, None);
    let of_three = (3, ok, false, Some(1));
    let of_four = (4, not_found, false, None);
    assert_eq!(ask(&[4, 1, 3, 2]), (REPLY_QUARANTINED, vec![of_four, of_one, of_three, of_two]));
    assert_eq!(ask(&[3, 4]), (0, vec![of_three, of_four]));
    // The shard can answer: it is the account that has nothing to show.
    assert_eq!(ask(&[2, 2]), (REPLY_QUARANTINED, vec![of_two, of_two]));
}
