//! Callers of nodes that divide the users: a writer of about 1,000 transactions a second, and readers by the Rust client and by Go's, who ask
//! for every partition's users all the time. Each answer is compared with what the writer has recorded, and goes into a history.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use florin_client::{Client, Freshness, UserId, Version};
use florin_schema::Partitioner;
use florin_schema::ids::mix;
use rdkafka::producer::{BaseProducer, Producer};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::group::PARTITIONS;
use crate::history::{History, Read, Write};
use crate::kafka::broker::put;
use crate::kafka::json;
use crate::support::{built_go, wait_for};

pub const USERS: u64 = 240;
const ROWS_A_SECOND: u128 = 1_000;
/// Between two reads of a partition by one program.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a call may take: the same of both programs.
const PATIENCE: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(1);
/// How old an answer may be, of those who ask for that.
const MAX_AGE_MS: u64 = 1_000;
/// How long the brokers may take to take what was written.
const LONG: Duration = Duration::from_secs(120);

/// The programs that read.
pub const PROGRAMS: [&str; 2] = ["Rust", "Go"];

fn partition_of(user: u64) -> usize {
    Partitioner::Murmur2.partition_of(user.to_string().as_bytes(), PARTITIONS as u32) as usize
}

/// One of each.
pub fn users_of_each_partition() -> impl Iterator<Item = u64> {
    (0..PARTITIONS).map(|partition| {
        (1..=USERS).find(|&user| partition_of(user) == partition).expect("every partition has users")
    })
}

/// What a reader asks.
#[derive(Clone, Copy)]
struct Question {
    user: u64,
    min_version: u64,
    max_age_ms: u64,
}

/// An account as it was answered, of as many assets the sum.
#[derive(Clone, Copy)]
struct Answer {
    version: u64,
    assets: usize,
    available: i64,
}

/// What a reader is about.
#[derive(Clone, Copy, PartialEq)]
enum Wish {
    /// Anything, of a partition's users.
    Of(usize),
    /// What was acknowledged to the writer.
    Written,
    /// Nothing that is older.
    Recent,
    /// Anything, of a node that nothing happens to.
    Undisturbed,
}

/// How a partition's callers have fared.
#[derive(Default)]
struct Waits {
    /// Since when somebody waits, µs; 0 = nobody does.
    since_us: AtomicU64,
    longest_us: AtomicU64,
    answers: AtomicU64,
}

impl Waits {
    fn longest_us(&self, now_us: u64) -> u64 {
        let since_us = self.since_us.load(Relaxed);
        let waiting_us = if since_us == 0 { 0 } else { now_us.saturating_sub(since_us) };
        self.longest_us.load(Relaxed).max(waiting_us)
    }
}

/// How long callers have waited for a partition.
#[derive(Clone, Copy, Default)]
pub struct Longest {
    pub us: u64,
    pub partition: usize,
}

/// See the module.
pub struct Load {
    begun: Instant,
    writes_end: AtomicBool,
    is_over: AtomicBool,
    /// By user, what the account amounts to at each version from 1 on: recorded before the row was sent.
    sums: Mutex<Vec<Vec<i64>>>,
    /// By user, the newest version that was acknowledged.
    written: Vec<AtomicU64>,
    /// By program and user, the newest version that was answered to anybody.
    shown: [Vec<AtomicU64>; PROGRAMS.len()],
    waits: [Vec<Waits>; PROGRAMS.len()],
    /// Of a node that nothing happens to.
    undisturbed: Waits,
    failed: AtomicU64,
    refused: AtomicU64,
    last_failure: Mutex<String>,
    wrong: Mutex<Vec<String>>,
    history: Mutex<History>,
}

impl Load {
    pub fn new() -> Load {
        let of_users = || (0..=USERS).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let of_partitions = || (0..PARTITIONS).map(|_| Waits::default()).collect::<Vec<_>>();
        Load {
            begun: Instant::now(),
            writes_end: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            sums: Mutex::new(vec![Vec::new(); 1 + USERS as usize]),
            written: of_users(),
            shown: [of_users(), of_users()],
            waits: [of_partitions(), of_partitions()],
            undisturbed: Waits::default(),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            last_failure: Mutex::default(),
            wrong: Mutex::default(),
            history: Mutex::default(),
        }
    }

    fn now_us(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// Sends rows, of one user after the other, until that is to end.
    pub fn write(&self, topic: &str, producer: &BaseProducer) {
        let mut row = 0;
        while !self.writes_end.load(Relaxed) {
            // All users have one before anybody is asked about.
            let due = USERS + (self.begun.elapsed().as_millis() * ROWS_A_SECOND / 1_000) as u64;
            let mut writes = Vec::new();
            for row in row..due {
                let (user, version, amount) = (1 + row % USERS, 1 + row / USERS, 1 + mix(row) % 1_000);
                {
                    let sums = &mut self.sums.lock().unwrap()[user as usize];
                    let sum = sums.last().copied().unwrap_or(0) + amount.cast_signed();
                    sums.push(sum);
                }
                writes.push(Write { user, version, begun_us: self.now_us(), acknowledged_us: None });
                put(
                    producer,
                    topic,
                    -1,
                    user.to_string().as_bytes(),
                    Some(json(user, version, amount).as_bytes()),
                );
            }
            row = due;
            producer.flush(LONG).expect("the brokers take what was written");
            let acknowledged_us = Some(self.now_us());
            for write in &mut writes {
                write.acknowledged_us = acknowledged_us;
                self.written[write.user as usize].store(write.version, Relaxed);
            }
            self.history.lock().unwrap().writes.extend(writes);
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Reads by a program until it is over.
    pub fn read(self: Arc<Load>, program: usize, nodes: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let asker = Arc::new(match program {
                0 => Asker::Rust(Client::builder().deadline(PATIENCE).connect(nodes).await.unwrap()),
                _ => Asker::Go(Go::start(nodes)),
            });
            let wishes = (0..PARTITIONS).map(Wish::Of).chain([Wish::Written, Wish::Recent]);
            let mut readers = JoinSet::new();
            for (number, wish) in wishes.enumerate() {
                let client = (number * PROGRAMS.len() + program) as u64;
                let (load, asker) = (Arc::clone(&self), Arc::clone(&asker));
                readers.spawn(async move { load.ask_on(client, program, wish, &asker).await });
            }
            readers.join_all().await;
        });
    }

    /// Reads of a node that nothing happens to: what its callers wait is this machine's doing.
    pub fn read_undisturbed(self: Arc<Load>, node: SocketAddr) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::builder().deadline(PATIENCE).connect(node).await.unwrap();
            self.ask_on(u64::MAX, 0, Wish::Undisturbed, &Asker::Rust(client)).await;
        });
    }

    async fn ask_on(&self, client: u64, program: usize, wish: Wish, asker: &Asker) {
        let is_asked = |&user: &u64| !matches!(wish, Wish::Of(partition) if partition_of(user) != partition);
        let users: Vec<u64> = (1..=USERS).filter(is_asked).collect();
        assert!(!users.is_empty(), "every partition has users");
        for user in users.into_iter().cycle() {
            if self.is_over.load(Relaxed) {
                return;
            }
            let min_version = match wish {
                Wish::Written => self.written[user as usize].load(Relaxed),
                Wish::Of(_) | Wish::Recent | Wish::Undisturbed => 0,
            };
            let max_age_ms = if wish == Wish::Recent { MAX_AGE_MS } else { 0 };
            let asked_us = self.now_us();
            let waits = match wish {
                Wish::Of(partition) => Some(&self.waits[program][partition]),
                Wish::Undisturbed => Some(&self.undisturbed),
                Wish::Written | Wish::Recent => None,
            };
            if let Some(waits) = waits {
                let _ = waits.since_us.compare_exchange(0, asked_us, Relaxed, Relaxed);
            }
            match asker.ask(Question { user, min_version, max_age_ms }).await {
                Ok(answer) => {
                    let answered_us = self.now_us();
                    if let Some(waits) = waits {
                        let waited_us = answered_us.saturating_sub(waits.since_us.swap(0, Relaxed));
                        waits.longest_us.fetch_max(waited_us, Relaxed);
                        waits.answers.fetch_add(1, Relaxed);
                    }
                    self.compare(user, answer);
                    if wish != Wish::Undisturbed {
                        self.shown[program][user as usize].fetch_max(answer.version, Relaxed);
                    }
                    let max_age_us = (max_age_ms > 0).then_some(max_age_ms * 1_000);
                    let version = answer.version;
                    let read = Read { client, user, version, min_version, max_age_us, asked_us, answered_us };
                    self.history.lock().unwrap().reads.push(read);
                }
                Err(why) => {
                    let is_plain = matches!(wish, Wish::Of(_));
                    let count = if is_plain { &self.failed } else { &self.refused };
                    count.fetch_add(1, Relaxed);
                    if is_plain {
                        *self.last_failure.lock().unwrap() =
                            format!("{}, user {user}: {why}", PROGRAMS[program]);
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// An account at a version is what the writer recorded for it, whoever answers.
    fn compare(&self, user: u64, answer: Answer) {
        let sums = self.sums.lock().unwrap();
        let recorded = answer.version.checked_sub(1).and_then(|at| sums[user as usize].get(at as usize));
        if (recorded, answer.assets) != (Some(&answer.available), 1) {
            let Answer { version, assets, available } = answer;
            self.wrong.lock().unwrap().push(format!(
                "user {user} was answered at version {version} with {available} of {assets} assets, and has {recorded:?} of one"
            ));
        }
    }

    /// What was counted is counted anew.
    pub fn begins(&self) {
        let all = self.waits.iter().flatten().chain([&self.undisturbed]);
        all.for_each(|waits| waits.longest_us.store(0, Relaxed));
        self.failed.store(0, Relaxed);
    }

    /// Waits until each program has been answered twice more about each partition.
    pub fn goes_on(&self) {
        let had = || self.waits.iter().flatten().map(|waits| waits.answers.load(Relaxed));
        let before: Vec<u64> = had().collect();
        wait_for("answers of each partition to each program", || {
            had().zip(&before).all(|(now, before)| now >= before + 2).then_some(())
        });
    }

    /// By program, the partition whose callers have waited longest since this began.
    pub fn longest(&self) -> [Longest; PROGRAMS.len()] {
        let now_us = self.now_us();
        self.waits.each_ref().map(|partitions| {
            let of =
                |(partition, waits): (usize, &Waits)| Longest { us: waits.longest_us(now_us), partition };
            partitions.iter().enumerate().map(of).max_by_key(|longest| longest.us).unwrap_or_default()
        })
    }

    /// How long callers of the node that nothing happens to have waited at most, µs.
    pub fn longest_undisturbed_us(&self) -> u64 {
        self.undisturbed.longest_us(self.now_us())
    }

    /// How many reads of those that ask for nothing failed since this began, and why the last did.
    pub fn failed(&self) -> (u64, String) {
        (self.failed.load(Relaxed), self.last_failure.lock().unwrap().clone())
    }

    /// Ends the writer, and waits until each program has been told everything that was written.
    pub fn catches_up(&self) {
        self.writes_end.store(true, Relaxed);
        wait_for("all that was written is shown", || {
            let written: Vec<u64> = self.written.iter().map(|version| version.load(Relaxed)).collect();
            let recorded = self.sums.lock().unwrap().iter().map(|sums| sums.len() as u64).collect::<Vec<_>>();
            let is_shown = |shown: &Vec<AtomicU64>| {
                shown.iter().zip(&written).all(|(shown, &written)| shown.load(Relaxed) == written)
            };
            (written == recorded && self.shown.iter().all(is_shown)).then_some(())
        });
    }

    pub fn ends(&self) {
        self.writes_end.store(true, Relaxed);
        self.is_over.store(true, Relaxed);
    }

    /// Everything that was answered was right. Which promises no answer could have broken.
    pub fn assert_right(&self) -> Vec<&'static str> {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} answers were wrong, the first: {}", wrong.len(), wrong[0]);
        let history = self.history.lock().unwrap();
        let broken = history.broken();
        assert!(broken.is_empty(), "{} promises were broken, the first: {:?}", broken.len(), broken[0]);
        let untried = history.assert_each_breach_would_be_found();
        println!(
            "{} answers to {} writes were right and kept every promise; {} that were to be recent or to hold a write were refused",
            history.reads.len(),
            history.writes.len(),
            self.refused.load(Relaxed)
        );
        untried
    }
}

/// Whom readers ask by.
enum Asker {
    Rust(Client),
    Go(Go),
}

impl Asker {
    /// # Errors
    /// Why there is no answer, or none that is known to be whole.
    async fn ask(&self, question: Question) -> Result<Answer, String> {
        match self {
            Asker::Rust(client) => by_rust(client, question).await,
            Asker::Go(go) => go.ask(question).await,
        }
    }
}

async fn by_rust(client: &Client, question: Question) -> Result<Answer, String> {
    let Question { user, min_version, max_age_ms } = question;
    let mut freshness = Freshness::at_least(Version(min_version));
    if max_age_ms > 0 {
        freshness = freshness.and_no_older_than(Duration::from_millis(max_age_ms));
    }
    if freshness != Freshness::NONE {
        freshness = freshness.waiting(WAIT);
    }
    let user = UserId::new(user).unwrap();
    let balance = client.with_freshness(freshness).get_balance(user).await.map_err(|why| why.to_string())?;
    if balance.origin().is_quarantined() {
        return Err("the account's history is known to be incomplete".to_owned());
    }
    let record = balance.to_record();
    let available = record.balances.iter().map(|asset| asset.available).sum();
    Ok(Answer { version: record.version, assets: record.balances.len(), available })
}

/// clients/go, in a process of its own: `clients/go/internal/asker`.
struct Go {
    child: Child,
    questions: Mutex<ChildStdin>,
    asked: Arc<Mutex<Asked>>,
}

/// By their tags, those who wait for an answer.
#[derive(Default)]
struct Asked {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<String>>,
}

impl Go {
    fn start(nodes: &str) -> Go {
        // What is built stays below the checkout.
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = root.join("target/go/asker");
        built_go(&root.join("clients/go"), "./internal/asker", &program);
        let mut command = Command::new(program);
        command.arg(format!("florin://{nodes}")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it was built");
        let questions = Mutex::new(child.stdin.take().expect("it is piped"));
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let asked = Arc::<Mutex<Asked>>::default();
        let waiting = Arc::clone(&asked);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let (tag, answer) = line.split_once(' ').expect("a tag and an answer");
                let asker = waiting.lock().unwrap().waiting.remove(&tag.parse().expect("a number"));
                // Its reader may have ended since.
                let _ = asker.expect("nobody is answered twice").send(answer.to_owned());
            }
        });
        Go { child, questions, asked }
    }

    async fn ask(&self, question: Question) -> Result<Answer, String> {
        let Question { user, min_version, max_age_ms } = question;
        let (tell, told) = oneshot::channel();
        let tag = {
            let mut asked = self.asked.lock().unwrap();
            asked.last += 1;
            let tag = asked.last;
            asked.waiting.insert(tag, tell);
            tag
        };
        writeln!(self.questions.lock().unwrap(), "{tag} {user} {min_version} {max_age_ms}")
            .expect("the asker reads");
        let answer = told.await.expect("the asker answers each question");
        if let Some(why) = answer.strip_prefix("? ") {
            return Err(why.to_owned());
        }
        let cells: Vec<i64> = answer.split(' ').map(|cell| cell.parse().expect("a number")).collect();
        let [version, assets, available] = cells[..] else { panic!("three numbers, not {answer}") };
        Ok(Answer { version: version.cast_unsigned(), assets: assets as usize, available })
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
