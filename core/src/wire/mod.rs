//! Bytes ↔ requests and replies. Knows neither sockets nor the table.
//!
//! All protocols of a port end in the same [`Request`] and begin in the same [`Encoder`]; which of them a reply is
//! for stands in its [`ReplyTo`].
//!
//! | module | holds |
//! | --- | --- |
//! | [`frame`] | native frames → requests |
//! | [`http`] | HTTP/1.1 → requests |
//! | [`resp`] | RESP, which Redis and Valkey speak → requests |
//! | [`encode`] | [`Encoder`]: replies → frames (rkyv, FlatBuffers), HTTP responses and RESP (JSON) |

mod elsewhere;
pub mod encode;
pub mod frame;
pub mod http;
pub mod resp;

pub use elsewhere::{NotOwner, Redirect};
pub use encode::{Encoder, HelloAnswer, OwnPorts};

use alloc::string::String;

use florin_schema::layout::{BalanceView, WindowTotals};
use florin_schema::{Asset, Opcode, Status, UserId, Version, Window, WindowMask, decimal};

/// How a reply is to be framed and encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// A frame with an rkyv body.
    Rkyv,
    /// A frame with a FlatBuffers body.
    FlatBuffers,
    /// An HTTP/1.1 response with a JSON body.
    Http(HttpReply),
    /// RESP, with the JSON of HTTP.
    Resp(RespReply),
}

/// What an HTTP request says of its response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpReply {
    closes: bool,
    is_head: bool,
    way: Way,
}

/// By which way a caller has come: it is told of shards' ports of the same kind, and of no others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Way {
    /// In plain, to a port.
    #[default]
    Plain,
    /// By TLS.
    Tls,
    /// Over the unix socket: it is known there as a process, and would be nobody at a port.
    Unix,
}

impl HttpReply {
    /// With its body; the connection stays.
    pub const KEEP_ALIVE: HttpReply = HttpReply { closes: false, is_head: false, way: Way::Plain };
    /// With its body; the connection closes after it.
    pub const CLOSE: HttpReply = HttpReply { closes: true, ..HttpReply::KEEP_ALIVE };
    /// HEAD: headers alone; the connection stays.
    pub const HEAD_KEEP_ALIVE: HttpReply = HttpReply { is_head: true, ..HttpReply::KEEP_ALIVE };
    /// HEAD: headers alone; the connection closes.
    pub const HEAD_CLOSE: HttpReply = HttpReply { is_head: true, ..HttpReply::CLOSE };

    /// Whether the connection closes after the response.
    pub const fn closes(self) -> bool {
        self.closes
    }

    /// The same on a connection that closes after it.
    pub const fn closing(self) -> HttpReply {
        HttpReply { closes: true, ..self }
    }

    /// Whether the response has headers alone.
    pub const fn is_head(self) -> bool {
        self.is_head
    }

    /// By which way the caller has come.
    pub const fn way(self) -> Way {
        self.way
    }
}

/// What a RESP command wants to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RespReply {
    /// Of the connection.
    pub version: RespVersion,
    /// What for.
    pub shape: RespShape,
}

/// The two versions of RESP: a HELLO chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RespVersion {
    /// RESP2, which each connection begins with.
    #[default]
    Two,
    /// RESP3.
    Three,
}

/// What stands in a RESP reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RespShape {
    /// JSON alone; nil of an unknown user.
    Value,
    /// That for each of several users, in one array.
    Values,
    /// That for each of several users, each as if asked by itself.
    Run,
    /// JSON, and what HTTP says in headers; nil of an unknown user.
    Told,
    /// `+OK`.
    Ok,
    /// `+PONG`.
    Pong,
    /// A HELLO's map.
    Greeting,
}

/// Whom a reply answers, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyTo {
    /// The request's.
    pub opcode: Opcode,
    /// Echoed in a frame; unused over HTTP, which answers in order.
    pub request_id: u64,
    /// How.
    pub format: Format,
}

impl ReplyTo {
    /// Whether the connection closes after this reply because its request asked for it (HTTP alone does).
    pub const fn closes(self) -> bool {
        matches!(self.format, Format::Http(reply) if reply.closes())
    }

    /// The same, to a caller that has come this way. Only HTTP tells of it.
    pub const fn by(self, way: Way) -> ReplyTo {
        match self.format {
            Format::Http(reply) => ReplyTo { format: Format::Http(HttpReply { way, ..reply }), ..self },
            Format::Rkyv | Format::FlatBuffers | Format::Resp(_) => self,
        }
    }

    /// The same, but over HTTP the connection closes after it. A frame has no such thing.
    pub const fn closing(self) -> ReplyTo {
        match self.format {
            Format::Http(reply) => ReplyTo { format: Format::Http(reply.closing()), ..self },
            Format::Rkyv | Format::FlatBuffers | Format::Resp(_) => self,
        }
    }
}

/// What the caller asks of the answer's age. `Default` asks nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Freshness {
    /// 0 = none.
    pub min_version: Version,
    /// 0 = none.
    pub max_age_ms: u32,
    /// Clamped to [`crate::limits::WAIT_MS_MAX`].
    pub wait_ms: u32,
}

/// A well-formed request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    /// Where its reply goes.
    pub reply_to: ReplyTo,
    /// What its answer must satisfy.
    pub freshness: Freshness,
    /// What it asks.
    pub query: Query<'a>,
    /// Its Authorization header, over HTTP; a frame has none, for its connection has said who asks.
    pub authorization: Option<&'a [u8]>,
}

/// What a request asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Query<'a> {
    /// The shard map.
    Hello {
        /// Name and version, for logs.
        client: &'a str,
        /// What proves the caller, or empty.
        token: &'a str,
    },
    /// One user's balances.
    Balance(UserId),
    /// One user's statistics.
    Statistics(UserId, WindowMask),
    /// The balances of the users that the parser has put into the caller's scratch list, in order.
    Balances,
    /// An echo.
    Ping(&'a [u8]),
    /// What a RESP client wants to know of its connection or of this server.
    Chat(resp::Chat<'a>),
    /// Which nodes divide the users among them, and how each stands.
    Nodes {
        /// Up to which version whoever asks has heard all; none = all is told.
        since: Option<u64>,
    },
}

/// What a reply says of its origin; the header's other fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// The owning shard's watermark, µs since 1970 UTC.
    pub as_of_us: i64,
    /// The shard that answered.
    pub shard: u16,
    /// [`florin_schema::frame::REPLY_FORWARDED`], [`florin_schema::frame::REPLY_QUARANTINED`],
    /// [`florin_schema::frame::REPLY_DRAINING`] and [`florin_schema::frame::REPLY_LASTING`].
    pub flags: u16,
}

/// One asset's totals in all four windows, in the order of [`florin_schema::Window::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AssetTotals {
    /// Which.
    pub asset: Asset,
    /// A writer takes those that are asked for.
    pub windows: [WindowTotals; 4],
}

/// The content of a GetStatistics reply.
#[derive(Clone, Copy, Debug)]
pub struct StatisticsAnswer<'a> {
    /// Whose.
    pub user_id: UserId,
    /// Transactions applied.
    pub version: Version,
    /// Those asked for.
    pub windows: WindowMask,
    /// µs since 1970 UTC.
    pub first_transaction_at_us: i64,
    /// µs since 1970 UTC.
    pub last_transaction_at_us: i64,
    /// Ascending by code.
    pub assets: &'a [AssetTotals],
}

/// One entry of a GetBalances reply.
#[derive(Clone, Copy, Debug)]
pub struct BatchEntry<'a> {
    /// As asked.
    pub user_id: UserId,
    /// The entry's own.
    pub status: Status,
    /// Whether this account's history is known to be incomplete.
    pub quarantined: bool,
    /// Present where the status is OK.
    pub balance: Option<BalanceView<'a>>,
}

/// What stands at the beginning of a connection's unread bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parsed<'a> {
    /// A request, and how many bytes it took.
    Request(Request<'a>, usize),
    /// Not yet a whole request.
    Incomplete,
    /// As [`Parsed::Incomplete`], and the caller waits for [`http::CONTINUE`] before it sends the body: write that,
    /// once, after the answers that are still due. It comes only while none of the body is here, so never again once
    /// more bytes are.
    Continue,
    /// Something that cannot be answered with data.
    Rejected(Rejection),
}

/// A refusal: what to write back, and how to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// Where the refusal goes. Its opcode is [`Opcode::Ping`], the one that names no user, where none was understood.
    pub reply_to: ReplyTo,
    /// The byte that a frame echoes as its opcode: as it came, known or not.
    pub opcode: u8,
    /// In a frame's header; the HTTP status follows from it unless `http_status` says otherwise.
    pub status: Status,
    /// 404 for an unknown path, 405, 413, 415, 431: where HTTP is finer than [`Status`].
    pub http_status: Option<u16>,
    /// Which field, what was expected and what came.
    pub message: String,
    /// The methods of a 405's Allow header.
    pub allow: Option<&'static str>,
    /// How many bytes to skip; `None` closes the connection after the refusal, for nothing behind it can be trusted.
    /// A request is refused as soon as its header or head shows why, so this may be **more than has arrived**: the rest is to be
    /// skipped as it comes.
    pub consumed: Option<usize>,
}

impl Rejection {
    /// Of what is no request.
    pub(crate) fn new(reply_to: ReplyTo, message: String, consumed: Option<usize>) -> Rejection {
        Rejection {
            reply_to,
            opcode: reply_to.opcode as u8,
            status: Status::InvalidRequest,
            http_status: None,
            message,
            allow: None,
            consumed,
        }
    }
}

/// A number in its one spelling, of 64 bits or, where `max` says so, of 32.
///
/// # Errors
/// What was expected.
pub(crate) fn number(text: &[u8], max: u64) -> Result<u64, &'static str> {
    let expected = if max == u64::MAX { "0 to 18446744073709551615" } else { "0 to 4294967295" };
    decimal(text).filter(|&value| value <= max).ok_or(expected)
}

/// What a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Frames: [`frame::parse`].
    Native,
    /// HTTP/1.1: [`http::parse`].
    Http,
    /// RESP: [`resp::parse`].
    Resp(RespVersion),
}

/// Tells a connection's protocol by its first four bytes; `None` until they are there. Text, which may begin with blank lines
/// (RFC 9112, section 2.2), gets its answers in text, whatever its method: the last byte of a legal frame's length is 0. No method begins
/// with the `*` of RESP's arrays.
#[inline]
pub fn detect(first: &[u8]) -> Option<Protocol> {
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t');
    let first = first.first_chunk::<4>()?;
    Some(match first {
        [b'*', ..] if first.iter().all(is_text) => Protocol::Resp(RespVersion::Two),
        _ if first.iter().all(is_text) => Protocol::Http,
        _ => Protocol::Native,
    })
}

/// The windows of a list as `24h,7d`; `None` where one is none.
pub(crate) fn window_list(text: &str) -> Option<WindowMask> {
    let mask = text.split(',').try_fold(0, |mask, name| {
        let window = Window::ALL.into_iter().find(|window| window.name() == name)?;
        Some(mask | 1 << window as u8)
    });
    mask.and_then(WindowMask::new)
}

/// What [`window_list`] reads, for whoever wrote something else.
pub(crate) const WINDOW_LIST: &str = "24h, 7d, 30d and lifetime, separated by commas";

const _: () =
    assert!(crate::limits::REQUEST_BYTES_MAX < 1 << 24, "a legal length ends with a 0, which is no text");

#[cfg(test)]
mod golden;

#[cfg(test)]
mod tests {
    use super::*;

    /// A blank line before a request, methods that nobody here serves, lower-case ones, and HTTP/2's preface were once taken for
    /// frames and answered in bytes that their senders cannot read.
    #[test]
    fn four_bytes_decide() {
        for method in [
            "GET /",
            "HEAD /",
            "POST /",
            "PUT /",
            "DELETE /",
            "OPTIONS *",
            "PATCH /",
            "TRACE /",
            "CONNECT a:1",
            "get /",
            "\r\nGET /",
            "\r\n\r\n",
            "\n\n\nG",
            "PRI * HTTP/2.0",
            "PING\r\n",
        ] {
            for cut in 0..4 {
                assert_eq!(detect(&method.as_bytes()[..cut]), None, "{method:?} cut at {cut}");
            }
            assert_eq!(detect(method.as_bytes()), Some(Protocol::Http), "{method:?}");
        }
        assert_eq!(detect(b"*1\r\n$4"), Some(Protocol::Resp(RespVersion::Two)));
        for length in [0u32, 24, 0x2020, 65_536, u32::MAX] {
            assert_eq!(detect(&length.to_le_bytes()), Some(Protocol::Native), "{length}");
        }
    }
}
