//! Moves callers over: a share of the users is answered by the candidate, as long as it does well. What it fails is
//! answered by the primary, and what it answers is compared like everything else.

mod guard;
mod share;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

pub use guard::{Bounds, Guard, Tick};
pub use share::{Share, ShareError};

use crate::answer::{Answer, rfc3339};
use crate::evidence::{Evidence, ServeSummary};
use crate::judge::{Failure, Reason};
use crate::limits::GUARD_TICK;
use crate::mirror::{FullAnswer, HttpTarget, Target, TargetAddress, within};
use crate::request::{BATCH_PATH, Question, Request};

/// How callers are moved over.
#[derive(Clone, Debug)]
pub struct CutoverSettings {
    /// The candidate's share at the start.
    pub share: Share,
    /// How long a caller may wait for the candidate before the primary is asked.
    pub timeout: Duration,
    /// What the candidate must not exceed.
    pub bounds: Bounds,
}

/// Who serves whom.
pub struct Cutover {
    share: AtomicU32,
    /// Whether any caller may ever be served: otherwise no request waits for its body.
    is_on: AtomicBool,
    candidate: Candidate,
    timeout: Duration,
    served: AtomicU64,
    fell_back: AtomicU64,
    bounds: Bounds,
    tick: Mutex<Tick>,
    rolled_back: Mutex<Option<String>>,
    /// Somebody has decided about the share: what was scheduled before that does not.
    is_schedule_over: AtomicBool,
}

enum Candidate {
    Http(HttpTarget),
    Native(Target),
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
    /// Serves what the settings say.
    pub fn new(candidate: &TargetAddress, settings: &CutoverSettings) -> Cutover {
        let candidate = match candidate {
            TargetAddress::Http(authority) => Candidate::Http(HttpTarget::new(authority)),
            other => Candidate::Native(Target::new(other)),
        };
        Cutover {
            share: AtomicU32::new(settings.share.parts()),
            is_on: AtomicBool::new(settings.share > Share::NONE),
            candidate,
            timeout: settings.timeout,
            bounds: settings.bounds,
            served: AtomicU64::new(0),
            fell_back: AtomicU64::new(0),
            tick: Mutex::new(Tick::default()),
            rolled_back: Mutex::new(None),
            is_schedule_over: AtomicBool::new(false),
        }
    }

    /// The candidate's share now.
    pub fn share(&self) -> Share {
        Share::from_parts(self.share.load(Ordering::Relaxed))
    }

    /// Sets it by hand: whoever does this has seen why it went back, if it did. What is scheduled does not come any more.
    pub fn set_share(&self, share: Share) {
        self.is_schedule_over.store(true, Ordering::Relaxed);
        *self.rolled_back() = None;
        self.put_share(share);
    }

    fn put_share(&self, share: Share) {
        self.share.store(share.parts(), Ordering::Relaxed);
        self.is_on.store(share > Share::NONE, Ordering::Relaxed);
    }

    fn roll_back(&self, why: String) {
        self.put_share(Share::NONE);
        self.is_schedule_over.store(true, Ordering::Relaxed);
        *self.rolled_back() = Some(why);
    }

    fn rolled_back(&self) -> MutexGuard<'_, Option<String>> {
        self.rolled_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request may be the candidate's, as far as its head tells.
    pub fn may_serve(&self, method: &Method, target: &str) -> bool {
        self.is_on.load(Ordering::Relaxed)
            && (method == Method::GET || (method == Method::POST && target.starts_with(BATCH_PATH)))
    }

    /// Whether a request is the candidate's to answer. A batch is where all of its users are.
    pub fn wants(&self, request: &Request) -> bool {
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
        let mut answer = pin!(within(self.timeout, self.ask(request)));
        // What takes too long counts when it does, not when it has ended.
        let late = Duration::from_micros(self.bounds.p99_us);
        let answer = match tokio::time::timeout(late, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                self.tick().late += 1;
                answer.await
            }
        };
        let mut tick = self.tick();
        tick.asked += 1;
        match answer {
            Ok(full) => {
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
        let full = match &self.candidate {
            Candidate::Http(target) => target.ask(request).await?,
            Candidate::Native(target) => target.ask(request, self.timeout).await.map(with_headers)?,
        };
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
            rolled_back: self.rolled_back().clone(),
        }
    }
}

/// Follows the schedule, and takes the share back where the candidate does not do well. Never ends.
pub async fn watch(cutover: Arc<Cutover>, evidence: Arc<Evidence>, schedule: Vec<(Duration, Share)>) {
    let started = Instant::now();
    let mut guard = Guard::new(cutover.bounds);
    let mut schedule = schedule.into_iter().peekable();
    let mut before = evidence.progress();
    let mut has_served = cutover.share() > Share::NONE;
    let mut ticks = tokio::time::interval(GUARD_TICK);
    loop {
        ticks.tick().await;
        let is_due = |step: &(Duration, Share)| started.elapsed() >= step.0;
        while let Some((_, share)) = schedule.next_if(is_due) {
            // Whoever wants to go on after a breach, or has decided otherwise, says so.
            if !cutover.is_schedule_over.load(Ordering::Relaxed) {
                let now = cutover.share();
                tracing::info!("cutover: the schedule sets the candidate's share to {share}, from {now}");
                cutover.put_share(share);
            }
        }
        let now = evidence.progress();
        let counted = std::mem::take(&mut *cutover.tick());
        let tick = Tick {
            compared: now.ruled - before.ruled,
            mismatches: now.mismatches - before.mismatches,
            ..counted
        };
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

/// The headers that HTTP would have had.
fn with_headers(answer: Answer) -> FullAnswer {
    let mut headers = HeaderMap::new();
    let kind = if answer.status == 200 { "application/json" } else { "application/problem+json" };
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let as_of = answer.stated.as_of_us.map(rfc3339);
    let version = answer.stated.version.map(|version| version.to_string());
    let stated = [("florin-as-of", as_of), ("florin-version", version)];
    for (name, value) in stated {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    if answer.stated.is_quarantined {
        headers.insert("florin-quarantined", HeaderValue::from_static("true"));
    }
    FullAnswer { answer, headers }
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
