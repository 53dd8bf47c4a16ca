//! A side that can be asked, in whichever protocol.

mod coding;
pub(crate) mod frames;
mod http;
mod native;

use std::time::Duration;

pub use coding::plain;
pub use http::FullAnswer;

use crate::address::TargetAddress;
use crate::answer::{Answer, rfc3339};
use crate::judge::{Failure, Reason};
use crate::request::{Question, Request};
use ::http::{HeaderMap, HeaderValue, header};
use frames::FramesTarget;
use http::HttpTarget;
use native::NativeTarget;

/// A side that can be asked.
pub enum Target {
    /// Over HTTP.
    Http(HttpTarget),
    /// In frames with rkyv bodies.
    Native(NativeTarget),
    /// In frames with FlatBuffers bodies.
    Frames(FramesTarget),
}

impl Target {
    /// Connects when it is first asked.
    pub fn new(address: &TargetAddress) -> Target {
        match address {
            TargetAddress::Http(authority) => Target::Http(HttpTarget::new(authority)),
            TargetAddress::Rkyv(address) => Target::Native(NativeTarget::new(address.clone())),
            TargetAddress::FlatBuffers(address) => Target::Frames(FramesTarget::new(address.clone())),
        }
    }

    /// Asks, and waits for the answer, for no longer than `timeout` whatever stands in the way.
    ///
    /// # Errors
    /// Where none came in time, or none that can be read.
    pub async fn ask(&self, request: &Request, timeout: Duration) -> Result<Answer, Failure> {
        let answer = async {
            match self {
                Target::Http(target) => plain(target.ask(request).await?.answer),
                Target::Native(target) => target.ask(request, timeout).await,
                Target::Frames(target) => target.ask(request).await,
            }
        };
        within(timeout, answer).await
    }

    /// The same as it came, with all that HTTP's headers say or would have said: for a caller who is to get it.
    ///
    /// # Errors
    /// Where none came in time, or none that can be read.
    pub async fn ask_in_full(&self, request: &Request, timeout: Duration) -> Result<FullAnswer, Failure> {
        match self {
            Target::Http(target) => within(timeout, target.ask(request)).await,
            native => native.ask(request, timeout).await.map(with_headers),
        }
    }

    /// Whether the question can be put to it at all.
    pub fn can_ask(&self, request: &Request) -> bool {
        matches!(self, Target::Http(_)) || request.question != Question::Other
    }
}

/// An answer that comes in time, or none.
///
/// # Errors
/// Where it fails, or does not come in time.
pub async fn within<T>(
    timeout: Duration,
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late = |_| Failure { reason: Reason::Timeout, detail: format!("no answer within {timeout:?}") };
    tokio::time::timeout(timeout, answer).await.map_err(late)?
}

/// The headers that HTTP would have had.
fn with_headers(answer: Answer) -> FullAnswer {
    let mut headers = HeaderMap::new();
    let kind = if answer.status == 200 { "application/json" } else { "application/problem+json" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let as_of = answer.stated.as_of_us.map(rfc3339);
    let version = answer.stated.version.map(|version| version.to_string());
    let stated = [("florin-as-of", as_of), ("florin-version", version)];
    for (name, value) in stated {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    if answer.stated.is_quarantined {
        headers.insert("florin-quarantined", HeaderValue::from_static("true"));
    }
    FullAnswer { answer, headers }
}
