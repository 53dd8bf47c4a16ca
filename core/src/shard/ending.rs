//! How connections end because of the time: a request that does not go on, a caller that proves nothing, and a drain.
//!
//! Time-outs are judged by what had been read when the kernel was last asked, never by the clock alone: a process that
//! was stopped for a minute finds its callers' bytes first, and then looks at who has been silent.

use florin_schema::frame::REPLY_DRAINING;

use super::Shard;
use super::connections::Ending;
use crate::limits::{
    DRAIN_ANSWER_US, DRAIN_QUIET_US, DRAIN_READ_US, DRAIN_STALL_US, PARTIAL_REQUEST_US, UNPROVED_US,
};
use crate::wire::{self, Protocol};

impl Shard {
    /// Begins to drain: what has arrived is answered, the end is announced, and each connection is closed once it is
    /// quiet.
    pub fn drain(&mut self) {
        self.draining_since_us.get_or_insert(self.now.monotonic_us);
        self.responder.announces = REPLY_DRAINING;
    }

    /// Whether nothing is left to do for anyone.
    pub fn drained(&self) -> bool {
        self.draining_since_us.is_some() && self.connections.open() == 0
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining_since_us.is_some()
    }

    pub(super) fn refuses_new_work(&self) -> bool {
        self.draining_since_us.is_some_and(|since_us| self.now.monotonic_us - since_us > DRAIN_ANSWER_US)
    }

    /// The driver has completions that it could not handle in this turn: until it has, nobody is judged to be silent.
    pub fn input_waits(&mut self) {
        self.input_waits = true;
    }

    /// Notes that whatever had come by `monotonic_us` will have been handed over by the next turn's work.
    pub(super) fn note_input_read(&mut self, monotonic_us: u64) {
        if !core::mem::take(&mut self.input_waits) {
            self.read_until_us = monotonic_us;
        }
    }

    /// What time it is for whoever is silent.
    fn judged_us(&self) -> u64 {
        self.read_until_us.min(self.now.monotonic_us)
    }

    /// Ends the connections whose time is up.
    pub(super) fn end_the_overdue(&mut self) {
        if self.input_waits {
            return;
        }
        self.end_the_silent();
        if let Some(since_us) = self.draining_since_us {
            self.end_while_draining(since_us);
        }
    }

    /// Connections whose request began and did not go on, and those of strangers.
    fn end_the_silent(&mut self) {
        let now_us = self.judged_us();
        while let Some(connection) = self.connections.next_due(now_us) {
            let session = &self.connections[connection];
            if !session.open || session.is_closing() {
                continue;
            }
            let request_us = session.partial_since_us.map(|since_us| since_us + PARTIAL_REQUEST_US);
            let proof_us = session.unproved_since_us.map(|since_us| since_us + UNPROVED_US);
            let is_over = |due_us: Option<u64>| due_us.is_some_and(|due_us| due_us <= now_us);
            if is_over(request_us) {
                self.time_out(connection);
            } else if is_over(proof_us) {
                self.turn_out(connection);
            } else if let Some(due_us) = request_us.into_iter().chain(proof_us).min() {
                self.connections.look_at(connection, due_us);
            }
        }
    }

    /// A connection that may nothing before it has proved whose it is has so long for that, from now on.
    pub(super) fn await_proof(&mut self, connection: u32) {
        let now_us = self.now.monotonic_us;
        self.connections[connection].unproved_since_us = Some(now_us);
        self.connections.look_at(connection, now_us + UNPROVED_US);
    }

    /// Closes the connection of somebody who has proved nothing. Whatever was asked has been refused.
    fn turn_out(&mut self, connection: u32) {
        self.connections[connection].close_unread();
        self.responder.metrics.timed_out.add(1);
        self.connections.touch(connection);
    }

    /// Closes a connection in the middle of a request, over HTTP with an answer that says why.
    fn time_out(&mut self, connection: u32) {
        let session = &mut self.connections[connection];
        session.ending = Ending::Closing;
        session.partial_since_us = None;
        // Where the rest of a refused request was to be skipped, it has its answer.
        if session.protocol == Some(Protocol::Http) && session.skip == 0 {
            let rejection = wire::http::timed_out(session.input.waiting());
            self.responder.rejection(self.connections.out(connection), &rejection);
        } else if let Some(Protocol::Resp(version)) = session.protocol {
            let rejection = wire::resp::timed_out(version);
            self.responder.rejection(self.connections.out(connection), &rejection);
        }
        self.responder.metrics.timed_out.add(1);
        self.connections.touch(connection);
    }

    /// Connections of a draining shard: the quiet ones, and after a while those whose end would never come.
    fn end_while_draining(&mut self, since_us: u64) {
        let now_us = self.judged_us();
        let drained_us = now_us.saturating_sub(since_us);
        // Once data is refused, the first moment in which nothing is owed will do.
        let quiet_us = if drained_us < DRAIN_ANSWER_US { DRAIN_QUIET_US } else { 0 };
        for connection in self.connections.indices() {
            let session = &mut self.connections[connection];
            if !session.open {
                continue;
            }
            let still_us = now_us.saturating_sub(session.active_us.max(since_us));
            if session.unsent() > 0 && still_us >= DRAIN_STALL_US {
                session.ending = Ending::CutOff;
                self.connections.touch(connection);
            } else if session.ending == Ending::Stays {
                let is_quiet = session.is_quiet() && drained_us >= DRAIN_QUIET_US && still_us >= quiet_us;
                // Half a request is not waited for any more; what is owed for those before it is.
                let is_half = session.partial_since_us.is_some() && session.owed() == 0;
                if is_half && drained_us >= DRAIN_ANSWER_US {
                    self.time_out(connection);
                } else if is_quiet || drained_us >= DRAIN_READ_US {
                    session.ending = Ending::Closing;
                    self.connections.touch(connection);
                }
            }
        }
    }
}
