//! An admin port's connections: bounded in number and in silence, so that nobody who connects and says nothing keeps a
//! probe, a scrape or an operator out.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

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

/// What is laid over each socket that comes.
pub type Over = Arc<dyn Fn(TcpStream) -> Box<dyn Stream> + Send + Sync>;

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

/// After how long a silence that was too long is looked at again.
const SECOND_LOOK: Duration = Duration::from_millis(20);
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
        let silence = Box::pin(sleep_until(Instant::now() + self.bounds.idle));
        Connection {
            stream: match &self.port.over {
                Some(over) => over(stream),
                None => Box::new(stream),
            },
            ended,
            bounds: self.bounds,
            talk: Talk { from, turns: Arc::default() },
            half: None,
            heard: Instant::now(),
            silence,
            key,
            open: Arc::clone(&self.open),
            is_overdue: false,
            is_evicted: false,
            is_lingering: false,
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

/// How many requests of a connection were begun and how many answered: what its bytes alone do not say.
#[derive(Clone, Debug)]
struct Talk {
    from: SocketAddr,
    turns: Arc<Turns>,
}

/// Where a request has come from: one of its extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerAddress(pub SocketAddr);

#[derive(Default, Debug)]
struct Turns {
    begun: AtomicU64,
    answered: AtomicU64,
}

impl Talk {
    fn begun(&self) -> u64 {
        self.turns.begun.load(Ordering::Relaxed)
    }

    fn is_answering(&self) -> bool {
        self.begun() > self.turns.answered.load(Ordering::Relaxed)
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Talk {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Talk {
        stream.io().talk.clone()
    }
}

/// A request's head is there, and then its answer.
async fn note_turns(ConnectInfo(talk): ConnectInfo<Talk>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(PeerAddress(talk.from));
    talk.turns.begun.fetch_add(1, Ordering::Relaxed);
    let response = next.run(request).await;
    talk.turns.answered.fetch_add(1, Ordering::Relaxed);
    response
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
    /// Our half is shut, and the peer may still read what was sent.
    is_lingering: bool,
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

    /// Bytes came: of a request's head, where none is being answered.
    fn received(&mut self) {
        if !self.talk.is_answering() && self.half_head().is_none() {
            self.half = Some(HalfHead { since: Instant::now(), begun: self.talk.begun() });
        }
        self.heard();
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
        if self.half_head().is_some() {
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
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.lock().expect("nothing panics while it is held").remove(self.key);
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, into) {
            Poll::Ready(outcome) => {
                this.received();
                if into.filled()[before..].starts_with(HTTP_2) && this.talk.begun() == 0 {
                    this.tell(
                        cx,
                        "505",
                        "HTTP Version Not Supported",
                        "version: expected HTTP/1.1, got HTTP/2",
                    );
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Poll::Ready(outcome)
            }
            Poll::Pending => {
                this.is_evicted = this.is_evicted || Pin::new(&mut this.ended).poll(cx).is_ready();
                if this.is_evicted {
                    this.tell(cx, "503", "Service Unavailable", &Evicted.to_string());
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Evicted)));
                }
                ready!(this.silence.as_mut().poll(cx));
                // A head may have become whole since.
                let due = this.due();
                if due > Instant::now() {
                    this.silence.as_mut().reset(due);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if !std::mem::replace(&mut this.is_overdue, true) {
                    // A process that was stopped finds the time over before it has looked at what came meanwhile: that the runtime
                    // does before the next timer is due.
                    this.silence.as_mut().reset(Instant::now() + SECOND_LOOK);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let detail = format!(
                    "head: expected its rest within {} s, and all of it within {} s",
                    this.bounds.head_silence.as_secs(),
                    this.bounds.head.as_secs()
                );
                this.tell(cx, "408", "Request Timeout", &detail);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, from));
        this.heard();
        Poll::Ready(written)
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
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const BOUNDS: Bounds = Bounds {
        connections_max: 8,
        idle: Duration::from_secs(60),
        head_silence: Duration::from_secs(10),
        head: Duration::from_secs(30),
        linger: Duration::from_millis(500),
        accept_retry: Duration::from_millis(10),
        say_every: Duration::from_secs(10),
    };

    async fn bounded() -> (Bounded, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Bounded::new(listener, BOUNDS), address)
    }

    /// A hundred connections that said nothing kept every probe and scrape out for as long as they liked.
    #[tokio::test]
    async fn one_too_many_ends_the_one_that_was_silent_for_longest() {
        let (mut bounded, address) = bounded().await;
        let mut held = Vec::new();
        for _ in 0..BOUNDS.connections_max {
            let caller = TcpStream::connect(address).await.unwrap();
            held.push((bounded.accept().await.0, caller));
        }
        held[0].0.heard();
        let _one_more = (TcpStream::connect(address).await.unwrap(), bounded.accept().await.0);
        let error = held[1].0.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(held.remove(1));
        assert_eq!(bounded.open.lock().unwrap().len(), BOUNDS.connections_max);
    }

    #[tokio::test]
    async fn http_2_is_told_that_it_is_not_spoken() {
        let (mut bounded, address) = bounded().await;
        let mut caller = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = bounded.accept().await;
        caller.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        connection.read(&mut [0; 64]).await.unwrap_err();
        drop(connection);
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 505 ") && answer.contains("got HTTP/2"), "{answer}");
    }

    #[tokio::test]
    async fn silence_ends_a_connection() {
        let (mut bounded, address) = bounded().await;
        bounded.bounds.idle = Duration::from_millis(20);
        let _caller = TcpStream::connect(address).await.unwrap();
        let began = Instant::now();
        let error = bounded.accept().await.0.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= bounded.bounds.idle);
    }
}
