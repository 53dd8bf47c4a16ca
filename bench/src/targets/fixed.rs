//! The ceiling of this host: florin's own ring driver with nothing behind it. Each GetBalance, or GET over RESP or HTTP, is answered with the
//! same body, in which only the request's id and user are put: no table, no feed, no counters.

use std::{
    env, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
    sync::Arc,
};

use florin::{
    clock::{Clock, Now},
    drivers::{
        DriverError, Engine, Listening, ShardContext, ShardWaker, Shutdown,
        accept_turn::Sharing,
        listen::{self, ListenError, UnixAccess},
        ring::{RingDriver, RingSizes},
    },
    shard::{Listener, Park, Principal, Wants, callers::Proof},
};
use florin_schema::frame::{self, ReplyHeader, RequestHeader};
use florin_schema::generated as fb;
use florin_schema::layout::{AssetRow, BalanceRoot, BalanceView, SCHEMA_FINGERPRINT, VectorPointer};
use florin_schema::{Asset, Encoding, Opcode, ShardIndex};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    Bench, Process, Target, TargetError, TargetSpec, Via, operation,
    process::{self, Start},
};
use crate::generator::{Endpoint, Endpoints};

/// In a template, where the user's id is to be put.
const SOMEONE: u64 = 0x0102_0304_0506_0708;
/// When the fixed reply was true.
const AS_OF_US: i64 = 1;

/// Why there is no fixed server.
#[derive(Debug, thiserror::Error)]
pub enum FixedError {
    /// The sockets.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The ring.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The eventfd that the driver wants.
    #[error("eventfd: {0}")]
    Waker(#[source] io::Error),
}

/// Starts this very program as a fixed server, on the first of the servers' CPUs.
pub(super) fn start(spec: &TargetSpec, bench: &Bench) -> Result<Target, TargetError> {
    let own = env::current_exe().map_err(operation("finding this program's own file"))?;
    let directory = process::scratch()?;
    let (address, unix) = (process::free_address()?, directory.path().join("socket"));
    let assets = bench.value_bytes.saturating_sub(BalanceView::bytes_of(0)) / size_of::<AssetRow>();
    let assets = assets.clamp(1, frame::ASSETS_MAX);
    let mut command = Command::new(spec.binary.as_ref().unwrap_or(&own));
    command.args(["serve-fixed", "--listen", &address.to_string(), "--assets", &assets.to_string()]);
    command.arg("--unix").arg(&unix);
    let cpus = &bench.server_cpus[..bench.server_cpus.len().min(1)];
    let process = Process::start(Start { command, install: None, cpus, tool: &bench.tool, directory })?;
    let endpoint = if spec.via == Via::Unix { Endpoint::Unix(unix) } else { Endpoint::Tcp(address) };
    Ok(Target::started(spec, bench, process, Endpoints::Any(endpoint)))
}

/// Serves fixed replies on the calling thread until the process ends.
pub fn serve(address: SocketAddr, unix: &Path, assets: usize) -> Result<(), FixedError> {
    let (_, sockets) = listen::any_port(address, 1)?;
    let (_unix, unix_sockets) = listen::unix(unix, UnixAccess::default(), 1)?;
    let listening =
        |listener| move |socket| Listening { listener, socket, sharing: Sharing::Own, is_inherited: false };
    let tcp = sockets.into_iter().map(listening(Listener::Any));
    let listening = tcp.chain(unix_sockets.into_iter().map(listening(Listener::Unix))).collect();
    let context = ShardContext {
        shard: Fixed::new(assets),
        clock: Clock::new(None),
        listening,
        arrivals: None,
        wakers: Arc::new([ShardWaker::new().map_err(FixedError::Waker)?]),
        own_shard: 0,
        shutdown: Arc::new(Shutdown::new(1)),
    };
    Ok(RingDriver::of(context, RingSizes::default())?.serve_all()?)
}

/// A whole reply and the places in it that differ.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    user_at: usize,
}

impl Template {
    fn new(encoding: Encoding, assets: usize) -> Template {
        let body = match encoding {
            Encoding::Rkyv => rkyv_body(assets),
            Encoding::FlatBuffers => flat_body(assets),
        };
        let header = ReplyHeader {
            length: ((size_of::<ReplyHeader>() + body.len()) as u32).into(),
            version: frame::VERSION,
            opcode: Opcode::GetBalance as u8,
            encoding: encoding as u8,
            status: 0,
            request_id: 0.into(),
            as_of_us: AS_OF_US.into(),
            shard: 0.into(),
            flags: 0.into(),
            schema: (SCHEMA_FINGERPRINT as u32).into(),
        };
        let bytes = [header.as_bytes(), &body].concat();
        let user_at = memchr::memmem::find(&bytes, &SOMEONE.to_le_bytes()).expect("the body names the user");
        Template { bytes, user_at }
    }

    #[inline]
    fn answer(&self, out: &mut Vec<u8>, request: &RequestHeader) {
        let from = out.len();
        out.extend_from_slice(&self.bytes);
        let reply = &mut out[from..];
        reply[8..16].copy_from_slice(request.request_id.as_bytes());
        reply[self.user_at..self.user_at + 8].copy_from_slice(request.user_id.as_bytes());
    }
}

/// What a GET over RESP looks like up to the length of its key.
const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$";
/// What a key begins with.
const KEY: &[u8] = b"balance:";

/// What the target of a GET over HTTP looks like up to the user's id.
const TARGET: &[u8] = b"GET /v1/users/";
/// What stands before the length of an answer over HTTP, and behind it: as long as florin's.
const HEAD: (&[u8], &[u8]) = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ",
    b"\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nFlorin-As-Of: 1970-01-01T00:00:00.000001Z\r\nFlorin-Version: 1\r\n\
      Florin-Shard: 0\r\nConnection: keep-alive\r\n\r\n",
);

/// A balance in JSON: what stands before the user's id and behind it.
#[derive(Debug)]
struct Json {
    before: &'static [u8],
    after: Vec<u8>,
}

impl Json {
    /// Sums are as long as those of a generated ledger.
    fn new(assets: usize) -> Json {
        let rows: Vec<String> = (0..assets)
            .map(|index| {
                let asset = char::from(b'A' + index as u8);
                format!("{{\"asset\":\"{asset}\",\"available\":\"100000\",\"held\":\"0\"}}")
            })
            .collect();
        let rows = rows.join(",");
        let updated_at = "1970-01-01T00:00:00.000001Z";
        let after = format!("\",\"version\":\"1\",\"updated_at\":\"{updated_at}\",\"balances\":[{rows}]}}");
        Json { before: b"{\"user_id\":\"", after: after.into_bytes() }
    }

    /// Answers the GET over RESP that begins here. How long it is; `None` where it is not whole, or none.
    #[inline]
    fn answer_resp(&self, out: &mut Vec<u8>, bytes: &[u8]) -> Option<usize> {
        let key = bytes.strip_prefix(GET)?;
        let (_, key) = key.split_at_checked(memchr::memchr(b'\n', key)? + 1)?;
        let id = key.strip_prefix(KEY)?;
        let end = memchr::memchr(b'\n', id)?;
        self.write(out, (b"$", b"\r\n"), id[..end].strip_suffix(b"\r")?);
        out.extend_from_slice(b"\r\n");
        Some(bytes.len() - key.len() + KEY.len() + end + 1)
    }

    /// The same over HTTP.
    #[inline]
    fn answer_http(&self, out: &mut Vec<u8>, bytes: &[u8]) -> Option<usize> {
        const END: &[u8] = b"\r\n\r\n";
        let id = bytes.strip_prefix(TARGET)?;
        let id = &id[..memchr::memchr(b'/', id)?];
        let end = memchr::memmem::find(bytes, END)?;
        self.write(out, HEAD, id);
        Some(end + END.len())
    }

    /// What stands before the length and behind it, and the balance.
    #[inline]
    fn write(&self, out: &mut Vec<u8>, around: (&[u8], &[u8]), id: &[u8]) {
        let length = self.before.len() + id.len() + self.after.len();
        out.extend_from_slice(around.0);
        out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        out.extend_from_slice(around.1);
        out.extend_from_slice(self.before);
        out.extend_from_slice(id);
        out.extend_from_slice(&self.after);
    }
}

fn asset(index: usize) -> u64 {
    let code = [b'A' + index as u8];
    Asset::parse(&code).expect("a letter is a code").to_wire()
}

fn rkyv_body(assets: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for index in 0..assets {
        let row = AssetRow { asset: asset(index).into(), available: 100.into(), held: 0.into() };
        body.extend_from_slice(row.as_bytes());
    }
    let back = std::mem::offset_of!(BalanceRoot, balances) + body.len();
    let root = BalanceRoot {
        user_id: SOMEONE.into(),
        version: 1.into(),
        updated_at_us: AS_OF_US.into(),
        balances: VectorPointer { offset: (-(back as i32)).into(), length: (assets as u32).into() },
    };
    body.extend_from_slice(root.as_bytes());
    body
}

fn flat_body(assets: usize) -> Vec<u8> {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let rows: Vec<_> = (0..assets).map(|index| fb::AssetBalance::new(asset(index), 100, 0)).collect();
    let balances = Some(builder.create_vector(&rows));
    let args = fb::BalanceArgs { user_id: SOMEONE, version: 1, updated_at_us: AS_OF_US, balances };
    let root = fb::Balance::create(&mut builder, &args);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

/// A connection, as little as there can be of it.
#[derive(Debug, Default)]
struct Caller {
    carry: Vec<u8>,
    out: Vec<u8>,
    touched: bool,
    ended: bool,
}

/// Answers every GetBalance with the same balance. Anything else ends the connection.
struct Fixed {
    rkyv: Template,
    flat: Template,
    json: Json,
    callers: Vec<Caller>,
    touched: Vec<u32>,
    buffers: Vec<Vec<u8>>,
}

impl Fixed {
    fn new(assets: usize) -> Fixed {
        Fixed {
            rkyv: Template::new(Encoding::Rkyv, assets),
            flat: Template::new(Encoding::FlatBuffers, assets),
            json: Json::new(assets),
            callers: Vec::new(),
            touched: Vec::new(),
            buffers: Vec::new(),
        }
    }

    fn touch(&mut self, connection: u32) {
        if !std::mem::replace(&mut self.callers[connection as usize].touched, true) {
            self.touched.push(connection);
        }
    }

    /// Answers each whole question; returns how many bytes these took.
    fn answer(&mut self, connection: u32, bytes: &[u8]) -> usize {
        let caller = &mut self.callers[connection as usize];
        if caller.out.capacity() == 0 {
            caller.out = self.buffers.pop().unwrap_or_default();
        }
        let mut rest = bytes;
        let answer = match bytes.first() {
            Some(b'*') => Some(Json::answer_resp as fn(&Json, &mut Vec<u8>, &[u8]) -> Option<usize>),
            Some(b'G') => Some(Json::answer_http as _),
            _ => None,
        };
        if let Some(answer) = answer {
            while let Some(taken) = answer(&self.json, &mut caller.out, rest) {
                rest = &rest[taken..];
            }
            return bytes.len() - rest.len();
        }
        while let Ok((request, next)) = RequestHeader::ref_from_prefix(rest) {
            if request.length.get() as usize != size_of::<RequestHeader>()
                || request.opcode != Opcode::GetBalance as u8
            {
                caller.ended = true;
                break;
            }
            let template = if request.encoding == Encoding::Rkyv as u8 { &self.rkyv } else { &self.flat };
            template.answer(&mut caller.out, request);
            rest = next;
        }
        bytes.len() - rest.len()
    }
}

impl Engine for Fixed {
    fn begin_turn(&mut self, _: Now) {}

    fn input_came_by(&mut self, _: u64) {}

    fn open(&mut self, connection: u32, _: Listener) {
        if self.callers.len() <= connection as usize {
            self.callers.resize_with(connection as usize + 1, Caller::default);
        }
        self.callers[connection as usize] = Caller::default();
        self.touch(connection);
    }

    fn open_as(&mut self, connection: u32, listener: Listener, _: Option<Principal>) {
        self.open(connection, listener);
    }

    fn comes_from(&mut self, _: u32, _: IpAddr) {}

    fn knows_callers(&self) -> bool {
        false
    }

    fn proved(&self, _: Proof<'_>) -> Principal {
        Principal::ANONYMOUS
    }

    #[inline]
    fn receive(&mut self, connection: u32, bytes: &[u8]) {
        let mut carry = std::mem::take(&mut self.callers[connection as usize].carry);
        if carry.is_empty() {
            let taken = self.answer(connection, bytes);
            carry.extend_from_slice(&bytes[taken..]);
        } else {
            carry.extend_from_slice(bytes);
            let taken = self.answer(connection, &carry);
            carry.drain(..taken);
        }
        self.callers[connection as usize].carry = carry;
        self.touch(connection);
    }

    fn end_of_input(&mut self, connection: u32) {
        self.callers[connection as usize].ended = true;
        self.touch(connection);
    }

    fn closed(&mut self, connection: u32) {
        self.callers[connection as usize] = Caller::default();
    }

    fn input_waits(&mut self) {}

    fn note_accept_refused(&mut self) {}

    fn note_connections_full(&mut self) {}

    fn has_data(&self) -> bool {
        true
    }

    fn work(&mut self) {}

    #[inline]
    fn next_touched(&mut self) -> Option<u32> {
        let connection = self.touched.pop()?;
        self.callers[connection as usize].touched = false;
        Some(connection)
    }

    #[inline]
    fn wants(&self, connection: u32) -> Wants {
        let caller = &self.callers[connection as usize];
        let output = !caller.out.is_empty();
        Wants { output, intake: !caller.ended, close: caller.ended && !output, cut: false }
    }

    #[inline]
    fn take_output(&mut self, connection: u32, empty: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.callers[connection as usize].out, empty)
    }

    #[inline]
    fn sent(&mut self, connection: u32, _: usize) {
        self.touch(connection);
    }

    fn spare_buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    #[inline]
    fn recycle(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.buffers.push(buffer);
    }

    fn next_to_wake(&mut self) -> Option<ShardIndex> {
        None
    }

    fn end_turn(&mut self, _: u64) {}

    fn park(&mut self) -> Park {
        if self.touched.is_empty() { Park::Idle } else { Park::Busy }
    }

    fn drain(&mut self) {}

    fn drained(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use florin_schema::UserId;

    use super::*;
    use crate::{
        generator::pending::{Asked, Pending},
        protocol::{
            Fate, Http, Native, Protocol, Resp, Step,
            resp::{Ask, Values},
        },
        work::Kind,
    };

    /// Asks one question in two pieces, cut at each byte.
    fn passes_however_it_is_cut<P: Protocol>(mut protocol: P, length: usize) {
        for cut in 0..=length {
            let mut pending = Pending::new(1, P::ORDERING);
            let asked = Asked { kind: Kind::Balance, user: UserId::new(77).unwrap(), since_ns: 1 };
            let (slot, id) = pending.ask(asked).unwrap();
            let mut question = Vec::new();
            protocol.request(&mut question, id, slot, &mut pending);
            assert_eq!(question.len(), length);
            let mut fixed = Fixed::new(2);
            fixed.open(3, Listener::Any);
            fixed.receive(3, &question[..cut]);
            fixed.receive(3, &question[cut..]);
            assert_eq!(fixed.next_touched(), Some(3));
            let reply = fixed.take_output(3, Vec::new());
            let step = protocol.reply(&reply, &mut pending);
            let expected = Step::Answered { consumed: reply.len(), since_ns: 1, fate: Fate::Served };
            assert_eq!(step, Ok(expected), "cut at {cut}");
        }
    }

    #[test]
    fn a_fixed_reply_passes_the_generators_check_however_the_question_is_cut() {
        for encoding in [Encoding::Rkyv, Encoding::FlatBuffers] {
            passes_however_it_is_cut(Native::new(encoding, None), size_of::<RequestHeader>());
        }
        let resp = Resp { ask: Ask::Get, values: Values::Balances, claims: None };
        passes_however_it_is_cut(resp, "*2\r\n$3\r\nGET\r\n$10\r\nbalance:77\r\n".len());
        let head = "GET /v1/users/77/balance HTTP/1.1\r\nHost: bench\r\n\r\n";
        passes_however_it_is_cut(Http::new(None), head.len());
    }

    #[test]
    fn a_reply_is_as_long_as_florins() {
        assert_eq!(Template::new(Encoding::Rkyv, 2).bytes.len(), 112);
    }

    #[test]
    fn anything_else_ends_the_connection() {
        let mut fixed = Fixed::new(1);
        fixed.open(0, Listener::Any);
        fixed.receive(0, b"PUT /v1/users/1/balance HTTP/1.1\r\n\r\n");
        assert!(fixed.wants(0).close);
    }
}
