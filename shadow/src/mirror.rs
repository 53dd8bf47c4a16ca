//! Behind the callers' backs: a bounded queue, and tasks that ask the candidate, let the judge decide, and ask again
//! what it wants to know. Nothing here can make a caller wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::answer::Answer;
use crate::budget::Held;
use crate::clock::now_us;
use crate::cutover::Cutover;
use crate::evidence::{Evidence, Finding};
use crate::judge::{
    Ask, Case, Failure, History, JudgeSettings, Reason, Ruling, Side, Sides, Step, Verdict, What,
};
use crate::limits::{CATCH_UP_PAUSE, FIRST_ASK_MARGIN, GATHERING};
use crate::request::Request;
use crate::targets::{Target, plain};

/// What went over a caller's connection.
#[derive(Debug)]
pub struct Exchange {
    /// What was asked.
    pub request: Request,
    /// The primary's answer; none where the candidate's was served.
    pub primary: Option<Answer>,
    /// What the candidate said, where it was asked on the caller's path.
    pub candidate: Option<Result<Answer, Failure>>,
    /// The room that the copies take.
    _held: Option<Held>,
}

impl Exchange {
    /// What passed, and the room that its copies take.
    pub fn new(
        request: Request,
        primary: Option<Answer>,
        candidate: Option<Result<Answer, Failure>>,
        held: Held,
    ) -> Exchange {
        Exchange { request, primary, candidate, _held: Some(held) }
    }

    /// When it was asked: by its first answer, or now.
    pub fn asked_us(&self) -> i64 {
        let served = self.candidate.as_ref().and_then(|answer| answer.as_ref().ok());
        self.primary.as_ref().or(served).map_or_else(now_us, |answer| answer.at.asked_us)
    }

    /// A request that both sides are still to be asked.
    pub fn asked_anew(request: Request) -> Exchange {
        Exchange { request, primary: None, candidate: None, _held: None }
    }
}

/// How exchanges are compared.
#[derive(Clone, Debug)]
pub struct MirrorSettings {
    /// Rules and budgets.
    pub judge_settings: JudgeSettings,
    /// Exchanges that wait.
    pub queue_max: usize,
    /// Exchanges being compared.
    pub in_flight_max: usize,
    /// How long a side may take to answer.
    pub timeout: Duration,
    /// How long a server is asked to hold a request until it has a version.
    pub wait_ms: u32,
    /// Of the requests, this share is asked of the primary twice.
    pub noise_share: f64,
}

/// Asks and compares.
pub struct Comparer {
    targets: Sides<Target>,
    settings: MirrorSettings,
    history: Mutex<History>,
    evidence: Arc<Evidence>,
    /// Who learns whom the primary answers; nobody where the candidate serves nobody.
    cutover: Option<Arc<Cutover>>,
}

/// The way in: never waits.
#[derive(Clone)]
pub struct Mirror {
    queue: mpsc::UnboundedSender<(Exchange, OwnedSemaphorePermit)>,
    /// As many as may wait: in the queue, or for a user's first question.
    places: Arc<Semaphore>,
    evidence: Arc<Evidence>,
}

impl Mirror {
    /// Takes an exchange that has been offered as evidence, or drops it and counts that.
    pub fn take(&self, exchange: Exchange) {
        let endpoint = exchange.request.question.endpoint();
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        if place.is_none_or(|place| self.queue.send((exchange, place)).is_err()) {
            self.evidence.dropped(endpoint, Reason::QueueFull);
        }
    }
}

/// Starts taking exchanges, on the current runtime. The task ends when every [`Mirror`] is gone and all that it took has
/// been compared.
pub fn start(comparer: Arc<Comparer>) -> (Mirror, tokio::task::JoinHandle<()>) {
    let (queue, waiting) = mpsc::unbounded_channel();
    let places = Arc::new(Semaphore::new(comparer.settings.queue_max));
    let mirror = Mirror { queue, places: Arc::clone(&places), evidence: Arc::clone(&comparer.evidence) };
    (mirror, tokio::spawn(dispatch(comparer, waiting, places)))
}

async fn dispatch(
    comparer: Arc<Comparer>,
    mut waiting: mpsc::UnboundedReceiver<(Exchange, OwnedSemaphorePermit)>,
    places: Arc<Semaphore>,
) {
    let MirrorSettings { in_flight_max, queue_max, .. } = comparer.settings;
    let permits = Arc::new(Semaphore::new(in_flight_max));
    let mut exchanges = Vec::new();
    while waiting.recv_many(&mut exchanges, in_flight_max).await > 0 {
        for (exchange, place) in exchanges.drain(..) {
            let (comparer, permits) = (Arc::clone(&comparer), Arc::clone(&permits));
            let permit = async move || permits.acquire_owned().await.expect("the semaphore is never closed");
            if let Some(early) = comparer.is_early_by(&exchange) {
                tokio::spawn(async move {
                    tokio::time::sleep(early).await;
                    let _permit = permit().await;
                    drop(place);
                    comparer.compare(exchange).await;
                });
                continue;
            }
            let permit = permit().await;
            drop(place);
            tokio::spawn(async move {
                comparer.compare(exchange).await;
                drop(permit);
            });
        }
        tokio::time::sleep(GATHERING).await;
    }
    // All of them back: nothing waits or is being compared any more.
    for (semaphore, all) in [(places, queue_max), (permits, in_flight_max)] {
        let _ = semaphore.acquire_many(u32::try_from(all).expect("both are checked to be small")).await;
    }
}

impl Comparer {
    /// Asks nobody yet; whom, says the evidence.
    pub fn new(settings: MirrorSettings, evidence: Arc<Evidence>, cutover: Option<Arc<Cutover>>) -> Comparer {
        let targets = evidence.sides.map(Target::new);
        Comparer { targets, settings, history: Mutex::default(), evidence, cutover }
    }

    /// How long the candidate is not to be asked yet. Of a user who is new here nobody knows an older version: what the candidate says
    /// of one may be invented. But once clocks cannot explain it any more, a view that calls itself fresh has to hold what the primary has
    /// shown, and one that does not says so itself.
    fn is_early_by(&self, exchange: &Exchange) -> Option<Duration> {
        let primary = exchange.primary.as_ref().filter(|_| exchange.candidate.is_none())?;
        let (now_us, users) = (now_us(), exchange.request.question.users());
        let met_us = {
            let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            users.iter().map(|user| history.meet(*user, primary.at.answered_us)).max()?
        };
        let margin_us = i64::try_from(FIRST_ASK_MARGIN.as_micros()).expect("a moment");
        let due_us = met_us + self.settings.judge_settings.limits.clock_skew_us + margin_us;
        u64::try_from(due_us - now_us).ok().map(Duration::from_micros)
    }

    /// Asks a side.
    async fn put(&self, side: Side, request: &Request) -> Result<Answer, Failure> {
        let (target, timeout) = (self.targets.of(side), self.settings.timeout);
        let mut answer = target.ask(request, timeout).await;
        // A connection that ended in the midst of an answer may be one answer's fault, or a side's that is gone.
        if answer.as_ref().is_err_and(|failure| failure.reason == Reason::Cut)
            && let Err(gone) = target.ask(request, timeout).await
            && gone.reason == Reason::Connect
        {
            answer = Err(gone);
        }
        match &answer {
            Ok(_) => self.evidence.heard(side),
            Err(failure) => self.evidence.unheard(side, failure),
        }
        answer
    }

    /// The same, and notes how long it took.
    async fn ask(&self, side: Side, request: &Request) -> Result<Answer, Failure> {
        let answer = self.put(side, request).await?;
        self.evidence.latency(request.question.endpoint(), side, &answer);
        Ok(answer)
    }

    /// Sees an exchange through to its verdict, and returns that.
    pub async fn compare(&self, exchange: Exchange) -> Ruling {
        let request = exchange.request;
        let endpoint = request.question.endpoint();
        if let Some(primary) = &exchange.primary {
            self.evidence.latency(endpoint, Side::Primary, primary);
        }
        if exchange.candidate.is_none() && !self.targets.candidate.can_ask(&request) {
            let ruling = Ruling::plain(Verdict::Dropped, Some(Reason::NoNativeForm));
            return self.rule(&request, ruling, exchange.primary.as_ref(), None, None);
        }
        let primary = async {
            match exchange.primary {
                Some(answer) => plain(answer),
                None => self.ask(Side::Primary, &request).await,
            }
        };
        let candidate = async {
            match exchange.candidate {
                Some(answer) => answer.and_then(plain),
                None => self.ask(Side::Candidate, &request).await,
            }
        };
        let (primary, candidate) = tokio::join!(primary, candidate);
        if let (Some(cutover), Ok(primary)) = (&self.cutover, &primary) {
            cutover.learn(&request, primary);
        }
        match (primary, candidate) {
            (Ok(primary), Ok(candidate)) => {
                let second = self.noise(&request).await;
                if let Some(second) = second {
                    self.evidence.noise(&request, &primary, &second);
                }
                self.judge(&request, primary, candidate).await
            }
            (primary, Err(failure)) => {
                let ruling = Ruling::plain(Verdict::CandidateError, Some(failure.reason));
                self.rule(&request, ruling, primary.as_ref().ok(), None, Some(&failure))
            }
            (Err(failure), Ok(candidate)) => {
                let reason = match failure.reason {
                    Reason::Protocol => Reason::PrimaryUnreadable,
                    Reason::Connect => Reason::PrimaryUnreachable,
                    _ => Reason::PrimaryUnavailable,
                };
                let ruling = Ruling::plain(Verdict::NotComparable, Some(reason));
                self.rule(&request, ruling, None, Some(&candidate), Some(&failure))
            }
        }
    }

    /// Asks the primary a second time, for a share of the requests.
    async fn noise(&self, request: &Request) -> Option<Answer> {
        let share = self.settings.noise_share;
        let is_chosen = share > 0.0 && rand::rng().random_bool(share.min(1.0));
        if !is_chosen {
            return None;
        }
        self.put(Side::Primary, request).await.ok()
    }

    async fn judge(&self, request: &Request, primary: Answer, candidate: Answer) -> Ruling {
        let mut case = Case::open(request, primary, candidate, &self.settings.judge_settings);
        let mut asked = Sides { primary: 0u32, candidate: 0 };
        let ruling = loop {
            let step = {
                let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
                case.step(&self.settings.judge_settings, &mut history, now_us())
            };
            match step {
                Step::Done(ruling) => break ruling,
                Step::Ask(ask) => {
                    let times = asked.of_mut(ask.side);
                    *times += 1;
                    if *times > 1 {
                        // A server that knows `wait_ms` has waited already; one that does not is not to be flooded.
                        tokio::time::sleep(CATCH_UP_PAUSE * (*times).min(10)).await;
                    }
                    let again = self.again(request, ask);
                    case.answered(self.put(ask.side, &again).await);
                }
            }
        };
        self.rule(request, ruling, Some(&case.primary), Some(&case.candidate), case.failure.as_ref())
    }

    fn again(&self, request: &Request, ask: Ask) -> Request {
        // Never less than what the caller insisted on.
        let least = ask.min_version.max(request.freshness.min_version);
        match ask.what {
            What::Same if least == 0 => request.clone(),
            What::Same => request.at_least(least, self.settings.wait_ms),
            What::Balance(user) => request.balance_of(user, least, self.settings.wait_ms),
        }
    }

    fn rule(
        &self,
        request: &Request,
        ruling: Ruling,
        primary: Option<&Answer>,
        candidate: Option<&Answer>,
        failure: Option<&Failure>,
    ) -> Ruling {
        let finding = Finding { request, ruling: &ruling, primary, candidate, failure, now_us: now_us() };
        self.evidence.rule(&finding);
        ruling
    }
}
