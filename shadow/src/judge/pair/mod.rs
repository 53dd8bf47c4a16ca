//! What both sides say of one account: are they of the same version, and if so, do they say the same?
//!
//! Two stores that follow one ledger are never at the same place at the same time. So where versions differ, the older
//! side is asked again, for an answer that holds at least the newer one's version, until they meet or the budget ends:
//!
//! ```text
//!            ┌────────────────────── asked again, at_least(newer) ◀─────┐
//!            ▼                                                          │ older, within the budget
//!      two readings ──▶ does one contradict itself? ──no──▶ same version? ──older, budget ended──▶ not comparable
//!                               │ yes                          │ same
//!                               ▼                              ▼
//!                            mismatch ◀──differs── same content? ──▶ equal · caught up · explained · unproven
//!                                                      │ differs only in a window that may just have moved on
//!                                                      └──▶ both are asked again
//! ```
//!
//! That the candidate says the right thing once it is asked again does not make good what it said first. Its answer of an older
//! version is held against what the primary has shown of that version; where nobody has seen that, it is unproven.

mod claims;

pub(super) use claims::is_ahead_alone;
use florin_schema::UserId;

use super::compare::{Comparison, Difference, DifferenceKind, compare};
use super::history::{Aspect, History};
use super::path::Path;
use super::rules::{RuleIndex, Rules};
use super::sides::{Side, Sides};
use super::verdict::{Reason, Verdict};
use super::windows;
use crate::answer::{Level, Reading, Trust};
use crate::json::Value;
use crate::request::{Freshness, Question};

/// What a judge goes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How far the clocks of primary, candidate and this process may be apart: no claim about time is held against
    /// anybody by less.
    pub clock_skew_us: i64,
    /// How long catching up may take.
    pub budget_us: i64,
    /// Times that one account may be asked again.
    pub asks_max: u32,
}

/// What is known around a pair.
pub(super) struct Context<'a> {
    pub question: &'a Question,
    pub rules: &'a Rules,
    pub limits: Limits,
    pub history: &'a mut History,
    /// What the caller asked of the answer's age.
    pub freshness: Freshness,
    pub now_us: i64,
    pub deadline_us: i64,
}

/// What to do next about a pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Ask this side again, for at least this version.
    Ask(Side, u64),
    /// It is decided.
    Settled(Settled),
}

/// The verdict on a pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Settled {
    pub verdict: Verdict,
    pub reason: Option<Reason>,
    pub comparison: Comparison,
    pub rules: Vec<RuleIndex>,
    pub asks: u32,
    pub user: Option<UserId>,
    pub version: Option<u64>,
}

impl Settled {
    /// Whether contents were held against each other.
    pub fn is_compared(&self) -> bool {
        self.verdict.is_compared()
    }
}

/// Both sides' readings of one account.
#[derive(Debug)]
pub(super) struct Pair {
    /// Where in the answer the account stands.
    pub path: Path,
    pub user: Option<UserId>,
    pub primary: Reading,
    pub candidate: Reading,
    /// The version that each side was last asked to have.
    asked: Sides<u64>,
    asks: u32,
    /// Both are being asked again, and this one's turn is next.
    refresh: Option<Side>,
    crossed_boundary: bool,
    /// Why catching up does not make the candidate's first answer good.
    doubt: Option<Reason>,
    /// What is known of answers of the candidate's that a later one has replaced.
    replaced: Replaced,
}

/// What is known of what the candidate said before it was asked again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Replaced {
    /// There was nothing that could have been wrong.
    Nothing,
    /// The primary had shown the same, of the same version.
    Shown,
    /// Nobody has seen whether it was ever true.
    Unproven,
}

impl Pair {
    pub fn new(path: Path, user: Option<UserId>, primary: Reading, candidate: Reading) -> Pair {
        Pair {
            path,
            user,
            primary,
            candidate,
            asked: Sides::default(),
            asks: 0,
            refresh: None,
            crossed_boundary: false,
            doubt: None,
            replaced: Replaced::Nothing,
        }
    }

    /// Takes a side's new reading.
    pub fn replace(&mut self, side: Side, reading: Reading) {
        match side {
            Side::Primary => self.primary = reading,
            Side::Candidate => self.candidate = reading,
        }
    }

    /// Decides what is next.
    pub fn look(&mut self, context: &mut Context<'_>) -> Next {
        if let Some(side) = self.refresh.take() {
            return self.ask(side, 0);
        }
        if self.asks == 0 {
            self.doubt = self.doubt(context);
        }
        if let (Some(user), Level::At(version)) = (self.user, self.primary.level)
            && (version > 0 || self.primary.status == 404)
        {
            context.history.note(user, version, self.primary.at.answered_us);
        }
        self.remember(context);
        // Whose answer it is and what it looks like, no version excuses.
        if let Some((reason, comparison)) = self.identity(context) {
            return self.settled(Verdict::Mismatch, Some(reason), comparison, Vec::new());
        }
        if let Some((reason, difference)) = self.contradiction(context) {
            return self.settled(Verdict::Mismatch, Some(reason), Comparison::of(difference), Vec::new());
        }
        match (self.primary.level, self.candidate.level) {
            (Level::Unavailable, Level::Unavailable) if self.primary.status == self.candidate.status => {
                self.agreed()
            }
            (_, Level::Unavailable) => {
                let reason = Some(Reason::CandidateStatus(self.candidate.status));
                self.settled(Verdict::CandidateError, reason, Comparison::default(), Vec::new())
            }
            (Level::Unavailable, _) => self.again(Side::Primary, 0, Reason::PrimaryUnavailable, context),
            (Level::Stale, Level::Stale) => self.agreed(),
            (Level::Stale, Level::At(version)) => {
                self.again(Side::Primary, version, Reason::PrimaryBehind, context)
            }
            (Level::Stale, _) => self.again(Side::Primary, 0, Reason::PrimaryBehind, context),
            (Level::At(version), Level::Stale) => {
                self.again(Side::Candidate, version, Reason::CandidateBehind, context)
            }
            (_, Level::Stale) => self.again(Side::Candidate, 0, Reason::CandidateBehind, context),
            (Level::At(primary), Level::At(candidate)) if primary > candidate => {
                let found = self.look_back(candidate, context);
                found
                    .unwrap_or_else(|| self.again(Side::Candidate, primary, Reason::CandidateBehind, context))
            }
            (Level::At(primary), Level::At(candidate)) if primary < candidate => {
                self.again(Side::Primary, candidate, Reason::PrimaryBehind, context)
            }
            _ => self.compared(context),
        }
    }

    /// Both are of one version, or have none.
    fn compared(&mut self, context: &mut Context<'_>) -> Next {
        let (comparison, rules) = self.comparison(context);
        if comparison.is_same() {
            if self.primary.trust != self.candidate.trust {
                return self.flagged(context);
            }
            if let Some(doubt) = self.doubt.filter(|_| self.asks > 0) {
                return self.settled(Verdict::NotComparable, Some(doubt), comparison, rules);
            }
            let (verdict, reason) = self.same(&rules);
            return self.settled(verdict, reason, comparison, rules);
        }
        let trusts = [(Side::Candidate, self.candidate.trust), (Side::Primary, self.primary.trust)];
        if let Some((side, _)) = trusts.into_iter().find(|(_, trust)| *trust == Trust::Quarantined) {
            if side == Side::Candidate {
                self.replaced = Replaced::Unproven;
            }
            return self.again(side, 0, Reason::Quarantined, context);
        }
        let (p, c, skew_us) = (self.primary.at, self.candidate.at, context.limits.clock_skew_us);
        let from_us = p.asked_us.min(c.asked_us) - skew_us;
        let to_us = p.answered_us.max(c.answered_us) + skew_us;
        if comparison.more == 0 && windows::may_have_moved(&comparison.differences, from_us, to_us) {
            self.crossed_boundary = true;
            let next = self.again(Side::Primary, 0, Reason::WindowBoundary, context);
            self.refresh = matches!(next, Next::Ask(..)).then_some(Side::Candidate);
            return next;
        }
        let reason = reason_of(&comparison.differences);
        self.settled(Verdict::Mismatch, Some(reason), comparison, rules)
    }

    /// What is said of two answers that are the same, and what that rests on.
    fn same(&self, rules: &[RuleIndex]) -> (Verdict, Option<Reason>) {
        let boundary = self.crossed_boundary.then_some(Reason::WindowBoundary);
        if (self.primary.trust, self.candidate.trust) == (Trust::Quarantined, Trust::Quarantined) {
            return (Verdict::Unproven, Some(Reason::Quarantined));
        }
        match (self.replaced, rules.is_empty(), self.asks) {
            (Replaced::Unproven, ..) => (Verdict::Unproven, Some(Reason::NeverShown)),
            (_, false, _) => (Verdict::Explained, boundary),
            (_, true, 0) => (Verdict::Equal, None),
            (Replaced::Shown, true, _) => (Verdict::CaughtUp, Some(Reason::ShownBefore)),
            (Replaced::Nothing, true, _) => (Verdict::CaughtUp, boundary.or(Some(Reason::LaterAnswer))),
        }
    }

    /// Keeps what the primary says of a version: what the candidate says of the same version later is held against it.
    fn remember(&self, context: &mut Context<'_>) {
        let (Some(user), Level::At(version @ 1..)) = (self.user, self.primary.level) else { return };
        if let (true, Trust::Whole, Ok(content)) =
            (self.primary.is_ok(), self.primary.trust, &self.primary.content)
        {
            let aspect = Aspect::of(context.question);
            context.history.keep(user, aspect, version, || match self.primary.body.is_empty() {
                true => content.to_string().into(),
                false => self.primary.body.clone(),
            });
        }
    }

    /// The candidate says something of an older version than the primary's, and is about to be asked again: was it true then?
    fn look_back(&mut self, version: u64, context: &mut Context<'_>) -> Option<Next> {
        let shown = self.user.and_then(|user| context.history.shown(user));
        if !self.candidate.is_ok() {
            let was_new = shown.is_some_and(|shown| shown.was_unknown);
            self.replaced = if was_new { self.replaced } else { Replaced::Unproven };
            return None;
        }
        let aspect = Aspect::of(context.question);
        // What it calls incomplete itself proves nothing, either way.
        let is_whole = self.candidate.trust == Trust::Whole;
        let said =
            self.user.filter(|_| is_whole).and_then(|user| context.history.said(user, aspect, version));
        let (Some(Ok(said)), Ok(content)) = (said.map(|text| Value::parse(&text)), &self.candidate.content)
        else {
            self.replaced = Replaced::Unproven;
            return None;
        };
        let (comparison, rules) = self.contents(&said, content, context);
        // Windows move on; what else a version holds does not change.
        if comparison.is_same() || windows::are_all_windowed(&comparison.differences) {
            self.replaced = if self.replaced == Replaced::Nothing { Replaced::Shown } else { self.replaced };
            return None;
        }
        Some(self.settled(Verdict::Mismatch, Some(reason_of(&comparison.differences)), comparison, rules))
    }

    /// Both say the same, and only one of them says that transactions are missing. A repair ends that; what does not end is
    /// what callers of one side would see, and of the other would not.
    fn flagged(&mut self, context: &Context<'_>) -> Next {
        let (p, c) = (self.primary.trust, self.candidate.trust);
        let side = if p == Trust::Quarantined { Side::Primary } else { Side::Candidate };
        match self.again(side, 0, Reason::Quarantined, context) {
            // An older server's one flag for a whole batch says nothing of an account that nobody has asked about by itself.
            Next::Settled(_) if self.asks > 0 => {
                let words = |trust| Some((trust == Trust::Quarantined).to_string());
                let mut comparison = Comparison::default();
                let path = Path::ROOT.key("florin-quarantined");
                comparison.push(&path, DifferenceKind::Header, words(p), words(c));
                self.settled(Verdict::Mismatch, Some(Reason::Flag), comparison, Vec::new())
            }
            next => next,
        }
    }

    /// Why the candidate's first answer would be wrong even if it caught up at once: for longer than catching up may take, it
    /// lacked what the primary had shown; or it had never heard of a user who has a past.
    fn doubt(&self, context: &Context<'_>) -> Option<Reason> {
        let (Level::At(primary), Level::At(candidate)) = (self.primary.level, self.candidate.level) else {
            return None;
        };
        if candidate >= primary {
            return None;
        }
        let Some(shown) = self.user.and_then(|user| context.history.shown(user)) else {
            let is_new = primary == 1;
            return (self.candidate.status == 404 && !is_new).then_some(Reason::UnknownAtFirst);
        };
        let patience_us = context.limits.budget_us.saturating_add(context.limits.clock_skew_us);
        let is_late = self.candidate.at.asked_us > shown.at_us.saturating_add(patience_us);
        (candidate < shown.version && is_late).then_some(Reason::CandidateBehind)
    }

    fn comparison(&self, context: &Context<'_>) -> (Comparison, Vec<RuleIndex>) {
        let (p, c) = (&self.primary, &self.candidate);
        let mut comparison = Comparison::default();
        let mut rules = Vec::new();
        if p.status != c.status {
            let (primary, candidate) = (p.status.to_string(), c.status.to_string());
            comparison.push(&self.path, DifferenceKind::Status, Some(primary), Some(candidate));
        } else {
            match (&p.content, &c.content) {
                (Ok(primary), Ok(candidate)) => {
                    (comparison, rules) = self.contents(primary, candidate, context);
                }
                (Err(_), Err(_)) if p.body == c.body => {}
                (primary, candidate) => {
                    let words = |content: &Result<Value, _>| match content {
                        Ok(value) => value.to_string(),
                        Err(error) => format!("{error}"),
                    };
                    comparison.push(
                        &self.path,
                        DifferenceKind::Type,
                        Some(words(primary)),
                        Some(words(candidate)),
                    );
                }
            }
            self.compare_headers(&mut comparison);
        }
        self.excuse(comparison, rules, context)
    }

    /// The contents alone, under the rules.
    fn contents(
        &self,
        primary: &Value,
        candidate: &Value,
        context: &Context<'_>,
    ) -> (Comparison, Vec<RuleIndex>) {
        let mut candidate = candidate.clone();
        let mut comparison = Comparison::default();
        let rules = context.rules.rename(context.question.endpoint(), &self.path, &mut candidate);
        compare(&self.path, primary, &candidate, &mut comparison);
        self.excuse(comparison, rules, context)
    }

    fn excuse(
        &self,
        mut comparison: Comparison,
        mut rules: Vec<RuleIndex>,
        context: &Context<'_>,
    ) -> (Comparison, Vec<RuleIndex>) {
        rules.extend(context.rules.excuse(context.question.endpoint(), &mut comparison));
        rules.sort_unstable();
        rules.dedup();
        (comparison, rules)
    }

    /// Asks a side again, unless the budget has ended.
    fn again(&mut self, side: Side, min_version: u64, otherwise: Reason, context: &Context<'_>) -> Next {
        if context.now_us < context.deadline_us && self.asks < context.limits.asks_max {
            return self.ask(side, min_version);
        }
        // STALE is how a candidate says that it is behind; "never heard of" is another answer.
        let denies = self.candidate.status == 404 && self.asked.candidate > 0;
        if otherwise == Reason::CandidateBehind && denies {
            let (comparison, rules) = self.comparison(context);
            return self.settled(Verdict::Mismatch, Some(Reason::Status), comparison, rules);
        }
        if let Some(difference) = self.version_from_nowhere(context) {
            let comparison = Comparison::of(difference);
            return self.settled(Verdict::Mismatch, Some(Reason::VersionFromNowhere), comparison, Vec::new());
        }
        self.settled(Verdict::NotComparable, Some(otherwise), Comparison::default(), Vec::new())
    }

    fn ask(&mut self, side: Side, min_version: u64) -> Next {
        self.asks += 1;
        *self.asked.of_mut(side) = min_version;
        Next::Ask(side, min_version)
    }

    /// Both refuse alike.
    fn agreed(&self) -> Next {
        let (verdict, reason) = self.same(&[]);
        self.settled(verdict, reason, Comparison::default(), Vec::new())
    }

    fn settled(
        &self,
        verdict: Verdict,
        reason: Option<Reason>,
        mut comparison: Comparison,
        rules: Vec<RuleIndex>,
    ) -> Next {
        comparison.trim();
        let version = match self.primary.level {
            Level::At(version @ 1..) => Some(version),
            _ => None,
        };
        let (user, asks) = (self.user, self.asks);
        Next::Settled(Settled { verdict, reason, comparison, rules, asks, user, version })
    }
}

/// The name of a mismatch: of the worst kind among its differences.
pub(super) fn reason_of(differences: &[Difference]) -> Reason {
    let has = |kind| differences.iter().any(|difference| difference.kind == kind);
    if has(DifferenceKind::Status) {
        Reason::Status
    } else if has(DifferenceKind::Missing) {
        Reason::Missing
    } else if has(DifferenceKind::Added) {
        Reason::Added
    } else if windows::are_all_windowed(differences) {
        Reason::WindowContent
    } else if has(DifferenceKind::Value) {
        Reason::Content
    } else if has(DifferenceKind::Type) {
        Reason::Type
    } else if has(DifferenceKind::Order) {
        Reason::Order
    } else if has(DifferenceKind::Header) {
        Reason::Header
    } else {
        // Only differences beyond those that were looked at.
        Reason::Content
    }
}
