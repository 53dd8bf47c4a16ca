//! The caller's bytes to the primary, or its requests to the candidate.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use super::conversation::{Answers, Conversation, Ended, Gone, Sent};
use super::{connect, read_into, write};
use crate::cutover::Persistence;
use crate::judge::Failure;
use crate::limits::{HEAD_BYTES_MAX, PIPELINED_MAX, REQUEST_COPY_BYTES_MAX};
use crate::proxy::framing::{Body, Copied, Copy, End, Parsed, RequestHead, request_head};
use crate::proxy::{Phase, draining};
use crate::request::Request;

/// The caller's bytes to the primary.
pub(super) struct Requests<'a> {
    conversation: &'a Conversation<'a>,
    pub from_caller: OwnedReadHalf,
    /// Nothing while there is no connection.
    to_primary: Option<OwnedWriteHalf>,
    /// Where the other half of a new connection goes; nothing once none could be had.
    opened: Option<mpsc::Sender<OwnedReadHalf>>,
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

impl<'a> Requests<'a> {
    /// Of a caller that has not asked anything yet; the other half of each further connection to the primary goes to `opened`.
    pub fn new(
        conversation: &'a Conversation<'a>,
        from_caller: OwnedReadHalf,
        to_primary: Option<OwnedWriteHalf>,
        opened: mpsc::Sender<OwnedReadHalf>,
        phase: watch::Receiver<Phase>,
    ) -> Requests<'a> {
        let buffer = BytesMut::new();
        Requests { conversation, from_caller, to_primary, opened: Some(opened), buffer, phase }
    }

    /// Serves the caller until it ends.
    pub async fn run(&mut self) -> Ended {
        match self.serve().await {
            // The primary may still be answering; its side says when this is over.
            Ok(Read::Closed) => {
                self.conversation.goes(Gone::Caller);
                let Some(primary) =
                    self.to_primary.as_mut().filter(|_| !self.conversation.state().is_primary_gone)
                else {
                    return Ended::Closed;
                };
                let _ = primary.shutdown().await;
                std::future::pending().await
            }
            Ok(_) => {
                self.conversation.until_fewer_than(1).await;
                Ended::Closed
            }
            // It is the caller that has broken off, or the primary's side that takes no more; that one will say so itself.
            Err(Failed::Caller) => {
                self.conversation.goes(Gone::Caller);
                if let Some(primary) = self.to_primary.take() {
                    let _ = primary.as_ref().set_zero_linger();
                    primary.forget();
                }
                Ended::Broken
            }
            Err(Failed::CutShort) => {
                self.conversation.goes(Gone::Caller);
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
                        // Half a request is the primary's to refuse, and nobody's where none is connected.
                        if self.to_primary.is_some() {
                            self.forward(self.buffer.len()).await?;
                        }
                        return Ok(end);
                    }
                },
                Parsed::Partial | Parsed::Garbled => return self.pass_unseen().await,
            };
            self.conversation.until_fewer_than(PIPELINED_MAX).await;
            let (persistence, switches) = (head.persistence, head.switches);
            match self.one(head, length).await {
                Err(Failed::Unfollowed) => return self.pass_unseen().await,
                Err(failed) => return Err(failed),
                Ok(Turn::Served) if persistence == Persistence::Closes => return Ok(Read::Draining),
                Ok(_) if switches => {
                    // Only the primary's answer says whether what comes next is still HTTP.
                    self.conversation.until_fewer_than(1).await;
                    if self.conversation.state().answers == Answers::Lost {
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
        let mut copy = Copy::new(length, REQUEST_COPY_BYTES_MAX, &self.conversation.context.budget);
        let (mut taken, mut ended) = self.follow(&mut body, length, &mut copy)?;
        // A caller that waits for a 100 sends its body only when the primary has spoken.
        let may_be_served = self.conversation.context.cutover.may_serve(&head.method, &head.target)
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
            self.conversation.note(method, sent, failure);
            self.forward(length + taken).await?;
            return Ok(Turn::Forwarded);
        }
        self.need_primary().await?;
        let number = self.conversation.note(method, Sent::Partly, None);
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
        self.conversation.complete(number, copied(head, copy));
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
        let context = &self.conversation.context;
        let request = copied.read();
        if !context.cutover.wants(&request) {
            return Ok(Served::Not(copied, None));
        }
        self.conversation.until_fewer_than(1).await;
        // The other direction does not close the caller's connection meanwhile.
        let mut caller = self.conversation.caller.lock().await;
        // Where the primary's answers are not told apart, nobody knows whether they are over.
        if self.conversation.state().answers == Answers::Lost {
            return Ok(Served::Not(copied, None));
        }
        match context.cutover.serve(&request, persistence).await {
            Ok(served) => {
                self.buffer.advance(length);
                self.conversation.state().is_candidates = true;
                let written = write(&mut caller, &served.bytes, context.timeouts.stall).await;
                context.passed(copied, None, Some(Ok(served.answer)));
                written.map_err(|_| Failed::Caller)?;
                Ok(Served::ByCandidate)
            }
            Err(failure) => Ok(Served::Not(copied, Some(failure))),
        }
    }

    /// Sees to it that there is a connection to the primary: while the candidate answered, there may have been none.
    async fn need_primary(&mut self) -> Result<(), Failed> {
        let has_ended = self.conversation.state().is_candidates
            && self.to_primary.as_ref().is_some_and(|primary| has_ended(primary.as_ref()));
        // The other direction reads its end, and says so.
        while has_ended && !self.conversation.state().is_primary_gone {
            self.conversation.fewer.notified().await;
        }
        if !self.conversation.state().is_primary_gone {
            return Ok(());
        }
        let Some(primary) = connect(&self.conversation.context).await else {
            self.opened = None;
            return Err(Failed::Primary);
        };
        let (from_primary, to_primary) = primary.into_split();
        self.to_primary = Some(to_primary);
        self.conversation.state().is_primary_gone = false;
        match &self.opened {
            Some(opened) => opened.send(from_primary).await.map_err(|_| Failed::Primary),
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
                tokio::time::sleep(self.conversation.context.timeouts.idle).await;
                if self.conversation.state().pending.is_empty() {
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
        tokio::time::timeout(self.conversation.context.timeouts.stall, read)
            .await
            .unwrap_or(Err(Failed::Caller))
    }

    /// From here on requests are not told apart; their answers are counted.
    async fn pass_unseen(&mut self) -> Result<Read, Failed> {
        self.conversation.context.lost();
        self.conversation.state().unseen.get_or_insert(0);
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
