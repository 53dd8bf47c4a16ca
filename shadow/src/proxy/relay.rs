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
//! What closes on one side closes on the other, and what breaks on one breaks on the other. A caller sees no more of this than one
//! hop. Only where the candidate has answered last, the primary's connection may end by itself: it has been idle and the caller
//! has not, so another one is opened when it is needed.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, watch};

use super::framing::{Body, Copied, Copy, End, Parsed, RequestHead, request_head};
use super::tap::{Passed, Seen, Tap};
use super::{Behind, Phase, draining};
use crate::answer::{Answer, Form, Moment};
use crate::clock::now_us;
use crate::cutover::Persistence;
use crate::judge::{Failure, Reason};
use crate::limits::{
    CALLER_IDLE, CALLER_STALL, HEAD_BYTES_MAX, KEEPALIVE, PIPELINED_MAX, READ_BYTES, REQUEST_COPY_BYTES_MAX,
};
use crate::request::Request;

/// How long a caller that still sends may do so once the primary has closed: closing at once could take the last answer
/// from it.
const LINGER: Duration = Duration::from_millis(500);

/// A request that has gone to the primary, and whose answer has not come.
struct Pending {
    method: Method,
    asked_us: i64,
    sent: Sent,
    /// Why the candidate, whose turn it was, has not answered it.
    failure: Option<Failure>,
}

/// How much of a request is known.
enum Sent {
    /// All of it. What it means is looked for once its answer has passed.
    Whole(Copied),
    /// Its body is still passing.
    Partly,
    /// There is no copy of its body.
    NotCopied(Request, Reason),
}

/// How a direction ended.
enum Ended {
    /// In order.
    Closed,
    /// It broke: the other side is to see that too.
    Broken,
}

/// What both directions share. Dropped with the connection, and then sees to what is unanswered.
struct Shared<'a> {
    behind: Arc<Behind>,
    state: Mutex<State>,
    fewer: Notify,
    caller: &'a tokio::sync::Mutex<OwnedWriteHalf>,
}

struct State {
    pending: VecDeque<Pending>,
    /// Requests that have been noted so far: the number of the last.
    noted: u64,
    answers: Answers,
    /// Requests pass that are not told apart, and so many of their answers have been seen.
    unseen: Option<u64>,
    /// The candidate has answered the last request: the primary has been idle since.
    is_candidates: bool,
    /// The primary's connection has ended meanwhile.
    is_primary_gone: bool,
    first_to_go: Option<Gone>,
}

/// Whether answers are told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    Followed,
    /// One had no end that can be told: from there on they only pass.
    Lost,
}

/// Who has closed or broken off first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gone {
    Caller,
    Primary,
}

/// Serves one caller until either side ends, or the proxy drains.
pub async fn relay(behind: Arc<Behind>, caller: TcpStream, phase: watch::Receiver<Phase>) {
    let primary =
        match tokio::time::timeout(behind.connect_timeout, TcpStream::connect(&*behind.primary)).await {
            Ok(Ok(primary)) => primary,
            // Without a proxy the caller would not have been connected either.
            Ok(Err(_)) | Err(_) => {
                behind.evidence.not_mirrored("the primary could not be reached");
                let _ = caller.set_zero_linger();
                return;
            }
        };
    prepare(&caller);
    prepare(&primary);
    let (from_caller, to_caller) = caller.into_split();
    let (from_primary, to_primary) = primary.into_split();
    let caller = tokio::sync::Mutex::new(to_caller);
    let ended = converse(behind, &caller, (from_caller, to_primary), from_primary, phase).await;
    if matches!(ended, Ended::Broken) {
        let caller = caller.into_inner();
        let _ = caller.as_ref().set_zero_linger();
        // Closed without a farewell: what broke must not look like an end.
        caller.forget();
    }
}

/// Sees both directions through until either ends for good.
async fn converse(
    behind: Arc<Behind>,
    caller: &tokio::sync::Mutex<OwnedWriteHalf>,
    (from_caller, to_primary): (OwnedReadHalf, OwnedWriteHalf),
    from_primary: OwnedReadHalf,
    phase: watch::Receiver<Phase>,
) -> Ended {
    let shared = Shared {
        behind,
        state: Mutex::new(State {
            pending: VecDeque::new(),
            noted: 0,
            answers: Answers::Followed,
            unseen: None,
            is_candidates: false,
            is_primary_gone: false,
            first_to_go: None,
        }),
        fewer: Notify::new(),
        caller,
    };
    let (again, opened_again) = mpsc::channel(1);
    let to_primary = Some(to_primary);
    let mut requests = Requests {
        shared: &shared,
        from_caller,
        to_primary,
        again: Some(again),
        buffer: BytesMut::new(),
        phase,
    };
    tokio::select! {
        ended = requests.run() => ended,
        ended = answers(&shared, from_primary, opened_again) => {
            shared.goes(Gone::Primary);
            if matches!(ended, Ended::Closed) {
                let _ = shared.caller.lock().await.shutdown().await;
                let _ = tokio::time::timeout(LINGER, discard(&mut requests.from_caller)).await;
            }
            ended
        }
    }
}

/// Small answers go out at once, and a peer that has vanished is noticed.
fn prepare(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEPALIVE);
}

/// Writes all of it, unless the caller takes nothing for too long.
async fn write(caller: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    let stalled = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(CALLER_STALL, caller.write_all(bytes)).await.map_err(stalled)?
}

async fn discard(from: &mut OwnedReadHalf) {
    let mut buffer = vec![0; READ_BYTES];
    while from.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
}

impl Shared<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody has closed or broken off.
    fn goes(&self, who: Gone) {
        self.state().first_to_go.get_or_insert(who);
    }

    /// Notes a request before its bytes go on, and returns its number.
    fn note(&self, method: Method, sent: Sent, failure: Option<Failure>) -> u64 {
        let mut state = self.state();
        state.is_candidates = false;
        state.noted += 1;
        let number = state.noted;
        match state.answers {
            Answers::Followed => {
                state.pending.push_back(Pending { method, asked_us: now_us(), sent, failure })
            }
            Answers::Lost => {
                drop(state);
                self.unseen(sent);
            }
        }
        number
    }

    /// Fills in a request whose body has passed, unless it has been answered already.
    fn complete(&self, number: u64, sent: Sent) {
        let mut state = self.state();
        let from_end =
            usize::try_from(state.noted - number).expect("a connection has fewer requests than memory");
        if let Some(at) = state.pending.len().checked_sub(from_end + 1) {
            state.pending[at].sent = sent;
        }
    }

    /// Waits until fewer than `most` requests are unanswered.
    async fn until_fewer_than(&self, most: usize) {
        while self.state().pending.len() >= most {
            self.fewer.notified().await;
        }
    }

    /// The oldest unanswered request has been answered.
    fn answered(&self, passed: Passed) {
        let pending = self.state().pending.pop_front();
        self.fewer.notify_one();
        let Some(pending) = pending else {
            // The first of them was counted when they began to pass.
            let seen = self.state().unseen.as_mut().map(|seen| std::mem::replace(seen, *seen + 1));
            if seen.is_some_and(|seen| seen > 0) {
                self.behind.lost();
            }
            return;
        };
        let at = Moment { asked_us: pending.asked_us, answered_us: now_us() };
        match pending.sent {
            Sent::Whole(copied) => {
                let Passed { status, stated, body } = passed;
                let answer = body.map(|(body, held)| {
                    (Answer { status, form: Form::Http, stated, body, packed: None, at }, held)
                });
                self.behind.answered(copied, answer, pending.failure);
            }
            Sent::NotCopied(request, reason) => self.behind.dropped(&request, reason),
            Sent::Partly => self.behind.lost(),
        }
    }

    /// Tells the answers in what has passed apart.
    fn follow(&self, tap: &mut Tap, mut rest: &[u8]) {
        while !rest.is_empty() {
            let method = {
                let state = self.state();
                let method = state.pending.front().map(|pending| pending.method.clone());
                // Of requests that were not told apart, at least the answers are counted.
                method.or_else(|| {
                    state.unseen.filter(|_| state.answers == Answers::Followed).map(|_| Method::GET)
                })
            };
            // Bytes that answer nothing (a 408 before the connection is closed) only pass.
            let Some(method) = method else { break };
            match tap.follow(rest, &method) {
                Seen::Part => break,
                Seen::Lost => return self.lose_answers(),
                Seen::Whole(passed, taken) => {
                    self.answered(passed);
                    rest = &rest[taken..];
                }
            }
        }
    }

    /// Answers cannot be told apart any more: nobody waits for one from here on.
    fn lose_answers(&self) {
        let pending = {
            let mut state = self.state();
            state.answers = Answers::Lost;
            std::mem::take(&mut state.pending)
        };
        self.fewer.notify_one();
        for pending in pending {
            self.unseen(pending.sent);
        }
    }

    /// A request's answer passes, and nobody can tell which it is.
    fn unseen(&self, sent: Sent) {
        match sent {
            Sent::Whole(copied) => self.behind.dropped(&copied.read(), Reason::Unparsed),
            Sent::NotCopied(request, reason) => self.behind.dropped(&request, reason),
            Sent::Partly => self.behind.lost(),
        }
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let first_to_go = self.state().first_to_go;
        let pending = std::mem::take(&mut self.state().pending);
        for pending in pending {
            match (pending.sent, first_to_go) {
                (Sent::Whole(copied), Some(Gone::Caller)) => self.behind.caller_gone(copied),
                (Sent::Whole(copied), Some(Gone::Primary)) => self.behind.cut(&copied.read()),
                // The run has ended first.
                (Sent::Whole(copied), None) => self.behind.dropped(&copied.read(), Reason::RunEnded),
                (Sent::NotCopied(request, reason), _) => self.behind.dropped(&request, reason),
                // There never was a whole request.
                (Sent::Partly, Some(Gone::Caller)) => {
                    self.behind.evidence.not_mirrored("the caller broke off its request");
                }
                (Sent::Partly, _) => self.behind.lost(),
            }
        }
    }
}

/// The primary's bytes to the caller, over as many connections as it takes.
async fn answers(
    shared: &Shared<'_>,
    mut from_primary: OwnedReadHalf,
    mut opened_again: mpsc::Receiver<OwnedReadHalf>,
) -> Ended {
    loop {
        let ended = answers_of(shared, from_primary).await;
        {
            let mut state = shared.state();
            let is_needed = !state.is_candidates
                || !state.pending.is_empty()
                || state.answers == Answers::Lost
                || state.first_to_go.is_some();
            if is_needed {
                return ended;
            }
            state.is_primary_gone = true;
        }
        shared.fewer.notify_one();
        from_primary = match opened_again.recv().await {
            Some(opened) => opened,
            None => return Ended::Broken,
        };
    }
}

/// The bytes of one connection. Between two answers nothing is held for them.
async fn answers_of(shared: &Shared<'_>, from_primary: OwnedReadHalf) -> Ended {
    let mut tap = Tap::new(shared.behind.budget.clone());
    let mut buffer = BytesMut::new();
    loop {
        buffer.clear();
        match read_into(&from_primary, &mut buffer).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return Ended::Broken,
        }
        if write(&mut *shared.caller.lock().await, &buffer).await.is_err() {
            shared.goes(Gone::Caller);
            return Ended::Broken;
        }
        shared.follow(&mut tap, &buffer);
    }
    if let Some(passed) = tap.end() {
        shared.answered(passed);
    }
    // The candidate may be answering this caller at the moment: that comes first.
    drop(shared.caller.lock().await);
    Ended::Closed
}

/// Reads once there is something; a buffer that is empty takes no memory until then.
async fn read_into(from: &OwnedReadHalf, buffer: &mut BytesMut) -> io::Result<usize> {
    loop {
        from.readable().await?;
        buffer.reserve(READ_BYTES);
        match from.try_read_buf(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if buffer.is_empty() {
                    *buffer = BytesMut::new();
                }
            }
            read => return read,
        }
    }
}

/// The caller's bytes to the primary.
struct Requests<'a> {
    shared: &'a Shared<'a>,
    from_caller: OwnedReadHalf,
    /// Nothing while there is no connection.
    to_primary: Option<OwnedWriteHalf>,
    /// Where the other half of a new connection goes; nothing once none could be had.
    again: Option<mpsc::Sender<OwnedReadHalf>>,
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
                self.shared.goes(Gone::Caller);
                let Some(primary) = self.to_primary.as_mut().filter(|_| !self.shared.state().is_primary_gone)
                else {
                    return Ended::Closed;
                };
                let _ = primary.shutdown().await;
                std::future::pending().await
            }
            Ok(_) => {
                self.shared.until_fewer_than(1).await;
                Ended::Closed
            }
            // It is the caller that has broken off, or the primary's side that takes no more; that one will say so itself.
            Err(Failed::Caller) => {
                self.shared.goes(Gone::Caller);
                if let Some(primary) = self.to_primary.take() {
                    let _ = primary.as_ref().set_zero_linger();
                    primary.forget();
                }
                Ended::Broken
            }
            Err(Failed::CutShort) => {
                self.shared.goes(Gone::Caller);
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
            let (persistence, switches) = (head.persistence, head.switches);
            match self.one(head, length).await {
                Err(Failed::Unfollowed) => return self.pass_unseen().await,
                Err(failed) => return Err(failed),
                Ok(Turn::Served) if persistence == Persistence::Closes => return Ok(Read::Draining),
                Ok(_) if switches => {
                    // Only the primary's answer says whether what comes next is still HTTP.
                    self.shared.until_fewer_than(1).await;
                    if self.shared.state().answers == Answers::Lost {
                        return self.pass().await;
                    }
                }
                Ok(_) => {}
            }
        }
    }

    /// One request: noted, and sent on with its body; or answered by the candidate.
    async fn one(&mut self, head: RequestHead, length: usize) -> Result<Turn, Failed> {
        let mut body = head.body;
        let mut copy = Copy::new(length, REQUEST_COPY_BYTES_MAX, &self.shared.behind.budget);
        let (mut taken, mut ended) = self.follow(&mut body, length, &mut copy)?;
        // A caller that waits for a 100 sends its body only when the primary has spoken.
        let may_be_served = self.shared.behind.cutover.may_serve(&head.method, &head.target)
            && !head.headers.contains_key(http::header::EXPECT)
            && !head.switches;
        while may_be_served && ended == End::NotYet && taken < REQUEST_COPY_BYTES_MAX {
            if !matches!(self.fill().await?, Read::Some) {
                return Err(Failed::CutShort);
            }
            let (more, end) = self.follow(&mut body, length + taken, &mut copy)?;
            (taken, ended) = (taken + more, end);
        }
        let method = head.method.clone();
        if ended == End::Here {
            let persistence = head.persistence;
            let mut failure = None;
            let sent = match copied(head, copy) {
                Sent::Whole(copied) if may_be_served => {
                    match self.serve_by_candidate(copied, length + taken, persistence).await? {
                        Served::ByCandidate => return Ok(Turn::Served),
                        Served::Not(copied, why) => {
                            failure = why;
                            Sent::Whole(copied)
                        }
                    }
                }
                sent => sent,
            };
            self.need_primary().await?;
            self.shared.note(method, sent, failure);
            self.forward(length + taken).await?;
            return Ok(Turn::Forwarded);
        }
        self.need_primary().await?;
        let number = self.shared.note(method, Sent::Partly, None);
        self.forward(length + taken).await?;
        while ended == End::NotYet {
            if !matches!(self.fill().await?, Read::Some) {
                return Err(Failed::CutShort);
            }
            (taken, ended) = self.follow(&mut body, 0, &mut copy)?;
            if ended == End::Here {
                break;
            }
            self.forward(taken).await?;
        }
        // Noted as whole before its last bytes go on, for the answer may come at once.
        self.shared.complete(number, copied(head, copy));
        self.forward(taken).await?;
        Ok(Turn::Forwarded)
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
    async fn serve_by_candidate(
        &mut self,
        copied: Copied,
        length: usize,
        persistence: Persistence,
    ) -> Result<Served, Failed> {
        let behind = &self.shared.behind;
        let request = copied.read();
        if !behind.cutover.wants(&request) {
            return Ok(Served::Not(copied, None));
        }
        self.shared.until_fewer_than(1).await;
        // The other direction does not close the caller's connection meanwhile.
        let mut caller = self.shared.caller.lock().await;
        // Where the primary's answers are not told apart, nobody knows whether they are over.
        if self.shared.state().answers == Answers::Lost {
            return Ok(Served::Not(copied, None));
        }
        match behind.cutover.serve(&request, persistence).await {
            Ok(served) => {
                self.buffer.advance(length);
                self.shared.state().is_candidates = true;
                let written = write(&mut caller, &served.bytes).await;
                behind.served(copied, served.answer);
                written.map_err(|_| Failed::Caller)?;
                Ok(Served::ByCandidate)
            }
            Err(failure) => Ok(Served::Not(copied, Some(failure))),
        }
    }

    /// Sees to it that there is a connection to the primary: while the candidate answered, it may have ended.
    async fn need_primary(&mut self) -> Result<(), Failed> {
        let has_ended = self.shared.state().is_candidates
            && self.to_primary.as_ref().is_some_and(|primary| has_ended(primary.as_ref()));
        // The other direction reads its end, and says so.
        while has_ended && !self.shared.state().is_primary_gone {
            self.shared.fewer.notified().await;
        }
        if !self.shared.state().is_primary_gone {
            return Ok(());
        }
        let behind = &self.shared.behind;
        let connect = TcpStream::connect(&*behind.primary);
        let Ok(Ok(primary)) = tokio::time::timeout(behind.connect_timeout, connect).await else {
            behind.evidence.not_mirrored("the primary could not be reached");
            self.again = None;
            return Err(Failed::Primary);
        };
        prepare(&primary);
        let (from_primary, to_primary) = primary.into_split();
        self.to_primary = Some(to_primary);
        self.shared.state().is_primary_gone = false;
        match &self.again {
            Some(again) => again.send(from_primary).await.map_err(|_| Failed::Primary),
            None => Err(Failed::Primary),
        }
    }

    /// Sends the first bytes of what has been read.
    async fn forward(&mut self, length: usize) -> Result<(), Failed> {
        let primary = self.to_primary.as_mut().ok_or(Failed::Primary)?;
        let sent = primary.write_all(&self.buffer[..length]).await;
        self.buffer.advance(length);
        sent.map_err(|_| Failed::Primary)
    }

    /// Reads more, between two requests: neither a proxy that drains nor one that has waited for long waits for another.
    async fn read(&mut self) -> Result<Read, Failed> {
        if !self.buffer.is_empty() {
            return self.fill().await;
        }
        let until_idle = async {
            loop {
                tokio::time::sleep(CALLER_IDLE).await;
                if self.shared.state().pending.is_empty() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = draining(&mut self.phase) => Ok(Read::Draining),
            read = fill(&mut self.from_caller, &mut self.buffer) => read,
            () = until_idle => Ok(Read::Draining),
        }
    }

    /// Reads more of a request, which may not take for ever to come.
    async fn fill(&mut self) -> Result<Read, Failed> {
        let read = fill(&mut self.from_caller, &mut self.buffer);
        tokio::time::timeout(CALLER_STALL, read).await.unwrap_or(Err(Failed::Caller))
    }

    /// From here on requests are not told apart; their answers are counted.
    async fn pass_unseen(&mut self) -> Result<Read, Failed> {
        self.shared.behind.lost();
        self.shared.state().unseen.get_or_insert(0);
        self.pass().await
    }

    /// From here on bytes only pass, for as long as there is anybody.
    async fn pass(&mut self) -> Result<Read, Failed> {
        self.need_primary().await?;
        loop {
            self.forward(self.buffer.len()).await?;
            tokio::select! {
                biased;
                () = draining(&mut self.phase) => return Ok(Read::Draining),
                read = fill(&mut self.from_caller, &mut self.buffer) => match read? {
                    Read::Some => {}
                    end => return Ok(end),
                },
            }
        }
    }
}

async fn fill(from: &mut OwnedReadHalf, buffer: &mut BytesMut) -> Result<Read, Failed> {
    match read_into(from, buffer).await {
        Ok(0) => Ok(Read::Closed),
        Ok(_) => Ok(Read::Some),
        Err(_) => Err(Failed::Caller),
    }
}

/// Whether the peer has closed or broken off, and nothing that it sent before is still to be read.
fn has_ended(stream: &TcpStream) -> bool {
    use rustix::net::{RecvFlags, recv};
    match recv(stream, &mut [0u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((count, _)) => count == 0,
        Err(error) => error != rustix::io::Errno::AGAIN,
    }
}

/// Why a direction cannot go on as it was.
enum Failed {
    /// The caller has broken off.
    Caller,
    /// The caller has closed in the midst of a request.
    CutShort,
    /// The primary takes no more.
    Primary,
    /// What the caller sends has no end that can be told.
    Unfollowed,
}

/// What has become of a request.
enum Turn {
    /// The candidate has answered it.
    Served,
    /// It has gone to the primary.
    Forwarded,
}

/// Whether the candidate has answered.
enum Served {
    ByCandidate,
    /// The primary has to; perhaps because the candidate could not.
    Not(Copied, Option<Failure>),
}

/// A request whose body has passed.
fn copied(head: RequestHead, copy: Copy) -> Sent {
    match copy.finish() {
        Ok(copy) => Sent::Whole(Copied::new(head, copy)),
        Err(reason) => {
            Sent::NotCopied(Request::new(head.method, head.target, head.headers, Bytes::new()), reason)
        }
    }
}
