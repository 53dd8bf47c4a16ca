//! HTTP/1.1 → requests (wire.md, "HTTP/1.1 and JSON").
//!
//! | module | holds |
//! | --- | --- |
//! | `head` | request line and headers: how long the request is, and whether the connection stays |
//! | `route` | path and query: what it asks |
//! | `body` | the JSON of a batch |
//!
//! Whatever leaves the request's length in doubt (RFC 9112, section 6.3) closes the connection, so that no byte is ever
//! read as a request that its sender meant as a body. Chunked bodies are refused with 411, as that section allows: every
//! caller of a batch knows its length.

mod body;
mod error;
mod head;
mod route;

use alloc::string::ToString;
use alloc::vec::Vec;

pub use error::HttpError;
use florin_schema::{Opcode, UserId};
use head::{Head, Method};
use route::{Resource, Route};

use super::{Format, HttpReply, Parsed, Query, Rejection, ReplyTo, Request};
use crate::limits::HTTP_BODY_BYTES_MAX;

/// The interim response that [`Parsed::Continue`] asks for.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Reads the request at the beginning of `bytes`. `users` receives the ids of a batch; other requests leave it be.
pub fn parse<'a>(bytes: &'a [u8], users: &mut Vec<UserId>) -> Parsed<'a> {
    let mut headers = [const { core::mem::MaybeUninit::uninit() }; crate::limits::HTTP_HEADERS_MAX];
    match Head::read(bytes, &mut headers) {
        Ok(Some(head)) => whole(bytes, head, users),
        Ok(None) => Parsed::Incomplete,
        Err(error) => refuse(Opcode::Ping, reply(Method::of(bytes), Connection::Closes), &error, None),
    }
}

/// Refuses a request of which only `begun` has come in time.
pub fn timed_out(begun: &[u8]) -> Rejection {
    rejection(Opcode::Ping, reply(Method::of(begun), Connection::Closes), &HttpError::TimedOut, None)
}

/// What becomes of the connection after the response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    Stays,
    Closes,
}

fn whole<'a>(bytes: &'a [u8], mut head: Head<'a>, users: &mut Vec<UserId>) -> Parsed<'a> {
    let connection = if head.keeps_alive { Connection::Stays } else { Connection::Closes };
    let closing = reply(head.method, Connection::Closes);
    let route = route::find(&mut head);
    let opcode = route.as_ref().map_or(Opcode::Ping, |route| route.resource.opcode());

    if head.content_bytes > HTTP_BODY_BYTES_MAX {
        return refuse(opcode, closing, &HttpError::BodyTooLong(head.content_bytes), None);
    }
    let length = head.bytes + head.content_bytes;
    let Some(content) = bytes.get(head.bytes..length) else {
        return match route {
            // Whether the body will come after this refusal is the caller's choice, so where it would end is unknown.
            Err(error) if head.may_withhold || error.closes() || !head.keeps_alive => {
                refuse(opcode, closing, &error, None)
            }
            // Told at once, and not when the body has come, which is skipped as it comes.
            Err(error) => refuse(opcode, reply(head.method, connection), &error, Some(length)),
            Ok(_) if head.expects_continue && bytes.len() == head.bytes => Parsed::Continue,
            _ => Parsed::Incomplete,
        };
    };
    let format = reply(head.method, connection);
    match route.and_then(|route| query(&route, content, users).map(|query| (route, query))) {
        Ok((route, query)) => {
            let reply_to = ReplyTo { opcode, request_id: 0, format: Format::Http(format) };
            let authorization = head.authorization;
            Parsed::Request(Request { reply_to, freshness: route.freshness, query, authorization }, length)
        }
        Err(error) if error.closes() || format.closes() => refuse(opcode, closing, &error, None),
        Err(error) => refuse(opcode, format, &error, Some(length)),
    }
}

fn query<'a>(route: &Route, content: &[u8], users: &mut Vec<UserId>) -> Result<Query<'a>, HttpError> {
    match route.resource {
        Resource::Batch => {
            body::user_ids(content, users)?;
            Ok(Query::Balances)
        }
        Resource::Balance(user_id) => Ok(Query::Balance(user_id)),
        Resource::Statistics(user_id) => Ok(Query::Statistics(user_id, route.windows)),
        Resource::Nodes => Ok(Query::Nodes { since: route.since }),
    }
}

fn reply(method: Method, connection: Connection) -> HttpReply {
    match (method, connection) {
        (Method::Head, Connection::Stays) => HttpReply::HEAD_KEEP_ALIVE,
        (Method::Head, Connection::Closes) => HttpReply::HEAD_CLOSE,
        (_, Connection::Stays) => HttpReply::KEEP_ALIVE,
        (_, Connection::Closes) => HttpReply::CLOSE,
    }
}

#[cold]
fn refuse<'a>(opcode: Opcode, reply: HttpReply, error: &HttpError, consumed: Option<usize>) -> Parsed<'a> {
    Parsed::Rejected(rejection(opcode, reply, error, consumed))
}

fn rejection(opcode: Opcode, reply: HttpReply, error: &HttpError, consumed: Option<usize>) -> Rejection {
    let reply_to = ReplyTo { opcode, request_id: 0, format: Format::Http(reply) };
    Rejection {
        http_status: Some(error.status()),
        allow: error.allow(),
        ..Rejection::new(reply_to, error.to_string(), consumed)
    }
}

#[cfg(test)]
mod tests;
