//! What has been counted.

use std::collections::{BTreeMap, HashMap, VecDeque};

use florin_schema::UserId;
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::finding::Latest;
use crate::answer::{Answer, Form};
use crate::judge::{ByteComparison, Noise, Reason, RuleIndex, Ruling, Sides, Verdict};
use crate::limits::{ACCOUNTS_MAX, HEADER_NAMES_MAX, LATENCY_MAX_US, LATEST_MAX};
use crate::request::Endpoint;

/// All counts of a run.
#[derive(Debug)]
pub struct Counters {
    /// By [`Endpoint`], as [`Endpoint::ALL`] has them.
    pub endpoints: [EndpointCounters; Endpoint::ALL.len()],
    /// How often each reason stood behind each verdict.
    pub reasons: BTreeMap<(Verdict, Reason), u64>,
    /// Uses of each rule.
    pub rules: Vec<u64>,
    /// The primary against itself.
    pub noise: Noise,
    /// Accounts' versions at which contents were compared.
    pub versions: Option<(u64, u64)>,
    /// Whose accounts were compared, and at which version last.
    pub accounts: HashMap<UserId, u64>,
    /// Times that an account was compared at a version later than any before.
    pub account_versions: u64,
    /// What answers say beside their bodies.
    pub sides: Sides<SideCounters>,
    /// Answers with content that were found to be the same.
    pub same: u64,
    /// Times that a side was asked again.
    pub asks: u64,
    /// The newest mismatches and errors, newest first.
    pub latest: VecDeque<Latest>,
    /// The run has ended: what is found now comes too late, and has been counted as dropped.
    pub is_sealed: bool,
}

/// What one side's answers say beside their bodies.
#[derive(Default, Debug)]
pub struct SideCounters {
    /// Answers with content.
    pub answers: u64,
    /// Of those, how many say as of when they are.
    pub with_as_of: u64,
    /// Of those, how many say a time that is still to come.
    pub ahead: u64,
    /// Of those, how many came in frames, without headers.
    pub native: u64,
    /// Headers that were not compared, and how often they came; the names of the first few.
    pub others: BTreeMap<String, u64>,
}

impl SideCounters {
    /// Counts an answer; clocks may be apart by `skew_us`.
    pub fn note(&mut self, answer: &Answer, skew_us: i64) {
        if !answer.is_ok() {
            return;
        }
        self.answers += 1;
        self.with_as_of += u64::from(answer.stated.as_of_us.is_some());
        let is_ahead = |as_of_us: i64| as_of_us > answer.at.answered_us.saturating_add(skew_us);
        self.ahead += u64::from(answer.stated.as_of_us.is_some_and(is_ahead));
        self.native += u64::from(answer.form == Form::Native);
        for name in &answer.stated.others {
            if let Some(count) = self.others.get_mut(name.as_str()) {
                *count += 1;
            } else if self.others.len() < HEADER_NAMES_MAX {
                self.others.insert(name.to_string(), 1);
            }
        }
    }
}

/// One endpoint's counts.
#[derive(Debug)]
pub struct EndpointCounters {
    /// By [`Verdict`], as [`Verdict::ALL`] has them.
    pub verdicts: [u64; Verdict::ALL.len()],
    /// Requests that both sides answered with content that was compared: refusals prove nothing.
    pub answers: u64,
    /// Requests that both sides refused alike.
    pub refused_alike: u64,
    /// By [`ByteComparison`], as [`ByteComparison::ALL`] has them.
    pub bytes: [u64; ByteComparison::ALL.len()],
    /// µs.
    pub latency: Sides<Histogram<u64>>,
}

/// All verdicts, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts(pub [u64; Verdict::ALL.len()]);

impl Counts {
    /// How many had this one.
    pub const fn of(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }
}

impl Serialize for Counts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (verdict, count) in Verdict::ALL.iter().zip(self.0) {
            map.serialize_entry(verdict.name(), &count)?;
        }
        map.end()
    }
}

/// A latency's quantiles, in µs.
#[derive(Clone, Copy, Serialize, Debug)]
pub struct Quantiles {
    /// Answers measured.
    pub count: u64,
    /// The median.
    pub p50: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

impl EndpointCounters {
    fn new() -> EndpointCounters {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).expect("the bounds are constant");
        EndpointCounters {
            verdicts: [0; Verdict::ALL.len()],
            answers: 0,
            refused_alike: 0,
            bytes: [0; ByteComparison::ALL.len()],
            latency: Sides { primary: histogram(), candidate: histogram() },
        }
    }

    /// Requests that have a verdict.
    pub fn ruled(&self) -> u64 {
        self.verdicts.iter().sum()
    }
}

impl Counters {
    /// Nothing counted, of so many rules.
    pub fn new(rules: usize) -> Counters {
        Counters {
            endpoints: std::array::from_fn(|_| EndpointCounters::new()),
            reasons: BTreeMap::new(),
            rules: vec![0; rules],
            noise: Noise::default(),
            versions: None,
            accounts: HashMap::new(),
            account_versions: 0,
            sides: Sides::default(),
            same: 0,
            asks: 0,
            latest: VecDeque::new(),
            is_sealed: false,
        }
    }

    /// Counts a verdict.
    pub fn count(&mut self, endpoint: Endpoint, ruling: &Ruling) {
        if self.is_sealed {
            return;
        }
        let counters = &mut self.endpoints[endpoint as usize];
        counters.verdicts[ruling.verdict as usize] += 1;
        counters.answers += u64::from(ruling.has_content);
        let is_same = ruling.verdict.is_compared() && ruling.verdict != Verdict::Mismatch;
        counters.refused_alike += u64::from(is_same && !ruling.has_content);
        self.same += u64::from(is_same && ruling.has_content);
        if !matches!(ruling.verdict, Verdict::Dropped | Verdict::CandidateError) {
            counters.bytes[ruling.bytes as usize] += 1;
        }
        if let Some(reason) = ruling.reason {
            *self.reasons.entry((ruling.verdict, reason)).or_default() += 1;
        }
        for &RuleIndex(rule) in &ruling.rules {
            self.rules[rule] += 1;
        }
        self.note(&ruling.accounts);
        if let Some((low, high)) = ruling.versions() {
            let (lowest, highest) = self.versions.unwrap_or((low, high));
            self.versions = Some((lowest.min(low), highest.max(high)));
        }
        self.asks += u64::from(ruling.asks);
    }

    fn note(&mut self, accounts: &[(UserId, Option<u64>)]) {
        for (user, version) in accounts {
            let version = version.unwrap_or(0);
            if let Some(last) = self.accounts.get_mut(user) {
                self.account_versions += u64::from(version > *last);
                *last = version.max(*last);
            } else if self.accounts.len() < ACCOUNTS_MAX {
                self.accounts.insert(*user, version);
                self.account_versions += 1;
            }
        }
    }

    /// Counts requests that were not compared.
    pub fn drop_many(&mut self, endpoint: Endpoint, reason: Reason, count: u64) {
        if count > 0 && !self.is_sealed {
            self.endpoints[endpoint as usize].verdicts[Verdict::Dropped as usize] += count;
            *self.reasons.entry((Verdict::Dropped, reason)).or_default() += count;
        }
    }

    /// Remembers a finding for the page.
    pub fn show(&mut self, latest: Latest) {
        self.latest.truncate(LATEST_MAX - 1);
        self.latest.push_front(latest);
    }

    /// Each of them, over all endpoints.
    pub fn verdicts(&self) -> Counts {
        Counts(Verdict::ALL.map(|verdict| self.verdict(verdict)))
    }

    /// Over all endpoints.
    pub fn verdict(&self, verdict: Verdict) -> u64 {
        self.endpoints.iter().map(|counters| counters.verdicts[verdict as usize]).sum()
    }

    /// How often a verdict had this reason.
    pub fn reason(&self, verdict: Verdict, reason: Reason) -> u64 {
        self.reasons.get(&(verdict, reason)).copied().unwrap_or(0)
    }

    /// Over all endpoints and verdicts.
    pub fn ruled(&self) -> u64 {
        self.endpoints.iter().map(EndpointCounters::ruled).sum()
    }

    /// Requests of which nothing was compared, for a side gave no answer.
    pub fn unanswered(&self) -> u64 {
        self.with_reason(|_, reason| reason.is_unanswered())
    }

    /// Requests of this verdict for which a side could not be reached.
    pub fn unreached(&self, verdict: Verdict) -> u64 {
        self.with_reason(|of, reason| of == verdict && reason.is_unreached())
    }

    fn with_reason(&self, is_meant: impl Fn(Verdict, Reason) -> bool) -> u64 {
        let meant = self.reasons.iter().filter(|((verdict, reason), _)| is_meant(*verdict, *reason));
        meant.map(|(_, count)| count).sum()
    }
}

/// Of one histogram.
pub fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    Quantiles {
        count: histogram.len(),
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        max: histogram.max(),
    }
}
