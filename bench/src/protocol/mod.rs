//! How questions and answers look on the wire, per protocol. Every answer is checked; what is wrong ends the run.

pub mod flat;
pub mod hello;
pub mod http;
mod json;
pub mod memcached;
pub mod native;
pub mod resp;
pub mod value;

use florin_schema::{Status, UserId, frame};

pub use http::Http;
pub use memcached::Memcached;
pub use native::Native;
pub use resp::Resp;

use crate::{
    generator::pending::{Ordering, Pending, SlotIndex},
    truth::{Claim, Claims, Digest},
    work::Kind,
};

/// One side of a protocol: writes questions, reads and checks answers. One instance a thread.
pub trait Protocol {
    /// How answers come.
    const ORDERING: Ordering;

    /// Whether this kind of question can be asked at all.
    fn speaks(kind: Kind) -> bool;

    /// The most bytes of a question of this kind.
    fn request_bytes_max(kind: Kind) -> usize;

    /// Appends the question of `slot`.
    fn request(&mut self, out: &mut Vec<u8>, id: u64, slot: SlotIndex, pending: &mut Pending);

    /// Ends a burst of questions.
    fn finish(&mut self, _out: &mut Vec<u8>, _pending: &mut Pending) {}

    /// Reads the first answer of `bytes`, checks it against its question, and releases that one's slot. Its values are compared with the
    /// ledger, where that is known, once [`Protocol::claims`] are settled.
    fn reply(&mut self, bytes: &[u8], pending: &mut Pending) -> Result<Step, Wrong>;

    /// What answers have said that has not been compared with the ledger yet; none where nothing is known of it.
    fn claims(&self) -> Option<&Claims>;

    /// Compares with the ledger what answers have said since the last time.
    fn settle(&mut self) -> Result<(), Wrong> {
        match self.claims().and_then(Claims::settle) {
            None => Ok(()),
            Some(Claim { user, kind, .. }) => Err(Wrong::Implausible { user, kind, what: OTHER_VALUES }),
        }
    }
}

/// What [`Protocol::reply`] has made of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// They hold no whole answer.
    Partial,
    /// So many bytes answer nothing.
    Skip(usize),
    /// An answer.
    Answered {
        /// Bytes of it.
        consumed: usize,
        /// When its question was to be sent.
        since_ns: u64,
        /// How it went.
        fate: Fate,
    },
}

/// How a question went, where the answer is a right one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Answered.
    Served,
    /// Refused for now, as an overloaded or starting server may, and one whose users have moved to another.
    Shed(Status),
}

/// An answer that must not be: the run has failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Wrong {
    /// It answers nothing that was asked.
    #[error("an answer with id {found:#x}, which no question is waiting for")]
    Id {
        /// What came.
        found: u64,
    },
    /// An answer where none was due.
    #[error("an answer without a question: {found:?}")]
    Unasked {
        /// How it begins.
        found: String,
    },
    /// A refusal that is nobody's fault but the server's.
    #[error("user {user}: {kind} was answered with {status}: {message}")]
    Status {
        /// About whom was asked.
        user: UserId,
        /// What was asked.
        kind: Kind,
        /// The status.
        status: String,
        /// The server's words.
        message: String,
    },
    /// Somebody else's answer.
    #[error("asked for user {expected} ({kind}), answered for {found}")]
    User {
        /// What was asked.
        kind: Kind,
        /// About whom.
        expected: UserId,
        /// About whom it is.
        found: String,
    },
    /// The right user, but it cannot be.
    #[error("user {user}: the answer to {kind} is not plausible: {what}")]
    Implausible {
        /// About whom was asked.
        user: UserId,
        /// What was asked.
        kind: Kind,
        /// What is wrong.
        what: &'static str,
    },
    /// No answer of this protocol.
    #[error("not an answer of this protocol: {what} (it begins with {found:?})")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// How it begins.
        found: String,
    },
    /// By TLS: what came is no record of the connection's, or its keys are worn out.
    #[error("TLS: {error}")]
    Tls {
        /// What is wrong.
        error: String,
    },
    /// The connection ended.
    #[error("the server closed a connection with {waiting} questions unanswered and {partial_bytes} bytes of a cut answer{}",
        .error.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
    Closed {
        /// Questions without an answer.
        waiting: usize,
        /// Bytes of an answer that was not whole.
        partial_bytes: usize,
        /// What the kernel says.
        error: Option<String>,
    },
}

/// What an answer is checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) kind: Kind,
    pub(crate) user: UserId,
    pub(crate) batch: &'a [UserId],
    /// What answers say, where it is known which ledger the server serves and that nobody writes to it.
    claims: Option<&'a Claims>,
}

/// A wrong value. A server of the bench's own ledger has no other, unless that has got rows since.
const OTHER_VALUES: &str =
    "its values are not those that the ledger held when the run began; does somebody write to it?";

/// What an answer says of a user: who, at which version, with how many assets, and all of it as a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) user: u64,
    pub(crate) version: u64,
    pub(crate) assets: usize,
    pub(crate) digest: Digest,
}

impl<'a> Question<'a> {
    pub(crate) fn of(pending: &'a Pending, slot: SlotIndex, claims: Option<&'a Claims>) -> Question<'a> {
        let asked = pending.asked(slot);
        Question { kind: asked.kind, user: asked.user, batch: pending.batch(slot), claims }
    }

    /// Checks what an answer says of `user`: that it can be. Whether it is so shows once the claims are settled.
    #[inline]
    pub(crate) fn check(&self, user: UserId, said: &Said) -> Result<(), Wrong> {
        if said.user != user.get() {
            return Err(self.other_user(user, said.user));
        }
        if !(1..=i64::MAX as u64).contains(&said.version) {
            return Err(self.implausible("no version that a user who has transactions can be at"));
        }
        if !(1..=frame::ASSETS_MAX).contains(&said.assets) {
            return Err(self.implausible("not 1 to 16 assets"));
        }
        if let Some(claims) = self.claims {
            claims.push(Claim { user, kind: self.kind, digest: said.digest });
        }
        Ok(())
    }

    #[cold]
    pub(crate) fn implausible(&self, what: &'static str) -> Wrong {
        Wrong::Implausible { user: self.user, kind: self.kind, what }
    }

    #[cold]
    pub(crate) fn other_user(&self, expected: UserId, found: impl ToString) -> Wrong {
        Wrong::User { kind: self.kind, expected, found: found.to_string() }
    }

    /// A status other than OK: shed, or wrong.
    #[cold]
    pub(crate) fn refused(&self, status: Status, message: &[u8]) -> Result<Fate, Wrong> {
        match status {
            Status::Stale | Status::Unavailable | Status::Overloaded | Status::NotOwner => {
                Ok(Fate::Shed(status))
            }
            _ => Err(Wrong::Status {
                user: self.user,
                kind: self.kind,
                status: status.name().to_owned(),
                message: beginning(message),
            }),
        }
    }
}

#[cold]
pub(crate) fn malformed(what: &'static str, bytes: &[u8]) -> Wrong {
    Wrong::Malformed { what, found: beginning(bytes) }
}

/// Enough of some bytes to recognise them.
pub(crate) fn beginning(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned()
}

/// A decimal number of at most nine digits.
#[inline]
fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0, |n, digit| digit.is_ascii_digit().then(|| n * 10 + usize::from(digit - b'0')))
}
