//! Where messages begin and end in a stream of HTTP/1.1 (RFC 9112). Nothing here changes a byte: a proxy that follows
//! along needs to know which answer belongs to which request, and where to stop.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::budget::{Budget, Held};
use crate::cutover::Persistence;
use crate::judge::Reason;
use crate::limits::{HEADERS_MAX, HEADERS_USUAL};
use crate::request::Request;

/// What has been found at the front of some bytes.
#[derive(Debug)]
pub enum Parsed<T> {
    /// More bytes are needed.
    Partial,
    /// A head, and how long it is.
    Head(T, usize),
    /// No HTTP/1 that can be followed.
    Garbled,
}

/// A request's head.
#[derive(Debug)]
pub struct RequestHead {
    /// GET, …
    pub method: Method,
    /// As it stands in the first line.
    pub target: String,
    /// As they came.
    pub headers: Arc<HeaderMap>,
    /// How its body ends.
    pub body: Body,
    /// Whether the connection is to stay.
    pub persistence: Persistence,
    /// The caller offers to make something else of the connection (CONNECT, Upgrade); the primary's answer says whether it does.
    pub switches: bool,
}

/// An answer's head.
#[derive(Debug)]
pub struct AnswerHead {
    /// The status.
    pub status: u16,
    /// As they came.
    pub headers: HeaderMap,
    /// How its body ends.
    pub body: Body,
    /// Nothing but a first word (1xx): the answer is still to come.
    pub is_interim: bool,
}

/// How a body ends, and how much of it has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// So many bytes are still to come.
    Length(u64),
    /// In chunks.
    Chunked(Chunk),
    /// With the connection.
    UntilClose,
}

/// Where in a chunked body the stream stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chunk {
    /// In a chunk's size, of which so many digits have been read.
    Size(u64, u8),
    /// Behind a chunk's size, in what else its line says.
    Extension(u64),
    /// In a chunk's data, of which so many bytes are still to come.
    Data(u64),
    /// Behind the data: its line end.
    DataEnd,
    /// Behind the last chunk, at a line's beginning.
    TrailerStart,
    /// In a trailer's line.
    Trailer,
    /// Behind the carriage return of the empty line.
    LastLineEnd,
}

/// What cannot be followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Garbled;

/// A copy of a body, as long as it stays within its limit and there is room for it.
#[derive(Debug)]
pub struct Copy {
    bytes: Vec<u8>,
    limit: usize,
    held: Held,
    /// Why there is none.
    failed: Option<Reason>,
}

impl Copy {
    /// An empty one, of something whose head takes `head` bytes.
    pub fn new(head: usize, limit: usize, budget: &Budget) -> Copy {
        let mut held = budget.nothing();
        let failed = (!held.take(head)).then_some(Reason::QueueFull);
        Copy { bytes: Vec::new(), limit, held, failed }
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if self.bytes.len() + bytes.len() > self.limit {
            self.failed = Some(Reason::TooLarge);
        } else if !self.held.take(bytes.len()) {
            self.failed = Some(Reason::QueueFull);
        } else {
            return self.bytes.extend_from_slice(bytes);
        }
        self.bytes = Vec::new();
    }

    /// The copy, and the room that it takes; or why there is none.
    pub fn finish(self) -> Result<(Bytes, Held), Reason> {
        self.failed.map_or_else(|| Ok((Bytes::from(self.bytes), self.held)), Err)
    }
}

/// A whole request, whose meaning nobody has looked for yet.
#[derive(Debug)]
pub struct Copied {
    head: RequestHead,
    body: Bytes,
    held: Held,
}

impl Copied {
    /// A request and the room that its copy takes.
    pub fn new(head: RequestHead, (body, held): (Bytes, Held)) -> Copied {
        Copied { head, body, held }
    }

    /// What it means.
    pub fn read(&self) -> Request {
        let head = &self.head;
        Request::new(head.method.clone(), head.target.clone(), Arc::clone(&head.headers), self.body.clone())
    }

    /// The same, and the room that it takes.
    pub fn request(self) -> (Request, Held) {
        let RequestHead { method, target, headers, .. } = self.head;
        (Request::new(method, target, headers, self.body), self.held)
    }
}

impl Body {
    /// Follows `bytes`: how many of them belong to the body, and whether it ends with them. The content goes into `copy`.
    ///
    /// # Errors
    /// Where the chunks are none.
    pub fn follow(&mut self, bytes: &[u8], copy: &mut Copy) -> Result<(usize, End), Garbled> {
        match self {
            Body::UntilClose => {
                copy.add(bytes);
                Ok((bytes.len(), End::NotYet))
            }
            Body::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                copy.add(&bytes[..taken]);
                Ok((taken, if *left == 0 { End::Here } else { End::NotYet }))
            }
            Body::Chunked(chunk) => chunk.follow(bytes, copy),
        }
    }
}

/// Whether a body ends with the bytes that it was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It does.
    Here,
    /// More is to come.
    NotYet,
}

impl Chunk {
    /// Before the first chunk.
    const START: Chunk = Chunk::Size(0, 0);

    fn follow(&mut self, bytes: &[u8], copy: &mut Copy) -> Result<(usize, End), Garbled> {
        let mut at = 0;
        while at < bytes.len() {
            if let Chunk::Data(left) = self {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                copy.add(&bytes[at..at + taken]);
                *left -= taken as u64;
                at += taken;
                if *left == 0 {
                    *self = Chunk::DataEnd;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            *self = match (*self, byte) {
                (Chunk::Size(size, digits), _) if byte.is_ascii_hexdigit() && digits < 15 => {
                    let digit = char::from(byte).to_digit(16).expect("a hexadecimal digit");
                    Chunk::Size(size * 16 + u64::from(digit), digits + 1)
                }
                (Chunk::Size(size, 1..) | Chunk::Extension(size), b'\n') => Chunk::after_size(size),
                (Chunk::Size(size, 1..), b';' | b' ' | b'\t' | b'\r') => Chunk::Extension(size),
                (Chunk::Extension(_), _) => *self,
                (Chunk::DataEnd, b'\r') => Chunk::DataEnd,
                (Chunk::DataEnd, b'\n') => Chunk::START,
                (Chunk::TrailerStart, b'\r') => Chunk::LastLineEnd,
                (Chunk::TrailerStart | Chunk::LastLineEnd, b'\n') => return Ok((at, End::Here)),
                (Chunk::Trailer, b'\n') => Chunk::TrailerStart,
                (Chunk::TrailerStart | Chunk::Trailer, _) => Chunk::Trailer,
                _ => return Err(Garbled),
            };
        }
        Ok((at, End::NotYet))
    }

    const fn after_size(size: u64) -> Chunk {
        if size == 0 { Chunk::TrailerStart } else { Chunk::Data(size) }
    }
}

/// Looks for a request's head at the front of `bytes`.
pub fn request_head(bytes: &[u8]) -> Parsed<RequestHead> {
    let (mut usual, mut many) = ([httparse::EMPTY_HEADER; HEADERS_USUAL], Vec::new());
    let mut request = httparse::Request::new(&mut usual);
    let mut parsed = request.parse(bytes);
    if parsed == Err(httparse::Error::TooManyHeaders) {
        many.resize(HEADERS_MAX, httparse::EMPTY_HEADER);
        request = httparse::Request::new(&mut many);
        parsed = request.parse(bytes);
    }
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Garbled,
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Parsed::Garbled;
    };
    let (Ok(method), Some(headers)) = (Method::from_bytes(method.as_bytes()), owned(request.headers)) else {
        return Parsed::Garbled;
    };
    let Some(body) = declared(&headers) else { return Parsed::Garbled };
    let switches = method == Method::CONNECT || headers.contains_key(header::UPGRADE);
    let head = RequestHead {
        method,
        target: target.to_owned(),
        body: body.unwrap_or(Body::Length(0)),
        persistence: persistence(version, &headers),
        switches,
        headers: Arc::new(headers),
    };
    Parsed::Head(head, length)
}

/// Looks for the head of an answer to a request with `method` at the front of `bytes`.
pub fn answer_head(bytes: &[u8], method: &Method) -> Parsed<AnswerHead> {
    let (mut usual, mut many) = ([httparse::EMPTY_HEADER; HEADERS_USUAL], Vec::new());
    let mut response = httparse::Response::new(&mut usual);
    let mut parsed = response.parse(bytes);
    if parsed == Err(httparse::Error::TooManyHeaders) {
        many.resize(HEADERS_MAX, httparse::EMPTY_HEADER);
        response = httparse::Response::new(&mut many);
        parsed = response.parse(bytes);
    }
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Garbled,
    };
    let (Some(status), Some(headers)) = (response.code, owned(response.headers)) else {
        return Parsed::Garbled;
    };
    // The connection is something else from here on.
    let has_switched = status == 101 || (*method == Method::CONNECT && (200..300).contains(&status));
    let Some(declared) = declared(&headers).filter(|_| !has_switched) else { return Parsed::Garbled };
    let has_none = *method == Method::HEAD || matches!(status, 100..=199 | 204 | 304);
    let body = if has_none { Body::Length(0) } else { declared.unwrap_or(Body::UntilClose) };
    Parsed::Head(AnswerHead { status, headers, body, is_interim: (100..200).contains(&status) }, length)
}

fn owned(headers: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for header in headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        map.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some(map)
}

/// What the headers say of a body; the outer `None` where they contradict each other.
fn declared(headers: &HeaderMap) -> Option<Option<Body>> {
    if let Some(coding) = headers.get(header::TRANSFER_ENCODING) {
        let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        let is_only = headers.get_all(header::TRANSFER_ENCODING).iter().count() == 1;
        let is_clear = is_chunked && is_only && !headers.contains_key(header::CONTENT_LENGTH);
        return is_clear.then_some(Some(Body::Chunked(Chunk::START)));
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Some(None) };
    let digits = first.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    let length = digits.parse().ok()?;
    lengths.all(|other| other == first).then_some(Some(Body::Length(length)))
}

fn persistence(version: u8, headers: &HeaderMap) -> Persistence {
    let says = |word: &str| {
        let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(word))
    };
    let stays = if version == 0 { says("keep-alive") } else { !says("close") };
    if stays { Persistence::Stays } else { Persistence::Closes }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Follows a stream in pieces; what the body was, and how many bytes belonged to it.
    fn follow(mut body: Body, stream: &[u8], pieces: &[usize]) -> Result<Option<(Bytes, usize)>, Garbled> {
        let mut copy = Copy::new(0, 1 << 20, &Budget::new(1 << 20));
        let (mut at, mut turn) = (0, 0);
        while at < stream.len() {
            let piece = pieces.get(turn).copied().unwrap_or(usize::MAX).max(1);
            turn += 1;
            let end = at.saturating_add(piece).min(stream.len());
            let (taken, ended) = body.follow(&stream[at..end], &mut copy)?;
            at += taken;
            if ended == End::Here {
                return Ok(Some((copy.finish().unwrap().0, at)));
            }
        }
        Ok(None)
    }

    #[test]
    fn chunks_are_followed_to_their_end() {
        let stream = b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\nGET /next";
        assert_eq!(
            follow(Body::Chunked(Chunk::START), stream, &[]),
            Ok(Some((Bytes::from_static(b"hello0123456789"), 30)))
        );
        let with_more = b"3;name=value\r\nabc\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n";
        for size in 1..=with_more.len() {
            let followed = follow(Body::Chunked(Chunk::START), with_more, &vec![size; with_more.len()]);
            assert_eq!(followed, Ok(Some((Bytes::from_static(b"abc"), with_more.len()))), "pieces of {size}");
        }
        for garbled in [&b"x\r\n"[..], b"\r\n", b"1\r\nab\r\n", b"fffffffffffffffff\r\n"] {
            assert_eq!(follow(Body::Chunked(Chunk::START), garbled, &[]), Err(Garbled), "{garbled:?}");
        }
        assert_eq!(follow(Body::Chunked(Chunk::START), b"5\r\nhel", &[]), Ok(None));
    }

    #[test]
    fn a_copy_that_grows_too_long_or_has_no_room_is_given_up_and_the_body_is_followed() {
        let budget = Budget::new(7);
        let copied = |head, limit| {
            let mut copy = Copy::new(head, limit, &budget);
            assert_eq!(Body::Length(6).follow(b"abcdefGET", &mut copy), Ok((6, End::Here)));
            copy.finish().map(|(bytes, _)| bytes)
        };
        assert_eq!(copied(1, 6), Ok(Bytes::from_static(b"abcdef")));
        assert_eq!(copied(1, 5), Err(Reason::TooLarge));
        assert_eq!(copied(2, 6), Err(Reason::QueueFull));
        assert_eq!(copied(8, 6), Err(Reason::QueueFull));
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_the_body_is_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..6),
            pieces in prop::collection::vec(1..20usize, 0..80),
            rest in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut stream = Vec::new();
            for chunk in &chunks {
                stream.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                stream.extend_from_slice(chunk);
                stream.extend_from_slice(b"\r\n");
            }
            stream.extend_from_slice(b"0\r\n\r\n");
            let length = stream.len();
            stream.extend_from_slice(&rest);
            let body = Bytes::from(chunks.concat());
            prop_assert_eq!(follow(Body::Chunked(Chunk::START), &stream, &pieces), Ok(Some((body.clone(), length))));
            let plain = [&body[..], &rest].concat();
            if !body.is_empty() {
                let expected = Ok(Some((body.clone(), body.len())));
                prop_assert_eq!(follow(Body::Length(body.len() as u64), &plain, &pieces), expected);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = request_head(&bytes);
            let _ = answer_head(&bytes, &Method::GET);
            let _ = follow(Body::Chunked(Chunk::START), &bytes, &[]);
        }
    }

    fn body_of_request(head: &str) -> Option<Body> {
        match request_head(head.as_bytes()) {
            Parsed::Head(head, _) => Some(head.body),
            _ => None,
        }
    }

    #[test]
    fn requests_end_where_their_heads_say() {
        assert_eq!(body_of_request("GET / HTTP/1.1\r\n\r\n"), Some(Body::Length(0)));
        assert_eq!(body_of_request("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"), Some(Body::Length(5)));
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n";
        assert_eq!(body_of_request(chunked), Some(Body::Chunked(Chunk::START)));
        for ambiguous in [
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: +5",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
        ] {
            let head = format!("POST / HTTP/1.1\r\n{ambiguous}\r\n\r\n");
            assert!(matches!(request_head(head.as_bytes()), Parsed::Garbled), "{ambiguous}");
        }
        for cut in 0..chunked.len() {
            assert!(matches!(request_head(&chunked.as_bytes()[..cut]), Parsed::Partial), "{cut}");
        }
    }

    #[test]
    fn answers_end_as_their_request_and_status_have_it() {
        let body = |head: &str, method: &Method| match answer_head(head.as_bytes(), method) {
            Parsed::Head(head, _) => Some((head.body, head.is_interim)),
            _ => None,
        };
        let with_length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(body(with_length, &Method::GET), Some((Body::Length(5), false)));
        assert_eq!(body(with_length, &Method::HEAD), Some((Body::Length(0), false)));
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\n", &Method::GET), Some((Body::UntilClose, false)));
        assert_eq!(
            body("HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", &Method::GET),
            Some((Body::Length(0), false))
        );
        assert_eq!(body("HTTP/1.1 100 Continue\r\n\r\n", &Method::GET), Some((Body::Length(0), true)));
        assert_eq!(body("HTTP/1.1 101 Switching\r\n\r\n", &Method::GET), None);
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\n", &Method::CONNECT), None);
        let refused = "HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(body(refused, &Method::CONNECT), Some((Body::Length(0), false)));
        let many = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 5\r\n\r\n", "a:\r\n".repeat(5_000));
        assert_eq!(body(&many, &Method::GET), Some((Body::Length(5), false)));
    }
}
