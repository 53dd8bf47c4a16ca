//! One request's two answers, from the first look to the verdict. Pure: whoever drives it asks the sides and tells it
//! the time.

use florin_schema::UserId;

use super::compare::{Comparison, compare};
use super::history::{Aspect, History};
use super::pair::{Context, Limits, Next, Pair, Settled, is_ahead_alone, reason_of};
use super::path::Path;
use super::rules::Rules;
use super::sides::Side;
use super::verdict::{ByteComparison, Reason, Ruling, Verdict};
use crate::answer::{Answer, Form, Reading};
use crate::json::Value;
use crate::request::{Freshness, Question, Request};

/// What every case of a run is judged by.
#[derive(Clone, Debug)]
pub struct JudgeSettings {
    /// Agreed differences.
    pub rules: Rules,
    /// Budgets.
    pub limits: Limits,
}

/// What to do next about a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Ask a side again, and tell [`Case::answered`].
    Ask(Ask),
    /// It is decided.
    Done(Ruling),
}

/// A question to one side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Whom.
    pub side: Side,
    /// The caller's own question, or one user's balance out of a batch.
    pub what: What,
    /// The answer must hold at least so many of the user's transactions; 0 asks nothing.
    pub min_version: u64,
}

/// What is asked again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// What the caller asked.
    Same,
    /// One user's balance.
    Balance(UserId),
}

/// Why a side gave no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// By its name.
    pub reason: Reason,
    /// In words.
    pub detail: String,
}

impl Failure {
    /// What came is no answer.
    pub fn protocol(error: &dyn std::error::Error) -> Failure {
        Failure { reason: Reason::Protocol, detail: error.to_string() }
    }
}

/// A request whose verdict is open.
#[derive(Debug)]
pub struct Case {
    question: Question,
    freshness: Freshness,
    /// The newest whole answers: what a report shows.
    pub primary: Answer,
    /// The candidate's.
    pub candidate: Answer,
    /// Why the candidate gave no answer when it was asked again.
    pub failure: Option<Failure>,
    open: Vec<Pair>,
    settled: Vec<Settled>,
    /// Of a batch: what stands around the accounts.
    frame: Comparison,
    asking: Option<Ask>,
    deadline_us: i64,
}

impl Case {
    /// Takes both first answers to `request`.
    pub fn open(
        request: &Request,
        primary: Answer,
        candidate: Answer,
        judge_settings: &JudgeSettings,
    ) -> Case {
        let question = request.question.clone();
        let deadline_us =
            primary.at.answered_us.max(candidate.at.answered_us) + judge_settings.limits.budget_us;
        let mut frame = Comparison::default();
        let is_plain = are_identical(&primary, &candidate)
            && !is_flagged(&question, &primary)
            && !is_ahead_alone(&primary, &candidate, judge_settings.limits.clock_skew_us);
        let open = if is_plain { Vec::new() } else { pairs(&question, &primary, &candidate, &mut frame) };
        Case {
            freshness: request.freshness,
            question,
            primary,
            candidate,
            failure: None,
            open,
            settled: Vec::new(),
            frame,
            asking: None,
            deadline_us,
        }
    }

    /// What is next, at `now_us`. After an [`Ask`], not before its answer.
    pub fn step(&mut self, judge_settings: &JudgeSettings, history: &mut History, now_us: i64) -> Step {
        if self.open.is_empty() && self.settled.is_empty() {
            if !self.is_outdated(history) {
                return self.identical(history);
            }
            self.open = pairs(&self.question, &self.primary, &self.candidate, &mut self.frame);
        }
        while let Some(pair) = self.open.last_mut() {
            let mut context = Context {
                question: &self.question,
                rules: &judge_settings.rules,
                limits: judge_settings.limits,
                history,
                freshness: self.freshness,
                now_us,
                deadline_us: self.deadline_us,
            };
            match pair.look(&mut context) {
                Next::Ask(side, min_version) => {
                    let what = match (&self.question, pair.user) {
                        (Question::Balances(_), Some(user)) => What::Balance(user),
                        _ => What::Same,
                    };
                    let ask = Ask { side, what, min_version };
                    self.asking = Some(ask);
                    return Step::Ask(ask);
                }
                Next::Settled(settled) => {
                    self.settled.push(settled);
                    self.open.pop();
                }
            }
        }
        Step::Done(self.ruling(judge_settings))
    }

    /// Takes the answer to the question of the last [`Step::Ask`].
    ///
    /// # Panics
    /// Where nothing was asked.
    pub fn answered(&mut self, answer: Result<Answer, Failure>) {
        let ask = self.asking.take().expect("an answer follows a question");
        let pair = self.open.last_mut().expect("a question belongs to an open pair");
        match (answer, ask.side) {
            (Ok(answer), side) => {
                pair.replace(side, reading(&answer, ask.what, &self.question));
                if ask.what == What::Same {
                    match side {
                        Side::Primary => self.primary = answer,
                        Side::Candidate => self.candidate = answer,
                    }
                }
            }
            (Err(failure), Side::Candidate) => {
                let settled = Settled {
                    verdict: Verdict::CandidateError,
                    reason: Some(failure.reason),
                    comparison: Comparison::default(),
                    rules: Vec::new(),
                    asks: 1,
                    user: pair.user,
                    version: None,
                };
                self.settled.push(settled);
                self.open.pop();
                self.failure = Some(failure);
            }
            // The next look finds the same readings, and asks again within the budget.
            (Err(_), Side::Primary) => {}
        }
    }

    /// Whether both sides say the same that was true once: a newer version has been shown to callers. Which of them claims what about
    /// its age then has to be looked at.
    fn is_outdated(&self, history: &History) -> bool {
        let shown = self.question.user().and_then(|user| history.shown(user));
        shown.is_some_and(|shown| self.version().unwrap_or(0) < shown.version)
    }

    /// Of which version both are, where they are identical and one of them says it.
    fn version(&self) -> Option<u64> {
        self.primary.stated.version.or(self.candidate.stated.version).filter(|version| *version > 0)
    }

    /// Nothing that the judge looks at differs.
    fn identical(&self, history: &mut History) -> Step {
        let version = self.version();
        let known = version.or((self.primary.status == 404).then_some(0));
        if let (Some(user), Some(version)) = (self.question.user(), known) {
            history.note(user, version, self.primary.at.answered_us);
            if version > 0 && self.primary.is_ok() {
                history.keep(user, Aspect::of(&self.question), version, || self.primary.body.clone());
            }
        }
        let has_content = self.has_content();
        let accounts = match &self.question {
            // Unread as it is, a batch tells how many of its accounts there are.
            Question::Balances(users) if has_content && are_all_ok(&self.primary, users.len()) => {
                users.iter().map(|user| (*user, None)).collect()
            }
            Question::Balances(_) | Question::Other => Vec::new(),
            question => {
                question.user().filter(|_| has_content).map(|user| (user, version)).into_iter().collect()
            }
        };
        let bytes = self.bytes(Verdict::Equal, &Comparison::default());
        Step::Done(Ruling { bytes, has_content, accounts, ..Ruling::plain(Verdict::Equal, None) })
    }

    /// Whether both sides have answered the question, with something to compare.
    fn has_content(&self) -> bool {
        [&self.primary, &self.candidate].iter().all(|answer| answer.is_ok() && !answer.body.is_empty())
    }

    fn ruling(&self, judge_settings: &JudgeSettings) -> Ruling {
        let mut frame = self.frame.clone();
        let mut rules = judge_settings.rules.excuse(self.question.endpoint(), &mut frame);
        let (mut verdict, mut reason) = match (frame.is_same(), rules.is_empty()) {
            (false, _) => (Verdict::Mismatch, Some(reason_of(&frame.differences))),
            (true, false) => (Verdict::Explained, None),
            (true, true) => (Verdict::Equal, None),
        };
        let mut whole = frame;
        let mut asks = 0;
        let mut accounts = Vec::new();
        for settled in &self.settled {
            if settled.verdict.severity() > verdict.severity()
                || (settled.verdict == verdict && reason.is_none())
            {
                (verdict, reason) = (settled.verdict, settled.reason);
            }
            for d in &settled.comparison.differences {
                whole.push(&d.path, d.kind, d.primary.clone(), d.candidate.clone());
            }
            whole.more += settled.comparison.more;
            whole.key_order |= settled.comparison.key_order;
            whole.spelling |= settled.comparison.spelling;
            rules.extend(&settled.rules);
            asks += settled.asks;
            if let (Some(user), Some(version), true) = (settled.user, settled.version, settled.is_compared())
            {
                accounts.push((user, Some(version)));
            }
        }
        rules.sort_unstable();
        rules.dedup();
        whole.trim();
        let bytes = self.bytes(verdict, &whole);
        Ruling {
            verdict,
            reason,
            differences: whole.differences,
            more: whole.more,
            rules,
            bytes,
            asks,
            has_content: self.has_content() && verdict.is_compared(),
            accounts,
        }
    }

    /// Accounts of a batch that have caught up did so one by one: there never were two batches of the same versions.
    fn has_moved_on(&self, verdict: Verdict) -> bool {
        matches!(verdict, Verdict::CaughtUp | Verdict::Unproven)
            && matches!(self.question, Question::Balances(_))
    }

    fn bytes(&self, verdict: Verdict, comparison: &Comparison) -> ByteComparison {
        let (primary, candidate) = (&self.primary, &self.candidate);
        let is_same_body = primary.body == candidate.body;
        if candidate.form == Form::Native {
            ByteComparison::Native
        } else if is_same_body && primary.packed == candidate.packed {
            ByteComparison::Identical
        } else if !matches!(verdict, Verdict::Equal | Verdict::CaughtUp | Verdict::Unproven)
            || self.has_moved_on(verdict)
        {
            ByteComparison::Different
        } else if comparison.key_order {
            ByteComparison::KeyOrder
        } else if is_same_body {
            ByteComparison::Coding
        } else {
            ByteComparison::Spelling
        }
    }
}

/// The same status, the same bytes, as much said about its version and its age; and over HTTP, the same kind of body, packed the same
/// way. A native answer has only its content, as JSON: for it the primary's body has to be some.
fn are_identical(primary: &Answer, candidate: &Answer) -> bool {
    let (p, c) = (&primary.stated, &candidate.stated);
    let are_alike = primary.status == candidate.status
        && primary.body == candidate.body
        && (p.as_of_us.is_none() || c.as_of_us.is_some())
        && p.is_quarantined == c.is_quarantined;
    are_alike
        && match candidate.form {
            Form::Http => {
                primary.form == Form::Http
                    && p.version == c.version
                    && p.content_type == c.content_type
                    && p.content_encoding == c.content_encoding
                    && p.compared == c.compared
                    && primary.packed == candidate.packed
            }
            Form::Native => (p.version.is_none() || p.version == c.version) && !primary.body.is_empty(),
        }
}

/// Whether an answer says that transactions are missing, of all that it holds or of an entry.
fn is_flagged(question: &Question, answer: &Answer) -> bool {
    let has_flag = || answer.body.windows(FLAGGED.len()).any(|bytes| bytes == FLAGGED);
    answer.stated.is_quarantined || (matches!(question, Question::Balances(_)) && has_flag())
}

/// How the contract spells the flag of an entry.
const FLAGGED: &[u8] = br#""quarantined":true"#;

/// Whether a batch's answer has a balance for each of so many users.
fn are_all_ok(answer: &Answer, users: usize) -> bool {
    let found = answer.body.windows(STATUS_OK.len()).filter(|bytes| *bytes == STATUS_OK).count();
    found == users
}

/// How the contract spells an entry that has a balance.
const STATUS_OK: &[u8] = br#""status":"OK""#;

/// Of a batch, each account for itself; of everything else, the whole.
fn pairs(question: &Question, primary: &Answer, candidate: &Answer, frame: &mut Comparison) -> Vec<Pair> {
    if let Question::Balances(users) = question
        && let (Some(p), Some(c)) = (primary.entries(users.len()), candidate.entries(users.len()))
    {
        compare_frames(primary, candidate, frame);
        let sides = users.iter().zip(p).zip(c).enumerate();
        let pairs = sides.map(|(index, ((user, p), c))| {
            let path = Path::ROOT.key("balances").index(index).key("balance");
            Pair::new(path, Some(*user), p, c)
        });
        return pairs.collect();
    }
    vec![Pair::new(Path::ROOT, question.user(), primary.reading(question), candidate.reading(question))]
}

/// Everything of a batch that is no account, for each of those is judged by itself: whose entry it is, and fields that the contract does not have.
fn compare_frames(primary: &Answer, candidate: &Answer, into: &mut Comparison) {
    let (Ok(mut p), Ok(mut c)) = (primary.content(), candidate.content()) else { return };
    for content in [&mut p, &mut c] {
        let Value::Object(fields) = content else { continue };
        for (_, entries) in fields.iter_mut().filter(|(key, _)| key == "balances") {
            let Value::List(entries) = entries else { continue };
            for entry in entries {
                if let Value::Object(fields) = entry {
                    fields.retain(|(key, _)| !matches!(key.as_str(), "balance" | "status" | "quarantined"));
                }
            }
        }
    }
    compare(&Path::ROOT, &p, &c, into);
}

/// What a new answer says of the pair that was asked about.
fn reading(answer: &Answer, what: What, question: &Question) -> Reading {
    match what {
        What::Same => answer.reading(question),
        What::Balance(user) => {
            let mut reading = answer.reading(&Question::Balance(user));
            // A batch's entry has no words for a refusal, and no headers.
            reading.stated = None;
            if reading.status != 200 {
                reading.content = Ok(Value::Null);
            }
            reading
        }
    }
}
