//! The head of an HTTP response.

use alloc::vec::Vec;

use florin_schema::Version;
use florin_schema::frame::{REPLY_FORWARDED, REPLY_LASTING, REPLY_QUARANTINED};

use super::line::{Line, Text};
use super::time::{Days, TIME};
use crate::wire::{HttpReply, Origin, Redirect};

/// The media type of an answer.
pub(super) const JSON: &str = "application/json";
/// The media type of a refusal: RFC 9457.
pub(super) const PROBLEM: &str = "application/problem+json";

/// The headers of all responses that hold times and numbers: 177 bytes at most.
const HEADERS_BYTES: usize = 224;

/// What stands in front of a body.
pub(super) struct Head<'a> {
    pub(super) code: u16,
    pub(super) content_type: &'static str,
    pub(super) reply: HttpReply,
    pub(super) origin: Origin,
    pub(super) version: Option<Version>,
    /// Of the shard that answers, for whoever has asked another.
    pub(super) port: Option<u16>,
    pub(super) allow: Option<&'static str>,
    /// Who has the user, where that is another node.
    pub(super) redirect: Option<&'a Redirect>,
}

impl Head<'_> {
    /// With nothing that not every response has.
    pub(super) const fn of(code: u16, content_type: &'static str, reply: HttpReply, origin: Origin) -> Self {
        Head { code, content_type, reply, origin, version: None, port: None, allow: None, redirect: None }
    }
}

/// The phrase of each HTTP status that this server writes.
pub(super) const fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => unreachable!(),
    }
}

/// Appends a response. To a HEAD it is what a GET would get, without its body.
pub(super) fn write(out: &mut Vec<u8>, head: &Head<'_>, date: &[u8; 29], days: &mut Days, body: [&[u8]; 2]) {
    let Head { code, content_type, reply, origin, version, port, allow, redirect } = *head;
    match code {
        200 => put(out, &["HTTP/1.1 200 OK"]),
        _ => put(out, &["HTTP/1.1 ", itoa::Buffer::new().format(code), " ", reason(code)]),
    }
    put(out, &["\r\nContent-Type: ", content_type]);
    Line::append(out, HEADERS_BYTES, |line| {
        const AS_OF: &str = "\r\nFlorin-As-Of: ";
        line.number(
            const { &Text::<24>::new("\r\nContent-Length: ") },
            (body[0].len() + body[1].len()) as u64,
        );
        line.text(const { Text::<8>::new("\r\nDate: ") });
        line.beginning(date, date.len());
        line.moment(const { &Text::<64>::of([AS_OF, TIME, ""]) }, AS_OF.len(), origin.as_of_us, days);
        if let Some(version) = version {
            line.number(const { &Text::<24>::new("\r\nFlorin-Version: ") }, version.0);
        }
        line.number(const { &Text::<24>::new("\r\nFlorin-Shard: ") }, u64::from(origin.shard));
    });
    if origin.flags & REPLY_FORWARDED != 0 {
        put(out, &["\r\nFlorin-Forwarded: true"]);
        if let Some(port) = port {
            put(out, &["\r\nFlorin-Shard-Port: ", itoa::Buffer::new().format(port)]);
        }
    }
    if origin.flags & REPLY_QUARANTINED != 0 {
        put(out, &["\r\nFlorin-Quarantined: true"]);
    }
    if origin.flags & REPLY_LASTING != 0 {
        put(out, &["\r\nFlorin-Lasting: true"]);
    }
    if let Some(methods) = allow {
        put(out, &["\r\nAllow: ", methods]);
    }
    if let Some(Redirect { owner, location }) = redirect {
        put(out, &["\r\nFlorin-Owner: ", owner]);
        if let Some(location) = location {
            put(out, &["\r\nLocation: ", location]);
        }
    }
    match code {
        // RFC 9110, section 11.6.1, asks for a challenge with each 401.
        401 => put(out, &["\r\nWWW-Authenticate: Bearer"]),
        429 | 503 => put(out, &["\r\nRetry-After: 1"]),
        _ => {}
    }
    // An HTTP/1.0 caller learns only here that its connection stays.
    put(
        out,
        &[if reply.closes() {
            "\r\nConnection: close\r\n\r\n"
        } else {
            "\r\nConnection: keep-alive\r\n\r\n"
        }],
    );
    if !reply.is_head() {
        body.into_iter().for_each(|piece| out.extend_from_slice(piece));
    }
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}
