//! The listeners of a shard: connections are accepted straight into free slots of the ring's table.

use std::{
    io, mem,
    os::fd::{AsFd, FromRawFd, OwnedFd, RawFd},
};

use io_uring::cqueue;

use super::{
    RingDriver,
    arriving::Comer,
    connections::reception,
    token::{Operation, Token},
};
use crate::{
    drivers::{Engine, Listening, accept_turn::Sharing, peer::Peer},
    limits,
    shard::Listener,
};

/// One listening socket and its accept operation.
#[derive(Debug)]
pub(super) struct Acceptor {
    listening: Listening,
    accepting: Accepting,
    /// Where all shards share the listener, and it is this one's turn but there is no slot: until when it keeps the turn.
    keeps_turn_until_us: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Accepting {
    Off,
    /// One connection.
    Once,
    /// All that come.
    Many,
    /// Its cancellation is out, and its last completion awaited.
    Cancelling,
}

impl Acceptor {
    pub(super) fn new(listening: Listening) -> Acceptor {
        Acceptor { listening, accepting: Accepting::Off, keeps_turn_until_us: None }
    }

    /// Whether `shard` may accept now.
    fn is_on_turn(&self, shard: usize) -> bool {
        match &self.listening.sharing {
            Sharing::Own => true,
            Sharing::AllShards(turn) => turn.is_on(shard),
        }
    }

    /// Gives the turn to the next: whose waker is to be woken for that.
    fn pass_on(&mut self, shard: usize) -> Option<usize> {
        self.keeps_turn_until_us = None;
        match &self.listening.sharing {
            Sharing::Own => None,
            Sharing::AllShards(turn) => Some(turn.pass_on(shard)).filter(|&next| next != shard),
        }
    }

    /// Passes on a turn that could not be used for a while, for the others may have room. Only after a while: shards that
    /// are all full would hand it round without end.
    fn tire(&mut self, shard: usize, monotonic_us: u64) -> Option<usize> {
        let is_shared = matches!(self.listening.sharing, Sharing::AllShards(_));
        if !is_shared || self.accepting != Accepting::Off || !self.is_on_turn(shard) {
            self.keeps_turn_until_us = None;
            return None;
        }
        let until_us = *self.keeps_turn_until_us.get_or_insert(monotonic_us + limits::ACCEPT_RETRY_US);
        if monotonic_us < until_us { None } else { self.pass_on(shard) }
    }

    /// See the field.
    pub(super) fn keeps_turn_until_us(&self) -> Option<u64> {
        self.keeps_turn_until_us
    }
}

impl<E: Engine> RingDriver<E> {
    /// Accepts only where there is surely a slot: a connection that is accepted without one is lost, one that is not
    /// accepted waits in the listener's queue. A listener that accepts all that come may bring its whole queue before
    /// the loop sees it; where there are fewer free slots than that, each accepts one at a time. On a listener that all
    /// shards share they take turns: were all of them to ask, whoever runs first would get everyone.
    pub(super) fn steer_accepts(&mut self) {
        if self.is_waiting_for_data() {
            self.accept_again_us = self.monotonic_us + limits::ACCEPT_RETRY_US;
        }
        let is_paused = self.drain.has_begun() || self.monotonic_us < self.accept_again_us;
        let taken = self.connections.live() + self.arriving.count();
        let mut free = if is_paused { 0 } else { self.queue.connections_max().saturating_sub(taken) };
        let was_full = mem::replace(&mut self.is_full, free == 0 && !is_paused);
        if self.is_full && !was_full {
            self.scarcity.full(self.monotonic_us, self.queue.connections_max());
            self.context.shard.note_connections_full();
        }
        let own = self.context.own_shard;
        let asks_who = self.context.shard.knows_callers();
        for (place, acceptor) in (0..).zip(&mut self.acceptors) {
            let token = Token::of(Operation::Accept, place);
            let wanted = match free {
                0 => Accepting::Off,
                _ if !acceptor.is_on_turn(own) => Accepting::Off,
                _ if free <= limits::ACCEPTS_QUEUED_MAX => Accepting::Once,
                _ => Accepting::Many,
            };
            match (acceptor.accepting, wanted) {
                (Accepting::Off, Accepting::Once | Accepting::Many) => {
                    let Listening { socket, sharing, .. } = &acceptor.listening;
                    let is_shared = matches!(sharing, Sharing::AllShards(_));
                    let once = wanted == Accepting::Once || is_shared || asks_who;
                    acceptor.accepting = if once { Accepting::Once } else { Accepting::Many };
                    match acceptor.accepting {
                        _ if asks_who => self.queue.accept_descriptor(socket.as_fd(), token),
                        Accepting::Many => self.queue.accept_many(socket.as_fd(), token),
                        _ => self.queue.accept_once(socket.as_fd(), token),
                    }
                    free -= 1;
                }
                (Accepting::Once, Accepting::Off) | (Accepting::Many, Accepting::Off | Accepting::Once) => {
                    self.queue.cancel(token);
                    acceptor.accepting = Accepting::Cancelling;
                    free = free.saturating_sub(1);
                }
                (Accepting::Once | Accepting::Many | Accepting::Cancelling, _) => {
                    free = free.saturating_sub(1)
                }
                (Accepting::Off, _) => {}
            }
            if let Some(next) = acceptor.tire(own, self.monotonic_us) {
                self.queue.wake(&self.context.wakers[next]);
            }
        }
        if self.drain.has_begun() && self.accepts_ended() {
            // Closed now, not at the end: who connects from here on is refused, and can go elsewhere at once.
            self.acceptors.clear();
        }
    }

    /// Sockets that were handed over hold callers of a predecessor: better kept waiting than told that the ledger is
    /// being loaded.
    fn is_waiting_for_data(&self) -> bool {
        self.acceptors.iter().any(|acceptor| acceptor.listening.is_inherited)
            && !self.context.shard.has_data()
    }

    /// A connection is here as a descriptor, so that the kernel can be asked whose it is; then it gets a slot like all others.
    fn ask_who(&mut self, descriptor: RawFd, listener: Listener) {
        // SAFETY: the kernel has made this descriptor for this accept, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // Where it cannot be told, the other end has gone already.
        if let Ok(peer) = Peer::of(socket.as_fd(), listener) {
            self.install(Comer::Plain { socket, listener, peer });
        }
    }

    /// Whether the kernel holds none of the listeners.
    pub(super) fn accepts_ended(&self) -> bool {
        self.acceptors.iter().all(|acceptor| acceptor.accepting == Accepting::Off)
    }

    pub(super) fn on_accept(&mut self, token: Token, completion: &cqueue::Entry) {
        let acceptor = &mut self.acceptors[token.slot as usize];
        if !cqueue::more(completion.flags()) {
            acceptor.accepting = Accepting::Off;
        }
        let listener = acceptor.listening.listener;
        match completion.result() {
            slot @ 0.. => {
                if let Some(next) = acceptor.pass_on(self.context.own_shard) {
                    self.queue.wake(&self.context.wakers[next]);
                }
                if self.context.shard.knows_callers() {
                    return self.ask_who(slot, listener);
                }
                let slot = slot.unsigned_abs();
                // Served in a drain too: whoever was accepted before the cancellation came may have asked already.
                self.connections.occupy(slot, reception(listener));
                self.touched.push(slot);
                self.context.shard.open(slot, listener);
            }
            error => match -error {
                // The caller went away, or we cancelled; armed again where it is wanted.
                libc::ECANCELED | libc::ECONNABORTED | libc::EINTR | libc::EAGAIN => {}
                // Out of slots, files or memory: to ask again at once would spin.
                errno => {
                    self.accept_again_us = self.monotonic_us + limits::ACCEPT_RETRY_US;
                    self.scarcity.refused(self.monotonic_us, &io::Error::from_raw_os_error(errno));
                    self.context.shard.note_accept_refused();
                }
            },
        }
    }
}
