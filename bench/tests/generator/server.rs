//! A server that is just large enough to be asked, and does one thing wrong, once.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use florin_bench::generator::Endpoint;
use florin_schema::frame::{ReplyHeader, RequestHeader};
use florin_schema::layout::SCHEMA_FINGERPRINT;
use florin_schema::{Status, UserId, records};
use zerocopy::{FromBytes, IntoBytes};

/// Which answer is the wrong one, counted over all connections.
const FAULTY: u64 = 40;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    OtherId,
    OtherUser,
    VersionZero,
    Twice,
    CutAndClose,
    /// Every answer, byte by byte.
    BytePieces,
    Overloaded,
    NotFound,
    /// Before the faulty answer.
    Stall(Duration),
    /// No answer at all.
    Silence,
}

pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    fault: Fault,
    /// Which of how many shards it is; it answers foreign users as if it did not know them.
    shard: (u16, u16),
    answered: AtomicU64,
}

impl Server {
    pub fn start(fault: Fault) -> Server {
        Server::with(fault, (0, 1))
    }

    pub fn start_shard(shard: u16, shards: u16) -> Server {
        Server::with(Fault::None, (shard, shards))
    }

    fn with(fault: Fault, shard: (u16, u16)) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { fault, shard, answered: AtomicU64::new(0) });
        let shared = Arc::clone(&state);
        // Ends with the test's process; each connection's thread ends with its connection.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                thread::spawn(move || state.serve(stream.unwrap()));
            }
        });
        Server { address, state }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Tcp(self.address)
    }

    pub fn answered(&self) -> u64 {
        self.state.answered.load(Ordering::Relaxed)
    }
}

/// A question, of either protocol.
struct Question {
    native_id: Option<u64>,
    user: u64,
    consumed: usize,
}

impl State {
    /// Until the peer goes away, or the fault ends the connection.
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4_096]);
        loop {
            while let Some(question) = read(&bytes) {
                bytes.drain(..question.consumed);
                if self.fault != Fault::Silence {
                    self.answer(&mut stream, &question)?;
                }
            }
            match stream.read(&mut chunk)? {
                0 => return Ok(()),
                length => bytes.extend_from_slice(&chunk[..length]),
            }
        }
    }

    fn answer(&self, stream: &mut TcpStream, question: &Question) -> io::Result<()> {
        let is_faulty = self.answered.fetch_add(1, Ordering::Relaxed) + 1 == FAULTY;
        let fault = if is_faulty || self.fault == Fault::BytePieces { self.fault } else { Fault::None };
        let user = UserId::new(question.user).unwrap();
        let foreign = user.shard(self.shard.1).0 != self.shard.0;
        let status = match fault {
            _ if foreign => Status::NotFound,
            Fault::NotFound => Status::NotFound,
            Fault::Overloaded => Status::Overloaded,
            _ => Status::Ok,
        };
        let id = question.native_id.map(|id| if fault == Fault::OtherId { id ^ 1 << 40 } else { id });
        let user = if fault == Fault::OtherUser { question.user + 1 } else { question.user };
        let version = u64::from(fault != Fault::VersionZero) * 7;
        let reply = match id {
            Some(id) => native(id, user, version, status),
            None => http(user, version),
        };
        match fault {
            Fault::Stall(time) => thread::sleep(time),
            Fault::Twice => stream.write_all(&reply)?,
            Fault::CutAndClose => {
                stream.write_all(&reply[..reply.len() - 5])?;
                // Both halves, so that the questions that wait unread do not turn the end into a reset.
                stream.shutdown(std::net::Shutdown::Write)?;
                return io::copy(stream, &mut io::sink()).and(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            Fault::BytePieces => return reply.chunks(7).try_for_each(|piece| stream.write_all(piece)),
            _ => {}
        }
        stream.write_all(&reply)
    }
}

fn read(bytes: &[u8]) -> Option<Question> {
    if bytes.starts_with(b"GET ") {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
        let path = std::str::from_utf8(&bytes[..end]).unwrap();
        let user = path.strip_prefix("GET /v1/users/").unwrap().split('/').next().unwrap();
        return Some(Question { native_id: None, user: user.parse().unwrap(), consumed: end + 4 });
    }
    let (header, _) = RequestHeader::ref_from_prefix(bytes).ok()?;
    assert_eq!((header.version, header.opcode, header.length.get()), (1, 1, 24));
    Some(Question { native_id: Some(header.request_id.get()), user: header.user_id.get(), consumed: 24 })
}

fn native(id: u64, user_id: u64, version: u64, status: Status) -> Vec<u8> {
    let balances = vec![records::AssetBalance { asset: 65, available: 5, held: 0 }];
    let balance = records::Balance { user_id, version, updated_at_us: 1, balances };
    let body = match status {
        Status::Ok => rkyv::to_bytes::<rkyv::rancor::Error>(&balance).unwrap().to_vec(),
        _ => b"not now".to_vec(),
    };
    let header = ReplyHeader {
        length: (32 + body.len() as u32).into(),
        version: 1,
        opcode: 1,
        encoding: u8::from(status == Status::Ok),
        status: status as u8,
        request_id: id.into(),
        as_of_us: 9.into(),
        shard: 0.into(),
        flags: 0.into(),
        schema: (SCHEMA_FINGERPRINT as u32).into(),
    };
    [header.as_bytes(), &body].concat()
}

fn http(user: u64, version: u64) -> Vec<u8> {
    let body = format!(
        r#"{{"user_id":"{user}","version":"{version}","updated_at":"2026-01-01T00:00:00.000000Z","balances":[{{"asset":"A","available":"5","held":"0"}}]}}"#
    );
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}
