//! The audit of a running node: it names whatever is wrong with an account within one pass, has it mended, and says nothing while
//! nothing is wrong, whatever is committed meanwhile.
//!
//! `FLORIN_AUDITED=1000000` compares so many accounts under live writes, instead of some thousands.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use florin::auditor::{AuditStatus, Doing, Finding};
use florin::checkpoints::CheckpointConfig;
use florin::node::{Node, NodeConfig};
use florin::sources::LedgerAddress;
use florin_schema::{Encoding, UserId};
use florin_sqlite::Writer;

use super::callers::NativeCaller;
use super::checkpoints::make;
use super::recomputed::{self, Ledger};
use super::{NOW_US, generated};

fn start(ledger: &Path, shards: u16, checkpoints: Option<&Path>) -> Node {
    start_at(ledger.to_owned(), shards, checkpoints, None, 0)
}

/// The same with a clock that stands still, or goes on by `wall_leap_us` with each second.
pub fn start_at(
    ledger: impl Into<LedgerAddress>,
    shards: u16,
    checkpoints: Option<&Path>,
    fixed_wall_us: Option<i64>,
    wall_leap_us: i64,
) -> Node {
    let checkpoints = checkpoints.map(|folder| CheckpointConfig {
        folder: folder.to_owned(),
        every: None,
        every_rows: None,
        at_end: true,
    });
    let config = NodeConfig {
        shards: Some(shards),
        shards_per_cpu: 4,
        audit: Some("100%".parse().expect("a share")),
        checkpoints,
        fixed_wall_us,
        wall_leap_us,
        ..NodeConfig::local(ledger)
    };
    let node = Node::start(config).expect("a node");
    until("it loads", || node.obstacles().is_empty());
    node
}

pub fn end(node: Node) {
    node.drain();
    node.join().expect("a clean end");
}

pub fn until(what: &str, is_so: impl FnMut() -> bool) {
    until_within(Duration::from_secs(60), what, is_so);
}

fn until_within(time: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + time;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} within {time:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn status(node: &Node) -> std::sync::Arc<AuditStatus> {
    node.audit().expect("it is audited").status().clone()
}

/// Waits until a pass has come to its end that began after this was called.
pub fn pass(node: &Node) {
    let status = status(node);
    let after = status.passes() + 2;
    until("two passes end", || status.passes() >= after);
}

/// Waits for a difference, the only one since there were `before`.
pub fn difference(node: &Node, before: u64) -> Finding {
    let status = status(node);
    until("the difference is found", || status.differences() > before);
    pass(node);
    let evidence = status.evidence();
    assert_eq!(status.differences(), before + 1, "it is found once: {evidence:#?}");
    evidence.last().expect("evidence").clone()
}

pub fn assert_proven(node: &Node, accounts: usize) {
    pass(node);
    let (report, _) = status(node).last().expect("a pass");
    assert_eq!(
        (report.accounts, report.quarantined, report.buckets, report.differences),
        (accounts as u64, 0, 1_024, 0),
        "{report:?} {:#?}",
        status(node).evidence()
    );
}

fn append(path: &Path, user: u64, number: u64) {
    let mut writer = Writer::open(path).expect("a writer");
    writer.append(&[recomputed::recharge(user, number, NOW_US)]).expect("an append");
}

/// Changes the ledger as florin never would.
fn tamper(path: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(path).expect("a ledger");
    let triggers: Vec<(String, String)> = connection
        .prepare("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        .expect("a statement")
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("triggers")
        .map(|trigger| trigger.expect("a trigger"))
        .collect();
    let drop: String = triggers.iter().map(|(name, _)| format!("DROP TRIGGER {name};")).collect();
    let make: String = triggers.iter().map(|(_, sql)| format!("{sql};")).collect();
    connection.execute_batch(&format!("BEGIN; {drop} {sql}; {make} COMMIT;")).expect("it is done");
}

/// Each is planted in a shard of a running node, one after the other: the audit names the account, and what is answered is right
/// again soon.
#[cfg(debug_assertions)]
#[test]
fn whatever_goes_wrong_with_an_account_is_named_within_a_pass_and_mended() {
    use florin::shard::Damage;
    let directory = tempfile::tempdir().expect("a directory");
    let path = generated(directory.path());
    let users: Vec<u64> = Ledger::read(&path).accounts.keys().copied().collect();
    let node = start_at(path.clone(), 2, None, Some(NOW_US), 0);
    assert_proven(&node, users.len());
    for (at, (damage, name)) in Damage::ALL.into_iter().enumerate() {
        let (user, before) = (users[at * 7], status(&node).differences());
        node.audit().expect("it is audited").damage(UserId::new(user).expect("an id"), damage);
        pass(&node);
        if !matches!(damage, Damage::Balance | Damage::FlippedBit) {
            assert_eq!(status(&node).differences(), before, "nothing is wrong yet");
            append(&path, user, at as u64);
        }
        let found = difference(&node, before);
        let what = match damage {
            Damage::Balance | Damage::FlippedBit | Damage::DoubledRow => "balance",
            Damage::LostRow => "version",
            Damage::WrongWindow => "statistics",
        };
        assert_eq!((found.user.map(UserId::get), found.what), (Some(user), what), "{name}: {found:?}");
        assert_ne!(found.served, found.ledger, "{name}");
        assert!(found.version.is_some(), "{name}");
        until("it is mended", || node.shards().iter().all(|shard| shard.metrics.quarantined.get() == 0));
        let rows = &Ledger::read(&path).accounts[&user];
        let mut native = NativeCaller::connect(node.addresses().listen.expect("an any-port"));
        let balance = native.balance_at_least(user, rows.len() as u64);
        assert_eq!(balance, recomputed::account(user, rows, NOW_US).balance, "{name}");
        assert_proven(&node, users.len());
    }
    end(node);
}

/// What somebody has done to the ledger's file behind florin's back.
#[test]
fn rows_that_were_changed_or_removed_behind_its_back_are_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = generated(directory.path());
    let ledger = Ledger::read(&path);
    let users: Vec<u64> = ledger.accounts.keys().copied().collect();
    let node = start(&path, 2, None);
    assert_proven(&node, users.len());

    // An amount: the account's sums are others.
    let changed = users[3];
    tamper(
        &path,
        &format!("UPDATE transactions SET amount = amount + 1 WHERE user_id = {changed} AND version = 1"),
    );
    let found = difference(&node, 0);
    assert_eq!((found.user.map(UserId::get), found.what), (Some(changed), "balance"), "{found:?}");
    assert_proven(&node, users.len());

    // A time, by a microsecond, in the middle of a history: no answer shows it.
    let shifted = *users.iter().find(|user| ledger.accounts[user].len() > 4).expect("a longer history");
    tamper(
        &path,
        &format!(
            "UPDATE transactions SET occurred_at = occurred_at + CASE occurred_at % 2 WHEN 0 THEN 1 ELSE -1 END \
             WHERE user_id = {shifted} AND version = (SELECT version FROM transactions WHERE user_id = {shifted} \
             ORDER BY occurred_at LIMIT 1 OFFSET 1)"
        ),
    );
    let found = difference(&node, 1);
    let bucket = florin::audit::bucket_of(UserId::new(shifted).expect("an id").hashed());
    assert_eq!((found.user, found.what, found.bucket), (None, "rows", bucket), "{found:?}");
    assert_proven(&node, users.len());

    // All rows of a user: nobody who reads the ledger meets the account any more.
    let removed = users[11];
    tamper(&path, &format!("DELETE FROM transactions WHERE user_id = {removed}"));
    let found = difference(&node, 2);
    assert_eq!((found.user.map(UserId::get), found.what), (Some(removed), "version"), "{found:?}");
    // What readers have seen is shown on, and says that it is not whole.
    assert_eq!(node.shards().iter().map(|shard| shard.metrics.quarantined.get()).sum::<u64>(), 1);

    // Both, of two users of one bucket: that one is told does not explain the other.
    let bucket = |user: u64| florin::audit::bucket_of(UserId::new(user).expect("an id").hashed());
    let others = || users.iter().copied().filter(|user| ![changed, shifted, removed].contains(user));
    let mut pairs = others().flat_map(|one| others().map(move |other| (one, other)));
    let (changed, removed) =
        pairs.find(|&(one, other)| one != other && bucket(one) == bucket(other)).expect("two of one bucket");
    tamper(
        &path,
        &format!(
            "UPDATE transactions SET amount = amount + 1 WHERE user_id = {changed} AND version = 1; \
             DELETE FROM transactions WHERE user_id = {removed}"
        ),
    );
    until("both are told", || status(&node).differences() == 5);
    let told: Vec<_> =
        status(&node).evidence().iter().filter_map(|found| found.user).map(UserId::get).collect();
    assert!(told.contains(&changed) && told.contains(&removed), "{told:?}");
    end(node);
}

/// Rows that were changed while no node ran: the checkpoint knows which there were.
#[test]
fn a_restart_from_a_checkpoint_finds_what_was_changed_meanwhile() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, folder) = (generated(directory.path()), directory.path().join("checkpoints"));
    let ledger = Ledger::read(&path);
    let node = start(&path, 3, Some(&folder));
    assert_proven(&node, ledger.accounts.len());
    make(&node);
    end(node);

    let node = start(&path, 2, Some(&folder));
    assert_eq!(
        node.checkpoints().expect("it makes checkpoints").status().restored(),
        ledger.accounts.len() as u64
    );
    assert_proven(&node, ledger.accounts.len());
    end(node);

    let user = *ledger.accounts.keys().next().expect("a user");
    tamper(
        &path,
        &format!("UPDATE transactions SET amount = amount + 1 WHERE user_id = {user} AND version = 1"),
    );
    let node = start(&path, 1, Some(&folder));
    let found = difference(&node, 0);
    assert_eq!((found.user.map(UserId::get), found.what), (Some(user), "balance"), "{found:?}");
    assert_proven(&node, ledger.accounts.len());
    end(node);
}

/// A checkpoint does not know the rows of a bucket with an account that is incomplete, and the first pass made the ledger's sum of it the
/// node's: who was lost from the same bucket while no node ran was whole for good.
#[test]
fn a_restart_finds_who_is_lost_from_a_bucket_whose_rows_the_checkpoint_did_not_know() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, folder) = (generated(directory.path()), directory.path().join("checkpoints"));
    let users: Vec<u64> = Ledger::read(&path).accounts.keys().copied().collect();
    let bucket = |user: u64| florin::audit::bucket_of(UserId::new(user).expect("an id").hashed());
    let mut pairs = users.iter().flat_map(|one| users.iter().map(move |other| (*one, *other)));
    let (incomplete, lost) =
        pairs.find(|&(one, other)| one != other && bucket(one) == bucket(other)).expect("two of one bucket");
    let remove = |user: u64| tamper(&path, &format!("DELETE FROM transactions WHERE user_id = {user}"));
    let node = start(&path, 3, Some(&folder));
    remove(incomplete);
    assert_eq!(difference(&node, 0).user.map(UserId::get), Some(incomplete));
    make(&node);
    end(node);

    remove(lost);
    let node = start(&path, 2, Some(&folder));
    assert!(node.checkpoints().expect("it makes checkpoints").status().restored() > 0);
    let found = difference(&node, 0);
    assert_eq!((found.user.map(UserId::get), found.what), (Some(lost), "version"), "{found:?}");
    end(node);
}

/// A checkpoint may hold an account as it was while it was wrong: once the audit has found that, none is left, whether or not another can
/// be made, and another is made though the ledger has not gone on. The last was the newest for as long as nothing was committed, and a
/// wrong answer came back with a restart.
#[cfg(debug_assertions)]
#[test]
fn what_the_audit_has_found_wrong_does_not_come_back_from_a_checkpoint() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, folder) = (generated(directory.path()), directory.path().join("checkpoints"));
    let ledger = Ledger::read(&path);
    let user = *ledger.accounts.keys().next().expect("a user");
    let node = start_at(path.clone(), 2, Some(&folder), Some(NOW_US), 0);
    assert_proven(&node, ledger.accounts.len());
    let checkpoints = || {
        let entries = std::fs::read_dir(&folder).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        let mut names: Vec<String> = names.filter(|name| name.starts_with("checkpoint-")).collect();
        names.sort();
        names
    };
    let user_id = UserId::new(user).expect("an id");
    let mut native = NativeCaller::connect(node.addresses().listen.expect("an any-port"));
    let rows = &ledger.accounts[&user];
    let right = recomputed::account(user, rows, NOW_US).balance;
    let maker = node.checkpoints().expect("it makes checkpoints");
    let made = make(&node);
    let last = made.path.file_name().expect("a name").to_string_lossy().into_owned();
    // Files where the next ones are to be made.
    let number: u64 = last.trim_start_matches("checkpoint-").parse().expect("a number");
    let obstacles = (1..=40).map(|next| folder.join(format!(".making-{:012}", number + next)));
    obstacles.clone().for_each(|path| std::fs::write(path, "").expect("a file"));
    let before = status(&node).differences();
    node.audit().expect("it is audited").damage(user_id, florin::shard::Damage::Balance);
    pass(&node);
    difference(&node, before);
    until("none is left", || checkpoints().is_empty());
    let made = maker.status();
    until("another cannot be made", || made.failures() > 0);
    assert_eq!((checkpoints(), made.last()), (vec![], None));
    obstacles.for_each(|path| std::fs::remove_file(path).expect("the file"));
    until("another is made", || checkpoints().len() == 1 && checkpoints()[0] > last);
    assert_eq!(native.balance_at_least(user, rows.len() as u64), right);
    end(node);

    let node = start_at(path, 2, Some(&folder), Some(NOW_US), 0);
    let restored = node.checkpoints().expect("it makes checkpoints").status().restored();
    assert_eq!(restored, ledger.accounts.len() as u64);
    let mut native = NativeCaller::connect(node.addresses().listen.expect("an any-port"));
    assert_eq!(native.balance_at_least(user, rows.len() as u64), right);
    assert_proven(&node, ledger.accounts.len());
    end(node);
}

/// By how much the clock goes on with each second: an hour ends every third, and a day once a minute.
const LEAP_US: i64 = 20 * 60 * 1_000_000;

/// Accounts that are compared between two restarts at most.
const BETWEEN_RESTARTS: u64 = 20_000;

/// Else a thread that writes would outlive what it is there for.
struct SetsWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetsWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// While accounts are compared, rows are committed, users come, hours and days end, and the node is restarted from a checkpoint: no
/// difference is told.
#[test]
fn nothing_is_told_while_nothing_is_wrong() {
    let audited: u64 =
        std::env::var("FLORIN_AUDITED").map_or(5_000, |number| number.parse().expect("a number"));
    let directory = tempfile::tempdir().expect("a directory");
    let (path, folder) = (generated(directory.path()), directory.path().join("checkpoints"));
    let users: Vec<u64> = Ledger::read(&path).accounts.keys().copied().collect();
    let (is_over, written, mut compared) = (&AtomicBool::new(false), &AtomicU64::new(0), 0);
    // The first day ends with the first leap.
    let day_us = 24 * 3_600_000_000;
    let first_wall_us = NOW_US - NOW_US % day_us + day_us - 60_000_000;
    let (begun, mut starts) = (Instant::now(), 0);
    std::thread::scope(|scope| {
        // Also where this test fails.
        let _end = SetsWhenDropped(is_over);
        scope.spawn(|| {
            let mut writer = Writer::open(&path).expect("a writer");
            while !is_over.load(Relaxed) {
                let from = written.fetch_add(8, Relaxed);
                let rows: Vec<_> = (from..from + 8)
                    .map(|number| {
                        // A third of the users are new; of those some come again.
                        let user = match number % 3 {
                            0 => (number * 0x9E37_79B9) % 5_000_000_000,
                            _ => users[(number * 7) as usize % users.len()],
                        };
                        recomputed::recharge(user, number, NOW_US)
                    })
                    .collect();
                writer.append(&rows).expect("an append");
                // Else the ledger grows faster than it is compared.
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let mut shards = [2, 1, 3].into_iter().cycle();
        while compared < audited {
            // Not before what the last one showed.
            let wall_us = first_wall_us + LEAP_US * (begun.elapsed().as_secs() as i64 + starts);
            let shards = shards.next().expect("a number");
            let node = start_at(path.clone(), shards, Some(&folder), Some(wall_us), LEAP_US);
            starts += 1;
            let status = status(&node);
            let goal = (audited / 3).clamp(1, BETWEEN_RESTARTS);
            let deadline = Instant::now() + Duration::from_secs(3_600);
            while status.accounts() < goal && status.differences() == 0 {
                assert!(Instant::now() < deadline && !matches!(status.doing(), Doing::Unable(_)));
                std::thread::sleep(Duration::from_millis(5));
            }
            // The longer it runs the more there is to compare.
            let after = status.passes() + 2;
            until_within(Duration::from_secs(3_600), "two passes end", || status.passes() >= after);
            let evidence = status.evidence();
            assert!(evidence.is_empty(), "nothing is wrong: {evidence:#?}");
            let (report, _) = status.last().expect("a pass");
            let incomplete = (report.quarantined, report.windows_unknown);
            assert!(report.buckets == 1_024 && incomplete == (0, 0), "{report:?}");
            compared += status.accounts();
            make(&node);
            end(node);
        }
    });
    println!(
        "{compared} accounts compared in {starts} runs of a node while {} rows were committed",
        written.load(Relaxed)
    );
    let mut native_count = 0;
    let node = start(&path, 2, Some(&folder));
    let mut native = NativeCaller::connect(node.addresses().listen.expect("an any-port"));
    for (&user, rows) in Ledger::read(&path).accounts.iter().take(50) {
        assert_eq!(native.balance(user, Encoding::Rkyv).version, rows.len() as u64);
        native_count += 1;
    }
    assert_eq!(native_count, 50);
    end(node);
}
