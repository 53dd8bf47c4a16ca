//! What there is to say of the audit, for the admin port and the log.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use florin_schema::{UserId, Version};

use super::compare::Difference;
use crate::audit::Fingerprint;
use crate::limits::AUDIT_EVIDENCE_MAX;

/// What a pass has seen.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Report {
    /// Accounts whose answers are equal to the byte.
    pub accounts: u64,
    /// Accounts that say themselves that they are incomplete: not compared.
    pub quarantined: u64,
    /// Accounts whose balance is equal, and whose windows are not held for this time and say so.
    pub windows_unknown: u64,
    /// The ledger's rows of the accounts that were met. One that was read twice, because its account came last in a read, counts once.
    pub rows: u64,
    /// Buckets whose rows are exactly the ledger's, of 1,024.
    pub buckets: u64,
    /// Differences found.
    pub differences: u64,
    /// How long it took, rests included.
    pub seconds: f64,
}

/// A difference, as evidence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// When it was found, µs since 1970 UTC.
    pub at_us: i64,
    /// Of fingerprints.
    pub bucket: usize,
    /// Whose account; none where no account's answers differ and its bucket's rows do.
    pub user: Option<UserId>,
    /// Of the account, as the node has it.
    pub version: Option<Version>,
    /// In what.
    pub what: &'static str,
    /// What the node has.
    pub served: String,
    /// What the ledger has.
    pub ledger: String,
}

/// The system's clock: evidence outlives what the node's clock is fixed to.
fn wall_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

impl Finding {
    pub(super) fn of_account(bucket: usize, user: UserId, difference: Difference) -> Finding {
        let Difference { what, version, served, ledger } = difference;
        Finding { at_us: wall_us(), bucket, user: Some(user), version: Some(version), what, served, ledger }
    }

    pub(super) fn of_bucket(bucket: usize, held: Fingerprint, ledger: Fingerprint) -> Finding {
        let words = |rows: Fingerprint| format!("{} rows with the sum {:032x}", rows.rows, rows.sum());
        Finding {
            at_us: wall_us(),
            bucket,
            user: None,
            version: None,
            what: "rows",
            served: words(held),
            ledger: words(ledger),
        }
    }
}

/// What the audit does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Doing {
    /// It waits for this.
    Waiting(String),
    /// It reads and compares.
    Passing,
    /// The ledger cannot be scanned, for this reason.
    Unable(String),
}

#[derive(Debug)]
struct Standing {
    doing: Doing,
    /// The pass that is on.
    current: Report,
    /// The last one that came to its end, and when.
    last: Option<(Report, Instant)>,
    evidence: VecDeque<Finding>,
}

/// Shared between the audit, which writes it, and the control plane.
#[derive(Debug)]
pub struct AuditStatus {
    standing: Mutex<Standing>,
    passes: AtomicU64,
    differences: AtomicU64,
    failures: AtomicU64,
    accounts: AtomicU64,
    worked_us: AtomicU64,
}

impl Default for AuditStatus {
    fn default() -> AuditStatus {
        let waiting = Doing::Waiting("the ledger is not loaded yet".to_owned());
        let standing =
            Standing { doing: waiting, current: Report::default(), last: None, evidence: VecDeque::new() };
        AuditStatus {
            standing: Mutex::new(standing),
            passes: AtomicU64::new(0),
            differences: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            accounts: AtomicU64::new(0),
            worked_us: AtomicU64::new(0),
        }
    }
}

impl AuditStatus {
    /// What it does at the moment.
    pub fn doing(&self) -> Doing {
        self.lock().doing.clone()
    }

    /// What the pass that is on has seen so far.
    pub fn current(&self) -> Report {
        self.lock().current
    }

    /// What the last pass has seen that came to its end, and how many seconds ago that was.
    pub fn last(&self) -> Option<(Report, f64)> {
        self.lock().last.map(|(report, at)| (report, at.elapsed().as_secs_f64()))
    }

    /// The newest differences, oldest first.
    pub fn evidence(&self) -> Vec<Finding> {
        self.lock().evidence.iter().cloned().collect()
    }

    /// Passes that came to their end.
    pub fn passes(&self) -> u64 {
        self.passes.load(Relaxed)
    }

    /// Differences ever found.
    pub fn differences(&self) -> u64 {
        self.differences.load(Relaxed)
    }

    /// Times that a pass was given up, for the ledger could not be read.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Accounts ever found equal, in all passes.
    pub fn accounts(&self) -> u64 {
        self.accounts.load(Relaxed)
    }

    /// Time spent reading and comparing.
    pub fn worked(&self) -> Duration {
        Duration::from_micros(self.worked_us.load(Relaxed))
    }

    pub(super) fn set_doing(&self, doing: Doing) {
        self.lock().doing = doing;
    }

    pub(super) fn begin_pass(&self) {
        let mut standing = self.lock();
        standing.doing = Doing::Passing;
        standing.current = Report::default();
    }

    pub(super) fn note_progress(&self, report: &Report) {
        let mut standing = self.lock();
        self.accounts.fetch_add(report.accounts - standing.current.accounts, Relaxed);
        standing.doing = Doing::Passing;
        standing.current = *report;
    }

    pub(super) fn end_pass(&self, report: Report) {
        self.note_progress(&report);
        let is_first = self.lock().last.replace((report, Instant::now())).is_none();
        self.passes.fetch_add(1, Relaxed);
        if is_first || report.differences > 0 {
            tracing::info!(
                accounts = report.accounts,
                quarantined = report.quarantined,
                rows = report.rows,
                differences = report.differences,
                seconds = report.seconds,
                "the audit has compared all accounts with the ledger"
            );
        }
    }

    pub(super) fn note_failure(&self, reason: &str) {
        self.failures.fetch_add(1, Relaxed);
        let doing = Doing::Waiting(format!("the ledger cannot be read: {reason}"));
        let before = std::mem::replace(&mut self.lock().doing, doing.clone());
        if before != doing {
            tracing::warn!("the audit cannot read the ledger: {reason}; it is tried again");
        }
    }

    pub(super) fn note_work(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.worked_us.fetch_add(took_us, Relaxed);
    }

    /// Keeps and logs a difference, also where a shard that stands still cannot be told of it.
    pub(super) fn keep(&self, finding: Finding) {
        let Finding { bucket, user, version, what, served, ledger, .. } = &finding;
        match user {
            Some(user) => tracing::error!(
                bucket,
                user = user.get(),
                version = version.map_or(0, |version| version.0),
                "audit: what is answered differs from the ledger in its {what}; the account is quarantined and read again. \
                 Answered: {served}. By the ledger: {ledger}"
            ),
            None => tracing::error!(
                bucket,
                "audit: the rows that were applied are not those that the ledger has, though every answer equals what the ledger's \
                 rows amount to: rows were changed. Applied: {served}. In the ledger: {ledger}"
            ),
        }
        let mut standing = self.lock();
        if standing.evidence.len() == AUDIT_EVIDENCE_MAX {
            standing.evidence.pop_front();
        }
        standing.evidence.push_back(finding);
    }

    /// Counts one whose evidence is kept, for whoever sees the count looks for that, and whose account is quarantined.
    pub(super) fn count_difference(&self) {
        self.differences.fetch_add(1, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
