//! One connection's protocol state: what has come and waits, what is to be sent, what is still owed.

use alloc::vec::Vec;
use core::mem;

use super::input::Input;
use crate::limits::{ANSWER_BYTES, CONNECTION_WAITS_MAX, INTAKE_BYTES_MAX, UNSENT_BYTES_MAX};
use crate::shard::forwarding::question::Ticket;
use crate::shard::principal::Principal;
use crate::wire::{Protocol, Way};

/// The kind of listener that accepted a connection: what a Hello says of ports depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listener {
    /// The any-shard port.
    Any,
    /// A shard's own port.
    Shard,
    /// The unix socket.
    Unix,
    /// A port of either kind for TLS.
    Tls,
}

impl Listener {
    /// By which way its callers come.
    pub(in crate::shard) const fn way(self) -> Way {
        match self {
            Listener::Any | Listener::Shard => Way::Plain,
            Listener::Tls => Way::Tls,
            Listener::Unix => Way::Unix,
        }
    }
}

/// What a connection asks of its driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wants {
    /// There is something to take and send.
    pub output: bool,
    /// Its input may be received.
    pub intake: bool,
    /// Nothing is owed any more: close it.
    pub close: bool,
    /// Nothing more is to be waited for: end it at once, whatever is unsent.
    pub cut: bool,
}

/// Why a connection's input is not read further at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Stop {
    /// Everything whole has been read; the rest has yet to come.
    Incomplete,
    /// It has had its frames of this turn.
    Turn,
    /// It does not read its answers.
    Unsent,
    /// An answer must come first (HTTP answers in order), a neighbour's ring must drain, or it is not known yet who asks.
    Await,
    /// Nothing more is read from it.
    Ended,
}

/// What is to happen to a connection that owes nothing any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Ending {
    /// It stays.
    Stays,
    /// Its peer has sent all it will: close once everything that came is answered.
    InputEnded,
    /// Close once the answers written are sent.
    Closing,
    /// Its peer takes nothing, and there is no more time: end it at once.
    CutOff,
}

pub(in crate::shard) struct Session {
    /// Tells answers for this connection from answers for one that had its index before.
    pub generation: u32,
    pub open: bool,
    pub listener: Listener,
    /// Who asks now; `None` while that is still being found out, and then no request is read.
    principal: Option<Principal>,
    pub protocol: Option<Protocol>,
    pub stop: Stop,
    pub ending: Ending,
    /// Input that waits.
    pub input: Input,
    /// Bytes of waiting input below which it is of no use to read on.
    pub least_input: usize,
    /// Input still to come that belongs to a refused request.
    pub skip: usize,
    /// Answers that the driver has not taken yet.
    pub out: Vec<u8>,
    /// Bytes that the driver has taken and not yet sent.
    in_flight: usize,
    /// Answers that others, or a later turn, still owe: each is paid once.
    owed: u32,
    /// Bytes that they may need, beyond [`ANSWER_BYTES`] each.
    promised: usize,
    /// How many of them may wait for their freshness.
    waits: u32,
    /// The turn that `frames` counts, and how many it has had in it.
    pub turn: u64,
    pub frames: usize,
    /// When bytes last came from it or went to it, monotonic µs.
    pub active_us: u64,
    /// When the request at the head of the input began to wait for its rest, monotonic µs.
    pub partial_since_us: Option<u64>,
    /// Since when it has proved nothing, though it may nothing before it has, monotonic µs.
    pub unproved_since_us: Option<u64>,
    /// Whether the lists of connections hold it; [`Connections`](super::Connections) alone changes these.
    pub(super) timed: bool,
    pub(super) touched: bool,
    pub(super) ready: bool,
    /// Whether it is served behind the others, for it has asked too much.
    pub(super) is_late: bool,
}

impl Session {
    pub fn new() -> Session {
        Session {
            generation: 0,
            open: false,
            listener: Listener::Any,
            principal: None,
            protocol: None,
            stop: Stop::Incomplete,
            ending: Ending::Stays,
            input: Input::default(),
            least_input: 0,
            skip: 0,
            out: Vec::new(),
            in_flight: 0,
            owed: 0,
            promised: 0,
            waits: 0,
            turn: 0,
            frames: 0,
            active_us: 0,
            partial_since_us: None,
            unproved_since_us: None,
            timed: false,
            touched: false,
            ready: false,
            is_late: false,
        }
    }

    /// Begins anew for the next connection of this index.
    pub fn reopen(&mut self, listener: Listener, principal: Option<Principal>) {
        *self = Session {
            generation: self.generation.wrapping_add(1),
            open: true,
            listener,
            principal,
            touched: self.touched,
            ready: self.ready,
            timed: self.timed,
            is_late: self.is_late,
            ..Session::new()
        };
    }

    /// Who asks, once that is known.
    #[inline(always)]
    pub fn principal(&self) -> Option<Principal> {
        self.principal
    }

    /// It is known now who the connection itself is.
    pub fn identify(&mut self, principal: Principal) {
        let before = self.principal.replace(principal);
        assert!(before.is_none(), "a connection is one principal's: {before:?} was to become {principal:?}");
    }

    /// It is somebody else's from now on: a Hello has proved it, a request says who makes it, or the directory of callers has changed.
    pub fn become_of(&mut self, principal: Principal) {
        if !principal.may_nothing() {
            self.unproved_since_us = None;
        }
        self.principal = Some(principal);
    }

    /// Nothing is read from it; what is owed is sent.
    pub fn close_unread(&mut self) {
        self.ending = Ending::Closing;
    }

    /// Whether nothing more is read from it, whatever still comes.
    pub fn is_closing(&self) -> bool {
        matches!(self.ending, Ending::Closing | Ending::CutOff)
    }

    /// Names the connection, for no answer in particular.
    pub fn ticket(&self, connection: u32) -> Ticket {
        Ticket { connection, generation: self.generation, bytes: 0, may_wait: false }
    }

    /// Answers that are still to come.
    #[inline(always)]
    pub fn owed(&self) -> u32 {
        self.owed
    }

    /// Owes so many more answers of the usual size.
    #[inline(always)]
    pub fn owe_usual(&mut self, answers: usize) {
        self.owed += answers as u32;
    }

    /// So many of them have been written, or were not asked for after all.
    #[inline(always)]
    pub fn pay_usual(&mut self, answers: usize) {
        self.owed -= answers as u32;
    }

    /// Owes one more answer, which may need `bytes` beyond [`ANSWER_BYTES`]; the way back for it.
    pub fn owe(&mut self, connection: u32, bytes: usize, may_wait: bool) -> Ticket {
        self.owed += 1;
        self.waits += u32::from(may_wait);
        Ticket { may_wait, ..self.promise(connection, bytes) }
    }

    /// One of the answers that it owes may need `bytes` beyond [`ANSWER_BYTES`]; the way back for it.
    #[inline]
    pub fn promise(&mut self, connection: u32, bytes: usize) -> Ticket {
        self.promised += bytes;
        Ticket { bytes: bytes as u32, ..self.ticket(connection) }
    }

    /// What was promised was not asked for after all; the answer is still owed.
    pub fn take_back(&mut self, promise: Ticket) {
        self.promised -= promise.bytes as usize;
    }

    /// An answer that was owed has been written.
    pub fn pay(&mut self, ticket: Ticket) {
        self.owed -= 1;
        self.promised -= ticket.bytes as usize;
        self.waits -= u32::from(ticket.may_wait);
    }

    /// Whether one more of its questions may wait for its freshness.
    pub fn may_wait(&self) -> bool {
        self.waits < CONNECTION_WAITS_MAX
    }

    /// Whether questions of it may wait somewhere.
    pub(super) fn waits(&self) -> bool {
        self.waits > 0
    }

    /// Takes what is to be sent, leaving `empty` in its place.
    pub fn take_output(&mut self, empty: Vec<u8>) -> Vec<u8> {
        debug_assert!(empty.is_empty(), "what is in there would be sent");
        let output = mem::replace(&mut self.out, empty);
        self.in_flight += output.len();
        output
    }

    /// `bytes` of what was taken have gone.
    pub fn sent(&mut self, bytes: usize) {
        self.in_flight -= bytes;
    }

    pub fn unsent(&self) -> usize {
        self.out.len() + self.in_flight
    }

    /// Bytes of answers that are here or may still come.
    pub fn committed(&self) -> usize {
        self.unsent() + self.owed as usize * ANSWER_BYTES + self.promised
    }

    /// Whether all that is owed, and one answer more, may be more than is kept for a caller who does not read, if each needs `bytes`.
    pub fn may_overshoot(&self, bytes: usize) -> bool {
        self.unsent() + self.promised + (self.owed as usize + 1) * bytes > UNSENT_BYTES_MAX
    }

    pub fn wants(&self) -> Wants {
        let full = self.input.len() >= INTAKE_BYTES_MAX / 2 && self.stop != Stop::Incomplete;
        let flushed = self.unsent() == 0 && self.owed == 0;
        Wants {
            output: !self.out.is_empty(),
            intake: self.open && self.ending == Ending::Stays && self.stop != Stop::Unsent && !full,
            close: flushed
                && match self.ending {
                    Ending::Stays => false,
                    Ending::InputEnded => matches!(self.stop, Stop::Incomplete | Stop::Ended),
                    Ending::Closing | Ending::CutOff => true,
                },
            cut: self.ending == Ending::CutOff,
        }
    }

    /// Whether it has nothing to do and nothing half-done: what a draining node may close.
    pub fn is_quiet(&self) -> bool {
        self.unsent() == 0 && self.owed == 0 && self.input.is_empty()
    }

    pub fn has_room(&self) -> bool {
        self.committed() < UNSENT_BYTES_MAX
    }
}
