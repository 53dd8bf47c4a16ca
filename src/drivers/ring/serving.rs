//! A connection's operations: bytes to the shard, answers to the kernel. Its [`Life`](crate::shard::life::Life) says which
//! operation is begun next.

use std::mem;

use io_uring::cqueue;

use super::{
    RingDriver,
    token::{Operation, Token},
};
use crate::{
    drivers::Engine,
    shard::life::{self, AfterSend, Arrival, Received, Sent},
};

impl<E: Engine> RingDriver<E> {
    /// Brings a connection's operations in line with what it now needs.
    pub(super) fn serve(&mut self, slot: u32) {
        while let Some(operation) = self.connections.at(slot).life.next(|| self.context.shard.wants(slot)) {
            self.begin(slot, operation);
        }
    }

    fn begin(&mut self, slot: u32, operation: life::Operation) {
        match operation {
            life::Operation::Send => {
                // Nothing is left in its place: an idle connection has no buffer. The shard lends one with its next answer.
                let output = self.context.shard.take_output(slot, Vec::new());
                let connection = self.connections.at(slot);
                connection.sent = 0;
                connection.output = output;
                if connection.sealed.is_some() {
                    self.seal_output(slot);
                }
                self.send_rest(slot);
            }
            life::Operation::Receive => {
                self.queue.receive_many(self.connections.at(slot).token(Operation::Receive, slot));
            }
            life::Operation::WatchEnd => {
                self.queue.watch_end(self.connections.at(slot).token(Operation::PeerEnd, slot));
            }
            life::Operation::CancelReceive => {
                self.queue.cancel(self.connections.at(slot).token(Operation::Receive, slot));
            }
            life::Operation::Forget => self.context.shard.closed(slot),
            life::Operation::Shutdown => {
                if self.connections.at(slot).sealed.is_some() {
                    self.say_last_word(slot);
                } else {
                    self.queue.shutdown(self.connections.at(slot).token(Operation::Shutdown, slot));
                }
                self.connections.linger(slot, self.monotonic_us);
            }
            life::Operation::CancelAll => self.queue.cancel_connection(slot),
            life::Operation::Close => {
                self.queue.close(self.connections.at(slot).token(Operation::Close, slot));
            }
        }
    }

    /// Lets the receives begin again that ended for want of a buffer: no more of them than there are buffers, so that the
    /// others do not fail again at once, and oldest first, so that none is forgotten. All buffers but those of completions
    /// not yet read are back by now.
    pub(super) fn feed_starved(&mut self) {
        for _ in 0..self.starved.len().min(self.buffers.count()) {
            let slot = self.starved.pop_front().expect("as many as there were");
            if self.connections.at(slot).life.feed() {
                self.touched.push(slot);
            }
        }
    }

    pub(super) fn on_receive(&mut self, token: Token, completion: &cqueue::Entry) {
        let Token { slot, generation, .. } = token;
        let connection = self.connections.at(slot);
        assert_eq!(connection.generation, generation, "slot {slot} was reused under its receive");
        let result = completion.result();
        let received = match result {
            1.. => Received::Bytes,
            0 => Received::End,
            error => match -error {
                libc::ENOBUFS => Received::NoBuffer,
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => Received::Nothing,
                _ => Received::Failure,
            },
        };
        let goes_on = cqueue::more(completion.flags());
        let arrival = connection.life.received(received, goes_on);
        let is_sealed = connection.sealed.is_some();
        if !goes_on {
            // The turn's end begins it again, where that is wanted.
            self.touched.push(slot);
        }
        if received == Received::NoBuffer {
            self.starved.push_back(slot);
        }
        let buffer = cqueue::buffer_select(completion.flags());
        match (arrival, buffer) {
            (Arrival::Take, Some(id)) if is_sealed => {
                self.open_records(slot, Some((id, result.unsigned_abs() as usize)));
            }
            (Arrival::Take, Some(id)) => {
                self.context.shard.receive(slot, self.buffers.filled(id, result.unsigned_abs() as usize));
            }
            (Arrival::TellEnd, _) => self.context.shard.end_of_input(slot),
            (Arrival::Take | Arrival::Drop, _) => {}
        }
        if let Some(id) = buffer {
            self.buffers.give_back(id);
        }
    }

    /// Hands what is left of the output to the kernel.
    fn send_rest(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let token = connection.token(Operation::Send, slot);
        let rest = &connection.output[connection.sent as usize..];
        // SAFETY: nobody touches `output` while a send is out: only `on_send`, which comes with the completion, changes it,
        // and `Life` begins no other before that. The vector's bytes do not move with the table of connections. The table
        // is dropped after the ring has been emptied (`close_down`), or leaked where that failed.
        unsafe { self.queue.send(rest, token) };
    }

    pub(super) fn on_send(&mut self, token: Token, result: i32) {
        let slot = token.slot;
        let connection = self.connections.at(slot);
        assert_eq!(connection.generation, token.generation, "slot {slot} was reused under its send");
        // The shard, told of what has gone, touches the connection itself.
        let is_told = result > 0 && connection.life.is_open();
        let sent = match result {
            1.. => {
                connection.sent += result.unsigned_abs();
                if is_told {
                    let bytes = result.unsigned_abs() as usize;
                    let reported = connection.sealed.as_mut().map_or(bytes, |sealed| sealed.report(bytes));
                    self.context.shard.sent(slot, reported);
                }
                let is_short = (connection.sent as usize) < connection.output.len();
                if is_short { Sent::Short } else { Sent::All }
            }
            error if matches!(-error, libc::EINTR | libc::EAGAIN) => Sent::Short,
            _ => Sent::Failure,
        };
        match connection.life.sent(sent) {
            AfterSend::Rest => self.send_rest(slot),
            AfterSend::Done => {
                let output = mem::take(&mut connection.output);
                self.context.shard.recycle(output);
                if !is_told {
                    self.touched.push(slot);
                }
            }
        }
    }

    pub(super) fn on_peer_end(&mut self, token: Token) {
        self.connections.at(token.slot).life.saw_end();
        self.touched.push(token.slot);
    }

    pub(super) fn on_shutdown(&mut self, token: Token) {
        self.connections.at(token.slot).life.shut();
        self.touched.push(token.slot);
    }

    /// Ends a connection without waiting for its peer.
    pub(super) fn give_up(&mut self, slot: u32) {
        self.connections.at(slot).life.give_up();
        self.touched.push(slot);
    }

    pub(super) fn on_close(&mut self, token: Token, result: i32) {
        assert!(result >= 0, "slot {} could not be closed: errno {}", token.slot, -result);
        self.connections.vacate(token.slot);
    }
}
