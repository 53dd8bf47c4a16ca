//! Request line and headers: what the request's framing and its connection depend on.

use std::mem::MaybeUninit;

use httparse::Header;

use super::HttpError;
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_LINE_BYTES_MAX};

/// A request's method, as far as this server tells them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    Get,
    Head,
    Post,
    Other,
}

impl Method {
    /// The method at the beginning of a request that may not be readable further.
    pub(super) fn of(bytes: &[u8]) -> Method {
        match bytes.trim_ascii_start() {
            [b'G', b'E', b'T', b' ', ..] => Method::Get,
            [b'H', b'E', b'A', b'D', b' ', ..] => Method::Head,
            [b'P', b'O', b'S', b'T', b' ', ..] => Method::Post,
            _ => Method::Other,
        }
    }
}

/// A request's head whose framing is beyond doubt.
pub(super) struct Head<'a> {
    /// Its own length: the body begins there.
    pub(super) bytes: usize,
    pub(super) method: Method,
    pub(super) method_name: &'a str,
    /// As it came: path and query, or an absolute URI.
    pub(super) target: &'a str,
    /// The body's length; 0 without a Content-Length.
    pub(super) content_bytes: usize,
    pub(super) keeps_alive: bool,
    pub(super) expects_continue: bool,
    /// The first thing wrong with it that leaves the framing alone.
    pub(super) fault: Option<HttpError>,
}

impl<'a> Head<'a> {
    /// `Ok(None)` where it is not all there; an error where the connection has to close.
    pub(super) fn read<'h>(
        bytes: &'a [u8],
        headers: &'h mut [MaybeUninit<Header<'a>>],
    ) -> Result<Option<Head<'a>>, HttpError> {
        let line = Line::of(bytes);
        if line.bytes > HTTP_LINE_BYTES_MAX {
            return Err(HttpError::LineTooLong);
        }
        let mut request = httparse::Request::new(&mut []);
        let limited = &bytes[..bytes.len().min(HTTP_HEAD_BYTES_MAX)];
        let head_bytes = match request.parse_with_uninit_headers(limited, headers) {
            Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
            Ok(httparse::Status::Partial) if limited.len() == HTTP_HEAD_BYTES_MAX => {
                return Err(HttpError::HeadTooLong);
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(HttpError::TooManyHeaders),
            // What looks like another version may be the beginning of one that this server speaks.
            Err(httparse::Error::Version) if !line.is_whole => return Ok(None),
            Err(httparse::Error::Version) if line.names_a_version => return Err(HttpError::Version),
            Err(error) => return Err(HttpError::Malformed(error)),
        };
        let (Some(method_name), Some(target), Some(minor)) = (request.method, request.path, request.version)
        else {
            unreachable!("httparse fills the request line before it completes");
        };
        let fields = Fields::read(request.headers)?;
        let method = Method::of(bytes);
        Ok(Some(Head {
            bytes: head_bytes,
            method,
            method_name,
            target,
            content_bytes: fields.content_bytes(minor)?.unwrap_or(0),
            keeps_alive: if minor == 0 { fields.keep_alive && !fields.close } else { !fields.close },
            // HTTP/1.0 has no interim responses: RFC 9110, section 10.1.1.
            expects_continue: fields.expects_continue && minor != 0,
            fault: fields.fault(method, minor),
        }))
    }
}

/// What the first line shows before it is parsed.
struct Line {
    bytes: usize,
    is_whole: bool,
    names_a_version: bool,
}

impl Line {
    fn of(bytes: &[u8]) -> Line {
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let rest = &bytes[blank..];
        // One byte beyond the limit is enough to know.
        let rest = &rest[..rest.len().min(HTTP_LINE_BYTES_MAX + 1)];
        let end = memchr::memchr(b'\n', rest);
        let line = rest[..end.unwrap_or(rest.len())].trim_ascii_end();
        let last = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
        let names_a_version = matches!(last, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit());
        Line { bytes: line.len(), is_whole: end.is_some(), names_a_version }
    }
}

/// The headers that matter, as they came.
#[derive(Default)]
struct Fields<'a> {
    hosts: usize,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    content_encoding: Option<&'a [u8]>,
    expectation: Option<&'a [u8]>,
    expects_continue: bool,
    close: bool,
    keep_alive: bool,
}

impl<'a> Fields<'a> {
    fn read(headers: &[Header<'a>]) -> Result<Fields<'a>, HttpError> {
        let mut fields = Fields::default();
        for &Header { name, value } in headers {
            if name.eq_ignore_ascii_case("host") {
                fields.hosts += 1;
            } else if name.eq_ignore_ascii_case("content-length") {
                if fields.content_length.replace(value).is_some() {
                    return Err(HttpError::ContentLength("more than one".into()));
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if fields.transfer_encoding.replace(value).is_some() {
                    return Err(HttpError::TransferEncoding("more than one".into()));
                }
            } else if name.eq_ignore_ascii_case("connection") {
                for token in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    fields.close |= token.eq_ignore_ascii_case(b"close");
                    fields.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if name.eq_ignore_ascii_case("content-type") {
                fields.content_type = Some(value);
            } else if name.eq_ignore_ascii_case("content-encoding") {
                fields.content_encoding = Some(value);
            } else if name.eq_ignore_ascii_case("expect") {
                fields.expects_continue = value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
                fields.expectation = Some(value);
            }
        }
        Ok(fields)
    }

    /// RFC 9112, section 6.3: whatever leaves the length in doubt is an error that closes.
    fn content_bytes(&self, minor: u8) -> Result<Option<usize>, HttpError> {
        if let Some(coding) = self.transfer_encoding {
            return Err(match (self.content_length, minor) {
                (None, 1) if coding.trim_ascii().eq_ignore_ascii_case(b"chunked") => HttpError::Chunked,
                (None, 1) => HttpError::TransferEncoding(text(coding)),
                _ => HttpError::DisputedLength,
            });
        }
        let Some(value) = self.content_length else { return Ok(None) };
        let digits = value.trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(HttpError::ContentLength(text(value)));
        }
        // A number beyond usize is beyond the limit on bodies too, so saturating keeps the verdict.
        Ok(Some(
            digits
                .iter()
                .fold(0usize, |sum, digit| sum.saturating_mul(10).saturating_add(usize::from(digit - b'0'))),
        ))
    }

    /// What is wrong with a request whose length is beyond doubt.
    fn fault(&self, method: Method, minor: u8) -> Option<HttpError> {
        if self.hosts > 1 || (self.hosts == 0 && minor == 1) {
            return Some(HttpError::Host(self.hosts));
        }
        if let Some(value) = self.expectation
            && !self.expects_continue
        {
            return Some(HttpError::Expectation(text(value)));
        }
        if method != Method::Post {
            return None;
        }
        if self.content_length.is_none() {
            return Some(HttpError::LengthRequired);
        }
        if let Some(value) = self.content_type {
            let media = value.split(|&byte| byte == b';').next().unwrap_or_default();
            if !media.trim_ascii().eq_ignore_ascii_case(b"application/json") {
                return Some(HttpError::ContentType(text(value)));
            }
        }
        match self.content_encoding {
            Some(value) if !value.trim_ascii().eq_ignore_ascii_case(b"identity") => {
                Some(HttpError::ContentEncoding(text(value)))
            }
            _ => None,
        }
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
