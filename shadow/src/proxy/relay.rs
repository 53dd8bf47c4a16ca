//! One caller's connection, and the connection to the primary that belongs to it. Bytes pass as they come, both ways;
//! what they mean is followed beside them.
//!
//! ```text
//!     caller ──▶ requests ──────────────▶ primary        each request is noted before its bytes go on,
//!            ◀── answers ◀───────────────                each answer is written before it is looked at
//!                   │ request and answer, copied
//!                   ▼
//!                mirror (never waits)
//! ```
//!
//! What closes on one side closes on the other; what breaks on the primary's side breaks on the caller's. A caller sees
//! no more of this than one hop.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, watch};

use super::framing::{Body, Copy, End, Parsed, RequestHead, request_head};
use super::tap::{Passed, Seen, Tap};
use super::{Behind, Phase, draining};
use crate::answer::{Answer, Form, Moment, Stated};
use crate::clock::now_us;
use crate::judge::Failure;
use crate::limits::{HEAD_BYTES_MAX, PIPELINED_MAX, READ_BYTES, REQUEST_COPY_BYTES_MAX};
use crate::request::Request;

/// How long a caller that still sends may do so once the primary has closed: closing at once could take the last answer
/// from it.
const LINGER: Duration = Duration::from_millis(500);

/// A request that has gone to the primary, and whose answer has not come.
struct Pending {
    method: Method,
    asked_us: i64,
    request: Sent,
    /// Why the candidate, whose turn it was, has not answered it.
    failure: Option<Failure>,
}

/// How much of a request is known.
enum Sent {
    /// All of it.
    Whole(Request),
    /// Its body is still passing.
    Partly,
    /// Its body was too long to be copied: the head.
    TooLong(Request),
}

/// How a direction ended.
enum Ended {
    /// In order.
    Closed,
    /// It broke: the other side is to see that too.
    Broken,
}

/// What both directions share.
struct Shared {
    behind: Arc<Behind>,
    pending: Mutex<VecDeque<Pending>>,
    /// Requests that have been noted so far: the number of the next.
    noted: Mutex<u64>,
    fewer: Notify,
    caller: tokio::sync::Mutex<OwnedWriteHalf>,
    caller_closed: Mutex<CallerState>,
}

/// Whether the caller may still send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CallerState {
    Sends,
    HasClosed,
}

/// Serves one caller until either side ends, or the proxy drains.
pub async fn relay(behind: Arc<Behind>, caller: TcpStream, phase: watch::Receiver<Phase>) {
    let primary =
        match tokio::time::timeout(behind.connect_timeout, TcpStream::connect(&*behind.primary)).await {
            Ok(Ok(primary)) => primary,
            // Without a proxy the caller would not have been connected either.
            Ok(Err(_)) | Err(_) => {
                let _ = caller.set_zero_linger();
                return;
            }
        };
    let _ = (caller.set_nodelay(true), primary.set_nodelay(true));
    let (from_caller, to_caller) = caller.into_split();
    let (from_primary, to_primary) = primary.into_split();
    let shared = Shared {
        behind,
        pending: Mutex::default(),
        noted: Mutex::default(),
        fewer: Notify::new(),
        caller: tokio::sync::Mutex::new(to_caller),
        caller_closed: Mutex::new(CallerState::Sends),
    };
    let mut requests = Requests { shared: &shared, from_caller, to_primary, buffer: BytesMut::new(), phase };
    let ended = tokio::select! {
        ended = requests.run() => ended,
        ended = answers(&shared, from_primary) => {
            if matches!(ended, Ended::Closed) {
                let _ = shared.caller.lock().await.shutdown().await;
                let _ = tokio::time::timeout(LINGER, discard(&mut requests.from_caller)).await;
            }
            ended
        }
    };
    if matches!(ended, Ended::Broken) {
        let _ = shared.caller.lock().await.as_ref().set_zero_linger();
    }
    shared.give_up();
}

async fn discard(from: &mut OwnedReadHalf) {
    let mut buffer = vec![0; READ_BYTES];
    while from.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, VecDeque<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn caller_state(&self) -> MutexGuard<'_, CallerState> {
        self.caller_closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request before its bytes go on, and returns its number.
    fn note(&self, method: Method, request: Sent, failure: Option<Failure>) -> u64 {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        *noted += 1;
        self.pending().push_back(Pending { method, asked_us: now_us(), request, failure });
        *noted
    }

    /// Fills in a request whose body has passed, unless it has been answered already.
    fn complete(&self, number: u64, request: Sent) {
        let noted = *self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pending = self.pending();
        let from_end = usize::try_from(noted - number).expect("a connection has fewer requests than memory");
        if let Some(at) = pending.len().checked_sub(from_end + 1) {
            pending[at].request = request;
        }
    }

    /// Waits until fewer than `most` requests are unanswered.
    async fn until_fewer_than(&self, most: usize) {
        while self.pending().len() >= most {
            self.fewer.notified().await;
        }
    }

    /// The oldest unanswered request has been answered.
    fn answered(&self, passed: Passed) {
        let pending = self.pending().pop_front();
        self.fewer.notify_one();
        let Some(pending) = pending else { return };
        let at = Moment { asked_us: pending.asked_us, answered_us: now_us() };
        match pending.request {
            Sent::Whole(request) => {
                let answer = passed.body.map(|body| Answer {
                    status: passed.status,
                    form: Form::Http,
                    stated: Stated::of(&passed.headers),
                    body,
                    decoded: None,
                    at,
                });
                self.behind.answered(request, answer, pending.failure);
            }
            Sent::TooLong(request) => self.behind.answered(request, None, None),
            Sent::Partly => self.behind.lost(),
        }
    }

    /// The connection is over: what is unanswered stays so.
    fn give_up(&self) {
        let is_callers_doing = *self.caller_state() == CallerState::HasClosed;
        for pending in self.pending().drain(..) {
            match pending.request {
                _ if is_callers_doing => self.behind.caller_gone(),
                Sent::Whole(request) | Sent::TooLong(request) => self.behind.cut(&request),
                Sent::Partly => self.behind.lost(),
            }
        }
    }
}

/// The primary's bytes to the caller.
async fn answers(shared: &Shared, mut from_primary: OwnedReadHalf) -> Ended {
    let mut tap = Tap::new();
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        buffer.clear();
        buffer.reserve(READ_BYTES);
        match from_primary.read_buf(&mut buffer).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return Ended::Broken,
        }
        if shared.caller.lock().await.write_all(&buffer).await.is_err() {
            *shared.caller_state() = CallerState::HasClosed;
            return Ended::Closed;
        }
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            // Bytes that answer nothing (a 408 before the connection is closed) only pass.
            let Some(method) = shared.pending().front().map(|pending| pending.method.clone()) else { break };
            match tap.follow(rest, &method) {
                Seen::Part | Seen::Lost => break,
                Seen::Whole(passed, taken) => {
                    shared.answered(passed);
                    rest = &rest[taken..];
                }
            }
        }
    }
    if let Some(passed) = tap.end() {
        shared.answered(passed);
    }
    Ended::Closed
}

/// The caller's bytes to the primary.
struct Requests<'a> {
    shared: &'a Shared,
    from_caller: OwnedReadHalf,
    to_primary: OwnedWriteHalf,
    /// What has been read and has not gone on.
    buffer: BytesMut,
    phase: watch::Receiver<Phase>,
}

/// What came of waiting for bytes.
enum Read {
    Some,
    Closed,
    Draining,
}

impl Requests<'_> {
    async fn run(&mut self) -> Ended {
        match self.serve().await {
            // The primary may still be answering; its side says when this is over.
            Ok(Read::Closed) => {
                *self.shared.caller_state() = CallerState::HasClosed;
                let _ = self.to_primary.shutdown().await;
                std::future::pending().await
            }
            Ok(_) => {
                self.shared.until_fewer_than(1).await;
                Ended::Closed
            }
            // It is the caller that has broken off, or the primary's side that takes no more; that one will say so itself.
            Err(Failed::Caller) => {
                *self.shared.caller_state() = CallerState::HasClosed;
                Ended::Broken
            }
            Err(Failed::Primary | Failed::Unfollowed) => std::future::pending().await,
        }
    }

    async fn serve(&mut self) -> Result<Read, Failed> {
        loop {
            let (head, length) = match request_head(&self.buffer) {
                Parsed::Head(head, length) => (head, length),
                Parsed::Partial if self.buffer.len() < HEAD_BYTES_MAX => match self.read().await? {
                    Read::Some => continue,
                    end => {
                        self.forward(self.buffer.len()).await?;
                        return Ok(end);
                    }
                },
                Parsed::Partial | Parsed::Garbled => return self.pass_unseen().await,
            };
            self.shared.until_fewer_than(PIPELINED_MAX).await;
            if head.switches {
                return self.pass_unseen().await;
            }
            match self.one(head, length).await {
                Err(Failed::Unfollowed) => return self.pass_unseen().await,
                done => done?,
            }
        }
    }

    /// One request: noted, and sent on with its body.
    async fn one(&mut self, head: RequestHead, length: usize) -> Result<(), Failed> {
        let mut body = head.body;
        let mut copy = Copy::new(REQUEST_COPY_BYTES_MAX);
        let (mut taken, mut ended) = self.follow(&mut body, length, &mut copy)?;
        let may_be_served =
            head.keeps_alive && self.shared.behind.cutover.may_serve(&head.method, &head.target);
        // A caller that waits for a 100 sends its body only when the primary has spoken.
        let waits = head.headers.contains_key(http::header::EXPECT);
        while may_be_served && !waits && ended == End::NotYet && taken < REQUEST_COPY_BYTES_MAX {
            if !matches!(self.fill().await?, Read::Some) {
                return Err(Failed::Caller);
            }
            let (more, end) = self.follow(&mut body, length + taken, &mut copy)?;
            (taken, ended) = (taken + more, end);
        }
        let method = head.method.clone();
        if ended == End::Here {
            let request = whole(head, copy);
            let turn = match &request {
                Sent::Whole(request) if may_be_served => {
                    self.serve_by_candidate(request, length + taken).await?
                }
                _ => Turn::Primary(None),
            };
            let Turn::Primary(failure) = turn else { return Ok(()) };
            self.shared.note(method, request, failure);
            return self.forward(length + taken).await;
        }
        let number = self.shared.note(method, Sent::Partly, None);
        self.forward(length + taken).await?;
        while ended == End::NotYet {
            if !matches!(self.fill().await?, Read::Some) {
                return Err(Failed::Caller);
            }
            (taken, ended) = self.follow(&mut body, 0, &mut copy)?;
            if ended == End::Here {
                break;
            }
            self.forward(taken).await?;
        }
        // Noted as whole before its last bytes go on, for the answer may come at once.
        self.shared.complete(number, whole(head, copy));
        self.forward(taken).await
    }

    /// Follows the body in what has been read, from `at` on.
    fn follow(&self, body: &mut Body, at: usize, copy: &mut Copy) -> Result<(usize, End), Failed> {
        if *body == Body::Length(0) {
            return Ok((0, End::Here));
        }
        // A body that cannot be followed is one that the primary refuses as well; it is told all the same.
        body.follow(&self.buffer[at..], copy).map_err(|_| Failed::Unfollowed)
    }

    /// Lets the candidate answer, if it is its turn and it can. In order: after all that was asked before.
    async fn serve_by_candidate(&mut self, request: &Request, length: usize) -> Result<Turn, Failed> {
        let behind = &self.shared.behind;
        if !behind.cutover.wants(request) {
            return Ok(Turn::Primary(None));
        }
        self.shared.until_fewer_than(1).await;
        // The other direction cannot close the caller's connection meanwhile.
        let mut caller = self.shared.caller.lock().await;
        match behind.cutover.serve(request).await {
            Ok(served) => {
                self.buffer.advance(length);
                let written = caller.write_all(&served.bytes).await;
                behind.served(request.clone(), served.answer);
                written.map_err(|_| Failed::Caller)?;
                Ok(Turn::Served)
            }
            Err(failure) => Ok(Turn::Primary(Some(failure))),
        }
    }

    /// Sends the first bytes of what has been read.
    async fn forward(&mut self, length: usize) -> Result<(), Failed> {
        let sent = self.to_primary.write_all(&self.buffer[..length]).await;
        self.buffer.advance(length);
        sent.map_err(|_| Failed::Primary)
    }

    /// Reads more, between two requests: a proxy that drains does not wait for another.
    async fn read(&mut self) -> Result<Read, Failed> {
        if !self.buffer.is_empty() {
            return self.fill().await;
        }
        tokio::select! {
            biased;
            () = draining(&mut self.phase) => Ok(Read::Draining),
            read = fill(&mut self.from_caller, &mut self.buffer) => read,
        }
    }

    async fn fill(&mut self) -> Result<Read, Failed> {
        fill(&mut self.from_caller, &mut self.buffer).await
    }

    /// From here on bytes only pass.
    async fn pass_unseen(&mut self) -> Result<Read, Failed> {
        self.shared.behind.lost();
        loop {
            self.forward(self.buffer.len()).await?;
            match self.read().await? {
                Read::Some => {}
                end => return Ok(end),
            }
        }
    }
}

async fn fill(from: &mut OwnedReadHalf, buffer: &mut BytesMut) -> Result<Read, Failed> {
    buffer.reserve(READ_BYTES);
    let read: io::Result<usize> = from.read_buf(buffer).await;
    match read {
        Ok(0) => Ok(Read::Closed),
        Ok(_) => Ok(Read::Some),
        Err(_) => Err(Failed::Caller),
    }
}

/// Why a direction cannot go on as it was.
enum Failed {
    /// The caller has broken off.
    Caller,
    /// The primary takes no more.
    Primary,
    /// What the caller sends has no end that can be told.
    Unfollowed,
}

/// Who answers a request.
enum Turn {
    /// The candidate has.
    Served,
    /// The primary does; perhaps because the candidate could not.
    Primary(Option<Failure>),
}

/// A request whose body has passed.
fn whole(head: RequestHead, copy: Copy) -> Sent {
    let headers = Arc::new(head.headers);
    match copy.finish() {
        Some(body) => Sent::Whole(Request::new(head.method, head.target, headers, Bytes::from(body))),
        None => Sent::TooLong(Request::new(head.method, head.target, headers, Bytes::new())),
    }
}
