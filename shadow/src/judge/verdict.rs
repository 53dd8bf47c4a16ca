//! What is said of a request in the end.

use std::borrow::Cow;

use florin_schema::UserId;

use super::compare::Difference;
use super::rules::RuleIndex;

/// Exactly one of these for every request that was to be compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verdict {
    /// Both said the same at once.
    Equal,
    /// Both said the same once the older had caught up, or a window's boundary had passed; and what the candidate said before that was
    /// right too.
    CaughtUp,
    /// Both said the same in the end, and nobody has seen whether what the candidate said before that was ever true; or both say
    /// themselves that transactions are missing.
    Unproven,
    /// They never were at the same version within the budget.
    NotComparable,
    /// All that differs is allowed by named rules.
    Explained,
    /// Same version, other content; or a claim that contradicts what is known.
    Mismatch,
    /// The candidate gave no answer, or answered that it has failed.
    CandidateError,
    /// It was not compared.
    Dropped,
}

impl Verdict {
    /// In the order in which reports list them.
    pub const ALL: [Verdict; 8] = [
        Verdict::Equal,
        Verdict::CaughtUp,
        Verdict::Unproven,
        Verdict::NotComparable,
        Verdict::Explained,
        Verdict::Mismatch,
        Verdict::CandidateError,
        Verdict::Dropped,
    ];

    /// In reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Equal => "equal",
            Verdict::CaughtUp => "caught_up",
            Verdict::Unproven => "unproven",
            Verdict::NotComparable => "not_comparable",
            Verdict::Explained => "explained",
            Verdict::Mismatch => "mismatch",
            Verdict::CandidateError => "candidate_error",
            Verdict::Dropped => "dropped",
        }
    }

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

/// Why a verdict is not `equal`, by a name that reports count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// mismatch: same version, another value.
    Content,
    /// mismatch: same version, and only windows that have an end differ: a bucket too many or too few.
    WindowContent,
    /// mismatch: the candidate lacks something.
    Missing,
    /// mismatch: the candidate has something more.
    Added,
    /// mismatch: the same things in another order.
    Order,
    /// mismatch: another status.
    Status,
    /// mismatch: another kind of value, or no JSON.
    Type,
    /// mismatch: it is somebody else's answer, whatever its version.
    User,
    /// mismatch: an answer without any transactions of a user who has some: the contract has 404 for that.
    Empty,
    /// mismatch: only one side says that transactions are missing.
    Flag,
    /// mismatch: a header says otherwise.
    Header,
    /// mismatch: the candidate claims to hold all that was committed by a time, and lacks what was shown before it.
    StaleClaimsFresh,
    /// mismatch: the candidate answered with less than the version that it was asked to have.
    BelowMinVersion,
    /// mismatch: the candidate claims to hold all that will have been committed by a time that is still to come.
    AsOfAhead,
    /// mismatch: the candidate shows a version that the primary, as of a later time, does not have.
    VersionFromNowhere,
    /// caught up: what the candidate said of an older version, the primary had said of it too.
    ShownBefore,
    /// caught up: the candidate was right at once, and the primary said the same later; or only a flag had to pass.
    LaterAnswer,
    /// unproven: what the candidate said at first is of a version that the primary has never shown.
    NeverShown,
    /// caught up: a window's boundary lay between the two answers.
    WindowBoundary,
    /// not comparable: the candidate caught up, but had at first never heard of a user who was not new.
    UnknownAtFirst,
    /// not comparable: the candidate did not reach the primary's version, or was behind for longer than the budget.
    CandidateBehind,
    /// not comparable: the primary did not reach the candidate's version.
    PrimaryBehind,
    /// not comparable: the primary cannot be reached.
    PrimaryUnreachable,
    /// not comparable: the primary has no answer.
    PrimaryUnavailable,
    /// not comparable: the primary's answer broke off.
    PrimaryCut,
    /// not comparable: what the primary sent cannot be read.
    PrimaryUnreadable,
    /// not comparable: a side says itself that transactions are missing; unproven: both do.
    Quarantined,
    /// candidate error: it answered with a status that says so.
    CandidateStatus(u16),
    /// candidate error: no connection.
    Connect,
    /// candidate error: no answer in time.
    Timeout,
    /// candidate error: the connection ended before the answer did.
    Cut,
    /// candidate error: what came is no answer.
    Protocol,
    /// dropped: the queue to the candidate was full.
    QueueFull,
    /// dropped: request or answer is longer than what is copied.
    TooLarge,
    /// dropped: what went over the connection is no HTTP/1 that can be followed.
    Unparsed,
    /// dropped: the question has no native form.
    NoNativeForm,
    /// dropped: the run ended first.
    RunEnded,
}

impl Reason {
    /// In reports and metrics.
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Reason::Content => "content",
            Reason::WindowContent => "window_content",
            Reason::Missing => "missing",
            Reason::Added => "added",
            Reason::Order => "order",
            Reason::Status => "status",
            Reason::Type => "type",
            Reason::User => "user",
            Reason::Empty => "empty",
            Reason::Flag => "flag",
            Reason::UnknownAtFirst => "unknown_at_first",
            Reason::Header => "header",
            Reason::StaleClaimsFresh => "stale_claims_fresh",
            Reason::BelowMinVersion => "below_min_version",
            Reason::VersionFromNowhere => "version_from_nowhere",
            Reason::AsOfAhead => "as_of_ahead",
            Reason::ShownBefore => "shown_before",
            Reason::LaterAnswer => "later_answer",
            Reason::NeverShown => "never_shown",
            Reason::WindowBoundary => "window_boundary",
            Reason::CandidateBehind => "candidate_behind",
            Reason::PrimaryBehind => "primary_behind",
            Reason::PrimaryUnreachable => "primary_unreachable",
            Reason::PrimaryUnavailable => "primary_unavailable",
            Reason::PrimaryCut => "primary_cut",
            Reason::PrimaryUnreadable => "primary_unreadable",
            Reason::Quarantined => "quarantined",
            Reason::CandidateStatus(status) => return Cow::Owned(format!("status_{status}")),
            Reason::Connect => "connect",
            Reason::Timeout => "timeout",
            Reason::Cut => "cut",
            Reason::Protocol => "protocol",
            Reason::QueueFull => "queue_full",
            Reason::TooLarge => "too_large",
            Reason::Unparsed => "unparsed",
            Reason::NoNativeForm => "no_native_form",
            Reason::RunEnded => "run_ended",
        })
    }

    /// In a sentence.
    pub fn sentence(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Reason::Content => "same version, another value",
            Reason::WindowContent => "same version, and only windows differ: a bucket too many or too few",
            Reason::Missing => "same version, and the candidate lacks something",
            Reason::Added => "same version, and the candidate has something more",
            Reason::Order => "same version, the same things in another order",
            Reason::Status => "another status",
            Reason::Type => "another kind of value",
            Reason::User => "the candidate answered with another user's account",
            Reason::Empty => "the candidate answered without any transactions of a user who has some",
            Reason::Flag => "only one side says that transactions are missing",
            Reason::UnknownAtFirst => "the candidate had at first never heard of a user who was not new",
            Reason::Header => "a header says otherwise",
            Reason::StaleClaimsFresh => "the candidate is stale and claims to be fresh",
            Reason::BelowMinVersion => {
                "the candidate answered with less than the version it was asked to have"
            }
            Reason::VersionFromNowhere => "the candidate shows a version that the ledger does not have",
            Reason::AsOfAhead => "the candidate claims to hold what is still to come",
            Reason::ShownBefore => {
                "what the candidate said of an older version, the primary had said of it too"
            }
            Reason::LaterAnswer => "the primary, or the candidate without a flag, said the same later",
            Reason::NeverShown => {
                "what the candidate said at first is of a version that the primary has never shown: it may never have been true"
            }
            Reason::WindowBoundary => "a window's boundary lay between the two answers",
            Reason::CandidateBehind => {
                "the candidate did not reach the primary's version, or was behind for longer than the budget"
            }
            Reason::PrimaryBehind => "the primary did not reach the candidate's version",
            Reason::PrimaryUnreachable => "the primary cannot be reached",
            Reason::PrimaryUnavailable => "the primary has no answer",
            Reason::PrimaryCut => "the primary's answer broke off",
            Reason::PrimaryUnreadable => "what the primary sent cannot be read",
            Reason::Quarantined => "a side says itself that transactions are missing",
            Reason::CandidateStatus(status) => return Cow::Owned(format!("the candidate answered {status}")),
            Reason::Connect => "the candidate cannot be reached",
            Reason::Timeout => "the candidate did not answer in time",
            Reason::Cut => "the candidate's connection ended before its answer did",
            Reason::Protocol => "what the candidate sent is no answer",
            Reason::QueueFull => "the queue to the candidate was full",
            Reason::TooLarge => "request or answer is longer than what is copied",
            Reason::Unparsed => "what went over the connection could not be followed",
            Reason::NoNativeForm => "the question has no native form",
            Reason::RunEnded => "the run ended first",
        })
    }

    /// Whether a side could not even be reached: that says nothing of what it would have answered.
    pub const fn is_unreached(self) -> bool {
        matches!(self, Reason::Connect | Reason::PrimaryUnreachable)
    }

    /// Whether the candidate gave no answer at all, or the primary could not be asked: nothing was compared then.
    pub const fn is_unanswered(self) -> bool {
        self.is_unreached() || matches!(self, Reason::Timeout | Reason::Cut | Reason::Protocol)
    }
}

/// How the two answers' bytes stand to each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ByteComparison {
    /// The same.
    Identical,
    /// Keys stand in another order.
    KeyOrder,
    /// Same meaning; spaces, escapes or numbers are spelled otherwise.
    Spelling,
    /// The same, once the content coding is taken off: packed another way, or not at all.
    Coding,
    /// A native answer has no JSON to hold against.
    Native,
    /// The meaning differs, or the two were never of one version as a whole.
    Different,
}

impl ByteComparison {
    /// In the order in which reports list them.
    pub const ALL: [ByteComparison; 6] = [
        ByteComparison::Identical,
        ByteComparison::KeyOrder,
        ByteComparison::Spelling,
        ByteComparison::Coding,
        ByteComparison::Native,
        ByteComparison::Different,
    ];

    /// In reports and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            ByteComparison::Identical => "identical",
            ByteComparison::KeyOrder => "key_order",
            ByteComparison::Spelling => "spelling",
            ByteComparison::Coding => "coding",
            ByteComparison::Native => "native",
            ByteComparison::Different => "different",
        }
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
