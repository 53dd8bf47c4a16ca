//! Writers at work while everything is ended at random: what is answered is right or flagged, nothing is lost, nothing is there
//! twice, and it goes on by itself. `FLORIN_KILLS` says how often something is ended (12 unless said).

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use florin_postgres::address::Host;

use crate::mirror::{Mirror, eventually};
use crate::server::Server;
use crate::{ALL, started};

/// An account's version is assigned under its lock, in the commit of the row, which bears the number of its transaction for a time.
const ADD: &str = "
CREATE TABLE accounts (user_id BIGINT PRIMARY KEY, version BIGINT NOT NULL);
CREATE FUNCTION add(u BIGINT, k INT, a BIGINT) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE v BIGINT;
BEGIN
    INSERT INTO accounts VALUES (u, 1) ON CONFLICT (user_id) DO UPDATE SET version = accounts.version + 1 RETURNING version INTO v;
    INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at)
    VALUES (gen_random_uuid()::text, u, v, 'COIN', k, a, pg_current_xact_id()::text::bigint);
    RETURN u || ' ' || v;
END $$;
CREATE FUNCTION add_many(u BIGINT, n INT) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE said TEXT;
BEGIN
    FOR i IN 1..n LOOP
        BEGIN said := add(u, 1, i); EXCEPTION WHEN division_by_zero THEN NULL; END;
    END LOOP;
    RETURN said;
END $$;";

const USERS: u64 = 12;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = florin_schema::ids::mix(self.0.wrapping_add(0x9E37_79B9_7F4A_7C15));
        self.0 % end
    }
}

/// Passes connections on, and cuts each after some bytes, within a message.
struct Cutter {
    port: u16,
    stop: Arc<AtomicBool>,
}

impl Cutter {
    fn before(server_port: u16, cuts: Arc<AtomicBool>) -> Cutter {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            let mut random = Random(7);
            for client in listener.incoming().flatten() {
                if stopped.load(Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)) else { continue };
                let budget = Arc::new(AtomicU64::new(2_000 + random.below(60_000)));
                for (mut from, mut to) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    let (budget, cuts) = (Arc::clone(&budget), Arc::clone(&cuts));
                    thread::spawn(move || {
                        let mut bytes = [0; 4_096];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            let left = budget.load(Relaxed);
                            let passed = if cuts.load(Relaxed) { count.min(left as usize) } else { count };
                            if to.write_all(&bytes[..passed]).is_err() || passed < count {
                                break;
                            }
                            budget.store(left.saturating_sub(count as u64), Relaxed);
                        }
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Cutter { port, stop }
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// What was acknowledged to a writer: user, version, when.
type Acknowledged = Arc<Mutex<Vec<(u64, u64, Instant)>>>;

fn write(server: &Server, seed: u64, stop: &AtomicBool, acknowledged: &Acknowledged) {
    let mut random = Random(seed);
    while !stop.load(Relaxed) {
        let (one, other) = (random.below(USERS), random.below(USERS));
        let (one, other) = (one.min(other), one.max(other));
        let amount = 1 + random.below(100);
        let sql = match random.below(12) {
            0 => format!("BEGIN; SELECT add({one}, 1, {amount}); ROLLBACK"),
            1 => format!(
                "BEGIN; SELECT add({one}, 1, {amount}); SAVEPOINT s; SELECT add({other}, 1, {amount}); ROLLBACK TO s; \
                 SELECT add({other}, 2, {amount}); COMMIT"
            ),
            2 => format!(
                "BEGIN; SELECT add({one}, 5, {amount}); PREPARE TRANSACTION 'p{seed}'; COMMIT PREPARED 'p{seed}'"
            ),
            3 => format!("SELECT add_many({one}, {})", 1 + random.below(700)),
            4..=7 => {
                format!("BEGIN; SELECT add({one}, 5, {amount}); SELECT add({other}, 2, {amount}); COMMIT")
            }
            _ => format!("SELECT add({one}, 1, {amount})"),
        };
        let mut psql = server.psql();
        // A server that ended before what was prepared was committed keeps its locks, for whoever prepared it to come.
        psql.args(["-c", "SET lock_timeout = '2s'"]);
        // Each statement on its own, as a program would send them.
        for statement in sql.split("; ") {
            psql.arg("-c").arg(statement);
        }
        let Ok(done) = psql.output() else { continue };
        if done.status.success() && !sql.contains("ROLLBACK") {
            let at = Instant::now();
            let said = String::from_utf8_lossy(&done.stdout).into_owned();
            let rows = said.lines().filter_map(|line| {
                let (user, version) = line.split_once(' ')?;
                Some((user.parse().ok()?, version.parse().ok()?, at))
            });
            acknowledged.lock().unwrap().extend(rows);
        } else if !done.status.success() {
            // It may be prepared and not committed.
            server.try_sql(&format!("ROLLBACK PREPARED 'p{seed}'"));
        }
    }
}

/// Versions in the middle of a commit: no account may be shown at one of them.
const WITHIN_COMMITS: &str = "
SELECT this.user_id, this.version FROM transactions this JOIN transactions next
ON next.user_id = this.user_id AND next.version = this.version + 1 AND next.occurred_at = this.occurred_at";

/// Judges what is answered at this moment. Versions never go back; what was committed before the watermark is in.
struct Judge {
    versions: HashMap<u64, u64>,
    /// All versions that were ever shown without a flag.
    shown: BTreeSet<(u64, u64)>,
    judged: u64,
}

impl Judge {
    fn look(&mut self, mirror: &Mirror, acknowledged: &Acknowledged) {
        let due = acknowledged.lock().unwrap().clone();
        let view = mirror.view.lock().unwrap();
        if view.watermark.1 == 0 {
            // It answers nothing yet.
            return;
        }
        assert!(!view.went_back, "the watermark went back");
        for (&user, rows) in &view.accounts {
            let before = self.versions.insert(user, rows.len() as u64).unwrap_or(0);
            assert!(rows.len() as u64 >= before, "account {user} went back from {before} to {}", rows.len());
            if !view.quarantined.contains(&user) {
                self.shown.insert((user, rows.len() as u64));
            }
        }
        let complete_before = mirror.at(view.watermark.1);
        for &(user, version, at) in due.iter().filter(|(_, _, at)| *at < complete_before) {
            let has = view.accounts.get(&user).map_or(0, |rows| rows.len() as u64);
            assert!(
                has >= version || view.quarantined.contains(&user),
                "row {version} of account {user} was acknowledged {:?} before the watermark, and {has} are there",
                complete_before - at
            );
            self.judged += 1;
        }
        acknowledged.lock().unwrap().retain(|(_, _, at)| *at >= complete_before);
    }
}

/// Writers end with the test, however it does.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn whatever_ends_every_answer_is_right_or_flagged() {
    let kills = std::env::var("FLORIN_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let seed = std::env::var("FLORIN_SEED").map_or(1, |seed| seed.parse().unwrap());
    let server = started();
    server.sql(ADD);
    let cuts = Arc::<AtomicBool>::default();
    let cutter = Cutter::before(server.port, Arc::clone(&cuts));
    let mut target = server.target();
    target.address.hosts = vec![Host::Tcp("127.0.0.1".to_owned(), cutter.port)];
    let (stop, acknowledged) = (AtomicBool::new(false), Acknowledged::default());
    let mut random = Random(seed);
    let mut judge = Judge { versions: HashMap::new(), shown: BTreeSet::new(), judged: 0 };
    let mut told = Vec::new();
    thread::scope(|scope| {
        let (server, stop, acknowledged) = (&server, &stop, &acknowledged);
        let _stops = Stops(stop);
        let writer = |writer| scope.spawn(move || write(server, seed * 100 + writer, stop, acknowledged));
        let writers: Vec<_> = (0..3).map(writer).collect();
        let mut mirror = Mirror::follow(target.clone());
        for _ in 0..kills {
            let before = judge.judged;
            eventually("rows are judged between two kills", || {
                judge.look(&mirror, acknowledged);
                judge.judged > before + 20
            });
            let what =
                ["walsender", "server", "slot", "another slot", "node", "cuts"][random.below(6) as usize];
            told.push(what);
            match what {
                "walsender" => {
                    server.try_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
                }
                "server" => {
                    server.crash();
                    server.boot();
                }
                "slot" | "another slot" => {
                    eventually("the slot is dropped", || {
                        judge.look(&mirror, acknowledged);
                        server.try_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
                        server.try_sql("SELECT pg_drop_replication_slot('florin_test')")
                    });
                    if what == "another slot" {
                        server
                            .try_sql("SELECT pg_create_logical_replication_slot('florin_test', 'pgoutput')");
                    }
                }
                "node" => {
                    drop(mirror);
                    judge.versions.clear();
                    mirror = Mirror::follow(target.clone());
                }
                _ => {
                    cuts.store(true, Relaxed);
                    let until = mirror.status.connections() + 3;
                    eventually("connections are cut", || {
                        judge.look(&mirror, acknowledged);
                        mirror.status.connections() >= until
                    });
                    cuts.store(false, Relaxed);
                }
            }
        }
        stop.store(true, Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        mirror.catch_up();
        eventually("accounts that were flagged are read again", || {
            mirror.view.lock().unwrap().quarantined.is_empty()
        });
        judge.look(&mirror, acknowledged);
        assert_eq!(mirror.told(), server.sql(ALL), "after {told:?}");
        let within = server.sql(WITHIN_COMMITS);
        for line in within.lines() {
            let (user, version) = line.split_once('|').unwrap();
            let shown = judge.shown.contains(&(user.parse().unwrap(), version.parse().unwrap()));
            assert!(
                !shown,
                "account {user} was shown at {version}, in the middle of a commit, after {told:?}"
            );
        }
    });
    println!("{} rows judged after {told:?}", judge.judged);
}
