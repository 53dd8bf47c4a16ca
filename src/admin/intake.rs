//! What is refused by a request's head alone, and a body within bounds of size and time. Nobody who withholds a body, or
//! half of one, is left without an answer.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use florin_input::connections::Evicted;
use florin_input::origin::{Refusal, check_command, check_read};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::hosts::Hosts;
use super::problem::Problem;
use crate::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_PART, ADMIN_PART_SILENCE, APPLY_BODY_BYTES_MAX};
use crate::threads::{EndsProcess, Vital};

/// Refuses what no resource here takes, before anything of the body is waited for.
pub(super) async fn check_head(request: Request, next: Next) -> Response {
    // Otherwise a panic would stay with the connection's task.
    let end = EndsProcess::of(Vital::Admin);
    end.at_work();
    match check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => closing(problem),
    }
}

/// Before anybody is known by name, at least no web page may write.
pub(super) fn check_writer(headers: &HeaderMap, hosts: &Hosts) -> Result<(), Problem> {
    let values = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    check_command(values, &hosts.get()).map_err(refused)
}

/// The console's page may read what it shows, and no other page.
pub(super) fn check_reader(headers: &HeaderMap, hosts: &Hosts) -> Result<(), Problem> {
    let values = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    check_read(values, &hosts.get()).map_err(refused)
}

fn refused(refusal: Refusal) -> Problem {
    let status = StatusCode::from_u16(refusal.status()).expect("a refusal's status is one of HTTP's");
    let hint = match refusal {
        Refusal::Host(_) => "; --admin-host names further ones",
        _ => "",
    };
    Problem::new(status, format!("{refusal}{hint}")).refusing()
}

/// A refusal of a request whose body is not read: what follows on the connection could be that body.
pub(super) fn closing(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn check(headers: &HeaderMap) -> Result<(), Problem> {
    for name in [header::HOST, header::CONTENT_TYPE, header::CONTENT_ENCODING, header::EXPECT] {
        if headers.get_all(&name).iter().count() > 1 {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                format!("{name}: expected once, got it twice"),
            ));
        }
    }
    match headers.get(header::EXPECT) {
        Some(value) if !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"100-continue") => {
            let detail = format!("expect: expected 100-continue, got {value:?}");
            Err(Problem::new(StatusCode::EXPECTATION_FAILED, detail))
        }
        _ => Ok(()),
    }
}

/// The whole body, or why it is not all there: too much of it, too little and too slow are different mistakes.
pub(super) async fn whole(mut body: Body) -> Result<Vec<u8>, Problem> {
    if body.size_hint().lower() > APPLY_BODY_BYTES_MAX as u64 {
        return Err(too_long());
    }
    let end = Instant::now() + ADMIN_PART;
    let mut whole = Vec::new();
    loop {
        let silent = Instant::now() + ADMIN_PART_SILENCE;
        let mut next = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let frame = match timeout_at(end.min(silent), &mut next).await {
            Ok(frame) => Some(frame),
            Err(_) => {
                // A process that was stopped finds the time over before it has looked at what came meanwhile.
                yield_now().await;
                match poll_fn(|context| Poll::Ready(Pin::new(&mut next).poll(context))).await {
                    Poll::Ready(frame) => Some(frame),
                    Poll::Pending => None,
                }
            }
        };
        match frame {
            None => return Err(too_slow()),
            Some(None) => return Ok(whole),
            Some(Some(Err(error))) => return Err(broken(&error)),
            Some(Some(Ok(frame))) => {
                // Trailers say nothing here.
                let data = frame.into_data().unwrap_or_default();
                if whole.len() + data.len() > APPLY_BODY_BYTES_MAX {
                    return Err(too_long());
                }
                whole.extend_from_slice(&data);
            }
        }
    }
}

fn too_long() -> Problem {
    let detail =
        format!("expected at most {APPLY_BODY_BYTES_MAX} bytes: send the transactions in several requests");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn too_slow() -> Problem {
    let detail = format!(
        "body: expected its rest within {} s, and all of it within {} s; nothing was appended",
        ADMIN_PART_SILENCE.as_secs(),
        ADMIN_PART.as_secs()
    );
    Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
}

fn broken(error: &axum::Error) -> Problem {
    if is_evicted(error) {
        let detail = format!(
            "this connection had been silent for longest when one more came than the {ADMIN_CONNECTIONS_MAX} that the admin port \
             holds; nothing was appended: send it again"
        );
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    }
    let detail =
        "expected a whole body: it ended before its Content-Length or its last chunk; nothing was appended";
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// Whether that lies at the bottom of `error`.
fn is_evicted(error: &(dyn Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<Evicted>()) || error.source().is_some_and(is_evicted)
}
