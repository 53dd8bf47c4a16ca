//! Evidence: who was refused, and who did what only few may do, as JSON lines in a file. A flood of refusals is told by some lines and
//! by how many more there were, never by nothing.
//!
//! ```json
//! {"at":"2026-11-28T11:20:00.000000Z","action":"GetBalance","outcome":"PermissionDenied","reason":"balance: this caller may not …","principal":"team-a","from":"10.0.0.7","user":"5f0c…"}
//! ```
//!
//! `user` is a keyed hash: one user's lines can be told from another's as long as the node runs, and nobody learns whose they are.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use florin_record::time;
use florin_schema::UserId;
use hmac::{Hmac, KeyInit, Mac};
use rand::RngCore;
use serde::Serialize;
use sha2::Sha256;

use super::keeper::Callers;
use crate::limits::{AUDIT_LOG_LINES_PER_S, AUDIT_LOG_LOOK, AUDIT_LOG_QUEUE_MAX, REFUSALS_KEPT};
use crate::mesh;
use crate::shard::{Refused, ShardMetrics, principal};
use crate::threads::{Vital, spawn_vital};

/// What somebody did, or was kept from doing.
#[derive(Clone, Debug)]
pub struct Deed {
    /// When, µs since 1970 UTC.
    pub at_us: i64,
    /// What.
    pub action: String,
    /// What came of it.
    pub outcome: String,
    /// Why it was refused, in the words that its doer got.
    pub reason: Option<String>,
    /// By whom; `None` where nothing was proved.
    pub principal: Option<String>,
    /// From where.
    pub from: Option<IpAddr>,
    /// To whom.
    pub user: Option<UserId>,
}

/// The log. Clones are of the same; it ends with the last of them, or when it is told to.
#[derive(Clone, Debug)]
pub struct AuditLog {
    deeds: SyncSender<Deed>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    reopen: AtomicBool,
    ends: AtomicBool,
    /// Deeds that found no place in the queue.
    untold: AtomicU64,
    /// The last lines about refusals, and how many there were.
    refusals: Mutex<VecDeque<String>>,
    refused: AtomicU64,
}

/// What shards refuse, and how much of it they could not tell.
pub type Refusals = (mesh::Receiver<Refused>, Arc<ShardMetrics>);

impl AuditLog {
    /// Begins to write at the end of `path`.
    ///
    /// # Errors
    /// The system's, where it gives no file or no thread.
    pub fn start(
        path: &Path,
        callers: Option<Callers>,
        refusals: Vec<Refusals>,
    ) -> io::Result<(AuditLog, JoinHandle<()>)> {
        let file = open(path)?;
        let (deeds, told) = sync_channel(AUDIT_LOG_QUEUE_MAX);
        let shared = Arc::new(Shared::default());
        let mut key = [0; 32];
        rand::rng().fill_bytes(&mut key);
        let seen_untold = refusals.iter().map(|(_, metrics)| metrics.refusals_untold.get()).sum();
        let mut writing = Writing {
            path: path.to_owned(),
            file: BufWriter::new(file),
            told,
            shared: Arc::clone(&shared),
            callers,
            refusals,
            user_key: Hmac::new_from_slice(&key).expect("HMAC takes keys of any length"),
            second: Instant::now(),
            in_second: 0,
            omitted: 0,
            seen_untold,
            has_failed: false,
        };
        let thread = spawn_vital(Vital::AuditLog, move || writing.run())?;
        Ok((AuditLog { deeds, shared }, thread))
    }

    /// Writes this down, or counts it where there is too much.
    pub fn note(&self, deed: Deed) {
        if self.deeds.try_send(deed).is_err() {
            self.shared.untold.fetch_add(1, Relaxed);
        }
    }

    /// The last [`REFUSALS_KEPT`] refusals, as they were written, oldest first.
    pub fn refusals(&self) -> Vec<String> {
        self.shared.kept().iter().cloned().collect()
    }

    /// How many refusals there were since the start.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Relaxed)
    }

    /// Writes what has been told, and ends.
    pub fn end(&self) {
        self.shared.ends.store(true, Release);
    }

    /// Opens its path anew: whoever rotates logs has given the file another name.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Relaxed);
    }
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, line: &str) {
        let mut kept = self.kept();
        self.refused.fetch_add(1, Relaxed);
        if kept.len() == REFUSALS_KEPT {
            kept.pop_front();
        }
        kept.push_back(line.to_owned());
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o640).open(path)
}

struct Writing {
    path: PathBuf,
    file: BufWriter<File>,
    told: Receiver<Deed>,
    shared: Arc<Shared>,
    callers: Option<Callers>,
    refusals: Vec<Refusals>,
    user_key: Hmac<Sha256>,
    /// When this second began, how many lines it has had, and how many it has not.
    second: Instant,
    in_second: u64,
    omitted: u64,
    seen_untold: u64,
    has_failed: bool,
}

/// As it is written.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    action: &'a str,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl Writing {
    fn run(&mut self) {
        Vital::AuditLog.at_work();
        loop {
            let first = self.told.recv_timeout(AUDIT_LOG_LOOK);
            let is_over =
                matches!(first, Err(RecvTimeoutError::Disconnected)) || self.shared.ends.load(Acquire);
            let others: Vec<Deed> = self.told.try_iter().take(AUDIT_LOG_QUEUE_MAX).collect();
            first.into_iter().chain(others).for_each(|deed| self.write_deed(&deed));
            self.write_refusals();
            self.end_second(is_over);
            self.put_to_disk();
            if is_over {
                return;
            }
        }
    }

    fn write_deed(&mut self, deed: &Deed) {
        let Deed { at_us, action, outcome, reason, principal, from, user } = deed;
        let (at, user) = (time::text(*at_us), user.map(|user| self.hash(user)));
        let (reason, principal) = (reason.as_deref(), principal.as_deref());
        self.write(&Line { at, action, outcome, reason, principal, from: *from, user, count: None });
    }

    fn write_refusals(&mut self) {
        let directory = self.callers.as_ref().map(Callers::current);
        let mut refusals = std::mem::take(&mut self.refusals);
        for (refused, _) in &mut refusals {
            // All that is there, which nothing comes after at the end.
            let here = refused.len();
            for refused in std::iter::from_fn(|| refused.pop()).take(here) {
                let Refused { at_us, from, principal, opcode, user, status } = refused;
                let principal = directory.as_ref().and_then(|directory| directory.name(principal?));
                let (action, outcome) = (format!("{opcode:?}"), format!("{status:?}"));
                let (at, user) = (time::text(at_us), user.map(|user| self.hash(user)));
                self.write(&Line {
                    at,
                    action: &action,
                    outcome: &outcome,
                    reason: Some(principal::message(status, opcode)),
                    principal,
                    from,
                    user,
                    count: None,
                });
            }
        }
        self.refusals = refusals;
    }

    fn hash(&self, user: UserId) -> String {
        let digest = self.user_key.clone().chain_update(user.get().to_le_bytes()).finalize().into_bytes();
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// One line, or one more that is only counted.
    fn write(&mut self, line: &Line<'_>) {
        if self.in_second >= AUDIT_LOG_LINES_PER_S {
            self.omitted += 1;
            return;
        }
        self.in_second += 1;
        self.put(line);
    }

    fn put(&mut self, line: &Line<'_>) {
        let text = serde_json::to_string(line).expect("its keys are strings");
        if line.reason.is_some() {
            self.shared.keep(&text);
        }
        let outcome = writeln!(self.file, "{text}");
        self.note_outcome(outcome);
    }

    /// What was only counted is told once a second, and in the end.
    fn end_second(&mut self, is_over: bool) {
        if self.second.elapsed() < Duration::from_secs(1) && !is_over {
            return;
        }
        let untold = self.shared.untold.load(Relaxed)
            + self.refusals.iter().map(|(_, metrics)| metrics.refusals_untold.get()).sum::<u64>();
        let omitted = self.omitted + (untold - self.seen_untold);
        (self.second, self.in_second, self.omitted, self.seen_untold) = (Instant::now(), 0, 0, untold);
        if omitted > 0 {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let at = time::text(now.as_micros() as i64);
            let count = Some(omitted);
            self.put(&Line {
                at,
                action: "omitted",
                outcome: "counted",
                reason: None,
                principal: None,
                from: None,
                user: None,
                count,
            });
        }
    }

    fn put_to_disk(&mut self) {
        let outcome = self.file.flush();
        self.note_outcome(outcome);
        if self.shared.reopen.swap(false, Relaxed) {
            let reopened = open(&self.path).map(|file| self.file = BufWriter::new(file));
            self.note_outcome(reopened);
        }
    }

    /// Said once for each run of failures: a full disk must not fill the other log too.
    fn note_outcome(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.has_failed = false,
            Err(error) if !std::mem::replace(&mut self.has_failed, true) => {
                tracing::error!(path = %self.path.display(), %error, "the audit log cannot be written: evidence is being lost");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use florin_schema::{Opcode, Status};

    use super::*;

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// All that was refused is a line or counted in one, and a user's id is in none of them.
    #[test]
    fn a_flood_is_counted_and_no_user_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (mut sender, receiver) = mesh::ring(4_096);
        let metrics = Arc::new(ShardMetrics::default());
        let user = UserId::new(987_654_321);
        let flood = AUDIT_LOG_LINES_PER_S + 500;
        for _ in 0..flood {
            let status = Status::PermissionDenied;
            let refused =
                Refused { at_us: 0, from: None, principal: None, opcode: Opcode::GetBalance, user, status };
            sender.push(refused).unwrap();
        }
        let (log, thread) = AuditLog::start(&path, None, vec![(receiver, Arc::clone(&metrics))]).unwrap();
        metrics.refusals_untold.add(7);
        let deed = Deed {
            at_us: 0,
            action: "POST /v1/transactions".to_owned(),
            outcome: "200".to_owned(),
            reason: None,
            user: None,
            principal: Some("team-a".to_owned()),
            from: Some([192, 0, 2, 1].into()),
        };
        log.note(deed);
        let shared = Arc::clone(&log.shared);
        drop(log);
        thread.join().unwrap();
        let kept = shared.kept();
        assert!(kept.len() == REFUSALS_KEPT && kept[0].contains("may not ask for it"), "{kept:?}");
        let lines = lines(&path);
        let counted: u64 = lines.iter().map(|line| line["count"].as_u64().unwrap_or(1)).sum();
        assert_eq!(counted, flood + 7 + 1);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("987654321"));
        let deed = lines.iter().find(|line| line["action"] == "POST /v1/transactions").unwrap();
        assert_eq!(
            (&deed["principal"], &deed["from"], &deed["outcome"]),
            (&"team-a".into(), &"192.0.2.1".into(), &"200".into())
        );
        let users: std::collections::BTreeSet<_> =
            lines.iter().filter_map(|line| line["user"].as_str()).collect();
        assert_eq!(users.len(), 1, "one user's lines can be told from another's");
    }

    /// A log that was ended wrote one queue's worth, and what shards had refused beyond was neither told nor counted.
    #[test]
    fn what_was_refused_before_the_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let refused = Refused {
            at_us: 0,
            from: None,
            principal: None,
            opcode: Opcode::GetBalance,
            user: None,
            status: Status::PermissionDenied,
        };
        let (shards, count) = (3, 2 * AUDIT_LOG_QUEUE_MAX);
        let refusals = (0..shards).map(|_| {
            let (mut sender, receiver) = mesh::ring(count);
            (0..count).for_each(|_| sender.push(refused).unwrap());
            (receiver, Arc::new(ShardMetrics::default()))
        });
        let (log, thread) = AuditLog::start(&path, None, refusals.collect()).unwrap();
        log.end();
        thread.join().unwrap();
        let counted: u64 = lines(&path).iter().map(|line| line["count"].as_u64().unwrap_or(1)).sum();
        assert_eq!(counted, (shards * count) as u64);
    }

    #[test]
    fn who_rotates_logs_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (log, thread) = AuditLog::start(&path, None, Vec::new()).unwrap();
        std::fs::rename(&path, folder.path().join("audit.1")).unwrap();
        log.reopen();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !path.exists() {
            assert!(Instant::now() < deadline, "opened anew");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        drop(log);
        thread.join().unwrap();
    }
}
