//! What is wrong with an answer whatever its version: it is somebody else's, it looks otherwise, or it claims what cannot be true.

use florin_schema::UserId;

use super::{Context, Pair, reason_of};
use crate::answer::{Answer, Level, Moment, Reading, Trust, rfc3339};
use crate::judge::compare::{Comparison, Difference, DifferenceKind};
use crate::judge::path::Path;
use crate::judge::sides::Side;
use crate::judge::verdict::Reason;

impl Pair {
    /// What is wrong with the candidate's answer whatever its version: it is somebody else's, it looks otherwise, it says less
    /// about itself, or it is none that the question allows.
    pub(super) fn identity(&self, context: &Context<'_>) -> Option<(Reason, Comparison)> {
        let (p, c) = (&self.primary, &self.candidate);
        let asked_nothing = context.freshness.min_version == 0 && context.freshness.max_age_ms == 0;
        if c.level == Level::Stale && p.is_ok() && asked_nothing && self.asked.candidate == 0 {
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

    /// Where both came over HTTP: of which kind the body is, what caches and browsers go by, that the candidate says as much about its age as the primary,
    /// and that its header agrees with its own body.
    pub(super) fn compare_headers(&self, comparison: &mut Comparison) {
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
    pub(super) fn contradiction(&self, context: &Context<'_>) -> Option<(Reason, Difference)> {
        let skew_us = context.limits.clock_skew_us;
        if let Level::At(version) = self.candidate.level
            && self.candidate.status == 200
            && version < self.asked.candidate
        {
            let asked = format!("at least {} was asked", self.asked.candidate);
            let said = says(&self.candidate, version);
            return Some((Reason::BelowMinVersion, self.version_difference(asked, said)));
        }
        let (p, c) = (&self.primary, &self.candidate);
        if leads_alone(lead_us(p.as_of_us, p.at), lead_us(c.as_of_us, c.at), skew_us) {
            let words = |as_of_us: Option<i64>| as_of_us.map(rfc3339);
            let difference = Difference {
                path: Path::ROOT.key("florin-as-of"),
                kind: DifferenceKind::Version,
                primary: words(self.primary.as_of_us),
                candidate: words(self.candidate.as_of_us),
            };
            return Some((Reason::AsOfAhead, difference));
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
                        _ => {
                            let said = says(&self.candidate, version);
                            (Reason::StaleClaimsFresh, self.version_difference(shown, said))
                        }
                    });
                }
            }
        }
        None
    }

    /// The other way round: a version that the primary lacks, as of a later time than the candidate showed it. Said only once the primary
    /// was waited for in vain: a database hands a commit to those who read its log before its queries see it, and a version that the
    /// primary shows in the end came from the ledger.
    pub(super) fn version_from_nowhere(&self, context: &Context<'_>) -> Option<Difference> {
        let (Some((version, as_of_us)), Level::At(shown)) =
            (self.claim(Side::Primary, context), self.candidate.level)
        else {
            return None;
        };
        let shown_us = self.candidate.at.answered_us;
        (version < shown && as_of_us > shown_us + context.limits.clock_skew_us).then(|| {
            let shown = format!("{shown}, shown at {}", rfc3339(shown_us));
            self.version_difference(says(&self.primary, version), shown)
        })
    }

    fn version_difference(&self, primary: String, candidate: String) -> Difference {
        Difference {
            path: self.path.key("version"),
            kind: DifferenceKind::Version,
            primary: Some(primary),
            candidate: Some(candidate),
        }
    }

    fn denied(&self, as_of_us: i64) -> Difference {
        Difference {
            path: self.path.clone(),
            kind: DifferenceKind::Status,
            primary: Some(self.primary.status.to_string()),
            candidate: Some(format!("404 as of {}", rfc3339(as_of_us))),
        }
    }

    /// The highest version that a side claims to hold, and as of when it claims that this is all there is. Where both sides' times lie
    /// ahead of ours, those are no claims but another clock, such as one that was fixed.
    fn claim(&self, side: Side, context: &Context<'_>) -> Option<(u64, i64)> {
        let reading = match side {
            Side::Primary => &self.primary,
            Side::Candidate => &self.candidate,
        };
        let as_of_us = reading.as_of_us?;
        let is_ours = lead_us(Some(as_of_us), reading.at) <= context.limits.clock_skew_us;
        let asked = *self.asked.of(side);
        let version = match reading.level {
            Level::At(version) => version,
            Level::Stale if asked > 0 && context.freshness.max_age_ms == 0 => asked - 1,
            _ => return None,
        };
        (is_ours && reading.trust == Trust::Whole).then_some((version, as_of_us))
    }
}

fn says(reading: &Reading, version: u64) -> String {
    match reading.as_of_us {
        Some(as_of_us) => format!("{version} as of {}", rfc3339(as_of_us)),
        None => version.to_string(),
    }
}

/// How far the time that an answer claims lies ahead of the time when it came.
fn lead_us(as_of_us: Option<i64>, at: Moment) -> i64 {
    as_of_us.map_or(i64::MIN, |as_of_us| as_of_us.saturating_sub(at.answered_us))
}

/// Whether only the candidate claims a time that is still to come: where both do, somebody has fixed their clocks.
fn leads_alone(primary_us: i64, candidate_us: i64, skew_us: i64) -> bool {
    primary_us <= skew_us && candidate_us > skew_us.saturating_add(primary_us.max(0))
}

/// The same of two whole answers.
pub fn is_ahead_alone(primary: &Answer, candidate: &Answer, skew_us: i64) -> bool {
    let lead_us = |answer: &Answer| lead_us(answer.stated.as_of_us, answer.at);
    leads_alone(lead_us(primary), lead_us(candidate), skew_us)
}
