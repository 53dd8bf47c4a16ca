//! Whose bytes are whose: a connection's bytes are handed on to the server one request at a time. A server reads whatever is
//! there, and of half a head behind a whole request nobody would know: its caller was left without a word for as long as one who
//! asks nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;

use axum::body::HttpBody;
use axum::extract::Request;
use axum::extract::connect_info::ConnectInfo;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::watch;

/// What the server has told of a connection's requests, which its bytes alone do not say.
#[derive(Clone, Debug)]
pub(super) struct Talk {
    pub(super) from: SocketAddr,
    names: PeerNames,
    turns: Arc<Turns>,
}

/// Where a request has come from: one of its extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// The names that a peer has proved to be its own, as by a certificate; none where it was not asked, or has proved nothing. One of a
/// request's extensions.
#[derive(Clone, Default, Debug)]
pub struct PeerNames(Arc<OnceLock<(Vec<String>, i64)>>);

impl PeerNames {
    /// It has proved these until then, µs since 1970 UTC; the first that are said hold as long as its connection.
    pub fn prove(&self, names: Vec<String>, until_us: i64) {
        let _ = self.0.set((names, until_us));
    }

    /// Those that it has proved, and until when, µs since 1970 UTC.
    pub fn proved(&self) -> (&[String], i64) {
        self.0.get().map_or((&[], i64::MAX), |(names, until_us)| (names.as_slice(), *until_us))
    }
}

/// Whether a peer has sent all that it will: it has gone, or only waits for its answers. One of a request's extensions, for whoever
/// does what is of no use to anybody else.
#[derive(Clone, Debug)]
pub struct PeerEnd(Arc<Turns>);

impl PeerEnd {
    /// Resolves when it has.
    pub async fn wait(&self) {
        // The sender is held here.
        let _ = self.0.has_ended.subscribe().wait_for(|has_ended| *has_ended).await;
    }
}

#[derive(Default, Debug)]
struct Turns {
    /// Requests whose heads the server has read.
    begun: AtomicU64,
    answered: AtomicU64,
    /// How long the last one's body is.
    body_bytes: AtomicU64,
    /// Of a connection that holds bytes back until the server has come so far.
    waits: Mutex<Option<Waker>>,
    /// The peer has sent all that it will.
    has_ended: watch::Sender<bool>,
}

impl Turns {
    fn note(&self, number: &AtomicU64) {
        number.fetch_add(1, Ordering::Relaxed);
        if let Some(waker) = self.waits.lock().expect("nothing panics while it is held").take() {
            waker.wake();
        }
    }
}

/// A body that comes in chunks: how long it is says its end.
const UNKNOWN: u64 = u64::MAX;

/// What a body in chunks ends with, where no trailers follow.
const LAST_CHUNK: [u8; 5] = *b"0\r\n\r\n";

impl Talk {
    pub(super) fn with(from: SocketAddr, names: PeerNames) -> Talk {
        Talk { from, names, turns: Arc::default() }
    }

    pub(super) fn begun(&self) -> u64 {
        self.turns.begun.load(Ordering::Relaxed)
    }

    /// Wakes the connection with the next head that the server has read, or the next answer.
    pub(super) fn wake(&self, waker: &Waker) {
        *self.turns.waits.lock().expect("nothing panics while it is held") = Some(waker.clone());
    }

    /// The peer has sent all that it will.
    pub(super) fn end(&self) {
        self.turns.has_ended.send_replace(true);
    }

    fn is_answering(&self) -> bool {
        self.begun() > self.turns.answered.load(Ordering::Relaxed)
    }
}

/// A request's head is there, and then its answer.
pub(super) async fn note_turns(
    ConnectInfo(talk): ConnectInfo<Talk>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(PeerAddress(talk.from));
    request.extensions_mut().insert(talk.names.clone());
    request.extensions_mut().insert(PeerEnd(Arc::clone(&talk.turns)));
    let body_bytes = request.body().size_hint().exact().unwrap_or(UNKNOWN);
    talk.turns.body_bytes.store(body_bytes, Ordering::Relaxed);
    talk.turns.note(&talk.turns.begun);
    let mut response = next.run(request).await;
    if body_bytes == UNKNOWN {
        // Where the next request would begin is not known.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    talk.turns.note(&talk.turns.answered);
    response
}

/// What the bytes that come next belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// A request's head.
    Head,
    /// So many bytes at most of the body of the one before.
    Body(u64),
    /// What the server has not asked for yet: a request behind the one that it answers.
    Later,
}

/// What of a connection's bytes was handed on.
#[derive(Default)]
pub(super) struct Handed {
    /// Heads that are whole.
    heads: u64,
    /// Of the body behind the last.
    body_bytes: u64,
    /// The last of it.
    body_end: [u8; LAST_CHUNK.len()],
    /// Of the head of which a part was handed on: there was a line that is not empty, and the last one has bytes.
    has_lines: bool,
    is_in_line: bool,
}

impl Handed {
    /// How many heads were handed on whole.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// What comes next.
    pub(super) fn next(&self, talk: &Talk) -> Part {
        if talk.begun() < self.heads {
            return Part::Later;
        }
        match talk.turns.body_bytes.load(Ordering::Relaxed) {
            UNKNOWN => Part::Body(UNKNOWN),
            bytes if bytes > self.body_bytes => Part::Body(bytes - self.body_bytes),
            _ if talk.is_answering() => Part::Later,
            _ => Part::Head,
        }
    }

    /// Whether a peer that has sent all it will may wait for the answer to a body in chunks. One that breaks off behind such bytes in the
    /// middle of its body is found out by the silence.
    pub(super) fn is_owed(&self, part: Part, talk: &Talk) -> bool {
        part == Part::Body(UNKNOWN) && self.body_end == LAST_CHUNK && talk.is_answering()
    }

    /// How many of `bytes`, which are all that is there, may be handed on now; these count as handed on.
    pub(super) fn take(&mut self, part: Part, bytes: &[u8]) -> usize {
        match part {
            Part::Later => 0,
            Part::Body(most) => {
                let taken = bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                self.body_bytes = self.body_bytes.saturating_add(taken as u64);
                for &byte in &bytes[taken.saturating_sub(LAST_CHUNK.len())..taken] {
                    self.body_end.rotate_left(1);
                    self.body_end[LAST_CHUNK.len() - 1] = byte;
                }
                taken
            }
            Part::Head => self.take_head(bytes),
        }
    }

    /// To the empty line, which ends a head. Empty lines before it are none of it (RFC 9112, section 2.2).
    fn take_head(&mut self, bytes: &[u8]) -> usize {
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' if self.has_lines && !self.is_in_line => {
                    *self = Handed { heads: self.heads + 1, ..Handed::default() };
                    return at + 1;
                }
                b'\n' => self.is_in_line = false,
                b'\r' => {}
                _ => (self.has_lines, self.is_in_line) = (true, true),
            }
        }
        bytes.len()
    }
}
