//! A connection from its first byte to its close: bytes to the shard, answers to the kernel.

use std::mem;

use io_uring::cqueue;

use super::{
    RingDriver,
    connections::{Input, Receiving, Sending, Stage},
    token::{Operation, Token},
};
use crate::{drivers::Engine, limits};

impl<E: Engine> RingDriver<E> {
    /// Brings a connection's operations in line with what it now needs.
    pub(super) fn serve(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        match (connection.stage, connection.input) {
            (Stage::Open, _) => self.serve_open(slot),
            (Stage::Lingering, Input::Flowing) => self.steer_input(slot, Intake::Wanted),
            (Stage::Lingering, Input::Ended) => self.start_closing(slot),
            (Stage::Closing, _) => self.close_when_quiet(slot),
            (Stage::Free | Stage::Closed, _) => {}
        }
    }

    fn serve_open(&mut self, slot: u32) {
        let wants = self.seat.shard.wants(slot);
        let idle = self.connections.at(slot).sending == Sending::Nothing;
        if wants.output && idle {
            // Nothing is left in its place: an idle connection has no buffer. The shard lends one with its next answer.
            let output = self.seat.shard.take_output(slot, Vec::new());
            let connection = self.connections.at(slot);
            connection.sent = 0;
            connection.output = output;
            self.send_rest(slot);
        } else if wants.close && idle {
            return self.start_lingering(slot);
        }
        self.steer_input(slot, if wants.intake { Intake::Wanted } else { Intake::Refused });
    }

    /// Receives where that is wanted; else leaves the peer's bytes in the kernel, which in time tells the peer to wait.
    fn steer_input(&mut self, slot: u32, intake: Intake) {
        let connection = self.connections.at(slot);
        let token = connection.token(Operation::Receive, slot);
        match (connection.receiving, intake) {
            (Receiving::Off, Intake::Wanted) if connection.input == Input::Flowing => {
                connection.receiving = Receiving::Armed;
                self.queue.receive(token);
            }
            (Receiving::Armed, Intake::Refused) => {
                connection.receiving = Receiving::Cancelling;
                self.queue.cancel(token);
            }
            _ => {}
        }
    }

    /// Arms the receives that ended for want of a buffer: no more of them than there are buffers, so that the others do
    /// not fail again at once, and oldest first, so that none is forgotten. All buffers but those of completions not
    /// yet read are back by now.
    pub(super) fn feed_starved(&mut self) {
        for _ in 0..self.starved.len().min(self.buffers.count()) {
            let slot = self.starved.pop_front().expect("as many as there were");
            let connection = self.connections.at(slot);
            if connection.receiving == Receiving::Starved {
                connection.receiving = Receiving::Off;
                self.touched.push(slot);
            }
        }
    }

    pub(super) fn on_receive(&mut self, token: Token, completion: &cqueue::Entry) {
        let Token { slot, generation, .. } = token;
        let connection = self.connections.at(slot);
        assert_eq!(connection.generation, generation, "slot {slot} was reused under its receive");
        let is_open = connection.stage == Stage::Open;
        if !cqueue::more(completion.flags()) {
            connection.receiving = Receiving::Off;
            // The turn's end arms it again, where that is wanted.
            self.touched.push(slot);
        }
        let result = completion.result();
        if result == 0 {
            connection.input = Input::Ended;
        }
        if let Some(id) = cqueue::buffer_select(completion.flags()) {
            if result > 0 && is_open {
                self.seat.shard.receive(slot, self.buffers.filled(id, result.unsigned_abs() as usize));
            }
            self.buffers.give_back(id);
        }
        match result {
            1.. => {}
            0 if is_open => self.seat.shard.end_of_input(slot),
            0 => {}
            error => match -error {
                // No buffer was left: its turn comes when some are back, in the order of asking.
                libc::ENOBUFS => {
                    self.connections.at(slot).receiving = Receiving::Starved;
                    self.starved.push_back(slot);
                }
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                _ => self.start_closing(slot),
            },
        }
    }

    /// Hands what is left of the output to the kernel.
    fn send_rest(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        connection.sending = Sending::Output;
        let token = connection.token(Operation::Send, slot);
        let rest = &connection.output[connection.sent as usize..];
        // SAFETY: nobody touches `output` while `sending` says so: only `on_send`, which comes with the completion,
        // changes either. The vector's bytes do not move with the table of connections. The table is dropped after the
        // ring has been emptied (`close_down`), or leaked where that failed.
        unsafe { self.queue.send(rest, token) };
    }

    pub(super) fn on_send(&mut self, token: Token, result: i32) {
        let slot = token.slot;
        let connection = self.connections.at(slot);
        assert_eq!(connection.generation, token.generation, "slot {slot} was reused under its send");
        connection.sending = Sending::Nothing;
        self.touched.push(slot);
        let is_open = connection.stage == Stage::Open;
        match result {
            1.. => {
                connection.sent += result.unsigned_abs();
                let is_short = (connection.sent as usize) < connection.output.len();
                if is_open {
                    self.seat.shard.sent(slot, result.unsigned_abs() as usize);
                }
                if is_open && is_short {
                    return self.send_rest(slot);
                }
            }
            error if is_open && matches!(-error, libc::EINTR | libc::EAGAIN) => return self.send_rest(slot),
            _ => self.start_closing(slot),
        }
        let output = mem::take(&mut self.connections.at(slot).output);
        self.seat.shard.recycle(output);
    }

    /// The shard has nothing left to say: shuts our half, and reads on until the peer has seen that.
    fn start_lingering(&mut self, slot: u32) {
        if self.connections.at(slot).input == Input::Ended {
            return self.start_closing(slot);
        }
        self.seat.shard.closed(slot);
        let connection = self.connections.at(slot);
        connection.stage = Stage::Lingering;
        connection.sending = Sending::Shutdown;
        let token = connection.token(Operation::Shutdown, slot);
        self.queue.shutdown(token);
        self.connections.linger(slot, self.monotonic_us + limits::LINGER_US);
        self.steer_input(slot, Intake::Wanted);
    }

    pub(super) fn on_shutdown(&mut self, token: Token) {
        // A failure means that the peer has reset the connection, which the receive is told too.
        self.connections.at(token.slot).sending = Sending::Nothing;
        self.touched.push(token.slot);
    }

    /// Ends a connection: cancels its operations, awaits them, closes. Does nothing where that has begun.
    pub(super) fn start_closing(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        match connection.stage {
            Stage::Open => self.seat.shard.closed(slot),
            Stage::Lingering => {}
            Stage::Closing | Stage::Closed | Stage::Free => return,
        }
        let connection = self.connections.at(slot);
        connection.stage = Stage::Closing;
        if !connection.is_quiet() {
            self.queue.cancel_connection(slot);
        }
        self.touched.push(slot);
    }

    fn close_when_quiet(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        if connection.is_quiet() {
            connection.stage = Stage::Closed;
            let token = connection.token(Operation::Close, slot);
            self.queue.close(token);
        }
    }

    pub(super) fn on_close(&mut self, token: Token, result: i32) {
        assert!(result >= 0, "slot {} could not be closed: errno {}", token.slot, -result);
        self.connections.vacate(token.slot);
    }
}

/// Whether the shard takes a connection's bytes at present.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Intake {
    Wanted,
    Refused,
}
