//! What a run has shown: counts, the newest findings, and the files that stay behind.
//!
//! | module | holds |
//! | --- | --- |
//! | `book` | the counts |
//! | `finding` | one mismatch: its line in `mismatches.jsonl`, the command that repeats it |
//! | `summary` | all of it as JSON |
//! | `report` | the folder with `verdict.json`, `mismatches.jsonl`, `report.html` |
//! | `metrics` | the same for Prometheus |
//! | `redact` | user ids as keyed hashes |

mod book;
mod finding;
mod metrics;
mod redact;
mod report;
mod summary;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use book::Book;
pub use finding::{Finding, Sides};
pub use metrics::render as render_metrics;
pub use redact::Redaction;
pub use report::{Report, ReportError, page};
use summary::Around;
pub use summary::{ServeSummary, Summary};

use crate::answer::Answer;
use crate::clock::now_us;
use crate::judge::{Reason, Rules, Ruling, Side, Verdict};
use crate::request::{Endpoint, Request};

/// All that is known of a run. Shared by whoever finds something and whoever shows it.
pub struct Evidence {
    book: Mutex<Book>,
    offered: [AtomicU64; Endpoint::ALL.len()],
    not_mirrored: Mutex<BTreeMap<String, u64>>,
    report: Option<Report>,
    /// For files and pages.
    pub redaction: Redaction,
    /// For commands and pages.
    pub sides: Sides,
    rules: Vec<(String, String)>,
    not_comparable_max: f64,
    queue_capacity: u64,
    started_us: i64,
}

/// What evidence is made with.
pub struct EvidenceSettings {
    /// Where files go; none are written where there is no such folder.
    pub report: Option<Report>,
    /// What is done to user ids.
    pub redaction: Redaction,
    /// Both sides.
    pub sides: Sides,
    /// The share of requests that may not be comparable.
    pub not_comparable_max: f64,
    /// Of the queue to the candidate.
    pub queue_capacity: u64,
}

impl Evidence {
    /// Nothing is known yet.
    pub fn new(settings: EvidenceSettings, rules: &Rules) -> Evidence {
        let rules: Vec<_> = rules.iter().map(|rule| (rule.name.clone(), rule.reason.clone())).collect();
        Evidence {
            book: Mutex::new(Book::new(rules.len())),
            offered: Default::default(),
            not_mirrored: Mutex::default(),
            report: settings.report,
            redaction: settings.redaction,
            sides: settings.sides,
            rules,
            not_comparable_max: settings.not_comparable_max,
            queue_capacity: settings.queue_capacity,
            started_us: now_us(),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Counts have no invariant that a panic could have broken half-way.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that is to be compared: from now on it is open.
    pub fn offer(&self, endpoint: Endpoint) {
        self.offered[endpoint as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// An offered request that will not be compared.
    pub fn dropped(&self, endpoint: Endpoint, reason: Reason) {
        self.book().count(endpoint, &Ruling::plain(Verdict::Dropped, Some(reason)), now_us());
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

    /// How long a side took.
    pub fn latency(&self, endpoint: Endpoint, side: Side, answer: &Answer) {
        let us = u64::try_from(answer.at.answered_us - answer.at.asked_us).unwrap_or(0);
        let mut book = self.book();
        let endpoint = &mut book.endpoints[endpoint as usize];
        match side {
            Side::Primary => endpoint.primary.saturating_record(us),
            Side::Candidate => endpoint.candidate.saturating_record(us),
        }
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
            let mut book = self.book();
            book.count(endpoint, finding.ruling, finding.now_us);
            if let Some(latest) = latest {
                book.show(latest);
            }
            book.is_sealed
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
        self.book().noise.add(request, first, second);
    }

    /// Ends the counting: what is still open counts as dropped.
    pub fn seal(&self) {
        let mut book = self.book();
        for endpoint in Endpoint::ALL {
            let offered = self.offered[endpoint as usize].load(Ordering::Relaxed);
            let open = offered.saturating_sub(book.endpoints[endpoint as usize].ruled());
            for _ in 0..open {
                let ruling = Ruling::plain(Verdict::Dropped, Some(Reason::RunEnded));
                book.count(endpoint, &ruling, now_us());
            }
        }
        book.is_sealed = true;
    }

    /// Requests that have been offered, and those that have a verdict.
    pub fn progress(&self) -> (u64, u64) {
        let ruled = self.book().ruled();
        (self.offered.iter().map(|count| count.load(Ordering::Relaxed)).sum(), ruled)
    }

    /// How many mismatches there are.
    pub fn mismatches(&self) -> u64 {
        self.book().verdict(Verdict::Mismatch)
    }

    /// The state of the run.
    pub fn summary(&self, state: &'static str, serve: ServeSummary) -> Summary {
        let not_mirrored = self.not_mirrored.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let book = self.book();
        let around = Around {
            state,
            primary: self.sides.primary.to_string(),
            candidate: self.sides.candidate.to_string(),
            started_us: self.started_us,
            until_us: now_us(),
            offered: self.offered.iter().map(|count| count.load(Ordering::Relaxed)).sum(),
            not_comparable_max: self.not_comparable_max,
            rules: self.rules.clone(),
            not_mirrored,
            queue_capacity: self.queue_capacity,
            serve,
            not_written: self.report.as_ref().map_or(0, Report::not_written),
        };
        Summary::of(&book, around)
    }

    /// Writes the files that stay.
    ///
    /// # Errors
    /// Where the folder takes none.
    pub fn write_report(&self, summary: &Summary) -> Result<(), ReportError> {
        self.report.as_ref().map_or(Ok(()), |report| report.finish(summary))
    }
}
