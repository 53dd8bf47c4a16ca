//! What a ledger that is followed costs its server: the trigger that numbers an account's rows, what is written to the log for
//! the stream, and the process that sends it. Everything is measured beside what it is compared with, in turns.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use florin_postgres::schema::Roles;
use florin_postgres::{Target, admin};

use super::Gate;
use super::floors::{self, sum, until};
use super::server::Server;

/// Turns of each kind; the middle one is told.
const TURNS: usize = 5;
/// Commits of a turn.
const COMMITS: u64 = 5_000;
/// Accounts that they go to.
const USERS: u64 = 1_000;

/// The same columns and keys as the ledger has, and nothing that numbers or is followed.
const PLAIN: &str = "
CREATE TABLE plain (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, transaction_id TEXT NOT NULL UNIQUE, user_id BIGINT NOT NULL,
    version BIGINT NOT NULL, asset TEXT NOT NULL, kind SMALLINT NOT NULL, amount BIGINT NOT NULL, occurred_at BIGINT NOT NULL,
    UNIQUE (user_id, version));";

/// How commits come to a table.
struct Way {
    told: &'static str,
    table: &'static str,
    /// What goes into the columns of this name.
    version: &'static str,
}

const WAYS: [Way; 3] = [
    Way { told: "a table of its columns", table: "plain", version: "i / USERS + 1" },
    Way { told: "the ledger, with a version", table: "kept.transactions", version: "i / USERS + 1" },
    Way { told: "the ledger, numbered by its trigger", table: "numbered.transactions", version: "NULL" },
];

/// What a turn took.
#[derive(Clone, Copy)]
struct Cost {
    cpu: Duration,
    log_bytes: u64,
}

/// Commits of one row each: CPU of all of the server's processes, and bytes of its log.
pub fn of_commits(server: &Server) {
    server.sql(PLAIN);
    for way in &WAYS[1..] {
        let mut target: Target = server.target();
        target.address.table.schema = way.table.split('.').next().expect("a schema").to_owned();
        admin::init(&target, &Roles::default()).expect("a ledger");
    }
    let mut costs = [const { Vec::new() }; WAYS.len()];
    for turn in 0..TURNS as u64 {
        for (way, costs) in WAYS.iter().zip(&mut costs) {
            costs.push(commits(server, way, turn * COMMITS));
        }
    }
    for (way, mut costs) in WAYS.iter().zip(costs) {
        costs.sort_by_key(|cost| cost.cpu);
        let middle = costs[TURNS / 2];
        println!(
            "commit: {}: {:.0} µs of CPU and {:.0} bytes of the log for each, of {COMMITS} commits of one row (the middle of {TURNS} turns)",
            way.told,
            middle.cpu.as_secs_f64() * 1e6 / COMMITS as f64,
            middle.log_bytes as f64 / COMMITS as f64,
        );
    }
}

fn commits(server: &Server, way: &Way, first: u64) -> Cost {
    let version = way.version.replace("USERS", &USERS.to_string());
    let statement = format!(
        "DO $$ BEGIN FOR i IN {first}..{} LOOP INSERT INTO {} (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
         VALUES (gen_random_uuid()::text, i % {USERS}, {version}, 'COIN', 1, 1, 0); COMMIT; END LOOP; END $$",
        first + COMMITS - 1,
        way.table,
    );
    // Pages that are written whole after a checkpoint would count for whoever comes first.
    server.sql("CHECKPOINT");
    let (cpu, log) = (cpu_ticks(server), log_end(server));
    let mut writer = server.psql();
    writer.args(["-c", "SET synchronous_commit = off", "-c", &statement]);
    assert!(writer.status().expect("psql").success());
    Cost { cpu: Duration::from_millis(10 * (cpu_ticks(server) - cpu)), log_bytes: log_end(server) - log }
}

/// A writer of about 1,000 commits a second, with a node that follows and with none: in turns, over the same gate.
pub fn of_following(server: &Server, gate: &Gate, seconds: u64) {
    const COMMITS_A_SECOND: u64 = 1_000;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for turn in 0..2 * TURNS as u64 {
        let is_followed = turn % 2 == 1;
        if is_followed {
            gate.open();
            until("the stream is followed", || sender(server).is_some());
            until("what was missed is followed", || {
                server.sql("SELECT coalesce(bool_and(pg_wal_lsn_diff(sent_lsn, pg_current_wal_lsn()) >= 0), false) FROM pg_stat_replication") == "t"
            });
        } else {
            gate.close();
            until("nobody follows", || sender(server).is_none());
        }
        let commits = COMMITS_A_SECOND * seconds;
        let mut writer = server.psql();
        writer.arg("-c").arg(format!(
            "DO $$ BEGIN FOR i IN 1..{commits} LOOP {} VALUES (gen_random_uuid()::text, {}, i, 'COIN', 1, 1, 0); COMMIT; \
             PERFORM pg_sleep(0.0005); END LOOP; END $$",
            super::COLUMNS,
            4_000_000 + turn,
        ));
        let sender_before = sender(server).map_or(0, |pid| ticks_of(&pid));
        let (cpu, began) = (cpu_ticks(server), Instant::now());
        assert!(writer.status().expect("psql").success());
        let per_1000 = |ticks: u64| ticks as f64 * 10.0 / (commits as f64 / 1_000.0);
        let all = per_1000(cpu_ticks(server) - cpu);
        let sending = sender(server).map_or(0, |pid| ticks_of(&pid)).saturating_sub(sender_before);
        let rate = commits as f64 / began.elapsed().as_secs_f64();
        if is_followed { with.push((all, per_1000(sending), rate)) } else { without.push((all, 0.0, rate)) }
    }
    gate.open();
    for (told, mut turns) in [("nobody follows", without), ("a node follows", with)] {
        turns.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (all, sending, rate) = turns[TURNS / 2];
        println!(
            "following: {told}: {all:.0} ms of CPU for 1,000 commits, of which {sending:.0} ms for the process that sends them, at {rate:.0} \
             commits/s (the middle of {TURNS} turns of {seconds} s)"
        );
    }
}

/// The process that sends the stream, if somebody follows.
fn sender(server: &Server) -> Option<String> {
    let pid = server.sql("SELECT pid FROM pg_stat_replication WHERE state = 'streaming'");
    Some(pid).filter(|pid| !pid.is_empty())
}

fn log_end(server: &Server) -> u64 {
    server
        .sql("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
        .parse()
        .expect("a place in the log")
}

/// What an idle node costs the server.
pub fn of_an_idle_node(server: &Server) {
    let (before, began) = (cpu_ticks(server), Instant::now());
    thread::park_timeout(Duration::from_secs(10));
    let ticks = cpu_ticks(server) - before;
    println!("idle: {:.2} % of a core of the server's", ticks as f64 / began.elapsed().as_secs_f64());
}

/// CPU of all of the server's processes, in hundredths of a second.
fn cpu_ticks(server: &Server) -> u64 {
    let pid = fs::read_to_string(server.data().join("postmaster.pid")).expect("its process");
    let postmaster = pid.lines().next().expect("a line").to_owned();
    let mut ticks = 0;
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        let Some(fields) = stat(&name) else { continue };
        // The postmaster's own fields, and those of its processes that have ended; what the others have used so far.
        ticks += match name == postmaster {
            true => sum(&fields[11..15]),
            false if fields[1] == postmaster => sum(&fields[11..13]),
            false => 0,
        };
    }
    ticks
}

/// CPU of each of this process's threads by name, and of the server, in hundredths of a second. What a row costs hangs less on who
/// else is on the host than how long it takes.
pub fn by_thread(server: &Server) -> BTreeMap<String, u64> {
    let mut ticks = floors::ticks_by_thread();
    ticks.insert("the server".to_owned(), cpu_ticks(server));
    ticks
}

/// CPU of one process.
fn ticks_of(pid: &str) -> u64 {
    stat(pid).map_or(0, |fields| sum(&fields[11..13]))
}

/// What the system says of a process, behind its name.
fn stat(pid: &str) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}
