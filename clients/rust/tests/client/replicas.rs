//! Several nodes that follow one ledger: whoever answers is asked, and no answer goes back in time.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fake::follower::{Follower, map, together};
use crate::fake::path::Path;
use crate::fake::{self, Answer, Asked, Fake, Map, eventually, user};
use florin_client::{Backoff, Builder, Client, Counters, Error, Freshness, Hedge, Retry, Version};
use florin_schema::Status;
use florin_schema::frame::REPLY_DRAINING;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Comes back fast, so that tests do.
fn impatient() -> Builder {
    let backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(20) };
    Client::builder().backoff(backoff).deadline(fake::PATIENCE).stall_after(Duration::from_millis(30))
}

fn right(asked: &Asked) -> Answer {
    Answer::Bytes(asked.right_answer())
}

#[tokio::test]
async fn users_are_spread_and_each_keeps_its_node() {
    let nodes = [Fake::faultless(map(1)).await, Fake::faultless(map(2)).await, Fake::faultless(map(3)).await];
    let client = fake::patient().connect(&*together(&[&nodes[0], &nodes[1], &nodes[2]])).await.unwrap();
    eventually("all are connected", || client.counters().connects == 3).await;
    for id in (0..300).chain(0..300) {
        client.get_balance(user(id)).await.unwrap();
    }
    let mut seen = HashSet::new();
    for node in &nodes {
        let asked: HashSet<u64> = node.asked().iter().map(Asked::user_id).collect();
        assert!((60..=140).contains(&asked.len()), "{} of 300 users", asked.len());
        assert!(asked.iter().all(|&id| seen.insert(id)), "two nodes were asked for one user");
        assert!(node.asked().iter().all(|asked| asked.freshness.is_none()), "nobody has changed nodes");
    }
}

#[tokio::test]
async fn one_node_that_answers_is_enough_and_the_others_are_found_later() {
    let gone = Fake::faultless(map(1)).await;
    let (address, port) = (gone.address.clone(), gone.port);
    drop(gone);
    let there = Fake::faultless(map(2)).await;
    let both = format!("{address},{}", there.address);
    let client = impatient().connect(&*both).await.unwrap();
    for id in 0..20 {
        client.get_balance(user(id)).await.unwrap();
    }
    let back = Fake::tcp_at(port, map(3), right).await;
    while back.asked().is_empty() {
        for id in 0..20 {
            client.get_balance(user(id)).await.unwrap();
        }
    }
    drop((back, there));
    assert!(matches!(impatient().connect(&*both).await.err().unwrap(), Error::Disconnected { .. }));
}

/// The first falls silent while nobody else is there. A call that waits for it goes on to the other as soon as that one comes.
#[tokio::test]
async fn a_node_that_comes_while_another_is_silent_is_asked() {
    let gone = Fake::faultless(map(2)).await;
    let (address, port) = (gone.address.clone(), gone.port);
    drop(gone);
    let silent = Fake::faultless(map(1)).await;
    let path = Path::to(&silent.address).await;
    let both = format!("{},{address}", path.address);
    let client = impatient().silence_max(2 * fake::PATIENCE).connect(&*both).await.unwrap();
    client.get_balance(user(1)).await.unwrap();
    path.drop_all();
    // Nor is there another connection.
    path.lead(&address);
    let before = client.counters().requests;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.get_balance(user(1)).await }
    });
    eventually("it has been asked", || client.counters().requests > before).await;
    let there = Fake::tcp_at(port, map(2), right).await;
    assert_eq!(asking.await.unwrap().unwrap().to_record(), fake::balance(1));
    assert!(!there.asked().is_empty());
}

/// A node that warms up, sheds, is behind what the caller asks for, answers late, drains, or says nothing: the other is
/// asked within the deadline.
#[tokio::test]
async fn whoever_cannot_answer_now_is_gone_round() {
    let refused = |status| move |asked: &Asked| Answer::Bytes(asked.reply(status, 0, b"not now"));
    let draining = |asked: &Asked| {
        let mut frame = asked.reply(Status::Unavailable, 0, b"draining");
        frame[26..28].copy_from_slice(&REPLY_DRAINING.to_le_bytes());
        Answer::Bytes(frame)
    };
    let nodes = [
        Fake::tcp(map(1), refused(Status::Unavailable)).await,
        Fake::tcp(map(1), refused(Status::Overloaded)).await,
        Fake::tcp(map(1), refused(Status::Stale)).await,
        Fake::tcp(map(1), draining).await,
        Fake::tcp(map(1), |_| Answer::Nothing).await,
        Fake::tcp(map(1), |_| Answer::Close).await,
    ];
    for node in &nodes {
        let other = Fake::faultless(map(2)).await;
        let client = impatient().connect(&*together(&[node, &other])).await.unwrap();
        for id in 0..20 {
            assert_eq!(client.get_balance(user(id)).await.unwrap().to_record(), fake::balance(id));
        }
        assert_eq!(client.get_balances(&[user(1), user(2)]).await.unwrap().len(), 2);
        assert!(!node.asked().is_empty(), "it was never asked");
        assert!(client.counters().requests < 200, "{:?}", client.counters());
    }
    // Where nobody can, the caller hears it: at once what waiting does not mend, else when its time is over.
    let client = impatient().connect(&*together(&[&nodes[1], &nodes[2]])).await.unwrap();
    let error = client.get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error, Error::Overloaded(_) | Error::Stale(_)), "{error}");
    let both = impatient().connect(&*together(&[&nodes[0], &nodes[1]])).await.unwrap();
    let error = both.with_deadline(Duration::from_secs(1)).get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { last: Some(_), .. }), "{error}");
}

/// The version of user 1, asked for alone or among others.
async fn read(client: Client, batch: bool) -> Result<Version, Error> {
    if batch {
        let balances = client.get_balances(&[user(2), user(1)]).await?;
        return Ok(balances.get(1).unwrap().version().unwrap());
    }
    client.get_balance(user(1)).await.map(|balance| balance.version())
}

/// The node that a user was read from goes away, and the other is behind it: its answer is older than what has been shown.
#[tokio::test]
async fn no_answer_goes_back_in_time() {
    for (behind, batch) in [(3, false), (0, false), (3, true), (0, true)] {
        let ahead = Follower::new(1, 5).await;
        let late = Follower::new(2, 5).await;
        let client = impatient().connect(&*together(&[&ahead.fake, &late.fake])).await.unwrap();
        eventually("both are connected", || client.counters().connects == 2).await;
        // Whichever is asked for the user first is the one that goes.
        client.get_balance(user(1)).await.unwrap();
        let (gone, left) = if ahead.fake.asked().is_empty() { (late, ahead) } else { (ahead, late) };
        drop(gone);
        left.version.store(behind, SeqCst);
        let error = read(client.with_deadline(Duration::from_millis(100)), batch).await.unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
        // Once the node has caught up it answers.
        let waiting = tokio::spawn(read(client, batch));
        let before = left.fake.asked().len();
        eventually("it is asked", || left.fake.asked().len() > before).await;
        left.version.store(6, SeqCst);
        assert_eq!(waiting.await.unwrap().unwrap(), Version(6));
    }
}

/// What the caller itself asks for is neither lowered by what has been shown nor forgotten.
#[tokio::test]
async fn the_callers_own_version_stands() {
    let nodes = [Follower::new(1, 5).await, Follower::new(2, 5).await];
    let client = impatient().connect(&*together(&[&nodes[0].fake, &nodes[1].fake])).await.unwrap();
    client.get_balance(user(1)).await.unwrap();
    let error =
        client.with_freshness(Freshness::at_least(Version(9))).get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error, Error::Stale(_)), "{error}");
    let hasty = impatient().retry(Retry::Never);
    let hasty = hasty.connect(&*together(&[&nodes[0].fake, &nodes[1].fake])).await.unwrap();
    assert_eq!(hasty.get_balance(user(1)).await.unwrap().version(), Version(5));
}

/// A node of another ledger takes one of the addresses: it is never asked, and does not end the wait for the others.
#[tokio::test]
async fn a_node_of_another_ledger_is_never_asked() {
    let (first, gone) = (Fake::faultless(map(1)).await, Fake::faultless(map(2)).await);
    let client = impatient().connect(&*together(&[&first, &gone])).await.unwrap();
    client.get_balance(user(1)).await.unwrap();
    let (first_port, port) = (first.port, gone.port);
    drop(gone);
    let other = Fake::tcp_at(port, Map { ledger_id: 8, ..map(3) }, right).await;
    eventually("it is connected to", || other.accepted() > 0).await;
    for id in 0..50 {
        client.get_balance(user(id)).await.unwrap();
    }
    drop(first);
    let hasty = client.with_deadline(Duration::from_millis(60));
    let error = hasty.get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
    let _first = Fake::tcp_at(first_port, map(4), right).await;
    client.get_balance(user(1)).await.unwrap();
    assert!(other.asked().is_empty());
}

/// Three nodes that follow at their own pace, and every kind of trouble on the way to each, in a random order: every call
/// is answered, and no caller sees a user's version go back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_any_weather_no_version_goes_back() {
    let counters = in_any_weather(impatient()).await;
    assert_eq!(counters.hedges, 0);
    let hedge = Hedge::after(Duration::from_millis(1)).share(0.5);
    let counters = in_any_weather(impatient().hedge(hedge)).await;
    assert!(counters.hedges_won > 0, "{counters:?}");
}

async fn in_any_weather(builder: Builder) -> Counters {
    let (reads, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut followers = Vec::new();
    let mut paths = Vec::new();
    for node_id in 1..=3 {
        let follower = Follower::new(node_id, 1).await;
        paths.push(Path::to(&follower.fake.address).await);
        followers.push(follower);
    }
    let addresses: Vec<&str> = paths.iter().map(|path| &*path.address).collect();
    let client = builder.silence_max(Duration::from_secs(1)).connect(&*addresses.join(",")).await.unwrap();
    // Of each user, the highest version that any caller has been shown.
    let shown: Arc<Vec<Mutex<u64>>> = Arc::new((0..16).map(|_| Mutex::new(0)).collect());
    let callers = (0..8u64).map(|caller| {
        let (client, shown) = (client.clone(), Arc::clone(&shown));
        let (reads, is_over) = (Arc::clone(&reads), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut id = caller;
            while !is_over.load(SeqCst) {
                id = (id + 5) % 16;
                let other = (id + 1) % 16;
                let before = [id, other].map(|id| *shown[id as usize].lock().unwrap());
                let got = match reads.fetch_add(1, SeqCst) % 3 {
                    0 => {
                        let both = client.get_balances(&[user(id), user(other)]).await.unwrap();
                        [0, 1].map(|place| both.get(place).unwrap().version().unwrap().0)
                    }
                    _ => [client.get_balance(user(id)).await.unwrap().version().0, u64::MAX],
                };
                for (place, (id, got)) in [id, other].into_iter().zip(got).enumerate() {
                    assert!(got >= before[place], "user {id}: {got} after {}", before[place]);
                    if got < u64::MAX {
                        let mut shown = shown[id as usize].lock().unwrap();
                        *shown = got.max(*shown);
                    }
                }
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let mut random = StdRng::seed_from_u64(18);
    for round in 2..42u64 {
        let path = &paths[random.random_range(0..paths.len())];
        match random.random_range(0..5) {
            0 => path.drop_all(),
            1 => path.cut(),
            2 => path.delay(Duration::from_millis(random.random_range(0..60))),
            _ => path.delay(Duration::ZERO),
        }
        // One node is always there, the others follow when it suits them.
        followers[(round % 3) as usize].version.store(round, SeqCst);
        let before = reads.load(SeqCst);
        let has_failed = || callers.iter().any(|caller| caller.is_finished());
        eventually("reads", || reads.load(SeqCst) >= before + 16 || has_failed()).await;
    }
    is_over.store(true, SeqCst);
    followers.iter().for_each(|follower| follower.version.store(100, SeqCst));
    join_all(callers).await.into_iter().for_each(|caller| caller.unwrap());
    client.counters()
}

/// A node moves: its name has another address, behind one that refuses. Whoever has lost the old one asks for the name again, tries
/// all that it is told, and goes to the shards' ports at the new one.
#[tokio::test]
async fn a_name_is_asked_again_after_a_loss() {
    let old = Fake::at_host("127.0.0.1", map(1), right).await;
    let moved = Fake::at_host("127.0.0.2", map(2), right).await;
    let addresses: Arc<Mutex<Vec<SocketAddr>>> = Arc::new(Mutex::new(vec![old.address.parse().unwrap()]));
    let known = Arc::clone(&addresses);
    let builder = impatient().resolver(move |host, port| {
        assert_eq!((host, port), ("florin.test", 7400));
        let found = known.lock().unwrap().clone();
        async move { Ok(found) }
    });
    let client = builder.connect("florin.test:7400").await.unwrap();
    client.get_balance(user(1)).await.unwrap();
    assert_eq!(moved.accepted(), 0);
    // Nobody listens at the first of them any more.
    addresses.lock().unwrap().push(moved.address.parse().unwrap());
    drop(old);
    client.get_balance(user(2)).await.unwrap();
    eventually("the shard's port is reached at the new address", || moved.accepted() == 2).await;
    client.get_balance(user(3)).await.unwrap();
    assert_eq!(moved.asked().len(), 2);
}
