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
//!                            mismatch ◀──differs── same content? ──▶ equal · caught up · explained
//!                                                      │ differs only in a window that may just have moved on
//!                                                      └──▶ both are asked again
//! ```

use florin_schema::UserId;

use super::compare::{Comparison, Difference, DifferenceKind, compare};
use super::history::History;
use super::path::Path;
use super::rules::{RuleIndex, Rules};
use super::verdict::{Reason, Verdict};
use super::windows;
use crate::answer::{Level, Reading, Trust, rfc3339};
use crate::json::Value;
use crate::request::{Endpoint, Freshness};

/// One of the two that are compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// Whose answers callers get.
    Primary,
    /// Who is to take over.
    Candidate,
}

impl Side {
    /// In the order in which reports list them.
    pub const ALL: [Side; 2] = [Side::Primary, Side::Candidate];

    /// In reports.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Primary => "primary",
            Side::Candidate => "candidate",
        }
    }
}

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
    pub endpoint: Endpoint,
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
    asked: [u64; 2],
    asks: u32,
    /// Both are being asked again, and this one's turn is next.
    refresh: Option<Side>,
    crossed_boundary: bool,
    /// Why catching up does not make the candidate's first answer good.
    doubt: Option<Reason>,
}

impl Pair {
    pub fn new(path: Path, user: Option<UserId>, primary: Reading, candidate: Reading) -> Pair {
        Pair {
            path,
            user,
            primary,
            candidate,
            asked: [0; 2],
            asks: 0,
            refresh: None,
            crossed_boundary: false,
            doubt: None,
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
                self.again(Side::Candidate, primary, Reason::CandidateBehind, context)
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
            let verdict = match (rules.is_empty(), self.asks) {
                (false, _) => Verdict::Explained,
                (true, 0) => Verdict::Equal,
                (true, _) => Verdict::CaughtUp,
            };
            let reason = self.crossed_boundary.then_some(Reason::WindowBoundary);
            return self.settled(verdict, reason, comparison, rules);
        }
        let trusts = [(Side::Candidate, self.candidate.trust), (Side::Primary, self.primary.trust)];
        if let Some((side, _)) = trusts.into_iter().find(|(_, trust)| *trust == Trust::Quarantined) {
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

    /// What is wrong with the candidate's answer whatever its version: it is somebody else's, it looks otherwise, it says less
    /// about itself, or it is none that the question allows.
    fn identity(&self, context: &Context<'_>) -> Option<(Reason, Comparison)> {
        let (p, c) = (&self.primary, &self.candidate);
        let asked_nothing = context.freshness.min_version == 0 && context.freshness.max_age_ms == 0;
        if c.level == Level::Stale && p.is_ok() && asked_nothing && self.asked[Side::Candidate as usize] == 0
        {
            let (primary, candidate) = (p.status.to_string(), c.status.to_string());
            let difference = Difference {
                path: self.path.clone(),
                kind: DifferenceKind::Status,
                primary: Some(primary),
                candidate: Some(candidate),
            };
            return Some((Reason::Status, Comparison::of(difference)));
        }
        if !c.is_ok() {
            return None;
        }
        let expected = p.user().filter(|_| p.is_ok()).or(self.user);
        if let (Some(expected), Some(named)) = (expected, c.user())
            && expected != named
        {
            let words = |user: UserId| Some(format!("\"{user}\""));
            let mut comparison = Comparison::default();
            let path = self.path.key("user_id");
            comparison.push(&path, DifferenceKind::Value, words(expected), words(named));
            return Some((Reason::User, comparison));
        }
        if !p.is_ok() || p.level == c.level {
            return None;
        }
        if let (Level::At(version), Level::At(0), Trust::Whole) = (p.level, c.level, c.trust) {
            let mut comparison = Comparison::default();
            let path = self.path.key("version");
            comparison.push(&path, DifferenceKind::Version, Some(version.to_string()), Some("0".to_owned()));
            return Some((Reason::Empty, comparison));
        }
        let (mut comparison, _) = self.comparison(context);
        comparison.keep_shape();
        (!comparison.is_same()).then(|| (reason_of(&comparison.differences), comparison))
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
                    let mut candidate = candidate.clone();
                    rules = context.rules.rename(context.endpoint, &self.path, &mut candidate);
                    compare(&self.path, primary, &candidate, &mut comparison);
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
        let excused = context.rules.excuse(context.endpoint, &mut comparison);
        rules.extend(excused);
        rules.sort_unstable();
        rules.dedup();
        (comparison, rules)
    }

    /// Where both came over HTTP: of which kind the body is, what caches and browsers go by, that the candidate says as much about its age as the primary,
    /// and that its header agrees with its own body.
    fn compare_headers(&self, comparison: &mut Comparison) {
        let (Some(p), Some(c)) = (&self.primary.stated, &self.candidate.stated) else { return };
        let mut differ = |name: &str, primary: Option<String>, candidate: Option<String>| {
            comparison.push(&Path::ROOT.key(name), DifferenceKind::Header, primary, candidate);
        };
        if p.content_type != c.content_type {
            differ("content-type", p.content_type.clone(), c.content_type.clone());
        }
        for (name, value) in &p.compared {
            let other = c.compared.iter().find(|(other, _)| other == name).map(|(_, value)| value);
            if other != Some(value) {
                differ(name.as_str(), Some(value.clone()), other.cloned());
            }
        }
        for (name, value) in &c.compared {
            if !p.compared.iter().any(|(other, _)| other == name) {
                differ(name.as_str(), None, Some(value.clone()));
            }
        }
        if p.version.is_some() && c.version.is_none() {
            differ("florin-version", p.version.map(|version| version.to_string()), None);
        }
        if p.as_of_us.is_some() && c.as_of_us.is_none() {
            differ("florin-as-of", p.as_of_us.map(rfc3339), None);
        }
        if let (Some(stated), Level::At(version @ 1..)) = (c.version, self.candidate.level)
            && stated != version
        {
            let words = |version: u64| Some(version.to_string());
            differ("florin-version", words(version), words(stated));
        }
    }

    /// A side whose claims cannot all be true.
    fn contradiction(&self, context: &Context<'_>) -> Option<(Reason, Difference)> {
        let skew_us = context.limits.clock_skew_us;
        let difference = |primary: String, candidate: String| Difference {
            path: self.path.key("version"),
            kind: DifferenceKind::Version,
            primary: Some(primary),
            candidate: Some(candidate),
        };
        let says = |reading: &Reading, version: u64| match reading.as_of_us {
            Some(as_of_us) => format!("{version} as of {}", rfc3339(as_of_us)),
            None => version.to_string(),
        };
        if let Level::At(version) = self.candidate.level
            && self.candidate.status == 200
            && version < self.asked[Side::Candidate as usize]
        {
            let asked = format!("at least {} was asked", self.asked[Side::Candidate as usize]);
            return Some((Reason::BelowMinVersion, difference(asked, says(&self.candidate, version))));
        }
        // All that is known to have been in the ledger, and by when at the latest.
        let by_primary = match self.primary.level {
            Level::At(version) => Some((version, self.primary.at.answered_us)),
            _ => None,
        };
        let before = self.user.and_then(|user| context.history.shown(user)).map(|s| (s.version, s.at_us));
        if let Some((version, as_of_us)) = self.claim(Side::Candidate, context) {
            for (shown, at_us) in by_primary.into_iter().chain(before) {
                if version < shown && as_of_us > at_us + skew_us {
                    let shown = format!("{shown}, shown at {}", rfc3339(at_us));
                    return Some(match self.candidate.status {
                        // It does not lack the newest transactions: it has never heard of the user.
                        404 => (Reason::Status, self.denied(as_of_us)),
                        _ => (Reason::StaleClaimsFresh, difference(shown, says(&self.candidate, version))),
                    });
                }
            }
        }
        if let (Some((version, as_of_us)), Level::At(shown)) =
            (self.claim(Side::Primary, context), self.candidate.level)
            && version < shown
            && as_of_us > self.candidate.at.answered_us + skew_us
        {
            let shown = format!("{shown}, shown at {}", rfc3339(self.candidate.at.answered_us));
            return Some((Reason::VersionFromNowhere, difference(says(&self.primary, version), shown)));
        }
        None
    }

    fn denied(&self, as_of_us: i64) -> Difference {
        Difference {
            path: self.path.clone(),
            kind: DifferenceKind::Status,
            primary: Some(self.primary.status.to_string()),
            candidate: Some(format!("404 as of {}", rfc3339(as_of_us))),
        }
    }

    /// The highest version that a side claims to hold, and as of when it claims that this is all there is. A time that
    /// lies ahead of ours is no claim but another clock, such as one that was fixed.
    fn claim(&self, side: Side, context: &Context<'_>) -> Option<(u64, i64)> {
        let reading = match side {
            Side::Primary => &self.primary,
            Side::Candidate => &self.candidate,
        };
        let as_of_us = reading.as_of_us?;
        let is_ours = as_of_us <= reading.at.answered_us + context.limits.clock_skew_us;
        let asked = self.asked[side as usize];
        let version = match reading.level {
            Level::At(version) => version,
            Level::Stale if asked > 0 && context.freshness.max_age_ms == 0 => asked - 1,
            _ => return None,
        };
        (is_ours && reading.trust == Trust::Whole).then_some((version, as_of_us))
    }

    /// Asks a side again, unless the budget has ended.
    fn again(&mut self, side: Side, min_version: u64, otherwise: Reason, context: &Context<'_>) -> Next {
        if context.now_us < context.deadline_us && self.asks < context.limits.asks_max {
            return self.ask(side, min_version);
        }
        // STALE is how a candidate says that it is behind; "never heard of" is another answer.
        let denies = self.candidate.status == 404 && self.asked[Side::Candidate as usize] > 0;
        if otherwise == Reason::CandidateBehind && denies {
            let (comparison, rules) = self.comparison(context);
            return self.settled(Verdict::Mismatch, Some(Reason::Status), comparison, rules);
        }
        self.settled(Verdict::NotComparable, Some(otherwise), Comparison::default(), Vec::new())
    }

    fn ask(&mut self, side: Side, min_version: u64) -> Next {
        self.asks += 1;
        self.asked[side as usize] = min_version;
        Next::Ask(side, min_version)
    }

    fn agreed(&self) -> Next {
        let verdict = if self.asks == 0 { Verdict::Equal } else { Verdict::CaughtUp };
        self.settled(verdict, None, Comparison::default(), Vec::new())
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
