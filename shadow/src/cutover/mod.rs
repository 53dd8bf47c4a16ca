//! Moves callers over: a share of the users is answered by the candidate, as long as it does well. What it fails is
//! answered by the primary, and what it answers is compared like everything else.

mod admission;
mod decision;
mod guard;
mod share;

use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, StatusCode};

pub use admission::{Admission, Admitted};
pub use decision::{Decision, DecisionError, DecisionFile};
pub use guard::{Bounds, Guard, Tick};
pub use share::{Share, ShareError};

use crate::address::TargetAddress;
use crate::answer::Answer;
use crate::evidence::{Evidence, Progress, ServeSummary};
use crate::judge::{Failure, Reason, Side, Verdict};
use crate::limits::{GUARD_AGAIN, GUARD_TICK};
use crate::request::{BATCH_PATH, Question, Request};
use crate::targets::{FullAnswer, Target};

/// How callers are moved over.
#[derive(Clone, Debug)]
pub struct CutoverSettings {
    /// How long a caller may wait for the candidate before the primary is asked.
    pub timeout: Duration,
    /// What the candidate must not exceed.
    pub bounds: Bounds,
    /// Whom it may answer.
    pub admission: Admission,
    /// What its share is to become by itself.
    pub schedule: Schedule,
}

/// Why the candidate's share is not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CutoverError {
    /// It would be forgotten.
    #[error(
        "the candidate's share needs a --report folder: without one, a restart would forget that it had to go back"
    )]
    Forgetful,
    /// It cannot be kept.
    #[error(transparent)]
    Decision(#[from] DecisionError),
}

/// Who serves whom.
pub struct Cutover {
    share: AtomicU32,
    candidate: Target,
    served: AtomicU64,
    fell_back: AtomicU64,
    settings: CutoverSettings,
    admitted: Admitted,
    tick: Mutex<Tick>,
    decision: Mutex<Decision>,
    /// Where decisions are kept; without a place the share is never raised above 0 %.
    kept: Option<DecisionFile>,
    evidence: Arc<Evidence>,
}

/// Whether a caller's connection is to stay once it has its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Persistence {
    /// It is.
    Stays,
    /// It is not.
    Closes,
}

/// An answer of the candidate's, for a caller and for the judge.
pub struct Served {
    /// A whole HTTP/1.1 response.
    pub bytes: Bytes,
    /// What it says.
    pub answer: Answer,
}

impl Cutover {
    /// Serves `share` of the callers at the start, or what was decided in an earlier run.
    ///
    /// # Errors
    /// Where what was decided cannot be read or kept.
    pub fn new(
        candidate: &TargetAddress,
        settings: CutoverSettings,
        share: Share,
        kept: Option<DecisionFile>,
        evidence: Arc<Evidence>,
    ) -> Result<Cutover, CutoverError> {
        let decision = match &kept {
            Some(file) => file.begin(share)?,
            None if share > Share::NONE || !settings.schedule.steps.is_empty() => {
                return Err(CutoverError::Forgetful);
            }
            None => Decision::default(),
        };
        if let Some(why) = &decision.rolled_back {
            tracing::error!(
                "cutover: the share stays at 0% until it is raised by hand: in an earlier run, {why}"
            );
        }
        if let Some(file) = &kept {
            file.keep(&decision)?;
        }
        Ok(Cutover {
            share: AtomicU32::new(decision.share),
            candidate: Target::new(candidate),
            served: AtomicU64::new(0),
            fell_back: AtomicU64::new(0),
            admitted: Admitted::new(settings.admission.clone()),
            settings,
            tick: Mutex::new(Tick::default()),
            decision: Mutex::new(decision),
            kept,
            evidence,
        })
    }

    /// The candidate's share now.
    pub fn share(&self) -> Share {
        Share::from_parts(self.share.load(Ordering::Relaxed))
    }

    /// Whether any caller may be the candidate's at the moment: otherwise no request waits for its body.
    pub fn serves(&self) -> bool {
        self.share() > Share::NONE
    }

    /// Sets it by hand: whoever does this has seen why it went back, if it did. What is scheduled does not come any more.
    ///
    /// # Errors
    /// Where the decision cannot be kept: the share is as it was, unless it was to become smaller.
    pub fn set_share(&self, share: Share) -> Result<(), CutoverError> {
        self.decide(|decision| {
            (decision.share, decision.rolled_back, decision.is_schedule_over) = (share.parts(), None, true);
        })
    }

    fn roll_back(&self, why: String) {
        let kept = self.decide(|decision| {
            (decision.share, decision.rolled_back, decision.is_schedule_over) = (0, Some(why), true);
        });
        if let Err(error) = kept {
            tracing::error!("cutover: a restart may forget that the share went back: {error}");
        }
    }

    /// Changes what holds: kept before it is done where callers come to the candidate, and after it where they leave.
    fn decide(&self, change: impl FnOnce(&mut Decision)) -> Result<(), CutoverError> {
        let mut decision = self.decision();
        let mut next = decision.clone();
        change(&mut next);
        let raises = next.share > decision.share;
        let keep = || match &self.kept {
            Some(file) => file.keep(&next).map_err(CutoverError::Decision),
            None if next.share > 0 => Err(CutoverError::Forgetful),
            None => Ok(()),
        };
        if raises {
            keep()?;
        }
        self.share.store(next.share, Ordering::Relaxed);
        let kept = if raises { Ok(()) } else { keep() };
        *decision = next;
        kept
    }

    fn decision(&self) -> MutexGuard<'_, Decision> {
        self.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The primary has answered a request, which may have been asked for a caller whom the candidate served.
    pub fn learn(&self, request: &Request, answer: &Answer) {
        if self.serves() && self.is_candidates(request) {
            self.admitted.learn(request, answer);
        }
    }

    /// Whether a request may be the candidate's, as far as its head tells.
    pub fn may_serve(&self, method: &Method, target: &str) -> bool {
        self.serves() && (method == Method::GET || (method == Method::POST && target.starts_with(BATCH_PATH)))
    }

    /// Whether a request is the candidate's to answer, and the primary would not refuse it.
    pub fn wants(&self, request: &Request) -> bool {
        self.is_candidates(request) && self.admitted.admits(request)
    }

    /// Whether a request's users are the candidate's. A batch is where all of its users are.
    fn is_candidates(&self, request: &Request) -> bool {
        let share = self.share();
        let users = request.question.users();
        request.question != Question::Other
            && !users.is_empty()
            && users.iter().all(|user| share.holds(*user))
    }

    /// Asks the candidate on a caller's behalf.
    ///
    /// # Errors
    /// Where the primary must answer instead.
    pub async fn serve(&self, request: &Request, persistence: Persistence) -> Result<Served, Failure> {
        let mut answer = pin!(self.ask(request));
        // What takes too long counts when it does, not when it has ended.
        let late = Duration::from_micros(self.settings.bounds.p99_us);
        let answer = match tokio::time::timeout(late, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                self.tick().late += 1;
                answer.await
            }
        };
        match &answer {
            Ok(_) => self.evidence.heard(Side::Candidate),
            Err(failure) => self.evidence.unheard(Side::Candidate, failure),
        }
        let mut tick = self.tick();
        tick.asked += 1;
        match answer {
            Ok(full) => {
                let moment = full.answer.at.answered_us;
                let is_old = |as_of_us: i64| moment.saturating_sub(as_of_us) > self.settings.bounds.age_us;
                tick.old += u64::from(full.answer.stated.as_of_us.is_some_and(is_old));
                self.served.fetch_add(1, Ordering::Relaxed);
                Ok(Served { bytes: response(&full, persistence), answer: full.answer })
            }
            Err(failure) => {
                tick.failed += 1;
                self.fell_back.fetch_add(1, Ordering::Relaxed);
                Err(failure)
            }
        }
    }

    async fn ask(&self, request: &Request) -> Result<FullAnswer, Failure> {
        let full = self.candidate.ask_in_full(request, self.settings.timeout).await?;
        match full.answer.status {
            status @ (429 | 500..) => {
                let detail = format!("it answered {status}");
                Err(Failure { reason: Reason::CandidateStatus(status), detail })
            }
            _ => Ok(full),
        }
    }

    fn tick(&self) -> MutexGuard<'_, Tick> {
        self.tick.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For reports.
    pub fn summary(&self) -> ServeSummary {
        ServeSummary {
            candidate_percent: self.share().percent(),
            served: self.served.load(Ordering::Relaxed),
            fell_back: self.fell_back.load(Ordering::Relaxed),
            rolled_back: self.decision().rolled_back.clone(),
        }
    }
}

/// Follows the schedule, and takes the share back where the candidate does not do well. Never ends.
pub async fn watch(cutover: Arc<Cutover>) {
    let mut guard = Guard::new(cutover.settings.bounds);
    let mut steps = Steps { started: Instant::now(), since: Progress::default(), is_told: false };
    let mut before = Progress::default();
    let mut has_served = cutover.share() > Share::NONE;
    let mut ticks = tokio::time::interval(GUARD_TICK);
    loop {
        ticks.tick().await;
        // What cannot be seen now is looked at a moment later, and not a tick later: whoever asks for the state all the time would have
        // the guard look hardly ever.
        let now = loop {
            match cutover.evidence.progress() {
                Some(now) => break now,
                None => tokio::time::sleep(GUARD_AGAIN).await,
            }
        };
        steps.take(&cutover, now);
        let counted = std::mem::take(&mut *cutover.tick());
        let tick = counted_since(&before, &now, counted);
        before = now;
        let share = cutover.share();
        // The tick in which it begins to serve also holds what was found out about before.
        let serves = share > Share::NONE;
        let is_beginning = serves && !has_served;
        has_served = serves;
        if !serves || is_beginning {
            guard.forget();
        } else if let Some(why) = guard.look(tick) {
            tracing::error!("cutover: the candidate's share goes back from {share} to 0%: {why}");
            cutover.roll_back(why);
            guard.forget();
            has_served = false;
        }
    }
}

/// What the share is to become by itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    /// So long after the start, this share.
    pub steps: Vec<(Duration, Share)>,
    /// Compared answers, all the same, before each step.
    pub answers_min: u64,
}

/// Where a schedule stands.
struct Steps {
    started: Instant,
    /// What was known when the last step was taken.
    since: Progress,
    /// That a step is held back has been said.
    is_told: bool,
}

impl Steps {
    /// Takes the next step if it is due and what was compared since the last one allows it.
    fn take(&mut self, cutover: &Cutover, now: Progress) {
        // Whoever wants to go on after a breach, or has decided otherwise, says so.
        let Decision { is_schedule_over, steps, .. } = *cutover.decision();
        let schedule = &cutover.settings.schedule;
        let Some((after, share)) = schedule.steps.get(steps).filter(|_| !is_schedule_over) else {
            return;
        };
        if self.started.elapsed() < *after {
            return;
        }
        if let Some(why) = self.held_by(cutover, &now) {
            if !std::mem::replace(&mut self.is_told, true) {
                tracing::warn!("cutover: the schedule's step to {share} waits: {why}");
            }
            return;
        }
        let from = cutover.share();
        let decided =
            cutover.decide(|decision| (decision.share, decision.steps) = (share.parts(), steps + 1));
        match decided {
            Ok(()) => {
                tracing::info!("cutover: the schedule sets the candidate's share to {share}, from {from}")
            }
            Err(error) => tracing::error!("cutover: the schedule cannot go on: {error}"),
        }
        (self.since, self.is_told) = (now, false);
    }

    fn held_by(&self, cutover: &Cutover, now: &Progress) -> Option<String> {
        let CutoverSettings { bounds, schedule, .. } = &cutover.settings;
        let (same, least) = (now.same - self.since.same, schedule.answers_min);
        let counted = counted_since(&self.since, now, Tick::default());
        let few = || format!("{same} of {least} answers have been compared since the last one");
        bounds.breach(&counted).or_else(|| (same < least).then(few))
    }
}

/// What the judge has found since then, beside what was counted on the callers' path.
fn counted_since(before: &Progress, now: &Progress, counted: Tick) -> Tick {
    let since = |verdict| now.verdicts.of(verdict) - before.verdicts.of(verdict);
    let dropped = since(Verdict::Dropped);
    let all: u64 = Verdict::ALL.into_iter().map(since).sum();
    // Going back to a primary that does not answer would help nobody.
    let without = now.without_primary - before.without_primary;
    Tick {
        compared: all - dropped - without,
        mismatches: since(Verdict::Mismatch),
        errors: since(Verdict::CandidateError),
        not_comparable: since(Verdict::NotComparable) - without,
        unproven: since(Verdict::Unproven),
        dropped,
        ..counted
    }
}

fn response(full: &FullAnswer, persistence: Persistence) -> Bytes {
    let body = &full.answer.body;
    let mut out = BytesMut::with_capacity(512 + body.len());
    let phrase = StatusCode::from_u16(full.answer.status).ok().and_then(|status| status.canonical_reason());
    out.put_slice(format!("HTTP/1.1 {} {}\r\n", full.answer.status, phrase.unwrap_or_default()).as_bytes());
    for (name, value) in &full.headers {
        out.put_slice(name.as_str().as_bytes());
        out.put_slice(b": ");
        out.put_slice(value.as_bytes());
        out.put_slice(b"\r\n");
    }
    if persistence == Persistence::Closes {
        out.put_slice(b"connection: close\r\n");
    }
    out.put_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    out.put_slice(body);
    out.freeze()
}
