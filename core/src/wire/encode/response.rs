//! The head of an HTTP response.

use alloc::vec::Vec;

use florin_schema::Version;
use florin_schema::frame::{REPLY_FORWARDED, REPLY_LASTING, REPLY_QUARANTINED};

use super::time::Days;
use crate::wire::{HttpReply, Origin, Redirect};

/// The media type of an answer.
pub(super) const JSON: &str = "application/json";
/// The media type of a refusal: RFC 9457.
pub(super) const PROBLEM: &str = "application/problem+json";

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
    let mut number = itoa::Buffer::new();
    put(out, &["HTTP/1.1 ", number.format(code), " ", reason(code)]);
    put(out, &["\r\nContent-Type: ", content_type]);
    put(out, &["\r\nContent-Length: ", number.format(body[0].len() + body[1].len())]);
    put(out, &["\r\nDate: "]);
    out.extend_from_slice(date);
    put(out, &["\r\nFlorin-As-Of: "]);
    out.extend_from_slice(&days.rfc3339(origin.as_of_us));
    if let Some(version) = version {
        put(out, &["\r\nFlorin-Version: ", number.format(version.0)]);
    }
    put(out, &["\r\nFlorin-Shard: ", number.format(origin.shard)]);
    if origin.flags & REPLY_FORWARDED != 0 {
        put(out, &["\r\nFlorin-Forwarded: true"]);
        if let Some(port) = port {
            put(out, &["\r\nFlorin-Shard-Port: ", number.format(port)]);
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
    put(out, &["\r\nConnection: ", if reply.closes() { "close" } else { "keep-alive" }, "\r\n\r\n"]);
    if !reply.is_head() {
        body.into_iter().for_each(|piece| out.extend_from_slice(piece));
    }
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}
