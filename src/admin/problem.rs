//! Refusals as RFC 9457 has them.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// Nobody waits for the answer any more: no status of the standard's says so, and this one is widely used for it.
pub(super) fn caller_gone() -> StatusCode {
    StatusCode::from_u16(499).expect("it has three digits")
}

/// A refusal on its way to the caller: `application/problem+json`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    members: Map<String, Value>,
    is_refusal: bool,
}

impl Problem {
    /// A problem of no type of its own: the status says it all, the detail says it well.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let mut members = Map::new();
        members.insert("type".to_owned(), "about:blank".into());
        members.insert("title".to_owned(), status.canonical_reason().unwrap_or("Error").into());
        members.insert("status".to_owned(), status.as_u16().into());
        members.insert("detail".to_owned(), detail.into().into());
        Problem { status, members, is_refusal: false }
    }

    /// Which transaction of the request, from 0.
    pub(super) fn at(mut self, index: usize) -> Problem {
        self.members.insert("index".to_owned(), index.into());
        self
    }

    /// A further member.
    pub(super) fn with(mut self, name: &str, value: &str) -> Problem {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Who asked is turned away for where the request comes from: that is written down with the reason, which names no user.
    pub(super) fn refusing(mut self) -> Problem {
        self.is_refusal = true;
        self
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// What was expected, what came, and what to do.
    pub(super) fn detail(&self) -> Option<&str> {
        self.members.get("detail")?.as_str()
    }

    /// The body's members.
    #[cfg(test)]
    pub(super) fn members(&self) -> &Map<String, Value> {
        &self.members
    }
}

/// Why a request was refused, kept with its response for whoever writes it down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reason(pub(super) String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let reason = self.detail().filter(|_| self.is_refusal).map(|detail| Reason(detail.to_owned()));
        let body = Value::Object(self.members).to_string();
        let retry = matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(reason) = reason {
            response.extensions_mut().insert(reason);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 11.6.1, asks for a challenge with each.
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        if retry {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}
