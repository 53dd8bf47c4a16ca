//! What goes wrong on the way to a node, and with it: a call that has the time has its answer.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::fake::path::Path;
use crate::fake::{self, Answer, Asked, Fake, Map, eventually, user};
use florin_client::{
    Backoff, Builder, Client, Disconnect, Error, Freshness, LedgerId, NodeId, Retry, Routing, Version,
};
use florin_schema::Status;
use florin_schema::frame::{REPLY_DRAINING, REPLY_LASTING, REPLY_QUARANTINED};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const STALL: Duration = Duration::from_millis(20);

/// Comes back fast, so that tests do.
fn impatient() -> Builder {
    let backoff = Backoff { first: Duration::from_millis(1), most: Duration::from_millis(20) };
    Client::builder().backoff(backoff).deadline(fake::PATIENCE)
}

fn unavailable(asked: &Asked) -> Answer {
    Answer::Bytes(asked.reply(Status::Unavailable, 0, b"warming up"))
}

/// A path that drops packets: the socket is open, writes succeed, nothing comes back. All calls failed for as long as
/// the silence was borne, though a new connection would have worked at once.
#[tokio::test]
async fn a_path_that_drops_packets_is_left() {
    let fake = Fake::faultless(Map::one_shard()).await;
    let path = Path::to(&fake.address).await;
    // Nobody lives to see that a connection is given up for its silence.
    let client = impatient().stall_after(STALL).silence_max(2 * fake::PATIENCE);
    let client = client.connect(&*path.address).await.unwrap();
    client.get_balance(user(1)).await.unwrap();
    path.drop_all();
    for (id, answer) in join_all((0..20).map(|id| client.get_balance(user(id)))).await.into_iter().enumerate()
    {
        assert_eq!(answer.unwrap().user_id.to_native(), id as u64);
    }
}

/// While one shard's port is silent, calls under way move to the address that was given, each time anew, and so do those
/// that wait for room there.
#[tokio::test]
async fn calls_on_a_silent_port_are_asked_elsewhere() {
    let silent = Fake::tcp(Map::one_shard(), |_| Answer::Nothing).await;
    let any = Fake::faultless(Map::of_ports(&[silent.port])).await;
    let client = impatient().stall_after(STALL).silence_max(2 * fake::PATIENCE).in_flight_max(2);
    let client = client.connect(&*any.address).await.unwrap();
    for _ in 0..4 {
        for answer in join_all((0..6).map(|id| client.get_balance(user(id)))).await {
            answer.unwrap();
        }
    }
    assert_eq!(any.asked().len(), 24);
}

/// A connection that was idle for most of the time is not given up sooner: silence is counted from the request.
#[tokio::test]
async fn silence_counts_from_the_first_unanswered_request() {
    let fake = Fake::tcp(Map::one_shard(), |_| Answer::Nothing).await;
    let silence = Duration::from_millis(600);
    let client = Client::builder()
        .retry(Retry::Never)
        .silence_max(silence)
        .deadline(fake::PATIENCE)
        .connect(&*fake.address)
        .await
        .unwrap();
    // The connection has been idle for most of that time before anything is asked.
    tokio::time::sleep(silence * 2 / 3).await;
    let began = Instant::now();
    let error = client.get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error, Error::Disconnected { cause: Disconnect::Silent(_), .. }), "{error}");
    // That it takes no longer is silence.rs's own test.
    assert!(began.elapsed() >= silence, "{:?}", began.elapsed());
}

/// Whoever asked the server to hold a request does not mistake the holding for silence.
#[tokio::test]
async fn a_request_that_is_held_is_no_silence() {
    let fake = Fake::faultless(Map::one_shard()).await;
    let path = Path::to(&fake.address).await;
    path.delay(STALL * 5);
    let client = impatient().stall_after(STALL).connect(&*path.address).await.unwrap();
    let held = Freshness::at_least(Version(1)).waiting(fake::PATIENCE / 2);
    client.with_freshness(held).get_balance(user(1)).await.unwrap();
    assert_eq!((path.accepted(), client.counters().requests), (1, 1));
}

/// After a restart callers with 500 ms to spare were told "warming up" at once instead of an answer 100 ms later.
#[tokio::test]
async fn a_node_that_warms_up_is_waited_for() {
    static REFUSALS: AtomicI64 = AtomicI64::new(10);
    let fake = Fake::tcp(Map::one_shard(), |asked| match REFUSALS.fetch_sub(1, SeqCst) {
        1.. => unavailable(asked),
        _ => Answer::Bytes(asked.right_answer()),
    })
    .await;
    let client = impatient().connect(&*fake.address).await.unwrap();
    assert_eq!(client.get_balance(user(1)).await.unwrap().user_id.to_native(), 1);
    REFUSALS.store(10, SeqCst);
    assert!(client.get_balances(&[user(1), user(2)]).await.unwrap().get(0).unwrap().balance.is_some());

    // Whoever has no time left is told why, and whoever does not want to wait at once.
    REFUSALS.store(i64::MAX, SeqCst);
    let error = client.with_deadline(STALL).get_balance(user(1)).await.unwrap_err();
    let Error::Deadline { last: Some(last), .. } = &error else { panic!("{error}") };
    assert!(matches!(&**last, Error::Unavailable(refusal) if refusal.message == "warming up"), "{last}");
    let hasty = impatient().retry(Retry::Never).connect(&*fake.address).await.unwrap();
    let error = hasty.get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
}

/// About an account whose hole lasts both clients asked again and again until the deadline.
#[tokio::test]
async fn an_account_that_stays_incomplete_is_told_at_once() {
    static ASKED: AtomicI64 = AtomicI64::new(0);
    let fake = Fake::tcp(Map::one_shard(), |asked| {
        ASKED.fetch_add(1, SeqCst);
        let mut frame = asked.reply(Status::Unavailable, 0, b"not complete");
        frame[26..28].copy_from_slice(&(REPLY_QUARANTINED | REPLY_LASTING).to_le_bytes());
        Answer::Bytes(frame)
    })
    .await;
    let client = impatient().connect(&*fake.address).await.unwrap();
    let error = client.get_balance(user(1)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable(refusal) if refusal.is_quarantined && refusal.is_lasting),
        "{error}"
    );
    assert_eq!((error.is_retryable(), ASKED.load(SeqCst)), (false, 1));
}

/// A node announces its end on every answer. What is new goes to another connection; what is under way is finished.
#[tokio::test]
async fn a_connection_that_drains_is_finished_and_left() {
    static DRAINING: AtomicBool = AtomicBool::new(false);
    let fake = Fake::tcp(Map::one_shard(), |asked| {
        if asked.user_id() == 9 && asked.connection == 0 {
            return Answer::Nothing;
        }
        let mut frame = asked.right_answer();
        if asked.connection == 0 && DRAINING.load(SeqCst) {
            frame[26..28].copy_from_slice(&REPLY_DRAINING.to_le_bytes());
            if asked.user_id() == 3 {
                // The answer that was under way, at last.
                let mut late = asked.clone();
                late.header.user_id = 9.into();
                late.header.request_id = 0.into();
                frame.extend(late.right_answer());
            }
        }
        Answer::Bytes(frame)
    })
    .await;
    let client = impatient().connect(&*fake.address).await.unwrap();
    let under_way = tokio::spawn({
        let client = client.clone();
        async move { client.get_balance(user(9)).await }
    });
    eventually("it is under way", || fake.asked().len() == 1).await;
    DRAINING.store(true, SeqCst);
    // Both are sent before either answer comes.
    let (first, second) = tokio::join!(client.get_balance(user(2)), client.get_balance(user(3)));
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(under_way.await.unwrap().unwrap().user_id.to_native(), 9);
    client.get_balance(user(4)).await.unwrap();
    let asked = fake.asked();
    assert_eq!(asked.iter().filter(|asked| asked.user_id() == 9).count(), 1, "it was not asked again");
    assert_eq!(asked.last().unwrap().connection, 1);
    eventually("the connection is closed", || fake.closed() == 1).await;
}

/// A stop and a start lose no read that has the time: neither those under way nor those that come between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_no_read() {
    static READS: AtomicUsize = AtomicUsize::new(0);
    static STOP: AtomicBool = AtomicBool::new(false);
    let right = |asked: &Asked| Answer::Bytes(asked.right_answer());
    let mut fake = Fake::tcp(Map::one_shard(), right).await;
    let client = impatient().connect(&*fake.address).await.unwrap();
    let callers = (0..8u64).map(|caller| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut id = caller;
            while !STOP.load(SeqCst) {
                id = (id + 8) % 1_000;
                assert_eq!(client.get_balance(user(id)).await.unwrap().user_id.to_native(), id);
                READS.fetch_add(1, SeqCst);
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    for node_id in 1..4 {
        let before = READS.load(SeqCst);
        eventually("reads", || READS.load(SeqCst) > before + 50).await;
        let port = fake.port;
        drop(fake);
        fake = Fake::tcp_at(port, Map { node_id, ..Map::one_shard() }, right).await;
    }
    let before = READS.load(SeqCst);
    eventually("reads", || READS.load(SeqCst) > before + 50).await;
    STOP.store(true, SeqCst);
    join_all(callers).await.into_iter().for_each(|caller| caller.unwrap());
}

/// A server that accepts, greets and ends what it has accepted was connected to in a hot loop.
#[tokio::test]
async fn a_flapping_server_is_not_connected_to_in_a_hot_loop() {
    let fake = Fake::tcp(Map::one_shard(), |_| Answer::Close).await;
    let client = Client::connect(&*fake.address).await.unwrap();
    let asking = client.with_deadline(Duration::from_millis(400)).get_balance(user(1)).await.unwrap_err();
    assert!(matches!(asking, Error::Deadline { .. }), "{asking}");
    // Pauses of 5 ms on average would make it 80 times.
    assert!(fake.accepted() < 30, "{} connections in 400 ms", fake.accepted());
}

/// Behind a translated address a shard's port led to another node, and its answers were taken for the first one's.
#[tokio::test]
async fn a_shards_port_that_leads_to_another_node_is_not_used() {
    let stranger = Fake::faultless(Map { node_id: 2, ..Map::one_shard() }).await;
    let any = Fake::faultless(Map { node_id: 1, ..Map::of_ports(&[stranger.port]) }).await;
    let client = impatient().connect(&*any.address).await.unwrap();
    for id in 0..20 {
        client.get_balance(user(id)).await.unwrap();
    }
    assert_eq!((any.asked().len(), stranger.asked().len()), (20, 0));
    let error = impatient().routing(Routing::ShardPortsOnly).connect(&*any.address).await.err().unwrap();
    let Error::OtherNode { expected: NodeId(1), got: NodeId(2), .. } = error else { panic!("{error}") };

    // The node was started anew on the same ports: its map is asked for again, and its port used.
    *any.story.map.lock().unwrap() = Map { node_id: 2, ..Map::of_ports(&[stranger.port]) };
    while stranger.asked().is_empty() {
        client.get_balance(user(1)).await.unwrap();
    }
}

/// Another ledger's node on an address that a client uses: its answers are of other accounts, and came without an error.
#[tokio::test]
async fn another_ledgers_answers_are_an_error() {
    let fake = Fake::faultless(Map { ledger_id: 5, ..Map::one_shard() }).await;
    let path = Path::to(&fake.address).await;
    let client = impatient().connect(&*path.address).await.unwrap();
    client.get_balance(user(1)).await.unwrap();
    let other = Fake::faultless(Map { ledger_id: 6, ..Map::one_shard() }).await;
    path.lead(&other.address);
    path.cut();
    let error = loop {
        match client.get_balance(user(1)).await {
            Ok(balance) => assert_eq!(balance.user_id.to_native(), 1),
            Err(error) => break error,
        }
    };
    let Error::OtherLedger { expected: LedgerId(5), got: LedgerId(6), .. } = error else { panic!("{error}") };
    assert!(other.asked().is_empty() && !error.is_retryable());
    assert!(error.to_string().contains("leads to a node of another ledger"), "{error}");

    path.lead(&fake.address);
    while client.get_balance(user(1)).await.is_err() {}
}

/// 3,000 callers of batches had made the client keep 5 GB for a node that was stopped.
#[tokio::test]
async fn callers_of_a_stopped_node_cost_a_few_mebibytes() {
    static STOPPED: AtomicBool = AtomicBool::new(true);
    let fake = Fake::tcp(Map::one_shard(), |asked| match STOPPED.load(SeqCst) {
        true => Answer::Block,
        false => Answer::Bytes(asked.right_answer()),
    })
    .await;
    let client = impatient().stall_after(fake::PATIENCE).connect(&*fake.address).await.unwrap();
    let users: Vec<_> = (0..1_024).map(user).collect();
    let hasty = client.with_deadline(Duration::from_millis(300));
    // 8 KiB each, more than the queue and the sockets take: who finds no room waits, and leaves nothing behind.
    for _ in 0..3 {
        let answers = join_all((0..2_000).map(|_| hasty.get_balances(&users))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Deadline { .. }))));
    }
    STOPPED.store(false, SeqCst);
    fake.story.resume.notify_waiters();
    assert_eq!(client.get_balances(&users).await.unwrap().len(), 1_024);
    // The sockets' buffers take some 1,000, and one write some 500; what was given up in the queue never travels.
    let asked = fake.asked().len();
    assert!(asked < 4_000, "{asked} of 6,000 batches were kept for a node that read nothing");
}

/// Whatever the way does, a call that has the time gets its own answer: every kind of trouble in a random order, on the
/// address that was given and on the shards' ports alike.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_any_weather_every_call_gets_its_own_answer() {
    static READS: AtomicUsize = AtomicUsize::new(0);
    static STOP: AtomicBool = AtomicBool::new(false);
    let shards = [Fake::faultless(Map::one_shard()).await, Fake::faultless(Map::one_shard()).await];
    let mut paths = Vec::new();
    for shard in &shards {
        paths.push(Path::to(&shard.address).await);
    }
    let port = |path: &Path| path.address.rsplit_once(':').unwrap().1.parse().unwrap();
    let ports: Vec<u16> = paths.iter().map(port).collect();
    let any = Fake::faultless(Map::of_ports(&ports)).await;
    paths.push(Path::to(&any.address).await);
    let client = impatient()
        .stall_after(STALL)
        .silence_max(Duration::from_secs(1))
        .connect(&*paths[2].address)
        .await
        .unwrap();
    let callers = (0..16u64).map(|caller| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut id = caller;
            while !STOP.load(SeqCst) {
                id = (id + 16) % 1_000;
                assert_eq!(client.get_balance(user(id)).await.unwrap().to_record(), fake::balance(id));
                let batch = client.get_balances(&[user(id), user(1), user(2), user(3)]).await.unwrap();
                assert_eq!(batch.get(3).unwrap().version(), Some(Version(4)));
                READS.fetch_add(1, SeqCst);
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let mut random = StdRng::seed_from_u64(13);
    for _ in 0..60 {
        let path = &paths[random.random_range(0..paths.len())];
        match random.random_range(0..4) {
            0 => path.drop_all(),
            1 => path.cut(),
            2 => path.delay(Duration::from_millis(random.random_range(0..60))),
            _ => path.delay(Duration::ZERO),
        }
        let before = READS.load(SeqCst);
        let is_over = || callers.iter().any(|caller| caller.is_finished());
        eventually("reads", || READS.load(SeqCst) >= before + 16 || is_over()).await;
    }
    STOP.store(true, SeqCst);
    join_all(callers).await.into_iter().for_each(|caller| caller.unwrap());
}
