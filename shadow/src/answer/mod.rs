//! An answer, whoever gave it and however it was encoded: status, version, as-of, content.

mod native;
mod stated;

use bytes::Bytes;
use florin_schema::{Status, UserId};

pub use native::{
    BatchEntry, Content, NativeError, balance, balance_flat, batch, batch_flat, problem, statistics,
    statistics_flat,
};
pub use stated::{COMPARED, Stated, rfc3339, time_us};

use crate::json::{JsonError, Value};
use crate::request::Question;

/// What an answer came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// HTTP, with a body of whatever kind.
    Http,
    /// Frames with rkyv or FlatBuffers bodies: there are no bytes to hold against JSON.
    Native,
}

/// When a question was asked, and when its answer was there: µs since 1970 UTC, by this process's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moment {
    /// When the question went out.
    pub asked_us: i64,
    /// When the whole answer was there.
    pub answered_us: i64,
}

/// One side's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP's status; a native one mapped as wire.md has it.
    pub status: u16,
    /// What it came in.
    pub form: Form,
    /// What it says of itself beside its body.
    pub stated: Stated,
    /// What it says, without any content coding; a native answer's as JSON.
    pub body: Bytes,
    /// The same as it came, where it came in a content coding.
    pub packed: Option<Bytes>,
    /// When.
    pub at: Moment,
}

/// How much an answer claims to know of its user's history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// It holds so many of the user's transactions; none where the user is unknown.
    At(u64),
    /// It has content that says no version.
    Unversioned,
    /// It says that it is older than was asked for.
    Stale,
    /// It has no answer now.
    Unavailable,
    /// It refuses the question, whatever the time.
    Refused,
}

/// Whether a side vouches for its history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// It does.
    Whole,
    /// It says itself that transactions are missing.
    Quarantined,
}

/// What one side says of one account, or, where there is no account, of the whole question.
#[derive(Clone, Debug)]
pub struct Reading {
    /// HTTP's status.
    pub status: u16,
    /// What it claims to hold.
    pub level: Level,
    /// As of when, where it says so: µs since 1970 UTC.
    pub as_of_us: Option<i64>,
    /// Whether it vouches for that.
    pub trust: Trust,
    /// The content, where it is JSON.
    pub content: Result<Value, JsonError>,
    /// What it was read from; nothing for one entry of a batch.
    pub body: Bytes,
    /// What an HTTP answer says of its body; nothing where there is no HTTP.
    pub stated: Option<Stated>,
    /// When.
    pub at: Moment,
}

impl Reading {
    /// Whether it answers the question instead of refusing it.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whose account it says that it is.
    pub fn user(&self) -> Option<UserId> {
        self.content.as_ref().ok()?.get("user_id")?.as_whole().and_then(UserId::new)
    }
}

impl Answer {
    /// Whether it answers the question instead of refusing it.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The content. Only parsed where bytes differ.
    ///
    /// # Errors
    /// Where the body is no JSON, an empty one included.
    pub fn content(&self) -> Result<Value, JsonError> {
        Value::parse(&self.body)
    }

    /// What this answer says to `question` as a whole.
    pub fn reading(&self, question: &Question) -> Reading {
        let content = self.content();
        let in_body = content.as_ref().ok().and_then(|content| content.get("version")?.as_whole());
        let version = in_body.or(self.stated.version);
        let level = match (self.status, version) {
            (200..=299, Some(version)) => Level::At(version),
            (200..=299, None) => Level::Unversioned,
            (404, _) if question.user().is_some() => Level::At(0),
            (412, _) => Level::Stale,
            (429 | 500..=599, _) => Level::Unavailable,
            _ => Level::Refused,
        };
        let trust = if self.stated.is_quarantined { Trust::Quarantined } else { Trust::Whole };
        Reading {
            status: self.status,
            level,
            as_of_us: self.stated.as_of_us,
            trust,
            content,
            body: self.body.clone(),
            stated: (self.form == Form::Http).then(|| self.stated.clone()),
            at: self.at,
        }
    }

    /// What this answer says of each user of a batch; `None` where it is no list of `users` entries.
    pub fn entries(&self, users: usize) -> Option<Vec<Reading>> {
        let content = self.content().ok()?;
        let entries = content.get("balances")?.elements()?;
        // A server older than the entries' own flags has one for all: it does not say whose history is incomplete.
        let is_anyones = self.stated.is_quarantined && !entries.iter().any(is_flagged);
        let readings = entries.iter().map(|entry| self.entry(entry, is_anyones || is_flagged(entry)));
        let readings: Option<Vec<Reading>> = readings.collect();
        readings.filter(|readings| self.status == 200 && readings.len() == users)
    }

    fn entry(&self, entry: &Value, is_quarantined: bool) -> Option<Reading> {
        let name = entry.get("status")?.as_text()?;
        let status = Status::ALL.iter().find(|status| status.name() == name)?;
        let balance = entry.get("balance").cloned().unwrap_or(Value::Null);
        let level = match status {
            Status::Ok => balance.get("version")?.as_whole().map(Level::At)?,
            Status::NotFound => Level::At(0),
            Status::Stale => Level::Stale,
            Status::Unavailable | Status::Overloaded | Status::Internal | Status::NotOwner => {
                Level::Unavailable
            }
            _ => Level::Refused,
        };
        Some(Reading {
            status: status.http_code(),
            level,
            as_of_us: self.stated.as_of_us,
            trust: if is_quarantined { Trust::Quarantined } else { Trust::Whole },
            content: Ok(balance),
            body: Bytes::new(),
            stated: None,
            at: self.at,
        })
    }
}

/// Whether an entry of a batch says of itself that transactions are missing.
fn is_flagged(entry: &Value) -> bool {
    matches!(entry.get("quarantined"), Some(Value::Bool(true)))
}
