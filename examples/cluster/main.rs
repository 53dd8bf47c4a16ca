//! Nodes that divide a ledger's users among them, to look at and to do harm to: `make cluster`.
//!
//! A Kafka broker of its own, which `scripts/kafka` has fetched, a topic of 24 partitions, a writer of about 1,000 transactions a second, three
//! nodes with a standby each, and readers who ask by the Rust client for one user after the other. Each second it prints who owns what,
//! who stands by, how far each is behind, and how many reads there were, failed, went back, or were wrong: each transaction is of one coin, so
//! that a balance is right when it equals its version. It ends with 1 where one was wrong, went back or failed.
//!
//! A line of input is a command: `kill 2`, `freeze 2`, `thaw 2`, `stop 2` (as an operator ends a node), `start 2`, `add`, `end`.
//! `cargo run --release --example cluster [SECONDS]`, after `cargo build --release`.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use florin_client::{Asset, Client, UserId};
use florin_kafka::{Address, Publisher};
use rustix::process::Signal;

#[path = "../../sources/kafka/tests/live/broker.rs"]
#[allow(dead_code)]
mod broker;
mod nodes;
#[path = "../recharges/mod.rs"]
mod recharges;

use broker::Broker;
use nodes::{Node, told};
use recharges::recharge;

const TOPIC: &str = "cluster";
const PARTITIONS: i32 = 24;
const NODES: usize = 3;
const USERS: u64 = 10_000;
const TRANSACTIONS_A_SECOND: u64 = 1_000;
const READERS: usize = 16;
/// How long a read may take. One whose node was killed is answered by a standby, far within it.
const DEADLINE: Duration = Duration::from_secs(5);
/// The same before all nodes have loaded.
const FIRST_DEADLINE: Duration = Duration::from_secs(60);

const COMMANDS: &str = "commands: kill N, freeze N, thaw N, stop N, start N, add, end";

/// What readers have seen.
#[derive(Default)]
struct Seen {
    reads: AtomicU64,
    failed: AtomicU64,
    went_back: AtomicU64,
    wrong: AtomicU64,
    /// The slowest since it was printed last, µs; and of all.
    slowest_us: AtomicU64,
    slowest_ever_us: AtomicU64,
}

impl Seen {
    fn is_clean(&self) -> bool {
        [&self.failed, &self.went_back, &self.wrong].iter().all(|count| count.load(Relaxed) == 0)
    }
}

fn main() -> ExitCode {
    let seconds =
        std::env::args().nth(1).map(|argument| argument.parse::<u64>().expect("seconds: a whole number"));
    let Some(broker) = Broker::start() else {
        eprintln!("there is no broker: make cluster, or scripts/kafka, fetches one (Java 17 or newer)");
        return ExitCode::FAILURE;
    };
    let folder = tempfile::TempDir::with_prefix("florin-cluster-").expect("a folder");
    match run(&broker, folder.path(), seconds.map(Duration::from_secs)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all reads were as they should be.
fn run(broker: &Broker, folder: &Path, lasts: Option<Duration>) -> Result<bool, String> {
    broker.make_topic(TOPIC, PARTITIONS);
    let (is_over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = {
        let (address, is_over, written) = (broker.address(TOPIC), Arc::clone(&is_over), Arc::clone(&written));
        thread::spawn(move || write(&address, &is_over, &written))
    };
    println!("a broker at {}, topic {TOPIC} of {PARTITIONS} partitions, {USERS} users", broker.bootstrap());
    let mut nodes: Vec<Node> =
        (1..=NODES).map(|number| Node::new(number, folder, broker.address(TOPIC))).collect();
    nodes.iter_mut().try_for_each(Node::start)?;
    let seen = Arc::new(Seen::default());
    let readers = {
        let (seen, is_over) = (Arc::clone(&seen), Arc::clone(&is_over));
        let known: Vec<String> =
            nodes.iter().filter_map(|node| node.any).map(|any| any.to_string()).collect();
        thread::spawn(move || read(&known.join(","), &seen, &is_over))
    };
    println!("{COMMANDS}\n");
    let (commands, began) = (commands(), Instant::now());
    let (mut shown, mut has_input) = ((0, 0), true);
    while lasts.is_none_or(|lasts| began.elapsed() < lasts) {
        thread::sleep(Duration::from_secs(1));
        let mut ends = false;
        while has_input {
            match commands.try_recv() {
                Ok(command) => match obey(&command, &mut nodes, folder, broker) {
                    Ok(true) => ends = true,
                    Ok(false) => println!("       {command}: done"),
                    Err(why) => println!("       {command}: {why}"),
                },
                Err(TryRecvError::Empty) => break,
                // The end of the input ends what has no end of its own.
                Err(TryRecvError::Disconnected) => (has_input, ends) = (false, lasts.is_none()),
            }
        }
        shown = show(began.elapsed(), &mut nodes, &seen, written.load(Relaxed), shown);
        if ends || readers.is_finished() {
            break;
        }
    }
    is_over.store(true, Relaxed);
    writer.join().expect("the writer does not panic");
    readers.join().expect("readers do not panic");
    println!(
        "{} reads, {} failed, {} went back, {} wrong; the slowest took {:.1} ms",
        seen.reads.load(Relaxed),
        seen.failed.load(Relaxed),
        seen.went_back.load(Relaxed),
        seen.wrong.load(Relaxed),
        seen.slowest_ever_us.load(Relaxed) as f64 / 1e3
    );
    Ok(seen.is_clean())
}

/// Lines of input, as they come.
fn commands() -> Receiver<String> {
    let (tell, commands) = channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if tell.send(line.trim().to_owned()).is_err() {
                return;
            }
        }
    });
    commands
}

/// Does what a command says; whether it says that all of it ends.
fn obey(command: &str, nodes: &mut Vec<Node>, folder: &Path, broker: &Broker) -> Result<bool, String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["end"] => return Ok(true),
        ["add"] => {
            let mut node = Node::new(nodes.len() + 1, folder, broker.address(TOPIC));
            node.start()?;
            nodes.push(node);
        }
        [what, number] => {
            let node = nodes.iter_mut().find(|node| node.number.to_string() == number);
            let node = node.ok_or_else(|| format!("expected a node's number, found {number}"))?;
            match what {
                "start" => node.start()?,
                "kill" => node.signal(Signal::KILL)?,
                "freeze" => node.signal(Signal::STOP)?,
                "thaw" => node.signal(Signal::CONT)?,
                "stop" => node.signal(Signal::TERM)?,
                _ => return Err(COMMANDS.to_owned()),
            }
        }
        _ => return Err(COMMANDS.to_owned()),
    }
    Ok(false)
}

/// Prints how it is; what was counted by then.
fn show(after: Duration, nodes: &mut [Node], seen: &Seen, written: u64, before: (u64, u64)) -> (u64, u64) {
    let reads = seen.reads.load(Relaxed);
    let slowest = seen.slowest_us.swap(0, Relaxed);
    println!(
        "{:4} s  {} transactions, {} reads, the slowest {:.1} ms; since the start {} failed, {} went back, {} wrong",
        after.as_secs(),
        written - before.1,
        reads - before.0,
        slowest as f64 / 1e3,
        seen.failed.load(Relaxed),
        seen.went_back.load(Relaxed),
        seen.wrong.load(Relaxed)
    );
    let told = told(nodes);
    for node in nodes {
        println!("{}", node.line(told.as_ref()));
    }
    (reads, written)
}

/// Publishes transactions of one coin each, of one user after the other.
fn write(address: &str, is_over: &AtomicBool, written: &AtomicU64) {
    let address: Address = address.parse().expect("an address of florin's");
    let mut publisher = Publisher::begin(&address, &mut |_| {}).expect("the topic was made");
    let began = Instant::now();
    let mut row = 0;
    while !is_over.load(Relaxed) {
        // All users have one before anybody is asked about.
        let due = USERS + began.elapsed().as_millis() as u64 * TRANSACTIONS_A_SECOND / 1_000;
        while row < due {
            let entered = recharge(row, 1 + row % USERS, 1 + row / USERS, 1);
            publisher.offer(&entered).expect("the broker takes it");
            row += 1;
        }
        publisher.finish().expect("the broker takes it");
        written.store(row, Relaxed);
        thread::sleep(Duration::from_millis(10));
    }
}

/// Asks for one user after the other, several at a time, once all of them can be asked about.
fn read(known: &str, seen: &Arc<Seen>, is_over: &Arc<AtomicBool>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    runtime.block_on(async {
        // A node that has not heard of the others yet says so, and tells nobody of them.
        let patient = loop {
            match Client::builder().deadline(FIRST_DEADLINE).connect(known).await {
                Ok(client) => break client,
                Err(_) if !is_over.load(Relaxed) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(_) => return,
            }
        };
        // What loading is like is not what is to be seen here.
        for user in 1..=USERS {
            let _ = patient.get_balance(UserId::new(user).expect("an id")).await;
        }
        let client = patient.with_deadline(DEADLINE);
        let ask = |reader| tokio::spawn(ask(client.clone(), reader, Arc::clone(seen), Arc::clone(is_over)));
        for reader in (0..READERS as u64).map(ask).collect::<Vec<_>>() {
            reader.await.expect("a reader does not panic");
        }
    });
}

async fn ask(client: Client, reader: u64, seen: Arc<Seen>, is_over: Arc<AtomicBool>) {
    let coin = Asset::parse(b"COIN").expect("an asset");
    let mut shown = BTreeMap::new();
    let mut at = reader * USERS / READERS as u64;
    while !is_over.load(Relaxed) {
        at = at % USERS + 1;
        let began = Instant::now();
        match client.get_balance(UserId::new(at).expect("an id")).await {
            Ok(balance) => {
                let version = balance.version().0;
                let available = balance.of(coin).map_or(0, |coin| coin.available);
                let is_right = u64::try_from(available) == Ok(version);
                seen.wrong.fetch_add(u64::from(!is_right), Relaxed);
                let before = shown.insert(at, version).unwrap_or(0);
                seen.went_back.fetch_add(u64::from(version < before), Relaxed);
            }
            Err(error) => {
                println!("       a read of user {at} failed: {error}");
                seen.failed.fetch_add(1, Relaxed);
            }
        }
        let took_us = began.elapsed().as_micros() as u64;
        seen.slowest_us.fetch_max(took_us, Relaxed);
        seen.slowest_ever_us.fetch_max(took_us, Relaxed);
        seen.reads.fetch_add(1, Relaxed);
    }
}
