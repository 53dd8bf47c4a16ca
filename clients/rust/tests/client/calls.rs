//! Calls and their answers, good and bad, against a server that says what it is told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::fake::{self, Answer, Fake, Map, eventually, user};
use florin_client::{Error, Freshness, ProtocolError, Retry, Status, Version, Window, WindowMask};
use futures_util::future::join_all;

#[tokio::test]
async fn each_call_has_its_answer() {
    let fake = Fake::faultless(Map::one_shard()).await;
    let client = fake::patient().connect(&*fake.address).await.unwrap();
    assert_eq!((client.shards(), client.server().as_str()), (1, "fake/1"));

    let balance = client.get_balance(user(42)).await.unwrap();
    assert_eq!(balance.version(), Version(43));
    assert_eq!(balance.of(fake::coin()).unwrap().available, 42);
    assert_eq!(balance.to_record(), fake::balance(42));
    assert_eq!(balance.origin().as_of_us, 1_000);
    let bytes = balance.into_bytes();
    let again = rkyv::from_bytes::<florin_client::records::Balance, rkyv::rancor::Error>(&bytes).unwrap();
    assert_eq!(again, fake::balance(42));

    let mask = WindowMask::new(0b1010).unwrap();
    let statistics = client.get_statistics(user(9), mask).await.unwrap();
    assert_eq!(statistics.version(), Version(10));
    assert_eq!(statistics.of(fake::coin(), Window::Days7).unwrap().credit_count, 1);
    assert_eq!(statistics.of(fake::coin(), Window::Lifetime).unwrap().credit_count, 2);
    assert!(statistics.of(fake::coin(), Window::Hours24).is_none());
    assert_eq!(statistics.to_record().windows, 0b1010);

    client.ping(b"hello").await.unwrap();
    client.ping(&[]).await.unwrap();
    assert!(client.get_balances(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn freshness_travels_with_the_call() {
    let fake = Fake::faultless(Map::one_shard()).await;
    let client = fake::patient().connect(&*fake.address).await.unwrap();
    let fresh = Freshness::at_least(Version(7))
        .and_no_older_than(Duration::from_millis(250))
        .waiting(Duration::from_millis(30));
    client.with_freshness(fresh).get_balance(user(1)).await.unwrap();
    client.get_balance(user(1)).await.unwrap();
    let asked = fake.asked();
    let options = asked[0].freshness.unwrap();
    assert_eq!((options.min_version.get(), options.max_age_ms.get(), options.wait_ms.get()), (7, 250, 30));
    assert!(asked[1].freshness.is_none());
}

#[tokio::test]
async fn concurrent_calls_share_writes() {
    let fake = Fake::faultless(Map::one_shard()).await;
    let client = fake::patient().connect(&*fake.address).await.unwrap();
    let calls = (0..2_000u64).map(|id| {
        let client = client.clone();
        tokio::spawn(async move { client.get_balance(user(id)).await.unwrap().user_id.to_native() })
    });
    for (id, answered) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(answered.unwrap(), id as u64);
    }
    let counters = client.counters();
    assert_eq!((counters.requests, counters.replies, counters.late_replies), (2_000, 2_000, 0));
    assert!(counters.writes <= 40, "{} writes for 2,000 concurrent requests", counters.writes);
    assert_eq!(fake.accepted(), 1, "one connection carries them all");
}

#[tokio::test]
async fn replies_out_of_order_find_their_callers() {
    let held = Mutex::new(Vec::new());
    let fake = Fake::tcp(Map::one_shard(), move |asked| {
        let mut held = held.lock().unwrap();
        held.push(asked.right_answer());
        if held.len() < 100 {
            return Answer::Nothing;
        }
        Answer::Bytes(held.drain(..).rev().flatten().collect())
    })
    .await;
    let client = fake::patient().connect(&*fake.address).await.unwrap();
    let answers = join_all((0..100).map(|id| client.get_balance(user(id)))).await;
    for (id, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap().user_id.to_native(), id as u64);
    }
}

#[tokio::test]
async fn a_late_reply_is_discarded() {
    let held = Mutex::new(None);
    let fake = Fake::tcp(Map::one_shard(), move |asked| {
        let mut held = held.lock().unwrap();
        if asked.user_id() == 1 {
            *held = Some(asked.right_answer());
            return Answer::Nothing;
        }
        Answer::Bytes([held.take().unwrap_or_default(), asked.right_answer()].concat())
    })
    .await;
    let client = fake::patient().connect(&*fake.address).await.unwrap();
    let hasty = client.with_deadline(Duration::from_millis(300));
    let error = hasty.get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { last: None, .. }), "{error}");
    assert!(error.is_retryable());
    // Its slot is used again, under another id: the late reply must not be taken for this one's.
    assert_eq!(client.get_balance(user(2)).await.unwrap().user_id.to_native(), 2);
    assert_eq!(client.counters().late_replies, 1);
}

#[tokio::test]
async fn a_dropped_call_leaves_nothing_behind() {
    let fake = Fake::tcp(Map::one_shard(), |asked| match asked.user_id() {
        1 => Answer::Nothing,
        _ => Answer::Bytes(asked.right_answer()),
    })
    .await;
    let client = fake::patient().in_flight_max(1).connect(&*fake.address).await.unwrap();
    let stuck = tokio::spawn({
        let client = client.clone();
        async move { client.get_balance(user(1)).await }
    });
    eventually("the stuck call is sent", || fake.asked().len() == 1).await;
    stuck.abort();
    // The only permit is free again.
    assert_eq!(client.get_balance(user(2)).await.unwrap().user_id.to_native(), 2);
}

#[tokio::test]
async fn callers_beyond_the_bound_wait() {
    static OPEN: AtomicBool = AtomicBool::new(false);
    let fake = Fake::tcp(Map::one_shard(), |asked| match OPEN.load(SeqCst) {
        false => Answer::Nothing,
        true => Answer::Bytes(asked.right_answer()),
    })
    .await;
    let client = fake::patient().in_flight_max(3).connect(&*fake.address).await.unwrap();
    let mut calls: Vec<_> = (0..20)
        .map(|id| {
            let client = client.clone();
            tokio::spawn(async move { client.get_balance(user(id)).await })
        })
        .collect();
    eventually("as many are sent as may be", || fake.asked().len() == 3).await;
    let late = client.with_deadline(Duration::from_millis(50)).ping(b"").await.unwrap_err();
    assert!(matches!(late, Error::Deadline { .. }), "{late}");
    assert_eq!(fake.asked().len(), 3);
    // Three leave, so everybody gets a turn.
    OPEN.store(true, SeqCst);
    let sent: Vec<usize> = fake.asked().iter().map(|asked| asked.user_id() as usize).collect();
    assert_eq!(sent, [0, 1, 2]);
    calls.drain(..3).for_each(|call| call.abort());
    assert!(join_all(calls).await.into_iter().all(|call| call.unwrap().is_ok()));
}

#[tokio::test]
async fn every_status_is_an_error_of_its_own() {
    let fake = Fake::tcp(Map::one_shard(), |asked| {
        let status = Status::ALL[asked.user_id() as usize];
        let name = status.name().to_lowercase().replace('_', "-");
        Answer::Bytes(asked.golden(&format!("reply-error-{name}")))
    })
    .await;
    let client = fake::patient().retry(Retry::Never).connect(&*fake.address).await.unwrap();
    for &status in &Status::ALL[1..] {
        let error = client.get_balance(user(status as u64)).await.unwrap_err();
        assert_eq!(error.status(), Some(status), "{error}");
        let retryable =
            matches!(status, Status::Stale | Status::Unavailable | Status::Overloaded | Status::NotOwner);
        assert_eq!(error.is_retryable(), retryable, "{error}");
    }
    let Error::NotFound(refusal) = client.get_balance(user(1)).await.unwrap_err() else { panic!() };
    assert_eq!(refusal.message, "user_id: the ledger has never named 9");
    assert_eq!(refusal.shard.0, 1);
}

#[tokio::test]
async fn golden_replies_are_read_and_refused_ones_are_not() {
    let names = ["balance-rkyv", "balance-forwarded-quarantined-rkyv"];
    let fake = Fake::tcp(Map::one_shard(), move |asked| {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Answer::Bytes(asked.golden(&format!("reply-{}", names[NEXT.fetch_add(1, SeqCst)])))
    })
    .await;
    let client = fake::patient().connect(&*fake.address).await.unwrap();
    let plain = client.get_balance(user(42)).await.unwrap();
    assert!(!plain.origin().is_forwarded() && !plain.origin().is_quarantined());
    assert_eq!(plain.of(fake::coin()).unwrap().available, 1_200);
    let flagged = client.get_balance(user(42)).await.unwrap();
    assert!(flagged.origin().is_forwarded() && flagged.origin().is_quarantined());

    let refused = [
        ("length-31", "length"),
        ("version-2", "version"),
        ("status-10", "status"),
        ("encoding-3", "encoding"),
        ("flatbuffers-cut", "encoding"),
        ("rkyv-pointer-astray", "body"),
        ("rkyv-cut", "body"),
        ("message-not-utf8", "body"),
        ("schema", "schema"),
    ];
    for (name, field) in refused {
        let name = format!("refused-reply-{name}");
        let fake = Fake::tcp(Map::one_shard(), move |asked| Answer::Bytes(asked.golden(&name))).await;
        let client = fake::patient().connect(&*fake.address).await.unwrap();
        match client.get_balance(user(42)).await.unwrap_err() {
            Error::Protocol { error, .. } => assert!(error.to_string().starts_with(field), "{error}"),
            Error::SchemaMismatch { .. } => assert_eq!(field, "schema"),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn garbage_fails_the_callers_and_the_next_connection_serves_them() {
    static GARBAGE: AtomicBool = AtomicBool::new(true);
    let fake = Fake::tcp(Map::one_shard(), |asked| match GARBAGE.swap(false, SeqCst) {
        true => Answer::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        false => Answer::Bytes(asked.right_answer()),
    })
    .await;
    let client = fake::patient().connect(&*fake.address).await.unwrap();
    let error = client.get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error, Error::Protocol { error: ProtocolError::Http, .. }), "{error}");
    eventually("it connects again", || fake.accepted() == 2).await;
    let balance = loop {
        // Until the new connection is up, calls fail with what ended the old one.
        match client.get_balance(user(1)).await {
            Ok(balance) => break balance,
            Err(error) => assert!(matches!(error, Error::Protocol { .. }), "{error}"),
        }
    };
    assert_eq!(balance.user_id.to_native(), 1);
}

#[tokio::test]
async fn an_answer_about_another_user_or_other_windows_is_refused() {
    let fake = Fake::tcp(Map::one_shard(), |asked| {
        let mut wrong = asked.clone();
        match asked.user_id() {
            1 => wrong.header.user_id = 2.into(),
            2 => wrong.body = vec![3],
            3 => wrong.header.opcode = 2,
            _ => wrong.body.truncate(8),
        }
        if asked.user_id() == 3 {
            wrong.body = vec![15];
        }
        Answer::Bytes(wrong.right_answer())
    })
    .await;
    let client = fake::patient().connect(&*fake.address).await.unwrap();
    let protocol_error = |error| match error {
        Error::Protocol { error, .. } => error,
        other => panic!("{other}"),
    };
    let error = protocol_error(client.get_balance(user(1)).await.unwrap_err());
    assert_eq!(error, ProtocolError::User { expected: user(1), got: 2 });
    let error = protocol_error(client.get_statistics(user(2), WindowMask::ALL).await.unwrap_err());
    assert_eq!(error, ProtocolError::Windows { expected: 15, got: 3 });
    let error = protocol_error(client.get_balance(user(3)).await.unwrap_err());
    assert!(matches!(error, ProtocolError::Opcode { got: 2, .. }));
    let error = protocol_error(client.get_balances(&[user(1), user(2)]).await.unwrap_err());
    assert_eq!(error, ProtocolError::Entries { expected: 2, got: 1 });
}

#[tokio::test]
async fn a_reply_cut_at_every_byte_is_one_reply() {
    let fake = Fake::tcp(Map::one_shard(), |asked| {
        let whole = asked.right_answer();
        let (first, second) = whole.split_at(asked.user_id() as usize % (whole.len() + 1));
        Answer::Halves(first.to_vec(), second.to_vec())
    })
    .await;
    let client = fake::patient().connect(&*fake.address).await.unwrap();
    for id in 0..=100 {
        assert_eq!(client.get_balance(user(id)).await.unwrap().to_record(), fake::balance(id));
    }
}

#[tokio::test]
async fn a_call_without_retry_says_that_it_may_be_made_again() {
    let fake = Fake::tcp(Map::one_shard(), |asked| match asked.user_id() {
        1 => Answer::Close,
        _ => Answer::Bytes(asked.right_answer()),
    })
    .await;
    let client = fake::patient().retry(Retry::Never).connect(&*fake.address).await.unwrap();
    let error = client.get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }) && error.is_retryable(), "{error}");
}
