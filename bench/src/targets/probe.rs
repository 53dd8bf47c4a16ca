//! One plain question, to find out whether a server answers.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use florin_schema::frame::{self, ReplyHeader, RequestHeader};
use florin_schema::{Encoding, Opcode, Stranger, UserId};
use zerocopy::IntoBytes;

use crate::limits::{CALM_PAUSE, START_POLL, STIR_PINGS};
use crate::{
    generator::{
        Access, Endpoint, Speech, Stream,
        pending::{Asked, Pending},
    },
    protocol::{
        Fate, Http, Native, Protocol, Step,
        hello::BY_TLS,
        resp::{Resp, Values},
    },
    work::Kind,
};

/// Whether the server answers a question about `user`; the error says what it did instead.
pub fn answers(endpoint: &Endpoint, access: &Access, speech: Speech, user: UserId) -> Result<(), String> {
    let connected = || {
        let mut stream = access.connect(endpoint)?;
        access.introduce(&mut *stream, speech)?;
        Ok(stream)
    };
    let stream = || connected().map_err(|error: io::Error| error.to_string());
    match speech {
        Speech::Native(encoding) => ask(stream()?, Native::new(encoding, None), user),
        Speech::Http => ask(stream()?, Http::default().showing(access.token()), user),
        Speech::Resp(asked, Values::Balances) => {
            ask(stream()?, Resp { ask: asked, values: Values::Balances, claims: None }, user)
        }
        // A peer's keys are loaded after it has started: that it speaks is enough.
        Speech::Resp(_, Values::Loaded) => says(stream()?, b"*1\r\n$4\r\nPING\r\n", b"+PONG"),
        Speech::Memcached => says(stream()?, b"version\r\n", b"VERSION "),
    }
}

/// Keeps a server under valgrind busy, so that all its threads get on.
///
/// Valgrind runs one thread at a time, and (at least to version 3.19) a thread that waits in io_uring_enter keeps all
/// others waiting: shards that are left alone never load their ledger. With --fair-sched=yes another thread's turn comes
/// after 100,000 basic blocks of one; so each shard is given enough to do for that. Once calm, it is only woken now and then,
/// so that one which has had its last question lets the others go on.
#[derive(Debug)]
pub(super) struct Stirring {
    signs: Arc<Signs>,
    threads: Vec<JoinHandle<()>>,
}

/// What the stirring threads are to do.
#[derive(Debug, Default)]
struct Signs {
    calm: AtomicBool,
    stop: AtomicBool,
}

impl Stirring {
    /// Pings each of these shards' plain ports, from a thread each, as somebody who may.
    pub(super) fn start(ports: Vec<SocketAddr>, access: &Access) -> Stirring {
        let signs = Arc::new(Signs::default());
        let calm_pause = CALM_PAUSE * ports.len() as u32;
        let stir = |port| {
            let (signs, access) = (Arc::clone(&signs), access.in_plain());
            thread::spawn(move || {
                while !signs.stop.load(Ordering::Relaxed) {
                    // Until it listens, and again where it was too slow.
                    if ping(port, &access, &signs, calm_pause).is_err() {
                        thread::sleep(START_POLL);
                    }
                }
            })
        };
        let threads = ports.into_iter().map(stir).collect();
        Stirring { signs, threads }
    }

    /// From now on each shard is only woken now and then.
    pub(super) fn calm(&self) {
        self.signs.calm.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stirring {
    fn drop(&mut self) {
        self.signs.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that has panicked has said so.
            let _ = thread.join();
        }
    }
}

fn ping(port: SocketAddr, access: &Access, signs: &Signs, calm_pause: Duration) -> io::Result<()> {
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
    let mut stream = access.connect(&Endpoint::Tcp(port))?;
    access.introduce(&mut *stream, Speech::Native(Encoding::Rkyv))?;
    while !signs.stop.load(Ordering::Relaxed) {
        let mut count = STIR_PINGS;
        if signs.calm.load(Ordering::Relaxed) {
            count = 1;
            thread::sleep(calm_pause);
        }
        stream.write_all(&pings[..count * size_of::<RequestHeader>()])?;
        stream.read_exact(&mut pongs[..count * size_of::<ReplyHeader>()])?;
    }
    Ok(())
}

fn ask<P: Protocol>(mut stream: Box<dyn Stream>, mut protocol: P, user: UserId) -> Result<(), String> {
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
            Ok(Step::Skip(length)) => {
                bytes.drain(..length);
                continue;
            }
            Ok(Step::Partial) => {}
            Err(wrong) => return Err(wrong.to_string()),
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Err("the connection was closed".to_owned()),
            Ok(length) => {
                bytes.extend_from_slice(&chunk[..length]);
                if Stranger::of(&bytes) == Some(Stranger::Tls) {
                    return Err(BY_TLS.to_owned());
                }
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn says(mut stream: Box<dyn Stream>, question: &[u8], answer: &[u8]) -> Result<(), String> {
    let mut attempt = || {
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
