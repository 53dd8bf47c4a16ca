//! What readers notice of a checkpoint, and of a table that grows.
//!
//! `cargo run --release --example pauses [ACCOUNTS] [GROWN] [ROUNDS] [SECONDS] [FOLDER]`
//!
//! One shard with so many accounts (1 M), 64 callers that ask one thing at a time, 10,000 rows a second. Quiet seconds and seconds in
//! which a checkpoint is written take turns, and the time in which a million rows are applied that were committed at once; then seconds
//! in which 50,000 rows a second more come for accounts that are there, and as
//! many for new ones, until there are GROWN (8 M). Prints of each the reads a second, their 99th percentile, and the longest turn of
//! the shard by what it was for.
//!
//! The shard has the first CPU, and all else the others. A turn's length is a clock's, which goes on while somebody else has the CPU:
//! with `chrt` (util-linux) and the right to use it, the shard comes before all others there, and the callers before whoever feeds and
//! writes on the other CPUs, as if they had one of their own. How long the shard stood ready and did not run is printed too.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use florin::checkpoints::CheckpointConfig;
use florin::node::{Node, NodeConfig};
use florin::shard::ShardMetrics;
use florin::shard::metrics::{Histogram, Work};
use florin_schema::frame::{ReplyHeader, RequestHeader, VERSION};
use florin_schema::{Encoding, Opcode};
use rusqlite::Connection;
use rustix::thread::CpuSet;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

const CALLERS: usize = 64;
/// Rows of one commit of the writer, and commits a second.
const WRITTEN_AT_ONCE: u64 = 100;
const COMMITS_PER_S: u32 = 100;
/// Rows that come with each of its commits while the table grows, or while its growth is compared with their own cost.
const MORE_AT_ONCE: u64 = 500;
/// Of one commit.
const BURST: u64 = 1_000_000;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |argument| argument.parse::<u64>());
    let (accounts, grown, rounds, seconds) = (number(1_000_000)?, number(8_000_000)?, number(5)?, number(3)?);
    let temporary = tempfile::tempdir()?;
    let folder = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let ledger = folder.join("ledger.db");
    let mut rows = Rows::create(&ledger)?;
    rows.add("8000", "i, 1", 0, accounts)?;
    let (own, others) = cpus()?;
    let node = start(&ledger, &folder, own, &others)?;
    let shard = Thread::named("florin-shard-0")?;
    shard.comes_first("the shard");
    // Whatever is started from here on.
    rustix::thread::sched_setaffinity(None, &set_of(&others))?;
    let metrics = Arc::clone(&node.shards()[0].metrics);
    let address = node.addresses().listen.ok_or("an any-shard port")?;
    let (is_over, coming, seen) =
        (AtomicBool::new(false), Mutex::new(Coming::Rows(0)), Mutex::new(Vec::new()));
    // A burst is ready; it is to be committed.
    let ((burst_is_ready, ready), (go, burst_may_go)) = (mpsc::channel(), mpsc::channel());
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            Thread::current()?.comes_first("the callers");
            read(address, &metrics, &is_over, &seen)
        });
        let writer = scope.spawn(|| {
            let burst = (burst_is_ready, burst_may_go);
            write(&ledger, accounts..grown, &coming, burst, &is_over)
        });
        let measured = || -> Result<(), Failure> {
            let phase = |name: &str, run: &mut dyn FnMut(Instant) -> Result<(), Failure>| {
                measure(name, Duration::from_secs(seconds), (&metrics, &shard), &seen, run)
            };
            for _ in 0..rounds {
                phase("quiet", &mut |until| wait(until))?;
                phase("checkpoint", &mut |until| make_checkpoints(&node, until))?;
                *coming.lock().map_err(|_| "nobody panics while it is told")? = Coming::Burst;
                ready.recv()?;
                let all = metrics.applied.get() + BURST;
                phase("burst", &mut |_| {
                    go.send(())?;
                    while metrics.applied.get() < all {
                        thread::sleep(Duration::from_millis(1));
                    }
                    Ok(())
                })?;
            }
            while metrics.accounts.get() < grown {
                for (name, more) in [("updates", Coming::Rows(MORE_AT_ONCE)), ("growth", Coming::Accounts)] {
                    *coming.lock().map_err(|_| "nobody panics while it is told")? = more;
                    phase(name, &mut |until| wait(until))?;
                }
            }
            Ok(())
        }();
        is_over.store(true, Relaxed);
        let (read, written) = (reader.join(), writer.join());
        let panicked = |_| Failure::from("a thread panicked");
        read.map_err(panicked)??;
        written.map_err(panicked)??;
        measured
    })?;
    node.drain();
    Ok(node.join()?)
}

/// The first CPU that this process may use, and the others.
fn cpus() -> Result<(usize, Vec<usize>), Failure> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
    let own = allowed.next().ok_or("a process may use a CPU")?;
    let others: Vec<usize> = allowed.collect();
    if others.is_empty() {
        Err("the shard takes a CPU of its own: allow this two at least".into())
    } else {
        Ok((own, others))
    }
}

fn set_of(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    set
}

/// A thread of this process.
struct Thread(PathBuf);

impl Thread {
    fn named(name: &str) -> Result<Thread, Failure> {
        for thread in std::fs::read_dir("/proc/self/task")? {
            let thread = thread?.path();
            if std::fs::read_to_string(thread.join("comm"))?.trim_end() == name {
                return Ok(Thread(thread));
            }
        }
        Err(format!("no thread is called {name}").into())
    }

    fn current() -> Result<Thread, Failure> {
        Ok(Thread(std::fs::canonicalize("/proc/thread-self")?))
    }

    /// From now on nobody else has its CPU while it is ready. Says whether that could be done.
    fn comes_first(&self, name: &str) {
        let id = self.0.file_name().unwrap_or_default();
        let told = Command::new("chrt").args(["--fifo", "--pid", "1"]).arg(id).status();
        let first = told.is_ok_and(|status| status.success());
        println!("{name}: {}", if first { "before all others on its CPU" } else { "one of many on its CPU" });
    }

    /// How long it has stood ready and did not run.
    fn kept_waiting(&self) -> Result<Duration, Failure> {
        let times = std::fs::read_to_string(self.0.join("schedstat"))?;
        let ns = times.split_whitespace().nth(1).ok_or("schedstat has three numbers")?;
        Ok(Duration::from_nanos(ns.parse()?))
    }
}

fn start(ledger: &Path, folder: &Path, own: usize, others: &[usize]) -> Result<Node, Failure> {
    let checkpoints =
        CheckpointConfig { folder: folder.join("checkpoints"), every: None, every_rows: None, at_end: false };
    let node = Node::start(NodeConfig {
        shards: Some(1),
        cpus: Some(vec![own]),
        housekeeping_cpus: Some(others.to_vec()),
        checkpoints: Some(checkpoints),
        ..NodeConfig::local(ledger.to_owned())
    })?;
    while !node.obstacles().is_empty() {
        thread::park_timeout(Duration::from_millis(1));
    }
    // The first one is made by itself.
    make_checkpoints(&node, Instant::now())?;
    Ok(node)
}

/// The ledger, without the constraints that only a writer needs.
struct Rows {
    connection: Connection,
}

impl Rows {
    fn create(ledger: &Path) -> Result<Rows, rusqlite::Error> {
        let rows = Rows::open(ledger)?;
        rows.connection.execute_batch(
            "CREATE TABLE transactions (seq INTEGER PRIMARY KEY, transaction_id TEXT, user_id BIGINT, version BIGINT,
                                        asset TEXT, kind SMALLINT, amount BIGINT, occurred_at BIGINT);",
        )?;
        Ok(rows)
    }

    fn open(ledger: &Path) -> Result<Rows, rusqlite::Error> {
        let connection = Connection::open(ledger)?;
        connection.busy_timeout(Duration::from_secs(60))?;
        connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL;")?;
        Ok(Rows { connection })
    }

    /// `ids` are the digits by which transactions of this kind are told from others, `who` is a user and a version, by row.
    fn add(&mut self, ids: &str, who: &str, first: u64, count: u64) -> Result<(), rusqlite::Error> {
        let statement = format!(
            "WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1 + ?2)
             INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at)
             SELECT printf('00000000-0000-4000-{ids}-%012d', i), {who}, 'COIN', 1, 100, unixepoch() * 1000000 FROM n WHERE i < ?1 + ?2"
        );
        self.connection.execute(&statement, [first, count]).map(drop)
    }
}

/// What comes beside the 10,000 rows a second.
#[derive(Clone, Copy)]
enum Coming {
    /// So many rows more with each commit, of accounts that are there.
    Rows(u64),
    /// Accounts.
    Accounts,
    /// A million rows with one commit, which waits for a word.
    Burst,
}

/// Rows of one account after the other, and new accounts.
fn write(
    ledger: &Path,
    mut new: Range<u64>,
    coming: &Mutex<Coming>,
    (is_ready, may_go): (Sender<()>, Receiver<()>),
    is_over: &AtomicBool,
) -> Result<(), Failure> {
    let mut rows = Rows::open(ledger)?;
    let who = format!("i % {0}, 2 + i / {0}", new.start);
    let (mut begun, mut commits, mut written) = (Instant::now(), 0, 0);
    while !is_over.load(Relaxed) {
        let kind = {
            let mut coming = coming.lock().map_err(|_| "nobody panics while it tells")?;
            match *coming {
                Coming::Burst => std::mem::replace(&mut *coming, Coming::Rows(0)),
                lasting => lasting,
            }
        };
        let (more, accounts) = match kind {
            Coming::Rows(more) => (more, 0),
            Coming::Accounts => (0, MORE_AT_ONCE.min(new.end - new.start)),
            Coming::Burst => {
                rows.connection.execute_batch("BEGIN")?;
                rows.add("9000", &who, written, BURST)?;
                is_ready.send(())?;
                may_go.recv()?;
                rows.connection.execute_batch("COMMIT")?;
                written += BURST;
                // What was due meanwhile is not made up for.
                (begun, commits) = (Instant::now(), 0);
                continue;
            }
        };
        rows.add("9000", &who, written, WRITTEN_AT_ONCE + more)?;
        rows.add("8000", "i, 1", new.start, accounts)?;
        written += WRITTEN_AT_ONCE + more;
        new.start += accounts;
        commits += 1;
        let due = begun + Duration::from_secs(1) / COMMITS_PER_S * commits;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Callers of whom each asks, and asks again once it is answered: what each answer took, in µs.
fn read(
    address: SocketAddr,
    metrics: &ShardMetrics,
    is_over: &AtomicBool,
    seen: &Mutex<Vec<u32>>,
) -> Result<(), Failure> {
    let mut callers: Vec<TcpStream> = (0..CALLERS)
        .map(|_| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
        .collect::<Result<_, std::io::Error>>()?;
    let (mut asked, mut number, mut reply) = (vec![Instant::now(); CALLERS], 1_u64, Vec::new());
    let mut took = Vec::with_capacity(CALLERS);
    while !is_over.load(Relaxed) {
        for (caller, asked) in callers.iter_mut().zip(&mut asked) {
            // A multiplication by an odd number reaches them all, in no order.
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let header = RequestHeader {
                length: U32::new(size_of::<RequestHeader>() as u32),
                version: VERSION,
                opcode: Opcode::GetBalance as u8,
                encoding: Encoding::Rkyv as u8,
                flags: 0,
                request_id: U64::new(number),
                user_id: U64::new((number >> 32) % metrics.accounts.get()),
            };
            *asked = Instant::now();
            caller.write_all(header.as_bytes())?;
        }
        for (caller, asked) in callers.iter_mut().zip(&asked) {
            let mut length = [0; 4];
            caller.read_exact(&mut length)?;
            reply.resize(u32::from_le_bytes(length) as usize - length.len(), 0);
            caller.read_exact(&mut reply)?;
            took.push(asked.elapsed().as_micros() as u32);
            if reply.len() <= size_of::<ReplyHeader>() {
                return Err("an answer without a balance".into());
            }
        }
        seen.lock().map_err(|_| "nobody panics while it notes")?.append(&mut took);
    }
    Ok(())
}

fn wait(until: Instant) -> Result<(), Failure> {
    thread::sleep(until.saturating_duration_since(Instant::now()));
    Ok(())
}

/// One after the other, and one at least.
fn make_checkpoints(node: &Node, until: Instant) -> Result<(), Failure> {
    loop {
        let (told, made) = mpsc::channel();
        node.checkpoints().ok_or("it makes checkpoints")?.make(move |made| drop(told.send(made)));
        made.recv()??;
        if Instant::now() >= until {
            return Ok(());
        }
    }
}

/// Runs a phase and prints what was seen meanwhile.
fn measure(
    name: &str,
    length: Duration,
    (metrics, shard): (&ShardMetrics, &Thread),
    seen: &Mutex<Vec<u32>>,
    run: &mut dyn FnMut(Instant) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let take =
        || seen.lock().map(|mut seen| std::mem::take(&mut *seen)).map_err(|_| "nobody panics while it notes");
    take()?;
    let before: Vec<_> = metrics.turns_with.iter().map(|turns| turns.times.counts()).collect();
    let waited = shard.kept_waiting()?;
    let begun = Instant::now();
    run(begun + length)?;
    let took = begun.elapsed().as_secs_f64();
    let waited = shard.kept_waiting()? - waited;
    let mut answers = take()?;
    answers.sort_unstable();
    let p99 = answers.get(answers.len() * 99 / 100).copied().unwrap_or_default();
    print!("{name:>10}: {:8.0} reads/s, p99 {p99:5} µs; longest turns:", answers.len() as f64 / took);
    for ((work, turns), before) in Work::ALL.iter().zip(&metrics.turns_with).zip(before) {
        let longest = turns.times.counts().iter().zip(before).rposition(|(after, before)| *after > before);
        if let Some(bucket) = longest {
            print!(" {} < {} µs", work.name(), Histogram::upper_bound_us(bucket));
        }
    }
    println!(
        "; kept waiting {:.1} % of the time; {} accounts",
        waited.as_secs_f64() / took * 100.0,
        metrics.accounts.get()
    );
    Ok(())
}
