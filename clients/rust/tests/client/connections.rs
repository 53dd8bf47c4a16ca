//! Which connection a call takes, and what happens when connections come and go.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::fake::{self, Answer, Fake, Map, eventually, user};
use florin_client::{Backoff, Builder, Disconnect, Error, Retry, Routing, Status, UserId};
use florin_schema::Opcode;
use futures_util::future::join_all;
use tokio::net::TcpListener;

/// Comes back fast, so that tests do.
fn impatient() -> Builder {
    let backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(20) };
    fake::patient().backoff(backoff)
}

/// Shard ports and an any-shard port before them, all faultless.
async fn node(shards: usize) -> (Fake, Vec<Fake>) {
    let mut ports = Vec::new();
    for _ in 0..shards {
        ports.push(Fake::faultless(Map::one_shard()).await);
    }
    let numbers: Vec<u16> = ports.iter().map(|fake| fake.port).collect();
    for fake in &ports {
        *fake.story.map.lock().unwrap() = Map::of_ports(&numbers);
    }
    (Fake::faultless(Map::of_ports(&numbers)).await, ports)
}

/// A port that nobody listens on.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn each_user_is_asked_of_its_own_shard() {
    let (any, shards) = node(3).await;
    let client = fake::patient()
        .client_name("test/1")
        .token("secret")
        .connections_per_shard(2)
        .connect(&*any.address)
        .await
        .unwrap();
    for id in 0..60 {
        client.get_balance(user(id)).await.unwrap();
    }
    assert!(any.asked().is_empty());
    for (index, shard) in shards.iter().enumerate() {
        let asked = shard.asked();
        assert!(!asked.is_empty());
        assert!(asked.iter().all(|asked| user(asked.user_id()).shard(3).0 == index as u16));
        assert!((0..2).all(|connection| asked.iter().any(|asked| asked.connection == connection)));
        // Each connection introduces itself: a server may demand it of each.
        assert_eq!(*shard.story.hellos.lock().unwrap(), vec![("test/1".into(), "secret".into()); 2]);
    }
}

#[tokio::test]
async fn batches_are_split_by_owner_and_limit_and_joined_in_order() {
    let (any, shards) = node(3).await;
    let client = fake::patient().connect(&*any.address).await.unwrap();
    // No order, some twice, more than 1,024 for each shard.
    let users: Vec<UserId> = (0..5_000u64).map(|n| user(n * 7_919 % 4_001)).collect();
    let balances = client.get_balances(&users).await.unwrap();
    assert_eq!(balances.len(), users.len());
    for (asked, entry) in users.iter().zip(balances.iter()) {
        assert_eq!(entry.user_id, *asked);
        match asked.get() % 7 {
            0 => assert!(entry.status == Status::NotFound && entry.balance.is_none()),
            _ => assert_eq!(entry.of(fake::coin()).unwrap().available, asked.get() as i64),
        }
    }
    assert_eq!(balances.get(0).unwrap().user_id, users[0]);
    assert!(balances.get(5_000).is_none());
    assert_eq!(balances.as_of_us(), Some(1_000));
    for (index, shard) in shards.iter().enumerate() {
        let asked = shard.asked();
        assert!(asked.len() == 2 && asked.iter().all(|asked| asked.opcode() == Opcode::GetBalances));
        let mut ids = asked.iter().flat_map(|asked| asked.ids());
        assert!(ids.all(|id| user(id).shard(3).0 == index as u16));
    }
    assert_eq!(balances.parts().len(), 6);
    assert!(any.asked().is_empty());
}

#[tokio::test]
async fn a_unix_socket_has_no_shard_ports() {
    let folder = tempfile::tempdir().unwrap();
    let map = Map { shards: 4, ..Map::one_shard() };
    let right = |asked: &fake::Asked| Answer::Bytes(asked.right_answer());
    let fake = Fake::unix(&folder.path().join("florin.sock"), map, right).await;
    let client = fake::patient().connect(&*fake.address).await.unwrap();
    assert_eq!(client.shards(), 4);
    assert_eq!(client.get_balance(user(5)).await.unwrap().user_id.to_native(), 5);
    // The split by owner is the server's here; the frames' limit is not.
    let users: Vec<UserId> = (0..2_049).map(user).collect();
    assert_eq!(client.get_balances(&users).await.unwrap().parts().len(), 3);
    assert_eq!(fake.accepted(), 1);
}

#[tokio::test]
async fn an_unknown_routing_function_or_a_wish_sends_everything_to_any_shard() {
    let shard = Fake::faultless(Map::one_shard()).await;
    let map = Map { mix: "another", ..Map::of_ports(&[shard.port]) };
    let any = Fake::faultless(map).await;
    fake::patient().connect(&*any.address).await.unwrap().get_balance(user(1)).await.unwrap();
    *any.story.map.lock().unwrap() = Map::of_ports(&[shard.port]);
    let client = fake::patient().routing(Routing::AnyPort).connect(&*any.address).await.unwrap();
    client.get_balance(user(1)).await.unwrap();
    assert_eq!((any.asked().len(), shard.accepted()), (2, 0));
}

#[tokio::test]
async fn while_a_shards_port_cannot_be_reached_any_shard_is_asked() {
    let port = closed_port().await;
    let any = Fake::faultless(Map::of_ports(&[port])).await;
    let client = impatient().connect(&*any.address).await.unwrap();
    client.get_balance(user(1)).await.unwrap();
    assert_eq!(any.asked().len(), 1);
    let error = impatient().routing(Routing::ShardPortsOnly).connect(&*any.address).await.err().unwrap();
    assert!(matches!(error, Error::Disconnected { cause: Disconnect::Connect(_), .. }), "{error}");

    let right = |asked: &fake::Asked| Answer::Bytes(asked.right_answer());
    let shard = Fake::tcp_at(port, Map::of_ports(&[port]), right).await;
    eventually("the client finds the shard's port", || shard.accepted() == 1).await;
    while shard.asked().is_empty() {
        client.get_balance(user(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_whose_connection_ends_is_asked_again() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let fake = Fake::tcp(Map::one_shard(), |asked| match ASKED.fetch_add(1, SeqCst) {
        0 | 2 => Answer::Close,
        _ => Answer::Bytes(asked.right_answer()),
    })
    .await;
    let client = impatient().connect(&*fake.address).await.unwrap();
    assert_eq!(client.get_balance(user(1)).await.unwrap().user_id.to_native(), 1);
    assert_eq!(client.get_balance(user(2)).await.unwrap().user_id.to_native(), 2);
    let counters = client.counters();
    assert_eq!((counters.requests, counters.replies), (4, 2));
    assert_eq!((counters.connects, counters.disconnects, fake.accepted()), (3, 2, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_connections_that_keep_ending_every_call_gets_its_own_answer() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let fake = Fake::tcp(Map::one_shard(), |asked| match ASKED.fetch_add(1, SeqCst) % 397 {
        396 => Answer::Close,
        _ => Answer::Bytes(asked.right_answer()),
    })
    .await;
    let client = impatient().in_flight_max(32).connect(&*fake.address).await.unwrap();
    let callers = (0..16u64).map(|caller| {
        let client = client.clone();
        tokio::spawn(async move {
            for call in 0..250 {
                let id = caller * 1_000 + call;
                assert_eq!(client.get_balance(user(id)).await.unwrap().to_record(), fake::balance(id));
            }
        })
    });
    join_all(callers).await.into_iter().for_each(|caller| caller.unwrap());
    let counters = client.counters();
    assert_eq!(counters.replies, 4_000);
    assert!(counters.connects > 5 && counters.writes < counters.requests, "{counters:?}");
}

#[tokio::test]
async fn calls_wait_for_a_server_that_restarts_and_say_why_when_it_does_not() {
    let fake = Fake::faultless(Map::one_shard()).await;
    let client = impatient().connect(&*fake.address).await.unwrap();
    client.get_balance(user(1)).await.unwrap();
    let port = fake.port;
    drop(fake);
    eventually("the client sees its connection end", || client.counters().disconnects > 0).await;

    let error = client.with_deadline(Duration::from_secs(1)).get_balance(user(1)).await.unwrap_err();
    let Error::Deadline { last: Some(last), .. } = &error else { panic!("{error}") };
    assert!(matches!(**last, Error::Disconnected { .. }), "{last}");

    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.get_balance(user(2)).await }
    });
    let right = |asked: &fake::Asked| Answer::Bytes(asked.right_answer());
    let fake = Fake::tcp_at(port, Map::one_shard(), right).await;
    assert_eq!(waiting.await.unwrap().unwrap().user_id.to_native(), 2);
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn without_retry_a_call_fails_at_once_while_there_is_no_connection() {
    let fake = Fake::faultless(Map::one_shard()).await;
    let client = impatient().retry(Retry::Never).connect(&*fake.address).await.unwrap();
    drop(fake);
    eventually("the client sees its connection end", || client.counters().disconnects > 0).await;
    let error = client.get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }) && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_node_that_comes_back_with_other_shards_is_asked_at_their_ports() {
    let (any, shards) = node(1).await;
    let client = impatient().connect(&*any.address).await.unwrap();
    client.get_balance(user(1)).await.unwrap();
    assert_eq!(shards[0].asked().len(), 1);

    let (_, more) = node(2).await;
    let ports: Vec<u16> = more.iter().map(|fake| fake.port).collect();
    let port = any.port;
    drop((any, shards));
    let right = |asked: &fake::Asked| Answer::Bytes(asked.right_answer());
    let _any = Fake::tcp_at(port, Map::of_ports(&ports), right).await;
    while more.iter().any(|shard| shard.asked().is_empty()) {
        for id in 0..8 {
            client.get_balance(user(id)).await.unwrap();
        }
    }
    assert_eq!(client.shards(), 2);
}

#[tokio::test]
async fn a_silent_server_is_left() {
    static SILENT: AtomicBool = AtomicBool::new(true);
    let fake = Fake::tcp(Map::one_shard(), |asked| match SILENT.swap(false, SeqCst) {
        true => Answer::Nothing,
        false => Answer::Bytes(asked.right_answer()),
    })
    .await;
    let client = impatient().silence_max(Duration::from_secs(1)).connect(&*fake.address).await.unwrap();
    assert_eq!(client.get_balance(user(1)).await.unwrap().user_id.to_native(), 1);
    assert_eq!(fake.accepted(), 2);
}

#[tokio::test]
async fn a_refused_hello_or_another_layout_fails_the_connect() {
    let refusal = Some((Status::Unauthenticated, "a token is needed"));
    let fake = Fake::faultless(Map { refusal, ..Map::one_shard() }).await;
    let error = fake::patient().connect(&*fake.address).await.err().unwrap();
    let Error::Unauthenticated(refusal) = error else { panic!("{error}") };
    assert_eq!(refusal.message, "a token is needed");

    let fake = Fake::faultless(Map { rkyv_schema: 7, ..Map::one_shard() }).await;
    let error = fake::patient().connect(&*fake.address).await.err().unwrap();
    assert!(matches!(error, Error::SchemaMismatch { server: 7, .. }), "{error}");

    let fake = Fake::faultless(Map { shards: 2, ..Map::of_ports(&[1]) }).await;
    let error = fake::patient().connect(&*fake.address).await.err().unwrap();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");

    let error = fake::patient().connect(&*format!("127.0.0.1:{}", closed_port().await)).await.err().unwrap();
    assert!(matches!(error, Error::Disconnected { cause: Disconnect::Connect(_), .. }), "{error}");
    assert!(matches!(fake::patient().connect("nonsense").await.err().unwrap(), Error::Address(_)));
}

#[tokio::test]
async fn a_server_that_never_answers_hello_is_given_up() {
    // Accepted by the kernel, read by nobody.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limit = Duration::from_secs(1);
    let address = listener.local_addr().unwrap();
    let error = fake::patient().connect_timeout(limit).connect(address).await.err().unwrap();
    assert!(matches!(error, Error::Disconnected { cause: Disconnect::NoHello(_), .. }), "{error}");
}

#[tokio::test]
async fn the_last_clone_closes_the_connections() {
    let (any, shards) = node(2).await;
    let client = fake::patient().connect(&*any.address).await.unwrap();
    let clone = client.with_deadline(Duration::from_secs(1));
    drop(client);
    clone.get_balance(user(1)).await.unwrap();
    drop(clone);
    let fakes = || [&any].into_iter().chain(&shards);
    eventually("every connection is closed", || fakes().all(|fake| fake.closed() == 1)).await;
    assert!(fakes().all(|fake| fake.accepted() == 1));
}
