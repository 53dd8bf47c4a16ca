//! An admin port's connections: bounded in number and in silence, so that nobody who connects and says nothing keeps a
//! probe, a scrape or an operator out.

#[doc(hidden)]
pub mod fuzzed;
mod turns;

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::middleware::from_fn;
use axum::serve::{IncomingStream, Listener};
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use turns::{Handed, Part, Talk, note_turns};
pub use turns::{PeerAddress, PeerEnd, PeerNames};

use crate::limits::{AHEAD_BYTES_MAX, SECOND_LOOK};

/// What an admin port takes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at a time.
    pub connections_max: usize,
    /// How long one may be silent.
    pub idle: Duration,
    /// How long it may be silent in the middle of a request's head; then it is answered 408.
    pub head_silence: Duration,
    /// How long a head may take to come, drop by drop.
    pub head: Duration,
    /// How long a peer that still sends may do so once its answer has been sent.
    pub linger: Duration,
    /// How long to wait where the process has no descriptor left.
    pub accept_retry: Duration,
    /// How often that is said.
    pub say_every: Duration,
}

/// Serves an admin port until `end` resolves; requests that are being answered then still are.
///
/// # Errors
/// Where the listener breaks.
pub async fn serve(
    port: impl Into<Port>,
    bounds: Bounds,
    router: Router,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = router.layer(from_fn(note_turns));
    let service = router.into_make_service_with_connect_info::<Talk>();
    axum::serve(Bounded::new(port, bounds), service).with_graceful_shutdown(end).await
}

/// What bytes of a caller's come from and go to: a socket, or what lies over one.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What is laid over each socket that comes. Where it proves who the peer is, it says so there.
pub type Over = Arc<dyn Fn(TcpStream, PeerNames) -> Box<dyn Stream> + Send + Sync>;

/// Where callers come.
pub struct Port {
    listener: TcpListener,
    over: Option<Over>,
}

impl From<TcpListener> for Port {
    fn from(listener: TcpListener) -> Port {
        Port { listener, over: None }
    }
}

impl Port {
    /// Lays something over each socket, as TLS is. It shakes hands when it is first read from: a caller that does not is silent.
    #[must_use]
    pub fn over(self, over: Over) -> Port {
        Port { over: Some(over), ..self }
    }
}

/// What an HTTP/2 connection begins with, whatever it is to ask (RFC 9113, section 3.4).
const HTTP_2: &[u8] = b"PRI * HTTP/2.0";

/// A listener that ends the connection which has been silent for longest when there is one too many.
pub struct Bounded {
    port: Port,
    open: Arc<Mutex<Slab<Entry>>>,
    bounds: Bounds,
    said: Option<Instant>,
}

/// What is known of an open connection.
struct Entry {
    heard: Instant,
    /// Dropped to end it.
    end: Option<oneshot::Sender<()>>,
}

impl Bounded {
    /// Nobody is connected yet.
    pub fn new(port: impl Into<Port>, bounds: Bounds) -> Bounded {
        Bounded { port: port.into(), open: Arc::default(), bounds, said: None }
    }

    fn admit(&self, stream: TcpStream, from: SocketAddr) -> Connection {
        let (end, ended) = oneshot::channel();
        let mut open = self.open.lock().expect("nothing panics while it is held");
        if open.len() >= self.bounds.connections_max {
            let living = open.iter_mut().filter(|(_, entry)| entry.end.is_some());
            if let Some((_, silent)) = living.min_by_key(|(_, entry)| entry.heard) {
                silent.end = None;
            }
        }
        let key = open.insert(Entry { heard: Instant::now(), end: Some(end) });
        drop(open);
        let names = PeerNames::default();
        let silence = Box::pin(sleep_until(Instant::now() + self.bounds.idle));
        Connection {
            stream: match &self.port.over {
                Some(over) => over(stream, names.clone()),
                None => Box::new(stream),
            },
            ended,
            bounds: self.bounds,
            talk: Talk::with(from, names),
            handed: Handed::default(),
            held: Vec::new(),
            half: None,
            heard: Instant::now(),
            silence,
            key,
            open: Arc::clone(&self.open),
            is_overdue: false,
            is_evicted: false,
            is_answer_stuck: false,
            is_lingering: false,
            has_ended: false,
        }
    }

    fn say(&mut self, error: &io::Error) {
        if self.said.is_none_or(|said| said.elapsed() >= self.bounds.say_every) {
            self.said = Some(Instant::now());
            tracing::warn!(%error, "the admin port cannot accept a connection: raise the number of open files (ulimit -n)");
        }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.port.listener.accept().await {
                Ok((stream, address)) => return (self.admit(stream, address), address),
                Err(error) => {
                    self.say(&error);
                    tokio::time::sleep(self.bounds.accept_retry).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.port.listener.local_addr()
    }
}

/// Why a connection was ended while it was read from: one more came, and it had been silent for longest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there was one connection too many, and this had been silent for longest")]
pub struct Evicted;

impl Connected<IncomingStream<'_, Bounded>> for Talk {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Talk {
        stream.io().talk.clone()
    }
}

/// A request's head of which a part is there.
#[derive(Clone, Copy)]
struct HalfHead {
    since: Instant,
    /// Requests that were begun before.
    begun: u64,
}

/// A connection that ends where it is silent for too long, or is one too many.
pub struct Connection {
    stream: Box<dyn Stream>,
    ended: oneshot::Receiver<()>,
    bounds: Bounds,
    talk: Talk,
    handed: Handed,
    /// Has come, and belongs to a later request than the server asks for.
    held: Vec<u8>,
    half: Option<HalfHead>,
    /// When bytes came or went last.
    heard: Instant,
    silence: Pin<Box<Sleep>>,
    key: usize,
    open: Arc<Mutex<Slab<Entry>>>,
    /// Was found silent for too long once: the second look decides.
    is_overdue: bool,
    /// Was told that it was one too many.
    is_evicted: bool,
    /// A part of an answer is still to be sent.
    is_answer_stuck: bool,
    /// Our half is shut, and the peer may still read what was sent.
    is_lingering: bool,
    /// The peer has shut its half.
    has_ended: bool,
}

impl Connection {
    /// Bytes came or went.
    fn heard(&mut self) {
        self.heard = Instant::now();
        let due = self.due();
        self.silence.as_mut().reset(due);
        self.is_overdue = false;
        self.open.lock().expect("nothing panics while it is held")[self.key].heard = self.heard;
    }

    /// Hands on what the server may have of `bytes`: how many.
    fn hand_on(&mut self, part: Part, bytes: &[u8]) -> usize {
        let taken = self.handed.take(part, bytes);
        if part == Part::Head && taken > 0 && self.half_head().is_none() {
            self.half = Some(HalfHead { since: Instant::now(), begun: self.talk.begun() });
        }
        self.heard();
        taken
    }

    fn half_head(&self) -> Option<HalfHead> {
        self.half.filter(|half| half.begun == self.talk.begun())
    }

    /// When its silence is too long, as far as is known now.
    fn due(&self) -> Instant {
        match self.half_head() {
            Some(half) => (self.heard + self.bounds.head_silence).min(half.since + self.bounds.head),
            None => self.heard + self.bounds.idle,
        }
    }

    /// Where a part of a request is there, its end is answered, as by the ports of the shards.
    fn tell(&mut self, cx: &mut Context<'_>, status: &str, title: &str, detail: &str) {
        if self.half_head().is_some() && !self.is_answer_stuck {
            let body = format!(
                r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":"{detail}"}}"#
            );
            let answer = format!(
                "HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            );
            // Who takes none of it is owed no more.
            let _ = Pin::new(&mut self.stream).poll_write(cx, answer.as_bytes());
        }
    }

    /// Looks beyond the request that is being answered, as far as there is room for it. A peer that has sent all it will may still wait
    /// for its answer: the server would drop that, and so does not learn of it before.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.talk.wake(cx.waker());
        let mut bytes = [0; 4_096];
        while !self.has_ended && self.held.len() < AHEAD_BYTES_MAX {
            let mut ahead = ReadBuf::new(&mut bytes);
            if Pin::new(&mut self.stream).poll_read(cx, &mut ahead)?.is_pending() {
                break;
            }
            if ahead.filled().is_empty() {
                self.has_ended = true;
                self.talk.end();
            } else {
                self.held.extend_from_slice(ahead.filled());
                self.heard();
            }
        }
        self.poll_silence(cx)
    }

    /// The peer has sent all that it will, and the server is told so, unless it would drop an answer for it.
    fn poll_end(&mut self, part: Part, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.handed.is_owed(part, &self.talk) {
            return Poll::Ready(Ok(()));
        }
        self.talk.end();
        self.poll_ahead(cx)
    }

    /// Nothing more has come: whether that is for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_evicted = self.is_evicted || Pin::new(&mut self.ended).poll(cx).is_ready();
        if self.is_evicted {
            self.tell(cx, "503", "Service Unavailable", &Evicted.to_string());
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Evicted)));
        }
        ready!(self.silence.as_mut().poll(cx));
        // A head may have become whole since.
        let due = self.due();
        if due > Instant::now() {
            self.silence.as_mut().reset(due);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !mem::replace(&mut self.is_overdue, true) {
            // A process that was stopped finds the time over before it has looked at what came meanwhile: that the runtime
            // does before the next timer is due.
            self.silence.as_mut().reset(Instant::now() + SECOND_LOOK);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let detail = format!(
            "head: expected its rest within {} s, and all of it within {} s",
            self.bounds.head_silence.as_secs(),
            self.bounds.head.as_secs()
        );
        self.tell(cx, "408", "Request Timeout", &detail);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.lock().expect("nothing panics while it is held").remove(self.key);
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let part = this.handed.next(&this.talk);
        if part == Part::Later {
            return this.poll_ahead(cx);
        }
        if !this.held.is_empty() {
            let held = mem::take(&mut this.held);
            let taken = this.hand_on(part, &held[..held.len().min(into.remaining())]);
            into.put_slice(&held[..taken]);
            this.held = held[taken..].to_vec();
            return Poll::Ready(Ok(()));
        }
        if this.has_ended {
            return this.poll_end(part, cx);
        }
        let before = into.filled().len();
        if Pin::new(&mut this.stream).poll_read(cx, into)?.is_pending() {
            return this.poll_silence(cx);
        }
        let come = &into.filled()[before..];
        if come.is_empty() {
            this.has_ended = true;
            return this.poll_end(part, cx);
        }
        let taken = this.hand_on(part, come);
        if come.starts_with(HTTP_2) && this.talk.begun() == 0 {
            this.tell(cx, "505", "HTTP Version Not Supported", "version: expected HTTP/1.1, got HTTP/2");
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        this.held.extend_from_slice(&come[taken..]);
        into.set_filled(before + taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, from);
        this.is_answer_stuck = written.is_pending();
        if written.is_ready() {
            this.heard();
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    /// Shuts our half, and then reads for a moment what still comes: a close with bytes unread would reset the connection, and
    /// take the answer with it that the peer has yet to read.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_lingering {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.is_lingering = true;
            this.silence.as_mut().reset(Instant::now() + this.bounds.linger);
        }
        let mut bytes = [0; 4_096];
        loop {
            let mut unread = ReadBuf::new(&mut bytes);
            match Pin::new(&mut this.stream).poll_read(cx, &mut unread) {
                Poll::Ready(Ok(())) if !unread.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return this.silence.as_mut().poll(cx).map(Ok),
            }
        }
    }
}

#[cfg(test)]
mod tests;
