//! What callers see of a node that is killed, frozen and started again while rows are committed: every promise of `history`.
//!
//! Two programs write: one appends to the ledger itself and so goes on whatever becomes of the node, one by `POST /v1/transactions`.
//! Four read, and ask for what was written or for how old an answer may be. `FLORIN_ENDS=100` ends the node so often, and `FLORIN_DRIVER`
//! names another driver. Where there are two nodes, `failover` has the callers go over.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use florin_record::TransactionText;
use florin_schema::UserId;
use florin_sqlite::{SqliteError, Writer};
use rustix::process::Signal;
#[cfg(feature = "postgres")]
use rustix::process::{Pid, kill_process};

use crate::history::{History, Read, Write};
#[cfg(feature = "postgres")]
use crate::support::run;
use crate::support::{PATIENCE, Server, folder_with_ledger, transaction, wait_for};

mod clock;
mod disk;
mod failover;
mod interrupted;
mod ledger;
mod limits;
#[cfg(feature = "postgres")]
mod promoted;

/// Accounts of the program that appends; those of the one that posts come behind.
const USERS: u64 = 3;
const FIRST_USER: u64 = 100;
/// Of these the first two ask at most so old answers, the third what was written, the last anything.
const MAX_AGES_MS: [Option<u64>; 4] = [Some(50), Some(1_000), None, None];
/// A freeze lasts for longer than the first one's answers may be old; a long one for longer than the second's.
const FREEZE_MS: u128 = 100;
const LONG_FREEZE_MS: u128 = 1_100;
const READS_MIN: u64 = 40;

/// A row of the program that appends.
#[derive(Clone, Copy)]
struct Row {
    number: u64,
    user: u64,
    version: u64,
}

impl Row {
    fn id(self) -> String {
        format!("00000000-0000-4000-a000-{:012}", self.number)
    }
}

/// Commits rows to a file.
fn into_file(ledger: &Path) -> impl FnMut(Row) -> bool + use<> {
    let mut writer = Writer::open(ledger).unwrap();
    move |row| match append(&mut writer, row) {
        Ok(()) => true,
        // A node that is frozen in the middle of a commit keeps the ledger locked.
        Err(SqliteError::Locked { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn append(writer: &mut Writer, row: Row) -> Result<(), SqliteError> {
    let text = TransactionText {
        transaction_id: &row.id(),
        user_id: &UserId::new(row.user).unwrap().to_string(),
        asset: "COIN",
        kind: "recharge",
        amount: "1",
        occurred_at: "2026-11-22T04:05:06Z",
    };
    let appended = writer.append(&[text.parse().unwrap()])?;
    assert_eq!(appended[0].version.0, row.version);
    Ok(())
}

struct Scene {
    begun: Instant,
    is_over: AtomicBool,
    any: Mutex<SocketAddr>,
    admin: Mutex<SocketAddr>,
    history: Mutex<History>,
    /// By account, the newest that was acknowledged.
    written: [AtomicU64; 2 * USERS as usize],
    /// By reader, those that one of the promises is about.
    answers: [AtomicU64; MAX_AGES_MS.len()],
    refusals: AtomicU64,
    freezes: AtomicU64,
    /// Of each caller, between two requests.
    pause: Duration,
}

/// What a reader asks.
#[derive(Clone, Copy)]
struct Question {
    user: u64,
    min_version: u64,
    max_age_ms: Option<u64>,
}

/// How long an answer may be waited for until it can be given.
const WAIT_MS: u64 = 1_000;

/// How a reader asks: the version that it is told, of an account that is not said to be incomplete.
type Asks<'a> = Box<dyn FnMut(Question) -> Option<u64> + 'a>;

impl Scene {
    fn now_us(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    fn note(&self, write: Write) {
        if write.acknowledged_us.is_some() {
            self.written[(write.user - FIRST_USER) as usize].store(write.version, Relaxed);
        }
        self.history.lock().unwrap().writes.push(write);
    }

    /// Appends to the ledger, whoever reads it. `commit` says whether a row is there now; it is given the same until it is.
    fn append(&self, mut commit: impl FnMut(Row) -> bool) {
        for number in 1.. {
            self.pause();
            // Nobody else writes to these accounts.
            let row = Row { number, user: FIRST_USER + number % USERS, version: number.div_ceil(USERS) };
            let Row { user, version, .. } = row;
            let begun_us = self.now_us();
            self.note(Write { user, version, begun_us, acknowledged_us: None });
            while !commit(row) {
                if self.is_over.load(Relaxed) {
                    return;
                }
            }
            let acknowledged_us = Some(self.now_us());
            self.note(Write { user, version, begun_us, acknowledged_us });
            if self.is_over.load(Relaxed) {
                return;
            }
        }
    }

    /// Posts, one row after the other; one whose answer did not come is posted again, with its id.
    fn post(&self) {
        let mut number = 0;
        while !self.is_over.load(Relaxed) {
            self.pause();
            number += 1;
            let user = FIRST_USER + USERS + u64::from(number) % USERS;
            let version = u64::from(number).div_ceil(USERS);
            let body = format!(r#"{{"transactions":[{}]}}"#, transaction(number, user, "1"));
            let begun_us = self.now_us();
            self.note(Write { user, version, begun_us, acknowledged_us: None });
            while !self.is_over.load(Relaxed) {
                let admin = *self.admin.lock().unwrap();
                let answer = ask(admin, "POST", "/v1/transactions", &body).unwrap_or_default();
                if answer.starts_with("HTTP/1.1 200") {
                    assert!(answer.contains(&format!(r#""version":"{version}""#)), "{version}: {answer}");
                    let acknowledged_us = Some(self.now_us());
                    self.note(Write { user, version, begun_us, acknowledged_us });
                    break;
                }
            }
        }
    }

    fn pause(&self) {
        if !self.pause.is_zero() {
            std::thread::park_timeout(self.pause);
        }
    }

    fn read(&self, client: u64, mut asks: Asks<'_>) {
        let max_age_ms = MAX_AGES_MS[client as usize];
        let mut count = client;
        while !self.is_over.load(Relaxed) {
            self.pause();
            count += 1;
            let at = count % (2 * USERS);
            let min_version = if client == 2 { self.written[at as usize].load(Relaxed) } else { 0 };
            let (user, asked_us) = (FIRST_USER + at, self.now_us());
            let answer = asks(Question { user, min_version, max_age_ms });
            let answered_us = self.now_us();
            let Some(version) = answer else {
                self.refusals.fetch_add(1, Relaxed);
                continue;
            };
            let max_age_us = max_age_ms.map(|ms| ms * 1_000);
            let read = Read { client, user, version, min_version, max_age_us, asked_us, answered_us };
            self.history.lock().unwrap().reads.push(read);
            if client != 2 || min_version > 0 {
                self.answers[client as usize].fetch_add(1, Relaxed);
            }
        }
    }

    /// Asks over HTTP the node that serves at the moment, each time on a connection of its own.
    fn over_http(&self) -> Asks<'_> {
        Box::new(|Question { user, min_version, max_age_ms }| {
            let max_age = max_age_ms.map_or_else(String::new, |ms| format!("&max_age_ms={ms}"));
            let path =
                format!("/v1/users/{user}/balance?min_version={min_version}{max_age}&wait_ms={WAIT_MS}");
            let any = *self.any.lock().unwrap();
            let answer = ask(any, "GET", &path, "")?;
            // One that says itself that it is incomplete promises nothing.
            if !answer.starts_with("HTTP/1.1 200") || answer.contains("Florin-Quarantined") {
                return None;
            }
            answer.split_once(r#""version":""#)?.1.split('"').next()?.parse().ok()
        })
    }

    fn serve(&self, server: &Server) {
        *self.any.lock().unwrap() = server.any;
        *self.admin.lock().unwrap() = server.admin;
    }

    /// Waits until callers have had some answers more, each of them one at least.
    fn go_on(&self) {
        let had = || self.answers.each_ref().map(|answers| answers.load(Relaxed));
        let before = had();
        wait_for("answers", || {
            let has_each = had().iter().zip(before).all(|(&now, before)| now > before);
            let all = had().iter().sum::<u64>() - before.iter().sum::<u64>();
            (has_each && all >= READS_MIN).then_some(())
        });
    }
}

/// One request; `None` where the node ends before it has answered.
fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A node with a checkpoint and an audit, and so many shards.
fn start(folder: &Path, shards: usize, more: &[&str]) -> Server {
    let shards = shards.to_string();
    let keeps =
        ["--checkpoint", "checkpoints", "--checkpoint-every-s", "off", "--checkpoint-every-rows", "500"];
    let driver = std::env::var("FLORIN_DRIVER").unwrap_or_else(|_| "auto".to_owned());
    let how = ["--audit", "1%", "--shards", &shards, "--shards-per-cpu", "3", "--driver", &driver];
    Server::start(folder, &[&keeps[..], &how, more].concat())
}

/// Lets callers loose on a node while `play` goes on; what they saw.
fn with_callers(
    commit: impl FnMut(Row) -> bool + Send,
    serving: (SocketAddr, SocketAddr),
    play: impl FnOnce(&Scene),
) -> History {
    with_callers_by(Scene::over_http, commit, serving, play)
}

/// The same with readers who ask in their own way.
fn with_callers_by(
    asks: impl for<'a> Fn(&'a Scene) -> Asks<'a> + Sync,
    commit: impl FnMut(Row) -> bool + Send,
    (any, admin): (SocketAddr, SocketAddr),
    play: impl FnOnce(&Scene),
) -> History {
    let scene = Scene {
        begun: Instant::now(),
        is_over: AtomicBool::new(false),
        any: Mutex::new(any),
        admin: Mutex::new(admin),
        history: Mutex::default(),
        written: Default::default(),
        answers: Default::default(),
        refusals: AtomicU64::new(0),
        freezes: AtomicU64::new(0),
        pause: Duration::from_millis(variable("FLORIN_PAUSE_MS", 0)),
    };
    std::thread::scope(|scope| {
        let (scene, asks) = (&scene, &asks);
        let _ends = Ends(&scene.is_over);
        scope.spawn(move || scene.append(commit));
        scope.spawn(move || scene.post());
        for client in 0..MAX_AGES_MS.len() as u64 {
            scope.spawn(move || scene.read(client, asks(scene)));
        }
        play(scene);
    });
    let history = scene.history.into_inner().unwrap();
    let broken = history.broken();
    assert!(broken.is_empty(), "{} promises were broken, the first: {:?}", broken.len(), broken[0]);
    let untried = history.assert_each_breach_would_be_found();
    assert!(untried.is_empty() || !is_long_run(), "no answer of all these could break {untried:?}");
    println!(
        "{} answers to {} writes kept every promise; {} were refused",
        history.reads.len(),
        history.writes.len(),
        scene.refusals.into_inner()
    );
    history
}

/// Stops a node until the ledger has gone on without it: every fourth time for longer than any reader's answers may be old, else than those of
/// the one who wants them newest. One that was in the middle of a commit holds the ledger's lock: then nobody does.
fn freeze(server: &Server, scene: &Scene) {
    let is_long = scene.freezes.fetch_add(1, Relaxed).is_multiple_of(4);
    let least_ms = if is_long { LONG_FREEZE_MS } else { FREEZE_MS };
    server.signal(Signal::STOP);
    let (frozen, from) = (Instant::now(), scene.written[0].load(Relaxed));
    wait_for("rows that the node does not hear of", || {
        let (rows, for_ms) = (scene.written[0].load(Relaxed) - from, frozen.elapsed().as_millis());
        ((for_ms > least_ms && rows >= 3) || for_ms > LONG_FREEZE_MS + 100).then_some(())
    });
    server.signal(Signal::CONT);
}

/// Whether a run is one of those that last: whatever the machine does besides, answers come by which each promise can be broken.
fn is_long_run() -> bool {
    variable("FLORIN_ENDS", 0) >= 10 || variable("FLORIN_SOAK_S", 0) >= 60
}

fn variable(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |number| number.parse().expect("a number"))
}

/// A node is killed and started again, from a checkpoint and with another number of shards; and it is frozen for longer than some answers
/// may be old, while the ledger goes on.
#[test]
fn no_promise_is_broken_while_a_node_is_killed_and_frozen() {
    let folder = folder_with_ledger();
    let mut server = start(folder.path(), 2, &[]);
    let (ledger, addresses) = (folder.path().join("florin.db"), (server.any, server.admin));
    with_callers(into_file(&ledger), addresses, |scene| {
        for end in 0..variable("FLORIN_ENDS", 4) as usize {
            scene.go_on();
            if end % 2 == 0 {
                freeze(&server, scene);
            } else {
                server.signal(Signal::KILL);
                server.ended();
                server = start(folder.path(), 1 + end % 3, &[]);
                scene.serve(&server);
            }
        }
        scene.go_on();
    });
}

/// A PostgreSQL and all that it has started.
#[cfg(feature = "postgres")]
fn processes(postgres: &crate::postgres::Server) -> Vec<Pid> {
    let first = std::fs::read_to_string(postgres.data().join("postmaster.pid")).unwrap();
    let server: i32 = first.lines().next().unwrap().parse().unwrap();
    let is_its = |process: i32| {
        let told = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // Its number, its name in brackets, its state, its parent.
        let parent = told.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        process == server || parent == Some(&server.to_string())
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|&process| is_its(process)).filter_map(Pid::from_raw).collect()
}

/// Enters a row into a PostgreSQL: once, also where it is entered again for its answer was lost.
#[cfg(feature = "postgres")]
fn insertion(row: Row) -> String {
    let Row { user, version, .. } = row;
    format!(
        "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) VALUES \
         ('{}', {user}, {version}, 'COIN', 1, 1, 1795320306000000) ON CONFLICT (transaction_id) DO NOTHING",
        row.id()
    )
}

/// The same over a PostgreSQL, which is killed and frozen in its turn. While it stands still, answers that may be only so old are refused,
/// and after `--max-staleness-ms` all of them.
#[cfg(feature = "postgres")]
#[test]
fn no_promise_is_broken_while_a_node_and_its_postgresql_are_killed_and_frozen() {
    let folder = folder_with_ledger();
    let postgres = crate::postgres::Server::start();
    let url = format!("postgres://postgres@127.0.0.1:{}/postgres?slot=hostile", postgres.port);
    run(folder.path(), &["ledger", "init", &url]).ok();
    let more = ["--ledger", &url, "--max-staleness-ms", "1500"];
    let mut server = start(folder.path(), 2, &more);
    let commit = |row: Row| postgres.try_sql(&insertion(row));
    with_callers(commit, (server.any, server.admin), |scene| {
        for end in 0..variable("FLORIN_ENDS", 4) as usize {
            scene.go_on();
            match end % 4 {
                0 => freeze(&server, scene),
                1 => {
                    server.signal(Signal::KILL);
                    server.ended();
                    server = start(folder.path(), 1 + end % 3, &more);
                    scene.serve(&server);
                }
                2 => {
                    postgres.crash();
                    postgres.boot();
                }
                _ => {
                    let processes = processes(&postgres);
                    let tell = |signal| {
                        for process in &processes {
                            // Some may have ended since.
                            let _ = kill_process(*process, signal);
                        }
                    };
                    tell(Signal::STOP);
                    let refused = scene.refusals.load(Relaxed);
                    wait_for("a refusal", || (scene.refusals.load(Relaxed) > refused).then_some(()));
                    wait_for("no answer at all", || {
                        let answer = ask(server.any, "GET", "/v1/users/1/balance", "")?;
                        answer.starts_with("HTTP/1.1 503").then_some(())
                    });
                    tell(Signal::CONT);
                }
            }
        }
        scene.go_on();
    });
}

/// One node under all of it at once, for `FLORIN_SOAK_S` seconds (2 unless said): rows, readers, an audit, checkpoints, and a moment of
/// silence now and then. It keeps its promises, and neither descriptors nor, in ten minutes and more, memory drift.
#[test]
fn a_node_that_runs_for_long_stays_as_it_is() {
    let folder = folder_with_ledger();
    let server = start(folder.path(), 2, &[]);
    let seconds = variable("FLORIN_SOAK_S", 2);
    let mut samples = Vec::new();
    let (ledger, addresses) = (folder.path().join("florin.db"), (server.any, server.admin));
    let history = with_callers(into_file(&ledger), addresses, |scene| {
        for tenth in 1..=10 {
            // A frozen node answers nobody, and samples are compared as they follow the same.
            freeze(&server, scene);
            let until_us = tenth * seconds * 100_000;
            let deadline = Instant::now() + PATIENCE + Duration::from_secs(seconds);
            // What is held for a moment, as pages are that SQLite has read, is no drift.
            let mut least_kib = u64::MAX;
            samples.push(loop {
                scene.go_on();
                let now = Sample::of(&server);
                least_kib = least_kib.min(now.own_kib);
                if scene.now_us() >= until_us {
                    break Sample { own_kib: least_kib, ..now };
                }
                assert!(Instant::now() < deadline);
            });
        }
    });
    println!("{samples:?}");
    let (first, last) = (samples[1], samples[9]);
    // Those of callers come and go.
    assert!(last.descriptors <= first.descriptors + 2 * MAX_AGES_MS.len(), "{samples:?}");
    if seconds >= 600 {
        // By 1 % of all that is resident.
        assert!(last.own_kib <= first.own_kib + first.resident_kib / 100, "{samples:?}");
        let p99_us = |from: u64, to: u64| {
            let within = |read: &&Read| (from..to).contains(&(read.asked_us / 1_000 / seconds));
            let mut took: Vec<u64> =
                history.reads.iter().filter(within).map(|read| read.answered_us - read.asked_us).collect();
            took.sort_unstable();
            took[took.len() * 99 / 100]
        };
        println!("p99 of the first tenth {} µs, of the last {} µs", p99_us(0, 100), p99_us(900, 1_000));
    }
}

/// What a node takes of its host, at a moment; or the least memory of a time, and the descriptors at its end.
#[derive(Clone, Copy, Debug)]
struct Sample {
    descriptors: usize,
    resident_kib: u64,
    /// Of it what is not the kernel's to take back without swap: pages of its files, as of its program, come and go with what others need.
    own_kib: u64,
}

impl Sample {
    fn of(server: &Server) -> Sample {
        let process = Path::new("/proc").join(server.id().to_string());
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let kib = |name| {
            let found = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            found.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let descriptors = std::fs::read_dir(process.join("fd")).unwrap().count();
        Sample { descriptors, resident_kib: kib("VmRSS:"), own_kib: kib("RssAnon:") }
    }
}
