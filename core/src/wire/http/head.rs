//! Request line and headers: what the request's framing and its connection depend on.

use alloc::string::String;
use core::mem::MaybeUninit;

use florin_schema::media::NotJson;
use httparse::Header;

use super::HttpError;
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_LINE_BYTES_MAX};

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
    /// Its sender may hold the body back until it is told to go on: a refusal must not wait for it.
    pub(super) may_withhold: bool,
    /// What proves its caller, as it came.
    pub(super) authorization: Option<&'a [u8]>,
    /// The first thing wrong with it that leaves the framing alone.
    pub(super) fault: Option<HttpError>,
}

impl<'a> Head<'a> {
    /// `Ok(None)` where it is not all there; an error where the connection has to close.
    pub(super) fn read<'h>(
        bytes: &'a [u8],
        headers: &'h mut [MaybeUninit<Header<'a>>],
    ) -> Result<Option<Head<'a>>, HttpError> {
        let mut request = httparse::Request::new(&mut []);
        let limited = &bytes[..bytes.len().min(HTTP_HEAD_BYTES_MAX)];
        let parts = match request.parse_with_uninit_headers(limited, headers) {
            Ok(httparse::Status::Complete(head_bytes)) => {
                let (Some(method_name), Some(target), Some(minor)) =
                    (request.method, request.path, request.version)
                else {
                    unreachable!("httparse fills the request line before it completes");
                };
                if method_name.len() + target.len() + "  HTTP/1.1".len() > HTTP_LINE_BYTES_MAX {
                    return Err(HttpError::LineTooLong);
                }
                let fields = Fields::read(request.headers)?;
                Parts { bytes: head_bytes, method_name, target, minor, fields }
            }
            unread => match Parts::of_unread(limited, unread)? {
                Some(parts) => parts,
                None => return Ok(None),
            },
        };
        let Parts { bytes: head_bytes, method_name, target, minor, fields } = parts;
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
            may_withhold: fields.expectation.is_some() && (minor != 0 || !fields.expects_continue),
            authorization: fields.authorization,
            fault: fields.fault(method, minor),
        }))
    }
}

/// A head, taken apart.
struct Parts<'a> {
    bytes: usize,
    method_name: &'a str,
    target: &'a str,
    minor: u8,
    fields: Fields<'a>,
}

impl<'a> Parts<'a> {
    /// What becomes of a head that `httparse` has not read to its end. `None` where it is not all there.
    #[cold]
    fn of_unread(head: &'a [u8], unread: httparse::Result<usize>) -> Result<Option<Parts<'a>>, HttpError> {
        let line = Line::of(head);
        if line.bytes > HTTP_LINE_BYTES_MAX {
            return Err(HttpError::LineTooLong);
        }
        let is_full = head.len() == HTTP_HEAD_BYTES_MAX;
        match unread {
            Ok(_) if is_full => Err(HttpError::HeadTooLong),
            Ok(_) => Ok(None),
            Err(httparse::Error::TooManyHeaders) => Err(HttpError::TooManyHeaders),
            // What looks like another version may be the beginning of one that this server speaks.
            Err(httparse::Error::Version) if !line.is_whole => Ok(None),
            Err(httparse::Error::Version) if line.is_later_minor() => {
                match Parts::of_later_minor(head, &line)? {
                    None if is_full => Err(HttpError::HeadTooLong),
                    parts => Ok(parts),
                }
            }
            Err(httparse::Error::Version) if line.version.is_some() => Err(HttpError::Version),
            Err(error) => Err(HttpError::Malformed(error)),
        }
    }

    /// HTTP/1.2 and later, which `httparse` refuses: a server that knows HTTP/1.1 reads all of HTTP/1 as that (RFC 9110,
    /// section 2.5). `None` where the head is not all there.
    #[cold]
    fn of_later_minor(head: &'a [u8], line: &Line<'a>) -> Result<Option<Parts<'a>>, HttpError> {
        let malformed = |error| HttpError::Malformed(error);
        let text = str::from_utf8(line.text).map_err(|_| malformed(httparse::Error::Token))?;
        let mut words = text.split(' ');
        let (Some(method_name), Some(target), Some(_), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(malformed(httparse::Error::Token));
        };
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_word(method_name) || !is_word(target) {
            return Err(malformed(httparse::Error::Token));
        }
        let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
        match httparse::parse_headers(&head[line.next..], &mut headers) {
            Ok(httparse::Status::Complete((bytes, headers))) => {
                let fields = Fields::read(headers)?;
                Ok(Some(Parts { bytes: line.next + bytes, method_name, target, minor: 1, fields }))
            }
            Ok(httparse::Status::Partial) => Ok(None),
            Err(httparse::Error::TooManyHeaders) => Err(HttpError::TooManyHeaders),
            Err(error) => Err(malformed(error)),
        }
    }
}

/// What the first line shows before it is parsed.
struct Line<'a> {
    /// Without its end.
    text: &'a [u8],
    bytes: usize,
    /// Where the next one begins.
    next: usize,
    is_whole: bool,
    /// Major and minor, as digits.
    version: Option<(u8, u8)>,
}

impl<'a> Line<'a> {
    fn is_later_minor(&self) -> bool {
        matches!(self.version, Some((b'1', b'2'..)))
    }

    fn of(bytes: &'a [u8]) -> Line<'a> {
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let rest = &bytes[blank..];
        // One byte beyond the limit is enough to know.
        let rest = &rest[..rest.len().min(HTTP_LINE_BYTES_MAX + 1)];
        let end = memchr::memchr(b'\n', rest);
        let line = rest[..end.unwrap_or(rest.len())].trim_ascii_end();
        let last = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
        let version = match *last {
            [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] => {
                Some((major, minor))
            }
            _ => None,
        };
        let next = blank + end.map_or(rest.len(), |end| end + 1);
        Line { text: line, bytes: line.len(), next, is_whole: end.is_some(), version }
    }
}

/// The headers that matter, as they came.
#[derive(Default)]
struct Fields<'a> {
    hosts: usize,
    host: &'a [u8],
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    content_encoding: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    /// The first header that stands twice and may stand once.
    duplicate: Option<&'static str>,
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
                (fields.hosts, fields.host) = (fields.hosts + 1, value);
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
                if fields.content_type.replace(value).is_some() {
                    fields.duplicate = Some("content-type");
                }
            } else if name.eq_ignore_ascii_case("content-encoding") {
                if fields.content_encoding.replace(value).is_some() {
                    fields.duplicate = Some("content-encoding");
                }
            } else if name.eq_ignore_ascii_case("authorization") {
                if fields.authorization.replace(value).is_some() {
                    fields.duplicate = Some("authorization");
                }
            } else if name.eq_ignore_ascii_case("expect") {
                fields.expects_continue = value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
                if fields.expectation.replace(value).is_some() {
                    fields.duplicate = Some("expect");
                }
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
        if !is_authority(self.host.trim_ascii()) {
            return Some(HttpError::HostName(text(self.host)));
        }
        if let Some(name) = self.duplicate {
            return Some(HttpError::DuplicateHeader(name));
        }
        if let Some(value) = self.expectation
            && !self.expects_continue
        {
            return Some(HttpError::Expectation(text(value)));
        }
        if matches!(method, Method::Get | Method::Head) {
            let content_bytes = self.content_bytes(minor).ok().flatten().unwrap_or(0);
            return (content_bytes > 0).then_some(HttpError::UnexpectedBody(content_bytes));
        }
        if method != Method::Post {
            return None;
        }
        if self.content_length.is_none() {
            return Some(HttpError::LengthRequired);
        }
        if let Some(Err(error)) = self.content_type.map(check_media_type) {
            return Some(error);
        }
        match self.content_encoding {
            Some(value) if !value.trim_ascii().eq_ignore_ascii_case(b"identity") => {
                Some(HttpError::ContentEncoding(text(value)))
            }
            _ => None,
        }
    }
}

/// Whether a value is `uri-host [":" port]` (RFC 3986, section 3.2.2), which may be empty.
fn is_authority(value: &[u8]) -> bool {
    let port = match value {
        [b'[', rest @ ..] => match memchr::memchr(b']', rest) {
            Some(end) if is_ipv6(&rest[..end]) => &rest[end + 1..],
            _ => return false,
        },
        _ => &value[value.iter().position(|byte| !is_of_name(*byte)).unwrap_or(value.len())..],
    };
    match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// An IPv6 address, maybe with its zone (RFC 6874).
fn is_ipv6(text: &[u8]) -> bool {
    let (address, zone) = text.split_at(memchr::memchr(b'%', text).unwrap_or(text.len()));
    str::from_utf8(address).is_ok_and(|address| address.parse::<core::net::Ipv6Addr>().is_ok())
        && zone.iter().all(|byte| is_of_name(*byte))
}

fn check_media_type(value: &[u8]) -> Result<(), HttpError> {
    florin_schema::media::json(value).map_err(|not| match not {
        NotJson::Type => HttpError::ContentType(text(value)),
        NotJson::Charset => HttpError::Charset(text(value)),
    })
}

/// Unreserved characters, sub-delims, and what encodes others.
const OF_NAME: [bool; 256] = {
    let (mut of_name, others) = ([false; 256], b"-._~!$&'()*+,;=%");
    let mut byte = 0;
    while byte < of_name.len() {
        of_name[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut other = 0;
    while other < others.len() {
        of_name[others[other] as usize] = true;
        other += 1;
    }
    of_name
};

/// Looked up: each request has its Host.
#[inline]
fn is_of_name(byte: u8) -> bool {
    OF_NAME[usize::from(byte)]
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}
