//! Time-outs and drains.

use super::*;

/// A refused frame trickled in for nine seconds. The frame behind it began in the same piece as its end and had one
/// second left, for the time of its silence was counted from the refused frame's beginning.
#[test]
fn a_refused_frame_leaves_its_successor_its_own_time() {
    let mut alone = node(1, 8).remove(0);
    let mut refused = vec![0; 2_048];
    refused[..4].copy_from_slice(&2_048_u32.to_le_bytes());
    refused[4..6].copy_from_slice(&[1, 99]);
    let beginning_of_next = [24, 0, 0, 0, 1];

    alone.begin_turn(1_000_000);
    alone.shard.open(0, Listener::Any);
    alone.shard.receive(0, &refused[..1_000]);
    alone.shard.work();
    alone.begin_turn(10_000_000);
    alone.shard.receive(0, &[&refused[1_000..], &beginning_of_next].concat());
    alone.shard.work();
    alone.turn(19_999_999);
    assert_eq!(alone.shard.connections[0].ending, Ending::Stays, "ten seconds have not passed");
    alone.turn(20_000_000);
    alone.turn(20_000_001);
    assert_eq!(alone.shard.connections[0].ending, Ending::Closing);
}

/// A process was stopped (SIGSTOP) while a request was half there. Its rest arrived meanwhile and lay in the kernel; the
/// first turn looked at the clock before it had been handed over, and closed the connection without an answer.
#[test]
fn nobody_is_silent_whose_bytes_have_not_been_read() {
    let mut alone = node(1, 8).remove(0);
    let get = b"GET /v1/users/7/balance HTTP/1.1\r\nHost: h\r\n\r\n";
    alone.begin_turn(1_000_000);
    alone.shard.open(0, Listener::Any);
    alone.shard.receive(0, &get[..20]);
    alone.end_turn(1_000_000);
    alone.turn(60_000_000);
    // The driver has more completions than a turn handles: the rest may be among them.
    alone.begin_turn(60_000_001);
    alone.shard.input_waits();
    alone.end_turn(60_000_001);
    assert!(!alone.shard.wants(0).close);
    alone.turn_with(60_000_002, &get[20..]);
    assert!(alone.take_output().starts_with("HTTP/1.1 404 "));
}

/// Ten seconds after half a request had come its connection was closed, and the caller learned nothing.
#[test]
fn a_request_that_does_not_go_on_is_answered_408() {
    for (begun, has_body) in
        [("GET /v1/us", true), ("HEAD /v1/us", false), ("POST /v1/balances:batchGet HTTP/1.1\r\n", true)]
    {
        let mut alone = node(1, 8).remove(0);
        alone.begin_turn(1_000_000);
        alone.shard.open(0, Listener::Any);
        alone.shard.receive(0, begun.as_bytes());
        alone.end_turn(1_000_000);
        alone.turn(11_000_000);
        alone.turn(11_000_001);
        let answer = alone.take_output();
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert_eq!(answer.contains("its rest within 10 s"), has_body, "{answer}");
    }
}

/// Such a head waited ten seconds for its body, and its caller was told 408 in place of what was wrong.
#[test]
fn a_head_that_can_only_be_refused_is_at_once_and_its_body_skipped() {
    let head = "POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n";
    let begun = || {
        let mut alone = node(1, 8).remove(0);
        alone.begin_turn(1_000_000);
        alone.shard.open(0, Listener::Any);
        alone.shard.receive(0, head.as_bytes());
        alone.end_turn(1_000_000);
        assert!(String::from_utf8(alone.send_output()).unwrap().starts_with("HTTP/1.1 404 "));
        assert!(!alone.shard.wants(0).close);
        alone
    };
    let mut goes_on = begun();
    goes_on.turn_with(1_000_001, b"GET /v1/");
    goes_on.turn_with(1_000_002, b"GET /v1/users/7/statistics HTTP/1.1\r\nHost: h\r\n\r\n");
    let answers = String::from_utf8(goes_on.send_output()).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    // A body that does not come has had its answer: a 408 behind it would be taken for the next request's.
    let mut silent = begun();
    silent.turn(11_000_000);
    silent.turn(11_000_001);
    assert_eq!((silent.shard.wants(0).close, silent.shard.wants(0).output), (true, false));
}

/// At SIGTERM the last answer on a keep-alive connection said that it stays, and the next request was never answered.
#[test]
fn a_drain_announces_the_end_with_the_last_answer() {
    let get = "GET /v1/users/7/balance HTTP/1.1\r\nHost: h\r\n\r\n";
    for last in [get, "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n"] {
        let mut alone = node(1, 8).remove(0);
        alone.begin_turn(1_000_000);
        alone.shard.open(0, Listener::Any);
        alone.end_turn(1_000_000);
        alone.shard.drain();
        alone.turn_with(1_000_001, [get, get, last].concat().as_bytes());
        let answers = String::from_utf8(alone.send_output()).unwrap();
        let connections: Vec<_> = answers.lines().filter(|line| line.starts_with("Connection: ")).collect();
        assert_eq!(connections, ["Connection: keep-alive", "Connection: keep-alive", "Connection: close"]);
        assert!(alone.shard.wants(0).close);
    }
}

#[test]
fn a_drain_marks_every_frame_and_closes_after_fifty_quiet_milliseconds() {
    let mut alone = node(1, 8).remove(0);
    let mut ping = [0; 24];
    ping[0] = 24;
    ping[4..6].copy_from_slice(&[1, 4]);
    alone.begin_turn(1_000_000);
    alone.shard.open(0, Listener::Any);
    alone.shard.receive(0, &ping);
    alone.end_turn(1_000_000);
    assert_eq!(alone.send_output()[26], 0);
    alone.shard.drain();
    // As long as something comes every now and then it is answered.
    for at_us in (1_000_010..1_400_000).step_by(40_000) {
        alone.turn_with(at_us, &ping);
        assert_eq!(alone.send_output()[26..28], REPLY_DRAINING.to_le_bytes());
        alone.turn(at_us + 39_000);
        assert!(!alone.shard.wants(0).close, "{at_us}");
    }
    alone.turn(1_500_000);
    alone.turn(1_500_001);
    assert!(alone.shard.wants(0).close);
}

/// One half-sent request, or one caller that never read, stretched every stop to ten seconds.
#[test]
fn a_drain_waits_a_second_for_half_requests_and_for_callers_that_do_not_read() {
    let mut alone = node(1, 8).remove(0);
    alone.begin_turn(1_000_000);
    alone.shard.open(0, Listener::Any);
    alone.shard.open(1, Listener::Any);
    alone.shard.receive(0, b"GET /v1/us");
    alone.shard.receive(1, b"GET /v1/users/7/balance HTTP/1.1\r\nHost: h\r\n\r\n");
    alone.end_turn(1_000_000);
    let stuck = alone.shard.take_output(1, Vec::new());
    alone.shard.drain();
    alone.turn(1_990_000);
    alone.turn(1_990_001);
    assert!(!alone.shard.wants(0).close && !alone.shard.wants(1).cut);
    alone.turn(2_000_001);
    alone.turn(2_000_002);
    assert!(alone.take_output().starts_with("HTTP/1.1 408 "));
    assert!(alone.shard.wants(1).cut);
    assert!(stuck.starts_with(b"HTTP/1.1 404 "));
}

/// A caller that pipelined without end kept a draining node for ten seconds.
#[test]
fn a_drain_reads_nothing_more_after_two_seconds() {
    let mut alone = node(1, 8).remove(0);
    let mut ping = [0; 24];
    ping[0] = 24;
    ping[4..6].copy_from_slice(&[1, 4]);
    alone.begin_turn(0);
    alone.shard.open(0, Listener::Any);
    alone.end_turn(0);
    alone.shard.drain();
    let mut unread = Vec::new();
    for at_us in (0..).step_by(1_000).take_while(|&at_us| at_us < 2_000_000) {
        alone.turn_with(at_us, &ping);
        assert!(alone.shard.wants(0).intake, "{at_us}");
        alone.shard.sent(0, unread.len());
        unread = alone.shard.take_output(0, Vec::new());
    }
    alone.turn_with(2_001_000, &ping);
    alone.turn_with(2_002_000, &ping);
    assert!(!alone.shard.wants(0).intake);
}

/// Two accounts went wrong in one turn while the ring to the feed had room for one request. The shard went to sleep
/// with the second in its hands: the feed, which had only logged the first, had no reason to wake it, and the second
/// account stayed quarantined until somebody happened to ask that shard something.
#[test]
fn a_shard_does_not_sleep_on_a_request() {
    let mut alone = node(1, 1).remove(0);
    for event in [row(1, 1), row(1, 2), row(2, 2)].map(FeedEvent::Row) {
        alone.events.push(event).expect("room");
    }
    alone.turn(10);
    // Nor does it spin until there is room, which may take as long as a ledger that cannot be read.
    assert_eq!(alone.shard.park(), Park::Until(10 + WAITING_POLL_US));
    assert!(matches!(alone.requests.pop(), Some(FeedRequest::Defect { .. })));
    alone.turn(11);
    assert_eq!(
        alone.requests.pop(),
        Some(FeedRequest::Reread { user_id: row(2, 2).user_id, reason: Reason::Gap })
    );
    assert_eq!(alone.shard.park(), Park::Idle);
}
