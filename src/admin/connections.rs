//! The admin port's connections: bounded in number and in silence, so that nobody who connects and says nothing keeps a
//! probe, a scrape or an operator out.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::limits::{ACCEPT_RETRY_US, ADMIN_CONNECTIONS_MAX, ADMIN_IDLE_US, LINGER_US, SCARCITY_LOG_US};
use crate::threads::Vital;

/// A listener that ends the connection which has been silent for longest when there is one too many.
pub(super) struct Bounded {
    listener: TcpListener,
    open: Arc<Mutex<Slab<Entry>>>,
    /// How long a connection may be silent.
    idle: Duration,
    said: Option<Instant>,
}

/// What is known of an open connection.
struct Entry {
    heard: Instant,
    /// Dropped to end it.
    end: Option<oneshot::Sender<()>>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Bounded {
        Bounded { listener, open: Arc::default(), idle: Duration::from_micros(ADMIN_IDLE_US), said: None }
    }

    fn admit(&self, stream: TcpStream) -> Connection {
        let (end, ended) = oneshot::channel();
        let mut open = self.open.lock().expect("nothing panics while it is held");
        if open.len() >= ADMIN_CONNECTIONS_MAX {
            let living = open.iter_mut().filter(|(_, entry)| entry.end.is_some());
            if let Some((_, silent)) = living.min_by_key(|(_, entry)| entry.heard) {
                silent.end = None;
            }
        }
        let key = open.insert(Entry { heard: Instant::now(), end: Some(end) });
        drop(open);
        let silence = Box::pin(sleep_until(Instant::now() + self.idle));
        let (idle, open) = (self.idle, Arc::clone(&self.open));
        Connection {
            stream,
            ended,
            idle,
            silence,
            key,
            open,
            is_overdue: false,
            is_evicted: false,
            is_lingering: false,
        }
    }

    fn say(&mut self, error: &io::Error) {
        let every = Duration::from_micros(SCARCITY_LOG_US);
        if self.said.is_none_or(|said| said.elapsed() >= every) {
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
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    Vital::Admin.at_work();
                    return (self.admit(stream), address);
                }
                Err(error) => {
                    self.say(&error);
                    tokio::time::sleep(Duration::from_micros(ACCEPT_RETRY_US)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Why a connection was ended while it was read from: one more came, and it had been silent for longest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there was one connection too many, and this had been silent for longest")]
pub(super) struct Evicted;

/// A connection that ends where it is silent for too long, or is one too many.
pub(super) struct Connection {
    stream: TcpStream,
    ended: oneshot::Receiver<()>,
    idle: Duration,
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
        let now = Instant::now();
        self.silence.as_mut().reset(now + self.idle);
        self.is_overdue = false;
        self.open.lock().expect("nothing panics while it is held")[self.key].heard = now;
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
        match Pin::new(&mut this.stream).poll_read(cx, into) {
            Poll::Ready(outcome) => {
                this.heard();
                Poll::Ready(outcome)
            }
            Poll::Pending => {
                this.is_evicted = this.is_evicted || Pin::new(&mut this.ended).poll(cx).is_ready();
                if this.is_evicted {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, Evicted)));
                }
                ready!(this.silence.as_mut().poll(cx));
                if !std::mem::replace(&mut this.is_overdue, true) {
                    // A process that was stopped finds the time over before it has looked at what came meanwhile.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
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
            this.silence.as_mut().reset(Instant::now() + Duration::from_micros(LINGER_US));
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
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn bounded() -> (Bounded, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Bounded::new(listener), address)
    }

    /// A hundred connections that said nothing kept every probe and scrape out for as long as they liked.
    #[tokio::test]
    async fn one_too_many_ends_the_one_that_was_silent_for_longest() {
        let (mut bounded, address) = bounded().await;
        let mut held = Vec::new();
        for _ in 0..ADMIN_CONNECTIONS_MAX {
            let caller = TcpStream::connect(address).await.unwrap();
            held.push((bounded.accept().await.0, caller));
        }
        held[0].0.heard();
        let _one_more = (TcpStream::connect(address).await.unwrap(), bounded.accept().await.0);
        let error = held[1].0.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(held.remove(1));
        assert_eq!(bounded.open.lock().unwrap().len(), ADMIN_CONNECTIONS_MAX);
    }

    #[tokio::test]
    async fn silence_ends_a_connection() {
        let (mut bounded, address) = bounded().await;
        bounded.idle = Duration::from_millis(20);
        let _caller = TcpStream::connect(address).await.unwrap();
        let began = Instant::now();
        let error = bounded.accept().await.0.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= bounded.idle);
    }
}
