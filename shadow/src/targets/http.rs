//! A side that speaks HTTP, asked over a pool of connections.

use std::error::Error;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::answer::{Answer, Form, Moment, Stated};
use crate::clock::now_us;
use crate::judge::{Failure, Reason};
use crate::limits::{ANSWER_COPY_BYTES_MAX, CONNECT_TIMEOUT};
use crate::request::{HOP_BY_HOP, Request};

/// An answer with all of its headers, for a caller who is to get it.
pub struct FullAnswer {
    /// As the judge sees it.
    pub answer: Answer,
    /// Without those of the connection.
    pub headers: HeaderMap,
}

/// A pool of connections to one server.
pub struct HttpTarget {
    authority: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl HttpTarget {
    /// Connects when it is first asked.
    pub fn new(authority: &str) -> HttpTarget {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        HttpTarget {
            authority: authority.to_owned(),
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// Asks, and waits for the whole answer, however long it takes.
    ///
    /// # Errors
    /// Where none came.
    pub async fn ask(&self, request: &Request) -> Result<FullAnswer, Failure> {
        let asked_us = now_us();
        let query = request.target.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
        let mut outgoing = http::Request::builder()
            .method(request.method.clone())
            .uri(format!("http://{}{}{query}", self.authority, request.path()))
            .body(Full::new(request.body.clone()))
            .map_err(|error| Failure::protocol(&error))?;
        let headers = request.headers.iter().filter(|(name, _)| !HOP_BY_HOP.contains(name));
        outgoing.headers_mut().extend(headers.map(|(name, value)| (name.clone(), value.clone())));
        let response = self.client.request(outgoing).await.map_err(|error| failure(&error))?;
        let (head, body) = response.into_parts();
        let body =
            Limited::new(body, ANSWER_COPY_BYTES_MAX).collect().await.map_err(|error| failure(&*error))?;
        let answer = Answer {
            status: head.status.as_u16(),
            form: Form::Http,
            stated: Stated::of(&head.headers),
            body: body.to_bytes(),
            packed: None,
            at: Moment { asked_us, answered_us: now_us() },
        };
        let mut headers = head.headers;
        for name in HOP_BY_HOP {
            headers.remove(name);
        }
        Ok(FullAnswer { answer, headers })
    }
}

/// Finds out which way an exchange failed; the libraries tell it by their sources.
fn failure(error: &(dyn Error + 'static)) -> Failure {
    let mut source = Some(error);
    let mut reason = Reason::Cut;
    while let Some(error) = source {
        if error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|e| e.is_connect()) {
            reason = Reason::Connect;
            break;
        }
        let is_garbage =
            error.downcast_ref::<hyper::Error>().is_some_and(|e| e.is_parse() || e.is_parse_status());
        if is_garbage || error.is::<http_body_util::LengthLimitError>() {
            reason = Reason::Protocol;
        }
        source = error.source();
    }
    Failure { reason, detail: words(error) }
}

fn words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
