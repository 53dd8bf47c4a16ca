//! One plain question, to find out whether a server answers.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use florin_schema::frame::{self, ReplyHeader, RequestHeader};
use florin_schema::{Encoding, Opcode, UserId};
use zerocopy::IntoBytes;

use crate::{
    generator::{
        Endpoint, Speech,
        pending::{Asked, Pending},
    },
    protocol::{Fate, Http, Native, Protocol, Step},
    work::Kind,
};

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pings in one write of [`stir`], and how often.
const STIR_PINGS: usize = 256;
/// See above.
const STIR_ROUNDS: usize = 64;

pub(super) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A blocking connection.
pub(super) fn connect(endpoint: &Endpoint) -> io::Result<Box<dyn Stream>> {
    Ok(match endpoint {
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Box::new(stream)
        }
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Box::new(stream)
        }
    })
}

/// Whether the server answers a question about `user`; the error says what it did instead.
pub fn answers(endpoint: &Endpoint, speech: Speech, user: UserId) -> Result<(), String> {
    match speech {
        Speech::Native(encoding) => ask(endpoint, Native::new(encoding), user),
        Speech::Http => ask(endpoint, Http::default(), user),
        // A peer's keys are loaded after it has started: that it speaks is enough.
        Speech::Redis => says(endpoint, b"PING\r\n", b"+PONG"),
        Speech::Memcached => says(endpoint, b"version\r\n", b"VERSION "),
    }
}

/// Asks so much at once that the server's other threads get on too, and whether it answers by now.
///
/// Valgrind runs one thread at a time, and (at least to version 3.19) a thread that waits in io_uring_enter keeps all
/// others waiting: a server that is left alone never loads its ledger. It lets another thread run after 100,000 basic
/// blocks of one, which this is good for.
pub(super) fn stir(address: SocketAddr, user: UserId) -> Result<(), String> {
    let header = RequestHeader {
        length: (size_of::<RequestHeader>() as u32).into(),
        version: frame::VERSION,
        opcode: Opcode::Ping as u8,
        encoding: 0,
        flags: 0,
        request_id: 0.into(),
        user_id: 0.into(),
    };
    let pings = header.as_bytes().repeat(STIR_PINGS);
    let mut pongs = vec![0; STIR_PINGS * size_of::<ReplyHeader>()];
    let endpoint = Endpoint::Tcp(address);
    let mut rounds = || {
        let mut stream = connect(&endpoint)?;
        for _ in 0..STIR_ROUNDS {
            stream.write_all(&pings)?;
            stream.read_exact(&mut pongs)?;
        }
        Ok(())
    };
    rounds().map_err(|error: io::Error| error.to_string())?;
    answers(&endpoint, Speech::Native(Encoding::Rkyv), user)
}

fn ask<P: Protocol>(endpoint: &Endpoint, mut protocol: P, user: UserId) -> Result<(), String> {
    let mut stream = connect(endpoint).map_err(|error| error.to_string())?;
    let mut pending = Pending::new(1, P::ORDERING);
    let asked = Asked { kind: Kind::Balance, user, since_ns: 0 };
    let (slot, id) = pending.ask(asked).expect("a new connection has a free slot");
    let mut out = Vec::new();
    protocol.request(&mut out, id, slot, &mut pending);
    protocol.finish(&mut out, &mut pending);
    stream.write_all(&out).map_err(|error| error.to_string())?;
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4_096]);
    loop {
        match protocol.reply(&bytes, &mut pending) {
            Ok(Step::Answered { fate: Fate::Served, .. }) => return Ok(()),
            Ok(Step::Answered { fate: Fate::Shed(status), .. }) => return Err(status.name().to_owned()),
            Ok(_) => {}
            Err(wrong) => return Err(wrong.to_string()),
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Err("the connection was closed".to_owned()),
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn says(endpoint: &Endpoint, question: &[u8], answer: &[u8]) -> Result<(), String> {
    let attempt = || {
        let mut stream = connect(endpoint)?;
        stream.write_all(question)?;
        let mut found = vec![0; answer.len()];
        stream.read_exact(&mut found)?;
        Ok(found)
    };
    match attempt() {
        Ok(found) if found == answer => Ok(()),
        Ok(found) => Err(format!("it said {:?}", String::from_utf8_lossy(&found))),
        Err(error) => Err(io::Error::to_string(&error)),
    }
}
