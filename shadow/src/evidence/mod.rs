//! What a run has shown: counts, the newest findings, and the files that stay behind.
//!
//! | module | holds |
//! | --- | --- |
//! | `counters` | the counts |
//! | `finding` | one mismatch: its line in `mismatches.jsonl`, the command that repeats it |
//! | `summary` | all of it as JSON |
//! | `report` | the folder with `verdict.json`, `mismatches.jsonl`, `report.html` |
//! | `metrics` | the same for Prometheus |
//! | `redact` | user ids as keyed hashes |
//! | `reach` | whether both sides can be reached |

mod counters;
mod finding;
mod metrics;
mod reach;
mod redact;
mod report;
mod summary;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use counters::Counters;
pub use counters::Counts;
pub use finding::Finding;
pub use metrics::render as render_metrics;
use reach::{Change, Reach};
pub use redact::Redaction;
pub use report::{ENDED, Report, ReportError, page};
pub use summary::{Enough, ServeSummary, Summary, Tolerance};

use crate::address::TargetAddress;
use crate::answer::Answer;
use crate::clock::now_us;
use crate::judge::{Failure, Reason, Rules, Side, Sides, Verdict};
use crate::request::{Endpoint, Request};

/// All that is known of a run. Shared by whoever finds something and whoever shows it.
pub struct Evidence {
    counters: Mutex<Counters>,
    taken: Taken,
    /// Something was to be compared that nobody has seen.
    is_cut_short: AtomicBool,
    not_mirrored: Mutex<BTreeMap<String, u64>>,
    reach: Sides<Reach>,
    report: Option<Report>,
    /// For files and pages.
    pub redaction: Redaction,
    /// For commands and pages.
    pub sides: Sides<TargetAddress>,
    rules: Vec<(String, String)>,
    tolerance: Tolerance,
    queue_capacity: u64,
    started_us: i64,
}

/// How far the judge has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Requests by verdict.
    pub verdicts: Counts,
    /// Answers with content that were found to be the same.
    pub same: u64,
    /// Of those that were not comparable, requests to which the primary had no answer: they say nothing of the candidate.
    pub without_primary: u64,
}

/// What is counted on the callers' path, where nobody may wait for whoever holds the counters.
#[derive(Default)]
struct Taken {
    offered: [AtomicU64; Endpoint::ALL.len()],
    dropped: [[AtomicU64; Taken::REASONS.len()]; Endpoint::ALL.len()],
}

impl Taken {
    /// Why a request is dropped before it reaches the judge.
    const REASONS: [Reason; 4] = [Reason::QueueFull, Reason::TooLarge, Reason::Unparsed, Reason::RunEnded];

    fn offered(&self) -> u64 {
        self.offered.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn drop_one(&self, endpoint: Endpoint, reason: Reason) {
        let at = Taken::REASONS.iter().position(|known| *known == reason);
        let at = at.expect("callers' requests are dropped for these reasons alone");
        self.dropped[endpoint as usize][at].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds to the counters what has been dropped since the last time.
    fn settle(&self, counters: &mut Counters) {
        for endpoint in Endpoint::ALL {
            for (reason, count) in Taken::REASONS.iter().zip(&self.dropped[endpoint as usize]) {
                match count.swap(0, Ordering::Relaxed) {
                    0 => {}
                    count => counters.drop_many(endpoint, *reason, count),
                }
            }
        }
    }
}

/// What evidence is made with.
pub struct EvidenceSettings {
    /// Where files go; none are written where there is no such folder.
    pub report: Option<Report>,
    /// What is done to user ids.
    pub redaction: Redaction,
    /// Both sides.
    pub sides: Sides<TargetAddress>,
    /// What a run may lack.
    pub tolerance: Tolerance,
    /// Of the queue to the candidate.
    pub queue_capacity: u64,
}

impl Evidence {
    /// Nothing is known yet.
    pub fn new(settings: EvidenceSettings, rules: &Rules) -> Evidence {
        let rules: Vec<_> = rules.iter().map(|rule| (rule.name.clone(), rule.reason.clone())).collect();
        Evidence {
            counters: Mutex::new(Counters::new(rules.len())),
            taken: Taken::default(),
            is_cut_short: AtomicBool::new(false),
            not_mirrored: Mutex::default(),
            reach: Sides::default(),
            report: settings.report,
            redaction: settings.redaction,
            sides: settings.sides,
            rules,
            tolerance: settings.tolerance,
            queue_capacity: settings.queue_capacity,
            started_us: now_us(),
        }
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        // Counts have no invariant that a panic could have broken half-way.
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        self.taken.settle(&mut counters);
        counters
    }

    /// A request that is to be compared: from now on it is open.
    pub fn offer(&self, endpoint: Endpoint) {
        self.taken.offered[endpoint as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// An offered request that was only to be recorded.
    pub fn recorded(&self, endpoint: Endpoint) {
        self.taken.offered[endpoint as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// An offered request that will not be compared.
    pub fn dropped(&self, endpoint: Endpoint, reason: Reason) {
        self.taken.drop_one(endpoint, reason);
    }

    /// The run has ended before all of it was seen: it cannot be complete.
    pub fn cut_short(&self) {
        self.is_cut_short.store(true, Ordering::Relaxed);
    }

    /// A request that is none of the candidate's business.
    pub fn not_mirrored(&self, why: &str) {
        let mut counts = self.not_mirrored.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(why) {
            Some(count) => *count += 1,
            None => {
                counts.insert(why.to_owned(), 1);
            }
        }
    }

    /// A side has answered, or taken a connection.
    pub fn heard(&self, side: Side) {
        self.tell(side, self.reach.of(side).heard(now_us()));
    }

    /// A side gave no answer.
    pub fn unheard(&self, side: Side, failure: &Failure) {
        self.tell(side, self.reach.of(side).unheard(failure, now_us()));
    }

    fn tell(&self, side: Side, change: Option<Change>) {
        let (name, address) = (side.name(), self.sides.of(side));
        let effect = match side {
            Side::Primary => "its callers are cut off, as they would be without a shadow",
            Side::Candidate => "nothing is compared until it is there",
        };
        match change {
            None => {}
            Some(Change::Down(why)) => {
                tracing::error!("the {name} {address} cannot be reached: {why}; {effect}");
            }
            Some(Change::Up(after_us)) => {
                let seconds = after_us as f64 / 1e6;
                tracing::warn!("the {name} {address} can be reached again, after {seconds:.1} s");
            }
        }
    }

    /// How long a side took.
    pub fn latency(&self, endpoint: Endpoint, side: Side, answer: &Answer) {
        let us = u64::try_from(answer.at.answered_us - answer.at.asked_us).unwrap_or(0);
        let mut counters = self.counters();
        let endpoint = &mut counters.endpoints[endpoint as usize];
        endpoint.latency.of_mut(side).saturating_record(us);
    }

    /// A verdict on an offered request.
    pub fn rule(&self, finding: &Finding<'_>) {
        let endpoint = finding.request.question.endpoint();
        let is_news = matches!(
            finding.ruling.verdict,
            Verdict::Mismatch | Verdict::CandidateError | Verdict::NotComparable
        );
        let latest = is_news.then(|| finding.latest(&self.redaction, &self.sides));
        let is_sealed = {
            let mut counters = self.counters();
            counters.count(endpoint, finding.ruling);
            if finding.ruling.verdict.is_compared() {
                let skew_us = self.tolerance.clock_skew_us;
                for (side, answer) in [(Side::Primary, finding.primary), (Side::Candidate, finding.candidate)]
                {
                    answer.iter().for_each(|answer| counters.sides.of_mut(side).note(answer, skew_us));
                }
            }
            if let Some(latest) = latest {
                counters.show(latest);
            }
            counters.is_sealed
        };
        if let Some(report) = &self.report
            && finding.ruling.verdict == Verdict::Mismatch
            && !is_sealed
        {
            report.write(finding, &self.redaction, &self.sides);
        }
    }

    /// Two answers of the primary's to one request.
    pub fn noise(&self, request: &Request, first: &Answer, second: &Answer) {
        self.counters().noise.add(request, first, second);
    }

    /// Ends the counting: what is still open counts as dropped.
    pub fn seal(&self) {
        let mut counters = self.counters();
        for endpoint in Endpoint::ALL {
            let offered = self.taken.offered[endpoint as usize].load(Ordering::Relaxed);
            let open = offered.saturating_sub(counters.endpoints[endpoint as usize].ruled());
            counters.drop_many(endpoint, Reason::RunEnded, open);
        }
        counters.is_sealed = true;
    }

    /// How far the judge has come; nothing while somebody else holds the counters, for nobody is waited for.
    pub fn progress(&self) -> Option<Progress> {
        let mut counters = match self.counters.try_lock() {
            Ok(counters) => counters,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        self.taken.settle(&mut counters);
        let without = [Reason::PrimaryUnavailable, Reason::PrimaryUnreachable];
        let without = without.map(|reason| counters.reason(Verdict::NotComparable, reason));
        Some(Progress {
            verdicts: counters.verdicts(),
            same: counters.same,
            without_primary: without.iter().sum(),
        })
    }

    /// Writes the verdict as it stands, and what else stays.
    ///
    /// # Errors
    /// Where the folder takes none.
    pub fn keep_report(&self, summary: &Summary) -> Result<(), ReportError> {
        self.report.as_ref().map_or(Ok(()), |report| report.keep(summary))
    }
}
