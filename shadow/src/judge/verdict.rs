//! What is said of a request in the end.

use std::borrow::Cow;

use florin_schema::UserId;

use super::compare::Difference;
use super::rules::RuleIndex;

named! {
    /// Exactly one of these for every request that was to be compared.
    pub enum Verdict {
        /// Both said the same at once.
        Equal = "equal",
        /// Both said the same once the older had caught up, or a window's boundary had passed; and what the candidate said before that was
        /// right too.
        CaughtUp = "caught_up",
        /// Both said the same in the end, and nobody has seen whether what the candidate said before that was ever true; or both say
        /// themselves that transactions are missing.
        Unproven = "unproven",
        /// They never were at the same version within the budget.
        NotComparable = "not_comparable",
        /// All that differs is allowed by named rules.
        Explained = "explained",
        /// Same version, other content; or a claim that contradicts what is known.
        Mismatch = "mismatch",
        /// The candidate gave no answer, or answered that it has failed.
        CandidateError = "candidate_error",
        /// It was not compared.
        Dropped = "dropped",
    }
}

impl Verdict {
    /// Whether contents were held against each other, and that says something of the candidate.
    pub const fn is_compared(self) -> bool {
        matches!(self, Verdict::Equal | Verdict::CaughtUp | Verdict::Explained | Verdict::Mismatch)
    }

    /// Of several parts of one answer, the worst speaks for all.
    pub(super) const fn severity(self) -> u8 {
        match self {
            Verdict::Equal => 0,
            Verdict::CaughtUp => 1,
            Verdict::Explained => 2,
            Verdict::Unproven => 3,
            Verdict::NotComparable => 4,
            Verdict::CandidateError => 5,
            Verdict::Mismatch => 6,
            Verdict::Dropped => 7,
        }
    }
}

/// Declares the reasons: each with the name by which reports count it, and what it says in a sentence.
macro_rules! reasons {
    ($($reason:ident $name:literal $sentence:literal)*) => {
        /// Why a verdict is not `equal`.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Reason {
            $(#[doc = $sentence] $reason,)*
            /// candidate error: it answered with a status that says so.
            CandidateStatus(u16),
        }

        impl Reason {
            /// In reports and metrics.
            pub fn name(self) -> Cow<'static, str> {
                match self {
                    $(Reason::$reason => Cow::Borrowed($name),)*
                    Reason::CandidateStatus(status) => Cow::Owned(format!("status_{status}")),
                }
            }

            /// In a sentence.
            pub fn sentence(self) -> Cow<'static, str> {
                match self {
                    $(Reason::$reason => Cow::Borrowed($sentence),)*
                    Reason::CandidateStatus(status) => Cow::Owned(format!("the candidate answered {status}")),
                }
            }
        }
    };
}

reasons! {
    // mismatch
    Content "content" "same version, another value"
    WindowContent "window_content" "same version, and only windows differ: a bucket too many or too few"
    Missing "missing" "same version, and the candidate lacks something"
    Added "added" "same version, and the candidate has something more"
    Order "order" "same version, the same things in another order"
    Status "status" "another status"
    Type "type" "another kind of value"
    User "user" "the candidate answered with another user's account"
    Empty "empty" "the candidate answered without any transactions of a user who has some"
    Flag "flag" "only one side says that transactions are missing"
    Header "header" "a header says otherwise"
    StaleClaimsFresh "stale_claims_fresh" "the candidate is stale and claims to be fresh"
    BelowMinVersion "below_min_version" "the candidate answered with less than the version it was asked to have"
    AsOfAhead "as_of_ahead" "the candidate claims to hold what is still to come"
    VersionFromNowhere "version_from_nowhere" "the candidate shows a version that the ledger does not have"
    // caught up
    ShownBefore "shown_before" "what the candidate said of an older version, the primary had said of it too"
    LaterAnswer "later_answer" "the primary, or the candidate without a flag, said the same later"
    WindowBoundary "window_boundary" "a window's boundary lay between the two answers"
    // unproven
    NeverShown "never_shown" "what the candidate said at first is of a version that the primary has never shown: it may never have been true"
    // not comparable; where both sides are quarantined, unproven
    UnknownAtFirst "unknown_at_first" "the candidate had at first never heard of a user who was not new"
    CandidateBehind "candidate_behind" "the candidate did not reach the primary's version, or was behind for longer than the budget"
    PrimaryBehind "primary_behind" "the primary did not reach the candidate's version"
    PrimaryUnreachable "primary_unreachable" "the primary cannot be reached"
    PrimaryUnavailable "primary_unavailable" "the primary has no answer"
    PrimaryCut "primary_cut" "the primary's answer broke off"
    PrimaryUnreadable "primary_unreadable" "what the primary sent cannot be read"
    Quarantined "quarantined" "a side says itself that transactions are missing"
    // candidate error
    Connect "connect" "the candidate cannot be reached"
    Timeout "timeout" "the candidate did not answer in time"
    Cut "cut" "the candidate's connection ended before its answer did"
    Protocol "protocol" "what the candidate sent is no answer"
    // dropped
    QueueFull "queue_full" "the queue to the candidate was full"
    TooLarge "too_large" "request or answer is longer than what is copied"
    Unparsed "unparsed" "what went over the connection could not be followed"
    NoNativeForm "no_native_form" "the question has no native form"
    RunEnded "run_ended" "the run ended first"
}

impl Reason {
    /// Whether a side could not even be reached: that says nothing of what it would have answered.
    pub const fn is_unreached(self) -> bool {
        matches!(self, Reason::Connect | Reason::PrimaryUnreachable)
    }

    /// Whether the candidate gave no answer at all, or the primary could not be asked: nothing was compared then.
    pub const fn is_unanswered(self) -> bool {
        self.is_unreached() || matches!(self, Reason::Timeout | Reason::Cut | Reason::Protocol)
    }
}

named! {
    /// How the two answers' bytes stand to each other.
    pub enum ByteComparison {
        /// The same.
        Identical = "identical",
        /// Keys stand in another order.
        KeyOrder = "key_order",
        /// Same meaning; spaces, escapes or numbers are spelled otherwise.
        Spelling = "spelling",
        /// The same, once the content coding is taken off: packed another way, or not at all.
        Coding = "coding",
        /// A native answer has no JSON to hold against.
        Native = "native",
        /// The meaning differs, or the two were never of one version as a whole.
        Different = "different",
    }
}

/// A verdict, and what it rests on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// The verdict.
    pub verdict: Verdict,
    /// Why it is not `equal`.
    pub reason: Option<Reason>,
    /// What differs and no rule allows.
    pub differences: Vec<Difference>,
    /// Differences beyond those that are kept.
    pub more: usize,
    /// Rules that were used.
    pub rules: Vec<RuleIndex>,
    /// How the bytes compare.
    pub bytes: ByteComparison,
    /// Times that a side was asked again.
    pub asks: u32,
    /// Both sides answered, and what they answered was held against each other: two refusals prove nothing.
    pub has_content: bool,
    /// Whose accounts were compared, and at which versions, where that is known.
    pub accounts: Vec<(UserId, Option<u64>)>,
}

impl Ruling {
    /// A verdict without any comparison.
    pub fn plain(verdict: Verdict, reason: Option<Reason>) -> Ruling {
        Ruling {
            verdict,
            reason,
            differences: Vec::new(),
            more: 0,
            rules: Vec::new(),
            bytes: ByteComparison::Different,
            asks: 0,
            has_content: false,
            accounts: Vec::new(),
        }
    }

    /// The lowest and the highest version at which contents were compared.
    pub fn versions(&self) -> Option<(u64, u64)> {
        let versions = || self.accounts.iter().filter_map(|(_, version)| *version);
        Some((versions().min()?, versions().max()?))
    }
}
