//! Replies → bytes: frames with rkyv or FlatBuffers bodies, HTTP responses and RESP with JSON.
//!
//! | module | writes |
//! | --- | --- |
//! | `archive` | rkyv bodies, by hand from `florin_schema::layout` |
//! | `date` | the Date header |
//! | `flat` | FlatBuffers bodies: a balance from a template, the others through one reused builder |
//! | `json` | JSON bodies |
//! | `resp` | what RESP puts around JSON, and its other replies |
//! | `response` | the head of an HTTP response |
//! | `time` | RFC 3339 |
//!
//! A body begins 32 bytes behind its frame's beginning, wherever that is.

mod archive;
mod date;
mod digits;
mod flat;
mod json;
mod line;
mod resp;
mod response;
mod time;

use alloc::vec::Vec;

use florin_schema::frame::{ReplyHeader, VERSION};
use florin_schema::layout::{BalanceView, SCHEMA_FINGERPRINT};
use florin_schema::{Encoding, NodeIdentity, NodeMap, Status, Version};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{I64, U16, U32, U64};

use self::date::Date;
use self::flat::FlatWriter;
use self::response::{Head, JSON, PROBLEM};
use self::time::Days;
use super::resp::Chat;
use super::{
    BatchEntry, Format, HttpReply, NotOwner, Origin, Rejection, ReplyTo, Request, RespReply, RespShape,
    RespVersion, StatisticsAnswer, Way,
};

const HEADER_BYTES: usize = size_of::<ReplyHeader>();

/// The content of a Hello reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HelloAnswer<'a> {
    /// Which nodes hold which partition, where they divide the users among them.
    pub nodes: Option<&'a NodeMap>,
    /// Name and version.
    pub server: &'a str,
    /// Of the node.
    pub shards: u16,
    /// `ports[i]` is shard i's own; empty on a unix socket.
    pub ports: &'a [u16],
    /// Which node answers, and from which ledger.
    pub identity: NodeIdentity,
    /// What names the caller's connection for as long as it lasts, for RESP.
    pub connection: i64,
}

/// At which ports the shard that answers is asked without a hop; `None` where it has none of that kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OwnPorts {
    /// In plain.
    pub plain: Option<u16>,
    /// By TLS.
    pub tls: Option<u16>,
}

impl OwnPorts {
    /// The one of the kind by which a caller has come. A caller by TLS is never led to a plain one, where a token would be read by
    /// whoever is on the way.
    const fn by(self, way: Way) -> Option<u16> {
        match way {
            Way::Plain => self.plain,
            Way::Tls => self.tls,
            Way::Unix => None,
        }
    }
}

/// Writes replies. One a shard: what it keeps between replies is what makes them cost no allocation.
///
/// Each method appends one whole reply to `out`, which may hold earlier ones.
pub struct Encoder {
    flat: FlatWriter,
    /// A JSON body, whose length stands in front of it.
    json: Vec<u8>,
    /// What an HTTP response's Date says.
    date: Date,
    /// For times.
    days: Days,
    /// Where this shard is asked without a hop, if it has ports of its own.
    ports: OwnPorts,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

impl Encoder {
    /// An encoder with its templates built.
    pub fn new() -> Encoder {
        Encoder {
            flat: FlatWriter::new(),
            json: Vec::new(),
            date: Date::new(),
            days: Days::new(),
            ports: OwnPorts::default(),
        }
    }

    /// The shard's own ports, which callers over HTTP are told whose request had to be passed on.
    pub fn set_ports(&mut self, ports: OwnPorts) {
        self.ports = ports;
    }

    /// From now on it is `wall_us`, µs since 1970 UTC.
    #[inline]
    pub fn set_time(&mut self, wall_us: i64) {
        self.date.set(wall_us);
    }

    /// Answers a GetBalance.
    #[inline(always)]
    pub fn balance(&mut self, out: &mut Vec<u8>, to: ReplyTo, origin: Origin, balance: BalanceView<'_>) {
        // Asked for by itself it takes one comparison.
        if matches!(to.format, Format::Rkyv) {
            let body = Body { encoding: RKYV, bytes: balance.bytes.len() };
            return append_record(out, &header(to, origin, body), balance.bytes);
        }
        match to.format {
            Format::Rkyv => unreachable!("it was answered"),
            Format::FlatBuffers => {
                let body = Body { encoding: FLATBUFFERS, bytes: flat::balance_bytes(balance) };
                self.flat.balance(out, &header(to, origin, body), balance);
            }
            // A copy, so that the other formats need none in memory.
            Format::Http(_) | Format::Resp(_) => {
                self.json_balance(out, to.format, Origin { ..origin }, balance.bytes)
            }
        }
    }

    /// Out of line: what another format needs in its registers, frames would do without.
    #[inline(never)]
    fn json_balance(&mut self, out: &mut Vec<u8>, format: Format, origin: Origin, balance: &[u8]) {
        let balance = BalanceView::new(balance).expect("a view's bytes");
        let of = Version(balance.root.version.get());
        match format {
            Format::Resp(reply) => {
                resp::value(out, reply, origin, of, "balance", |out| {
                    resp::counted(out, |out| json::balance(out, balance, &mut self.days));
                });
            }
            Format::Http(reply) => {
                self.json.clear();
                json::balance(&mut self.json, balance, &mut self.days);
                self.respond(out, reply, origin, Some(of));
            }
            Format::Rkyv | Format::FlatBuffers => unreachable!("no JSON is in a frame"),
        }
    }

    /// Answers a GET over RESP about an account that is whole, of which nothing is to be said but what it holds.
    #[inline(always)]
    pub fn whole_value(&mut self, out: &mut Vec<u8>, balance: BalanceView<'_>) {
        resp::balance(out, balance, &mut self.days);
    }

    /// Answers a GetStatistics.
    pub fn statistics(
        &mut self,
        out: &mut Vec<u8>,
        to: ReplyTo,
        origin: Origin,
        answer: &StatisticsAnswer<'_>,
    ) {
        match to.format {
            Format::Rkyv => frame(out, to, origin, RKYV, |out| archive::statistics(out, answer)),
            Format::FlatBuffers => {
                let body = self.flat.statistics(answer);
                frame(out, to, origin, FLATBUFFERS, |out| out.extend_from_slice(body));
            }
            Format::Http(reply) => {
                self.json.clear();
                json::statistics(&mut self.json, answer, &mut self.days);
                self.respond(out, reply, origin, Some(answer.version));
            }
            Format::Resp(reply) => {
                let write = |out: &mut Vec<u8>| {
                    resp::counted(out, |out| json::statistics(out, answer, &mut self.days))
                };
                resp::value(out, reply, origin, answer.version, "statistics", write);
            }
        }
    }

    /// Answers a GetBalances: `entries` in the order asked.
    pub fn balances(&mut self, out: &mut Vec<u8>, to: ReplyTo, origin: Origin, entries: &[BatchEntry<'_>]) {
        match to.format {
            Format::Rkyv => frame(out, to, origin, RKYV, |out| archive::balances(out, entries)),
            Format::FlatBuffers => {
                let body = self.flat.balances(entries);
                frame(out, to, origin, FLATBUFFERS, |out| out.extend_from_slice(body));
            }
            Format::Http(reply) => {
                self.json.clear();
                json::balances(&mut self.json, entries, &mut self.days);
                self.respond(out, reply, origin, None);
            }
            Format::Resp(RespReply { version, shape }) => {
                if shape == RespShape::Values {
                    resp::array(out, entries.len());
                }
                for entry in entries {
                    let days = &mut self.days;
                    let write = entry.balance.map(|balance| {
                        move |out: &mut Vec<u8>| {
                            resp::counted(out, |out| json::balance(out, balance, days));
                        }
                    });
                    resp::entry(out, version, entry.status, entry.quarantined, write);
                }
            }
        }
    }

    /// Answers a Hello: in a frame with FlatBuffers, whatever encoding it asked for.
    pub fn hello(&mut self, out: &mut Vec<u8>, to: ReplyTo, origin: Origin, answer: &HelloAnswer<'_>) {
        match to.format {
            Format::Resp(RespReply { version, shape: RespShape::Greeting }) => {
                resp::greeting(out, version, answer)
            }
            Format::Resp(_) => resp::simple(out, "OK"),
            Format::Rkyv | Format::FlatBuffers | Format::Http(_) => {
                let body = self.flat.hello(answer);
                frame(out, to, origin, FLATBUFFERS, |out| out.extend_from_slice(body));
            }
        }
    }

    /// Answers a Ping with its own bytes.
    pub fn ping(&mut self, out: &mut Vec<u8>, to: ReplyTo, origin: Origin, payload: &[u8]) {
        match to.format {
            Format::Resp(RespReply { shape: RespShape::Pong, .. }) => resp::simple(out, "PONG"),
            Format::Resp(_) => resp::bulk(out, payload),
            Format::Rkyv | Format::FlatBuffers | Format::Http(_) => {
                frame(out, to, origin, PLAIN, |out| out.extend_from_slice(payload));
            }
        }
    }

    /// Answers what a RESP client wants to know, of a node that may say `unavailable` instead of data.
    pub fn chat(
        &mut self,
        out: &mut Vec<u8>,
        version: RespVersion,
        chat: Chat<'_>,
        answer: &HelloAnswer<'_>,
        origin: Origin,
        unavailable: Option<&str>,
    ) {
        resp::chat(out, version, chat, answer, origin, unavailable);
    }

    /// Answers with what a node tells of those that divide the users with it: `told`, in JSON, in two pieces.
    pub fn nodes(&mut self, out: &mut Vec<u8>, to: ReplyTo, origin: Origin, told: [&[u8]; 2]) {
        let Format::Http(reply) = to.format else { unreachable!("HTTP alone asks for it") };
        response::write(out, &Head::of(200, JSON, reply, origin), self.date.text(), &mut self.days, told);
    }

    /// Answers any request with a status that is not OK.
    #[inline]
    pub fn error(&mut self, out: &mut Vec<u8>, to: ReplyTo, origin: Origin, status: Status, message: &str) {
        match to.format {
            Format::Rkyv | Format::FlatBuffers => refuse(out, to, origin, to.opcode as u8, status, message),
            Format::Http(reply) => {
                let port = self.ports.by(reply.way());
                let head = Head { port, ..Head::of(status.http_code(), PROBLEM, reply, origin) };
                self.problem(out, &head, message);
            }
            Format::Resp(RespReply { version, .. }) if status == Status::NotFound => resp::nil(out, version),
            Format::Resp(_) => resp::error(out, resp::word(status), message),
        }
    }

    /// Says who has a user.
    pub fn not_owner(
        &mut self,
        out: &mut Vec<u8>,
        to: ReplyTo,
        origin: Origin,
        request: &Request<'_>,
        answer: &NotOwner<'_>,
    ) {
        let status = Status::NotOwner;
        match to.format {
            Format::Rkyv | Format::FlatBuffers => {
                let origin = Origin { as_of_us: answer.epoch.cast_signed(), ..origin };
                refuse(out, to, origin, to.opcode as u8, status, &answer.message());
            }
            Format::Http(reply) => {
                let redirect = answer.redirect(reply.way(), request);
                let redirect = Some(&redirect);
                let head = Head { redirect, ..Head::of(status.http_code(), PROBLEM, reply, origin) };
                self.problem(out, &head, &answer.message());
            }
            Format::Resp(_) => resp::error(out, resp::word(status), &answer.message()),
        }
    }

    /// Answers what a parser has refused.
    pub fn rejection(&mut self, out: &mut Vec<u8>, origin: Origin, rejection: &Rejection) {
        let Rejection { reply_to: to, opcode, status, http_status, ref message, allow, .. } = *rejection;
        match to.format {
            Format::Rkyv | Format::FlatBuffers => refuse(out, to, origin, opcode, status, message),
            Format::Http(reply) => {
                let code = http_status.unwrap_or(status.http_code());
                let port = self.ports.by(reply.way());
                let head = Head { port, allow, ..Head::of(code, PROBLEM, reply, origin) };
                self.problem(out, &head, message);
            }
            Format::Resp(_) => resp::error(out, "", message),
        }
    }

    fn respond(&mut self, out: &mut Vec<u8>, reply: HttpReply, origin: Origin, version: Option<Version>) {
        // A batch has no one shard that would be the right one.
        let port = version.and(self.ports.by(reply.way()));
        let head = Head { version, port, ..Head::of(200, JSON, reply, origin) };
        response::write(out, &head, self.date.text(), &mut self.days, [&self.json, &[]]);
    }

    fn problem(&mut self, out: &mut Vec<u8>, head: &Head<'_>, detail: &str) {
        self.json.clear();
        json::problem(&mut self.json, head.code, response::reason(head.code), detail);
        response::write(out, head, self.date.text(), &mut self.days, [&self.json, &[]]);
    }
}

const PLAIN: u8 = 0;
const RKYV: u8 = Encoding::Rkyv as u8;
const FLATBUFFERS: u8 = Encoding::FlatBuffers as u8;

/// What a header says of the body behind it.
#[derive(Clone, Copy)]
struct Body {
    encoding: u8,
    bytes: usize,
}

#[inline]
fn header(to: ReplyTo, origin: Origin, body: Body) -> ReplyHeader {
    ReplyHeader {
        length: U32::new((HEADER_BYTES + body.bytes) as u32),
        version: VERSION,
        opcode: to.opcode as u8,
        encoding: body.encoding,
        status: Status::Ok as u8,
        request_id: U64::new(to.request_id),
        as_of_us: I64::new(origin.as_of_us),
        shard: U16::new(origin.shard),
        flags: U16::new(origin.flags),
        schema: U32::new(SCHEMA_FINGERPRINT as u32),
    }
}

/// Appends `head`, and behind it `bytes` bytes, at least `E` and at most `B + E`, of which `begin` holds the first, and maybe more than
/// belong to them, and `end` the last. What has one to three assets is copied so, in two copies of fixed lengths that overlap: a copy of
/// each length of its own would be a branch that is often guessed wrong.
#[inline(always)]
fn append_ends<const H: usize, const B: usize, const E: usize>(
    out: &mut Vec<u8>,
    head: &[u8; H],
    begin: &[u8; B],
    end: &[u8; E],
    bytes: usize,
) {
    debug_assert!((E..=B + E).contains(&bytes));
    let from = out.len();
    out.reserve(H + B + E);
    out.extend_from_slice(head);
    out.extend_from_slice(begin);
    out.truncate(from + H + bytes - E);
    out.extend_from_slice(end);
}

/// Appends a header and a record.
#[inline(always)]
fn append_record(out: &mut Vec<u8>, header: &ReplyHeader, record: &[u8]) {
    const ENDS: usize = BalanceView::bytes_of(1);
    let header: &[u8; HEADER_BYTES] = header.as_bytes().first_chunk().expect("a header's bytes");
    match (record.first_chunk::<ENDS>(), record.last_chunk::<ENDS>()) {
        (Some(begin), Some(end)) if record.len() <= 2 * ENDS => {
            append_ends(out, header, begin, end, record.len());
        }
        _ => {
            out.extend_from_slice(header);
            out.extend_from_slice(record);
        }
    }
}

/// Appends a frame whose body's length shows only once it is written.
#[inline]
fn frame(
    out: &mut Vec<u8>,
    to: ReplyTo,
    origin: Origin,
    encoding: u8,
    write_body: impl FnOnce(&mut Vec<u8>),
) {
    let begin = out.len();
    out.extend_from_slice(header(to, origin, Body { encoding, bytes: 0 }).as_bytes());
    write_body(out);
    let length = u32::try_from(out.len() - begin).expect("the largest batch's reply has less than 1 MiB");
    out[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
}

#[inline]
fn refuse(out: &mut Vec<u8>, to: ReplyTo, origin: Origin, opcode: u8, status: Status, message: &str) {
    let body = Body { encoding: PLAIN, bytes: message.len() };
    let header = ReplyHeader { opcode, status: status as u8, ..header(to, origin, body) };
    out.reserve(HEADER_BYTES + message.len());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(message.as_bytes());
}

#[cfg(test)]
mod tests;
