//! What both directions of a caller's connection share: which requests are unanswered, and who has gone first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use crate::answer::{Answer, Form, Moment};
use crate::clock::now_us;
use crate::judge::{Failure, Reason};
use crate::proxy::ProxyContext;
use crate::proxy::framing::Copied;
use crate::proxy::reader::{AnswerReader, Passed, Seen};
use crate::request::Request;

/// A request that has gone to the primary, and whose answer has not come.
pub(super) struct Pending {
    method: Method,
    asked_us: i64,
    sent: Sent,
    /// Why the candidate, whose turn it was, has not answered it.
    failure: Option<Failure>,
}

/// How much of a request is known.
pub(super) enum Sent {
    /// All of it. What it means is looked for once its answer has passed.
    Whole(Copied),
    /// Its body is still passing.
    Partly,
    /// There is no copy of its body.
    NotCopied(Request, Reason),
}

/// How a direction ended.
pub(super) enum Ended {
    /// In order.
    Closed,
    /// It broke: the other side is to see that too.
    Broken,
}

/// A caller's connection, as both directions see it. Dropped with the connection, and then sees to what is unanswered.
pub(super) struct Conversation<'a> {
    pub context: Arc<ProxyContext>,
    state: Mutex<State>,
    pub fewer: Notify,
    pub caller: &'a tokio::sync::Mutex<OwnedWriteHalf>,
}

pub(super) struct State {
    pub pending: VecDeque<Pending>,
    /// Requests that have been noted so far: the number of the last.
    pub noted: u64,
    pub answers: Answers,
    /// Requests pass that are not told apart, and so many of their answers have been seen.
    pub unseen: Option<u64>,
    /// The candidate has answered the last request, if any has been answered: the primary has been idle since.
    pub is_candidates: bool,
    /// There is no connection to the primary: none was needed yet, or it has ended meanwhile.
    pub is_primary_gone: bool,
    pub first_to_go: Option<Gone>,
}

/// Whether answers are told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    Followed,
    /// One had no end that can be told: from there on they only pass.
    Lost,
}

/// Who has closed or broken off first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    Caller,
    Primary,
}

impl<'a> Conversation<'a> {
    /// With a caller who has not asked anything yet.
    pub fn new(
        context: Arc<ProxyContext>,
        caller: &'a tokio::sync::Mutex<OwnedWriteHalf>,
        has_primary: bool,
    ) -> Conversation<'a> {
        let state = State {
            pending: VecDeque::new(),
            noted: 0,
            answers: Answers::Followed,
            unseen: None,
            is_candidates: !has_primary,
            is_primary_gone: !has_primary,
            first_to_go: None,
        };
        Conversation { context, state: Mutex::new(state), fewer: Notify::new(), caller }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody has closed or broken off.
    pub fn goes(&self, who: Gone) {
        self.state().first_to_go.get_or_insert(who);
    }

    /// Notes a request before its bytes go on, and returns its number.
    pub fn note(&self, method: Method, sent: Sent, failure: Option<Failure>) -> u64 {
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
    pub fn complete(&self, number: u64, sent: Sent) {
        let mut state = self.state();
        let from_end =
            usize::try_from(state.noted - number).expect("a connection has fewer requests than memory");
        if let Some(at) = state.pending.len().checked_sub(from_end + 1) {
            state.pending[at].sent = sent;
        }
    }

    /// Waits until fewer than `most` requests are unanswered.
    pub async fn until_fewer_than(&self, most: usize) {
        while self.state().pending.len() >= most {
            self.fewer.notified().await;
        }
    }

    /// The oldest unanswered request has been answered.
    pub fn answered(&self, passed: Passed) {
        let pending = self.state().pending.pop_front();
        self.fewer.notify_one();
        let Some(pending) = pending else {
            // The first of them was counted when they began to pass.
            let seen = self.state().unseen.as_mut().map(|seen| std::mem::replace(seen, *seen + 1));
            if seen.is_some_and(|seen| seen > 0) {
                self.context.lost();
            }
            return;
        };
        let at = Moment { asked_us: pending.asked_us, answered_us: now_us() };
        match pending.sent {
            Sent::Whole(copied) => {
                let Passed { status, stated, body } = passed;
                match body {
                    Ok((body, held)) => {
                        let answer = Answer { status, form: Form::Http, stated, body, packed: None, at };
                        self.context.passed(copied, Some((answer, held)), pending.failure.map(Err));
                    }
                    Err(reason) => self.context.dropped(&copied.read(), reason),
                }
            }
            Sent::NotCopied(request, reason) => self.context.dropped(&request, reason),
            Sent::Partly => self.context.lost(),
        }
    }

    /// Tells the answers in what has passed apart.
    pub fn follow(&self, reader: &mut AnswerReader, mut rest: &[u8]) {
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
            match reader.follow(rest, &method) {
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
            Sent::Whole(copied) => self.context.dropped(&copied.read(), Reason::Unparsed),
            Sent::NotCopied(request, reason) => self.context.dropped(&request, reason),
            Sent::Partly => self.context.lost(),
        }
    }
}

impl Drop for Conversation<'_> {
    fn drop(&mut self) {
        let first_to_go = self.state().first_to_go;
        let pending = std::mem::take(&mut self.state().pending);
        for pending in pending {
            match (pending.sent, first_to_go) {
                // Both sides are asked anew.
                (Sent::Whole(copied), Some(Gone::Caller)) => self.context.passed(copied, None, None),
                (Sent::Whole(copied), Some(Gone::Primary)) => self.context.cut(&copied.read()),
                // The run has ended first.
                (Sent::Whole(copied), None) => self.context.dropped(&copied.read(), Reason::RunEnded),
                (Sent::NotCopied(request, reason), _) => self.context.dropped(&request, reason),
                // There never was a whole request.
                (Sent::Partly, Some(Gone::Caller)) => {
                    self.context.evidence.not_mirrored("the caller broke off its request");
                }
                (Sent::Partly, _) => self.context.lost(),
            }
        }
    }
}
