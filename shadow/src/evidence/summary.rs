//! The state of a run, as JSON: what `GET /v1/shadow` answers and `verdict.json` holds.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::Evidence;
use super::counters::{Counters, Counts, EndpointCounters, Quantiles, quantiles};
use super::finding::Latest;
use super::reach::ReachSummary;
use crate::answer::{COMPARED, rfc3339};
use crate::clock::now_us;
use crate::judge::{ByteComparison, Noise, Reason, Sides, Verdict};
use crate::limits::ACCOUNTS_MAX;
use crate::request::Endpoint;

/// The whole state. Keys keep their order.
#[derive(Clone, Serialize, Debug)]
pub struct Summary {
    /// `running`, `draining` or `ended`.
    pub state: &'static str,
    /// Nothing contradicts that the candidate answers the same: no mismatch, no candidate error, few enough requests
    /// that were not comparable, no mismatch in a run that was killed just before, and no share taken back. That a side could
    /// not be reached contradicts nothing: the run is not complete then.
    pub consistent: bool,
    /// Every request that was to be compared was, and of each endpoint at least one answer that was no refusal; while the run
    /// goes on, requests that are open are not held against it.
    pub complete: bool,
    /// Enough was compared for that to mean something.
    pub proven: bool,
    /// All three, in a sentence.
    pub verdict: String,
    /// Whose answers callers get.
    pub primary: String,
    /// Who is to take over.
    pub candidate: String,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339: now, or when the run ended.
    pub until: String,
    /// Requests that were to be compared.
    pub requests: u64,
    /// Of those, requests to which both sides have answered and that have a verdict.
    pub compared: u64,
    /// What that rests on.
    pub proof: Proof,
    /// What could not be checked, in words.
    pub unchecked: Vec<String>,
    /// Which headers were compared, and which were not.
    pub headers: Headers,
    /// Requests for which a side could not be reached: nothing was compared of them.
    pub unreached: u64,
    /// Whether each side can be reached, as far as it was tried.
    pub reach: Sides<ReachSummary>,
    /// By verdict.
    pub verdicts: Counts,
    /// By endpoint.
    pub endpoints: BTreeMap<&'static str, EndpointSummary>,
    /// By verdict and reason.
    pub reasons: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// The share of requests that were not comparable though both sides could be reached, and how large it may be.
    pub not_comparable: BoundedShare,
    /// The share of requests that are unproven, and how large it may be.
    pub unproven: BoundedShare,
    /// Every rule, and how often it was used.
    pub rules: Vec<RuleSummary>,
    /// The primary against itself.
    pub noise: Noise,
    /// Versions at which contents were compared.
    pub versions: Versions,
    /// Times that a side was asked again to catch up.
    pub asked_again: u64,
    /// Requests that were not to be compared, by why.
    pub not_mirrored: BTreeMap<String, u64>,
    /// The queue to the candidate.
    pub queue: QueueSummary,
    /// Cutover.
    pub serve: ServeSummary,
    /// Runs in the same folder before this one that were killed: what they found counts.
    pub cut_runs: Vec<CutRun>,
    /// Mismatches that the evidence file had no room for.
    pub mismatches_not_written: u64,
    /// The newest mismatches and errors, newest first.
    pub latest: Vec<Latest>,
}

/// How much a run has seen, and how much it should have.
#[derive(Clone, Serialize, Debug)]
pub struct Proof {
    /// Requests that both sides answered with content that was compared: refusals are not among them.
    pub answers: u64,
    /// Requests that both sides refused alike, which proves nothing.
    pub refused_alike: u64,
    /// Users whose accounts were compared.
    pub users: u64,
    /// Versions of their accounts.
    pub account_versions: u64,
    /// What is not enough, in words.
    pub lacking: Vec<String>,
}

/// Headers, by their names.
#[derive(Clone, Serialize, Debug)]
pub struct Headers {
    /// Those that caches, browsers and clients go by.
    pub compared: Vec<&'static str>,
    /// All others, by side, and how often each came.
    pub not_compared: Sides<BTreeMap<String, u64>>,
}

/// A run that never drew its line: it was killed.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct CutRun {
    /// Its folder's name.
    pub run: String,
    /// Mismatches that it had found.
    pub mismatches: u64,
}

/// What a run may lack and still pass.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tolerance {
    /// The share of requests that may not be comparable.
    pub not_comparable_max: f64,
    /// The share of requests that may be unproven.
    pub unproven_max: f64,
    /// What it must have seen before it has shown much.
    pub enough: Enough,
    /// How far clocks may be apart, in µs.
    pub clock_skew_us: i64,
}

/// What a run must have seen before it has shown much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Enough {
    /// Compared answers of each endpoint that was asked.
    pub answers: u64,
    /// Users, of all endpoints together.
    pub users: u64,
}

/// One endpoint.
#[derive(Clone, Serialize, Debug)]
pub struct EndpointSummary {
    /// By verdict.
    #[serde(flatten)]
    pub verdicts: Counts,
    /// Requests that both sides answered with content that was compared.
    pub answers: u64,
    /// How the bytes compare.
    pub bytes: BTreeMap<&'static str, u64>,
    /// Of both sides, as this process saw them.
    pub latency_us: Sides<Quantiles>,
}

/// A share, and its bound.
#[derive(Clone, Copy, Serialize, Debug)]
pub struct BoundedShare {
    /// Of all requests.
    pub share: f64,
    /// More fails the run.
    pub most: f64,
}

impl BoundedShare {
    /// Whether it is too large.
    pub fn is_exceeded(&self) -> bool {
        self.share > self.most
    }
}

/// A rule's use.
#[derive(Clone, Serialize, Debug)]
pub struct RuleSummary {
    /// As configured.
    pub name: String,
    /// As configured.
    pub reason: String,
    /// Requests that it explained something of.
    pub uses: u64,
}

/// Versions that were covered.
#[derive(Clone, Copy, Serialize, Debug)]
pub struct Versions {
    /// The lowest.
    pub lowest: Option<u64>,
    /// The highest.
    pub highest: Option<u64>,
}

/// The queue to the candidate.
#[derive(Clone, Copy, Serialize, Debug, Default)]
pub struct QueueSummary {
    /// Requests that wait or are being compared.
    pub open: u64,
    /// Of those that wait, the most that may.
    pub capacity: u64,
}

/// Cutover.
#[derive(Clone, Serialize, Debug, Default)]
pub struct ServeSummary {
    /// The candidate's share now, in percent.
    pub candidate_percent: f64,
    /// Requests that the candidate answered.
    pub served: u64,
    /// Requests that the candidate failed, and the primary answered.
    pub fell_back: u64,
    /// Why the guard went back to 0 %.
    pub rolled_back: Option<String>,
}

impl Evidence {
    /// The state of the run.
    pub fn summary(&self, state: &'static str, serve: ServeSummary) -> Summary {
        let not_mirrored = self.not_mirrored.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let report = self.report.as_ref();
        let cut_runs = report.map(|report| report.cut_runs.clone()).unwrap_or_default();
        let counters = &*self.counters();
        let verdicts = counters.verdicts();
        let ruled = counters.ruled();
        let reached = |verdict| counters.verdict(verdict) - counters.unreached(verdict);
        let share = |verdict, most| {
            let share = if ruled == 0 { 0.0 } else { reached(verdict) as f64 / ruled as f64 };
            BoundedShare { share, most }
        };
        let Tolerance { not_comparable_max, unproven_max, enough, .. } = self.tolerance;
        let not_comparable = share(Verdict::NotComparable, not_comparable_max);
        let unproven = share(Verdict::Unproven, unproven_max);
        let consistent = counters.verdict(Verdict::Mismatch) == 0
            && reached(Verdict::CandidateError) == 0
            && !not_comparable.is_exceeded()
            && cut_runs.iter().all(|run| run.mismatches == 0)
            && serve.rolled_back.is_none();
        let offered = self.taken.offered();
        let is_cut_short = self.is_cut_short.load(Ordering::Relaxed);
        let compared = ruled - counters.verdict(Verdict::Dropped) - counters.unanswered();
        let unseen = unseen_endpoints(counters, not_comparable_max);
        let complete = compared > 0 && compared == ruled && unseen.is_empty() && !is_cut_short;
        let mut proof = proof(counters, enough, not_comparable_max);
        proof.lacking.extend(unseen);
        if unproven.is_exceeded() {
            let (share, most) = (unproven.share * 100.0, unproven.most * 100.0);
            proof.lacking.push(format!("{share:.2} % of the requests are unproven, and {most:.2} % may be"));
        }
        let mut summary = Summary {
            state,
            consistent,
            complete,
            proven: proof.lacking.is_empty(),
            verdict: String::new(),
            primary: self.sides.primary.to_string(),
            candidate: self.sides.candidate.to_string(),
            started_at: rfc3339(self.started_us),
            until: rfc3339(now_us()),
            requests: offered.max(ruled),
            compared,
            proof,
            unchecked: unchecked(counters),
            headers: Headers {
                compared: COMPARED.to_vec(),
                not_compared: counters.sides.map(|side| side.others.clone()),
            },
            unreached: ruled - Verdict::ALL.into_iter().map(reached).sum::<u64>(),
            reach: self.reach.map(|side| side.summary(now_us())),
            verdicts,
            endpoints: endpoints(counters),
            reasons: reasons(counters),
            not_comparable,
            unproven,
            rules: rules(counters, &self.rules),
            noise: counters.noise.clone(),
            versions: Versions {
                lowest: counters.versions.map(|v| v.0),
                highest: counters.versions.map(|v| v.1),
            },
            asked_again: counters.asks,
            not_mirrored,
            queue: QueueSummary { open: offered.saturating_sub(ruled), capacity: self.queue_capacity },
            serve,
            cut_runs,
            mismatches_not_written: report.map_or(0, |report| report.not_written()),
            latest: counters.latest.iter().cloned().collect(),
        };
        summary.verdict = summary.sentence();
        summary
    }
}

impl Summary {
    /// Whether all that is wrong with a run that is not complete may be that a side could not be reached.
    pub fn lacks_a_side(&self) -> bool {
        let is_cut_off = self.requests == 0 && self.reach.each().iter().any(|(_, side)| side.unreached > 0);
        self.consistent && !self.complete && (self.unreached > 0 || is_cut_off)
    }

    /// The verdict in words.
    fn sentence(&self) -> String {
        let count = |verdict: Verdict| self.verdicts.of(verdict);
        if self.requests == 0 {
            return format!("Nothing has been compared: no statement can be made.{}", self.reach_in_words());
        }
        let has_found = count(Verdict::Mismatch) > 0 || self.cut_runs.iter().any(|run| run.mismatches > 0);
        let mut text = format!("{} of {} requests were compared. ", self.compared, self.requests);
        text.push_str(match (self.consistent, self.complete) {
            _ if self.compared == 0 && !has_found => "No statement can be made.",
            (true, true) if self.proven && count(Verdict::Unproven) > 0 => {
                "The candidate answers the same as the primary, but for what is unproven."
            }
            (true, true) if self.proven => "The candidate answers the same as the primary.",
            (true, true) => "All that was compared is the same, but it is too little to say that the candidate is.",
            (true, false) => {
                "All that was compared is the same, but not everything was compared: no statement can be made about the rest."
            }
            (false, _) if has_found => "The candidate does not answer the same as the primary.",
            (false, _) => "All that was compared is the same, but the candidate cannot stand in for the primary.",
        });
        text.push_str(&self.reach_in_words());
        let Proof { answers, users, account_versions, refused_alike, lacking } = &self.proof;
        let at_least = if *users >= ACCOUNTS_MAX as u64 { "at least " } else { "" };
        text.push_str(&format!(
            " It rests on {answers} compared answers, of {at_least}{users} users at {account_versions} versions of their accounts."
        ));
        if *refused_alike > 0 {
            text.push_str(&format!(" Refused alike, which proves nothing: {refused_alike}."));
        }
        if !lacking.is_empty() {
            text.push_str(&format!(" Too little: {}.", lacking.join("; ")));
        }
        if !self.unchecked.is_empty() {
            text.push_str(&format!(" Not checked: {}.", self.unchecked.join("; ")));
        }
        for CutRun { run, mismatches } in &self.cut_runs {
            text.push_str(&format!(" Before this, {run} was killed; it had found {mismatches} mismatches."));
        }
        if let Some(why) = &self.serve.rolled_back {
            text.push_str(&format!(" The guard has taken the candidate's share back: {why}."));
        }
        for (verdict, words) in [
            (Verdict::Mismatch, "mismatches"),
            (Verdict::CandidateError, "errors of the candidate"),
            (Verdict::NotComparable, "not comparable"),
            (Verdict::Unproven, "unproven"),
            (Verdict::Explained, "explained by rules"),
            (Verdict::CaughtUp, "equal after catching up"),
            (Verdict::Dropped, "dropped"),
        ] {
            if count(verdict) > 0 {
                text.push_str(&format!(" {}: {}.", capitalized(words), count(verdict)));
            }
        }
        text
    }

    /// How often and for how long a side could not be reached.
    fn reach_in_words(&self) -> String {
        let words = self.reach.each().into_iter().filter(|(_, side)| side.times > 0).map(|(name, side)| {
            let ReachSummary { times, down_seconds, unreached, .. } = side;
            let open = match (&side.down_since, &side.why) {
                (Some(since), Some(why)) => format!("; it has been down since {since}: {why}"),
                _ => String::new(),
            };
            let often = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
            format!(" The {name} could not be reached {often}, {down_seconds:.1} s in all, when it was tried {unreached} times{open}.")
        });
        words.collect()
    }
}

/// Endpoints that were asked for more than what may be left out of account.
fn asked(counters: &Counters, negligible: f64) -> impl Iterator<Item = (&'static str, &EndpointCounters)> {
    let all = counters.ruled() as f64;
    let named = Endpoint::ALL.iter().map(|endpoint| endpoint.name()).zip(&counters.endpoints);
    named.filter(move |(_, counters)| counters.ruled() > 0 && counters.ruled() as f64 > all * negligible)
}

fn unchecked(counters: &Counters) -> Vec<String> {
    let mut unchecked = Vec::new();
    for (name, counters) in counters.sides.each() {
        let answers = counters.answers;
        if counters.with_as_of < answers {
            unchecked.push(format!(
                "how old the {name}'s answers are: {} of {answers} say nothing of it (Florin-As-Of)",
                answers - counters.with_as_of
            ));
        }
        if counters.ahead > 0 {
            unchecked.push(format!(
                "how old the {name}'s answers are: {} of {answers} say a time that is still to come",
                counters.ahead
            ));
        }
        if counters.native > 0 {
            unchecked.push(format!(
                "the {name}'s headers: {} of {answers} answers came in frames",
                counters.native
            ));
        }
    }
    let never_shown = counters.reason(Verdict::Unproven, Reason::NeverShown);
    if never_shown > 0 {
        unchecked.push(format!(
            "what the candidate said at first of {never_shown} requests: the primary has never shown that version"
        ));
    }
    let quarantined = counters.reason(Verdict::Unproven, Reason::Quarantined);
    if quarantined > 0 {
        unchecked
            .push(format!("{quarantined} requests of which both sides say that transactions are missing"));
    }
    let windows = counters.reason(Verdict::CaughtUp, Reason::WindowBoundary);
    if windows > 0 {
        unchecked.push(format!("windows of {windows} first answers, between which an hour or a day began"));
    }
    unchecked
}

/// Those that were only refused. What is unproven was compared, though that proves nothing.
fn is_unseen(counters: &EndpointCounters) -> bool {
    counters.answers == 0 && counters.verdicts[Verdict::Unproven as usize] == 0
}

fn unseen_endpoints(counters: &Counters, negligible: f64) -> Vec<String> {
    let unseen = asked(counters, negligible).filter(|(_, counters)| is_unseen(counters));
    unseen
        .map(|(name, counters)| {
            format!("{name}: {} requests, and not one answer that was no refusal", counters.ruled())
        })
        .collect()
}

fn proof(counters: &Counters, enough: Enough, negligible: f64) -> Proof {
    let (users, answers) =
        (counters.accounts.len() as u64, counters.endpoints.iter().map(|counters| counters.answers).sum());
    let few = asked(counters, negligible)
        .filter(|(_, counters)| !is_unseen(counters) && counters.answers < enough.answers);
    let few = few.map(|(name, counters)| {
        format!("{name}: {} compared answers of {}", counters.answers, enough.answers)
    });
    let mut lacking: Vec<String> = few.collect();
    if users < enough.users {
        lacking.push(format!("{users} users of {}", enough.users));
    }
    let refused_alike = counters.endpoints.iter().map(|counters| counters.refused_alike).sum();
    Proof { answers, refused_alike, users, account_versions: counters.account_versions, lacking }
}

fn capitalized(words: &str) -> String {
    words[..1].to_uppercase() + &words[1..]
}

fn endpoints(counters: &Counters) -> BTreeMap<&'static str, EndpointSummary> {
    let summary = |counters: &EndpointCounters| EndpointSummary {
        verdicts: Counts(counters.verdicts),
        answers: counters.answers,
        bytes: ByteComparison::ALL
            .iter()
            .map(|bytes| (bytes.name(), counters.bytes[*bytes as usize]))
            .collect(),
        latency_us: counters.latency.map(quantiles),
    };
    Endpoint::ALL
        .iter()
        .zip(&counters.endpoints)
        .map(|(endpoint, counters)| (endpoint.name(), summary(counters)))
        .collect()
}

fn reasons(counters: &Counters) -> BTreeMap<&'static str, BTreeMap<String, u64>> {
    let mut reasons: BTreeMap<&'static str, BTreeMap<String, u64>> = BTreeMap::new();
    for ((verdict, reason), count) in &counters.reasons {
        *reasons.entry(verdict.name()).or_default().entry(reason.name().into_owned()).or_default() += count;
    }
    reasons
}

fn rules(counters: &Counters, rules: &[(String, String)]) -> Vec<RuleSummary> {
    let rules = rules.iter().cloned().zip(&counters.rules);
    rules.map(|((name, reason), uses)| RuleSummary { name, reason, uses: *uses }).collect()
}
