//! The Rust client against a whole node of two shards on a ledger that other hands write to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use florin::ledger::Kind;
use florin::node::{Division, Node, NodeConfig};
use florin::shard::{Hold, Holdings};
use florin_client::{
    Asset, Client, Error, Freshness, Reply, Routing, Status, UserId, Version, Window, WindowMask, records,
};
use florin_record::{NewTransaction, TransactionId};
use florin_schema::{MapNode, NodeMap, Partitioner};
use florin_sqlite::Writer;

const USERS: u64 = 200;
/// Beyond this a test has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// A busy host's, and less than the client's own `silence_max`: no reconnect may hide a request that stands still.
const DEADLINE: Duration = Duration::from_secs(8);
const OCCURRED_AT_US: i64 = 1_700_000_000_000_000;

fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

fn coin() -> Asset {
    Asset::parse(b"COIN").unwrap()
}

/// What a user has, by plain recomputation.
#[derive(Clone, Copy, Default)]
struct Expected {
    version: u64,
    available: i64,
    held: i64,
    credit_sum: i64,
    debit_count: u64,
}

impl Expected {
    fn apply(&mut self, kind: Kind, amount: i64) {
        self.version += 1;
        match kind {
            Kind::Recharge => {
                self.available += amount;
                self.credit_sum += amount;
            }
            Kind::Withdrawal => {
                self.available -= amount;
                self.debit_count += 1;
            }
            Kind::Hold => {
                self.available -= amount;
                self.held += amount;
            }
            other => panic!("the model does not know {other:?}"),
        }
    }
}

/// A ledger file, and what its rows add up to.
struct Ledger {
    path: PathBuf,
    writer: Writer,
    expected: BTreeMap<u64, Expected>,
    rows: u64,
}

impl Ledger {
    fn new(folder: &Path) -> Ledger {
        let path = folder.join("ledger.db");
        let writer = Writer::open_or_create(&path).unwrap();
        Ledger { path, writer, expected: BTreeMap::new(), rows: 0 }
    }

    /// Appends the rows in one database transaction and answers the last one's version.
    fn append(&mut self, rows: &[(u64, Kind, i64)]) -> Version {
        let new: Vec<NewTransaction> = rows.iter().map(|&row| self.transaction(row)).collect();
        let appended = self.writer.append(&new).unwrap();
        for &(user_id, kind, amount) in rows {
            self.expected.entry(user_id).or_default().apply(kind, amount);
        }
        appended.last().unwrap().version
    }

    fn transaction(&mut self, (user_id, kind, amount): (u64, Kind, i64)) -> NewTransaction {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.rows.to_be_bytes());
        self.rows += 1;
        NewTransaction {
            transaction_id: TransactionId::at(OCCURRED_AT_US, random),
            user_id: user(user_id),
            asset: coin(),
            kind,
            amount,
            occurred_at_us: OCCURRED_AT_US,
        }
    }

    fn fill(&mut self) {
        for id in 0..USERS {
            let withdrawals = (0..id % 4).map(|_| (id, Kind::Withdrawal, 10));
            let mut rows = vec![(id, Kind::Recharge, 1_000 + id as i64), (id, Kind::Hold, 1)];
            rows.extend(withdrawals);
            self.append(&rows);
        }
    }
}

fn config(ledger: &Path, unix: Option<PathBuf>) -> NodeConfig {
    NodeConfig { unix, shards: Some(2), ..NodeConfig::local(ledger.to_owned()) }
}

/// A balance of this version: a node holds a request for a second at most, and a busy machine takes longer.
async fn fresh(client: &Client, id: u64, version: Version) -> Reply<records::Balance> {
    let fresh = client.with_freshness(Freshness::at_least(version).waiting(Duration::from_secs(1)));
    let began = Instant::now();
    loop {
        match fresh.get_balance(user(id)).await {
            Err(Error::Stale(_)) if began.elapsed() < PATIENCE => {}
            balance => return balance.unwrap(),
        }
    }
}

async fn start(config: NodeConfig) -> Node {
    let node = Node::start(config).unwrap();
    let began = Instant::now();
    while !node.obstacles().is_empty() {
        assert!(began.elapsed() < PATIENCE, "{:?}", node.obstacles());
        tokio::task::yield_now().await;
    }
    node
}

/// Every user by every call, against the model.
async fn compare(client: &Client, ledger: &Ledger) {
    let unknown = USERS + 1;
    let asked: Vec<UserId> = (0..USERS).rev().chain([unknown, 7, 7]).map(user).collect();
    let batch = client.get_balances(&asked).await.unwrap();
    for (asked, entry) in asked.iter().zip(batch.iter()) {
        assert_eq!(entry.user_id, *asked);
        let Some(expected) = ledger.expected.get(&asked.get()) else {
            assert_eq!(entry.status, Status::NotFound);
            continue;
        };
        let coins = entry.of(coin()).unwrap();
        assert_eq!((coins.available, coins.held), (expected.available, expected.held), "{asked}");
        assert_eq!(entry.version(), Some(Version(expected.version)));
    }
    for (&id, expected) in &ledger.expected {
        let balance = client.get_balance(user(id)).await.unwrap().to_record();
        let coins = records::AssetBalance {
            asset: coin().to_wire(),
            available: expected.available,
            held: expected.held,
        };
        let updated_at_us = OCCURRED_AT_US;
        let whole =
            records::Balance { user_id: id, version: expected.version, updated_at_us, balances: vec![coins] };
        assert_eq!(balance, whole);
        let statistics = client.get_statistics(user(id), WindowMask::ALL).await.unwrap();
        let lifetime = statistics.of(coin(), Window::Lifetime).unwrap();
        assert_eq!((lifetime.credit_count, lifetime.credit_sum), (1, expected.credit_sum), "{id}");
        assert_eq!(lifetime.debit_count, expected.debit_count, "{id}");
    }
    let error = client.get_balance(user(unknown)).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error}");
}

#[tokio::test]
async fn by_every_door_the_answers_are_the_ledgers() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::new(folder.path());
    ledger.fill();
    let node = start(config(&ledger.path, Some(folder.path().join("florin.sock")))).await;
    let any_port = node.addresses().listen.unwrap();

    let by_shard = Client::builder()
        .deadline(DEADLINE)
        .routing(Routing::ShardPortsOnly)
        .connect(any_port)
        .await
        .unwrap();
    assert_eq!(by_shard.shards(), 2);
    compare(&by_shard, &ledger).await;
    for id in 0..USERS {
        let origin = by_shard.get_balance(user(id)).await.unwrap().origin();
        assert_eq!(origin.shard, user(id).shard(2));
        assert!(!origin.is_forwarded() && !origin.is_quarantined());
    }

    let by_any =
        Client::builder().deadline(DEADLINE).routing(Routing::AnyPort).connect(any_port).await.unwrap();
    compare(&by_any, &ledger).await;
    let mut forwarded = 0;
    for id in 0..USERS {
        let origin = by_any.get_balance(user(id)).await.unwrap().origin();
        assert_eq!(origin.shard, user(id).shard(2));
        forwarded += u64::from(origin.is_forwarded());
    }
    assert!(0 < forwarded && forwarded < USERS, "{forwarded} of {USERS} forwarded by one connection");

    let path = node.addresses().unix.clone().unwrap();
    let by_unix =
        Client::builder().deadline(DEADLINE).connect(&*format!("unix:{}", path.display())).await.unwrap();
    compare(&by_unix, &ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_reads_its_own_writes_while_others_call() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::new(folder.path());
    ledger.fill();
    let node = start(config(&ledger.path, None)).await;
    let client =
        Client::builder().deadline(DEADLINE).connect(node.addresses().listen.unwrap()).await.unwrap();

    let callers: Vec<_> = (0..64)
        .map(|caller| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut version = 0;
                for _ in 0..50 {
                    let seen = client.get_balance(user(caller % 8)).await.unwrap().version().0;
                    assert!(seen >= version, "user {}: {seen} after {version}", caller % 8);
                    version = seen;
                }
            })
        })
        .collect();
    for round in 0..20 {
        let id = round % 8;
        let version = ledger.append(&[(id, Kind::Recharge, 5)]);
        let balance = fresh(&client, id, version).await;
        assert_eq!(balance.version(), version);
        assert_eq!(balance.of(coin()).unwrap().available, ledger.expected[&id].available);
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let counters = client.counters();
    assert!(counters.writes < counters.requests / 2, "{counters:?}");

    let never = client.with_freshness(Freshness::at_least(Version(1_000)));
    let error = never.get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error, Error::Stale(_)), "{error}");
    let batch = never.get_balances(&[user(1), user(2)]).await.unwrap();
    assert!(batch.iter().all(|entry| entry.status == Status::Stale && entry.balance.is_none()));
}

#[tokio::test]
async fn callers_do_not_notice_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::new(folder.path());
    ledger.fill();
    let first = config(&ledger.path, None);
    let node = start(first.clone()).await;
    let listen = node.addresses().listen;
    let client = Client::builder().deadline(DEADLINE).connect(listen.unwrap()).await.unwrap();
    client.ping(b"before").await.unwrap();

    node.drain();
    tokio::task::spawn_blocking(move || node.join()).await.unwrap().unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.get_balance(user(3)).await }
    });
    // The shards come back on other ports: the client learns them with its next Hello. While the node loads it says
    // UNAVAILABLE, which is no answer for a caller that has the time.
    let _node = start(NodeConfig { listen, ..first }).await;
    assert_eq!(waiting.await.unwrap().unwrap().version().0, ledger.expected[&3].version);
    compare(&client, &ledger).await;
}

/// A graceful stop and a start, while others read without a pause, lost reads: those that came while the node drained,
/// while nobody listened, and while it loaded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_no_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::new(folder.path());
    ledger.fill();
    let first = config(&ledger.path, None);
    let mut node = start(first.clone()).await;
    let listen = node.addresses().listen;
    let patient = Client::builder().deadline(PATIENCE).connect(listen.unwrap()).await.unwrap();
    let (reads, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let callers = (0..8).map(|caller| {
        let (client, reads, stop) = (patient.clone(), Arc::clone(&reads), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(SeqCst) {
                let read = client.get_balance(user(caller)).await.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(read.user_id.to_native(), caller);
                reads.fetch_add(1, SeqCst);
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let went_on = async || {
        let (before, began) = (reads.load(SeqCst), Instant::now());
        while reads.load(SeqCst) < before + 200 {
            assert!(began.elapsed() < PATIENCE);
            tokio::task::yield_now().await;
        }
    };
    for _ in 0..3 {
        went_on().await;
        node.drain();
        tokio::task::spawn_blocking(move || node.join()).await.unwrap().unwrap();
        node = start(NodeConfig { listen, ..first.clone() }).await;
    }
    went_on().await;
    stop.store(true, SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    drop(node);
}

/// Two nodes of one ledger say so; one of another ledger on an address that a client uses was asked without an error.
#[tokio::test]
async fn nodes_say_which_ledger_they_answer_from() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::new(folder.path());
    ledger.fill();
    let node = start(config(&ledger.path, None)).await;
    let listen = node.addresses().listen;
    let client = Client::builder().deadline(DEADLINE).connect(listen.unwrap()).await.unwrap();
    client.get_balance(user(1)).await.unwrap();
    let stop = |node: Node| async {
        node.drain();
        tokio::task::spawn_blocking(move || node.join()).await.unwrap().unwrap();
    };
    stop(node).await;

    let elsewhere = tempfile::tempdir().unwrap();
    let mut other = Ledger::new(elsewhere.path());
    // The same user and amount, and another transaction.
    other.rows = 1_000_000;
    other.append(&[(1, Kind::Recharge, 1_001)]);
    let stranger = start(NodeConfig { listen, ..config(&other.path, None) }).await;
    let error = client.get_balance(user(1)).await.unwrap_err();
    assert!(matches!(error, Error::OtherLedger { .. }), "{error}");
    stop(stranger).await;

    let _node = start(NodeConfig { listen, ..config(&ledger.path, None) }).await;
    let began = Instant::now();
    while let Err(error) = client.get_balance(user(1)).await {
        assert!(matches!(error, Error::OtherLedger { .. }) && began.elapsed() < PATIENCE, "{error}");
    }
}

/// Two nodes that follow one ledger: one ends, others write, it comes back; no read is lost and no version goes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_one_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::new(folder.path());
    ledger.fill();
    let first = config(&ledger.path, None);
    let nodes = [start(first.clone()).await, start(first.clone()).await];
    let listen = [nodes[0].addresses().listen, nodes[1].addresses().listen];
    let both = format!("florin://{},{}", listen[0].unwrap(), listen[1].unwrap());
    let client = Client::builder().deadline(DEADLINE).connect(&*both).await.unwrap();
    compare(&client, &ledger).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers = (0..8).map(|caller| {
        let (client, stop) = (client.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut version = 0;
            while !stop.load(SeqCst) {
                let seen = client.get_balance(user(caller)).await.unwrap_or_else(|error| panic!("{error}"));
                assert!(seen.version().0 >= version, "{} after {version}", seen.version());
                version = seen.version().0;
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let [mut one, mut other] = nodes;
    for round in 0..2 {
        for id in 0..8 {
            ledger.append(&[(id, Kind::Hold, 1 + round)]);
        }
        one.drain();
        tokio::task::spawn_blocking(move || one.join()).await.unwrap().unwrap();
        for id in 0..8 {
            let version = ledger.append(&[(id, Kind::Hold, 1)]);
            assert_eq!(fresh(&client, id, version).await.version(), version);
        }
        one = other;
        other = start(NodeConfig { listen: listen[round as usize], ..first.clone() }).await;
    }
    stop.store(true, SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    compare(&client, &ledger).await;
    drop((one, other));
}

/// Nodes that divide the users of one ledger by partitions, each with its map.
struct Divided {
    nodes: Vec<Option<(Node, Division)>>,
    places: Vec<MapNode>,
    epoch: u64,
}

impl Divided {
    async fn start(ledger: &Path) -> Divided {
        let (mut nodes, mut places) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let divides = NodeConfig { divides_users: true, shards: Some(1), ..config(ledger, None) };
            let mut node = start(divides).await;
            let port = node.addresses().listen.unwrap().port();
            let host = "127.0.0.1".to_owned();
            places.push(MapNode { id: node.identity().node, host, port, tls_port: 0 });
            let division = node.take_division().unwrap();
            nodes.push(Some((node, division)));
        }
        Divided { nodes, places, epoch: 0 }
    }

    /// By partition the owner and its standbys.
    fn divide(&mut self, holders: &[&[u16]]) {
        self.epoch += 1;
        let mut map = NodeMap::new(self.epoch, Partitioner::Murmur2, self.places.clone(), 2);
        holders.iter().for_each(|holders| map.push(Some(holders[0]), holders[1..].iter().copied()));
        for (node, place) in self.nodes.iter_mut().zip(0..) {
            let hold = |holders: &&[u16]| if holders.contains(&place) { Hold::Ready } else { Hold::No };
            let holds = holders.iter().map(hold).collect();
            if let Some((_, division)) = node {
                assert!(division.tell(Holdings::new(map.clone(), holds)));
            }
        }
    }
}

/// A client that was given one of three nodes reads every user right, before, while and after they move, and when one is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_that_nodes_divide_are_read_from_whoever_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::new(folder.path());
    ledger.fill();
    let mut divided = Divided::start(&ledger.path).await;
    divided.divide(&[&[0, 1], &[1, 2], &[2, 0], &[0, 2], &[1, 0]]);
    let first = divided.nodes[0].as_ref().unwrap().0.addresses().listen.unwrap();
    // A host that is slow for a moment is no reason to ask a standby.
    let patient = Client::builder().deadline(DEADLINE).stall_after(Duration::from_secs(3));
    let client = patient.connect(first).await.unwrap();
    compare(&client, &ledger).await;
    assert_eq!(client.counters().retries, 0, "each user is asked of its owner at once");

    let is_over = Arc::new(AtomicBool::new(false));
    let reader = {
        let (client, is_over) = (client.clone(), Arc::clone(&is_over));
        let versions: Vec<u64> = ledger.expected.values().map(|expected| expected.version).collect();
        tokio::spawn(async move {
            let mut reads = 0;
            while !is_over.load(SeqCst) {
                let id = reads % USERS;
                let balance = client.get_balance(user(id)).await.unwrap();
                assert_eq!(balance.version(), Version(versions[id as usize]));
                reads += 1;
            }
            reads
        })
    };
    for turn in 0..6 {
        let holders: Vec<[u16; 2]> =
            (0..5).map(|place| [(place + turn) % 3, (place + turn + 1) % 3]).collect();
        divided.divide(&holders.iter().map(|holders| &holders[..]).collect::<Vec<_>>());
        compare(&client, &ledger).await;
    }
    divided.nodes[1] = None;
    compare(&client, &ledger).await;
    is_over.store(true, SeqCst);
    assert!(reader.await.unwrap() > 0);
}
