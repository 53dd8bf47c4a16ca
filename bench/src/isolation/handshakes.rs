//! Connections that come about again and again, in plain or by TLS; and handshakes that are begun and never ended.

use std::{
    collections::VecDeque,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt::set_socket_linger};
use rustls::{ClientConfig, HandshakeKind, client::Resumption};

use crate::{
    generator::{Access, Stream, client, histogram},
    limits::{HALF_ADDRESSES, HALF_LIFE, PROBE_TIME},
    protocol::hello,
};

/// How connections come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// Without TLS.
    Plain,
    /// By TLS, with certificates each time.
    Full,
    /// By TLS, with a ticket of the connection before.
    Resumed,
}

/// What has come about.
#[derive(Debug)]
pub struct Made {
    /// Connections, each asked a Hello.
    pub count: u64,
    /// Of those, with a ticket.
    pub resumed: u64,
    /// Those that did not come about.
    pub failed: u64,
    /// In how long.
    pub seconds: f64,
    /// From connecting to the Hello's answer, ns.
    pub latencies: Histogram<u64>,
}

impl Made {
    /// Connections a second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.seconds.max(1e-9)
    }
}

/// Makes connections, one after the other on each of its threads, until it is told to end.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<Made>>>,
    began: Instant,
}

impl Flood {
    /// Begins, from so many threads.
    pub fn begin(address: SocketAddr, access: &Access, how: How, threads: usize) -> Flood {
        let stop = Arc::<AtomicBool>::default();
        let threads = (0..threads).map(|_| {
            let (stop, access, config) = (Arc::clone(&stop), access.clone(), config(access, how));
            thread::spawn(move || repeat(&stop, || once(address, &access, config.as_ref())))
        });
        Flood { threads: threads.collect(), stop, began: Instant::now() }
    }

    /// Ends it.
    ///
    /// # Errors
    /// Where none came about: why the last did not.
    pub fn end(self) -> io::Result<Made> {
        self.stop.store(true, Ordering::Relaxed);
        let seconds = self.began.elapsed().as_secs_f64();
        let mut all = Made { count: 0, resumed: 0, failed: 0, seconds, latencies: histogram() };
        for thread in self.threads {
            let made = thread.join().expect("a thread of a flood does not panic")?;
            (all.count, all.resumed) = (all.count + made.count, all.resumed + made.resumed);
            all.failed += made.failed;
            all.latencies.add(&made.latencies).expect("all histograms here have the same bounds");
        }
        Ok(all)
    }
}

fn config(access: &Access, how: How) -> Option<Arc<ClientConfig>> {
    let config = access.tls().filter(|_| how != How::Plain)?;
    let mut config = (**config).clone();
    // Each thread has tickets of its own.
    config.resumption = match how {
        How::Resumed => Resumption::default(),
        How::Plain | How::Full => Resumption::disabled(),
    };
    Some(Arc::new(config))
}

fn repeat(stop: &AtomicBool, mut once: impl FnMut() -> io::Result<bool>) -> io::Result<Made> {
    let mut made = Made { count: 0, resumed: 0, failed: 0, seconds: 0.0, latencies: histogram() };
    let mut failure = None;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        match once() {
            Ok(resumed) => {
                made.latencies.saturating_record(began.elapsed().as_nanos() as u64);
                made.count += 1;
                made.resumed += u64::from(resumed);
            }
            Err(error) => {
                made.failed += 1;
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if made.count == 0 => Err(error),
        _ => Ok(made),
    }
}

/// Connects, asks a Hello and leaves; whether a ticket was taken.
fn once(address: SocketAddr, access: &Access, config: Option<&Arc<ClientConfig>>) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIME)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PROBE_TIME))?;
    // Otherwise this host's ports were all used up within seconds, each waiting a minute for a connection that is over.
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    let ask = |stream: &mut dyn Stream| {
        stream.write_all(&hello::request(access.token()))?;
        hello::reply(stream)
    };
    let Some(config) = config else {
        ask(&mut stream)?;
        return Ok(false);
    };
    let mut connection = client(config, address)?;
    connection.complete_io(&mut stream)?;
    // The ticket for the next comes with the answer.
    ask(&mut rustls::Stream::new(&mut connection, &mut stream))?;
    Ok(connection.handshake_kind() == Some(HandshakeKind::Resumed))
}

/// Handshakes that are begun and go no further: as many at any time, and each for less than the server allows.
#[derive(Debug)]
pub struct Halves {
    end: mpsc::Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Halves {
    /// Begins so many.
    ///
    /// # Errors
    /// Where there is nobody to begin with, or this process has no files left.
    pub fn begin(address: SocketAddr, access: &Access, count: usize) -> io::Result<Halves> {
        let config = access.tls().ok_or_else(|| io::Error::other("half a handshake is of TLS"))?;
        let mut hello = Vec::new();
        client(config, address)?.write_tls(&mut hello)?;
        hello.truncate(hello.len() / 2);
        let begin = move |number: usize| {
            let mut stream = connect_from(number, address)?;
            stream.write_all(&hello)?;
            Ok(stream)
        };
        let mut held = (0..count).map(&begin).collect::<io::Result<VecDeque<TcpStream>>>()?;
        let (end, ended) = mpsc::channel::<()>();
        let renew = move || {
            let each = HALF_LIFE / count.max(1) as u32;
            let mut number = count;
            while ended.recv_timeout(each) == Err(RecvTimeoutError::Timeout) {
                held.pop_front();
                held.push_back(begin(number)?);
                number += 1;
            }
            Ok(())
        };
        Ok(Halves { end, thread: thread::spawn(renew) })
    }

    /// Ends them.
    ///
    /// # Errors
    /// Where they could not all be held.
    pub fn end(self) -> io::Result<()> {
        drop(self.end);
        self.thread.join().expect("the thread that holds them does not panic")
    }
}

/// A connection; on this host from several of its addresses in turn, of which a server takes only so many handshakes each.
fn connect_from(number: usize, address: SocketAddr) -> io::Result<TcpStream> {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_loopback() => {
            let from = Ipv4Addr::new(127, 0, 0, 2 + (number % HALF_ADDRESSES) as u8);
            let socket = rustix::net::socket_with(
                AddressFamily::INET,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )?;
            rustix::net::bind(&socket, &SocketAddrV4::new(from, 0))?;
            rustix::net::connect(&socket, &v4)?;
            Ok(TcpStream::from(socket))
        }
        _ => TcpStream::connect_timeout(&address, PROBE_TIME),
    }
}
