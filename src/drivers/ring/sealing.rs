//! What a connection by TLS does otherwise, at the edges: records are opened where bytes come, and sealed where they go. Between the
//! two it is served like any other.

use std::mem;

use super::{RingDriver, token::Operation};
use crate::{
    drivers::Engine,
    tls::{Heard, tally::Outcome},
};

impl<E: Engine> RingDriver<E> {
    /// Opens what has come, into which buffer and how much, or what came with the handshake. What it holds goes to the shard.
    pub(super) fn open_records(&mut self, slot: u32, came: Option<(u16, usize)>) {
        let bytes = came.map_or(&[][..], |(id, length)| self.buffers.filled(id, length));
        let shard = &mut self.context.shard;
        let connection = self.connections.at(slot);
        let sealed = connection.sealed.as_mut().expect("a connection by TLS");
        match sealed.session.open(bytes, &mut |plain| shard.receive(slot, plain)) {
            Ok(Heard::Bytes) => self.connections.watch_half(slot, self.monotonic_us),
            Ok(Heard::End) => shard.end_of_input(slot),
            Err(error) => {
                tracing::debug!(slot, %error, "a connection by TLS is closed");
                self.count(Outcome::Garbled);
                self.give_up(slot);
            }
        }
    }

    /// Seals what is about to be sent.
    pub(super) fn seal_output(&mut self, slot: u32) {
        let mut records = self.context.shard.spare_buffer();
        let connection = self.connections.at(slot);
        let plain = mem::take(&mut connection.output);
        connection.sealed.as_mut().expect("a connection by TLS").seal(&plain, &mut records);
        connection.output = records;
        self.context.shard.recycle(plain);
    }

    /// Tells the peer that nothing more comes, and shuts our half.
    pub(super) fn say_last_word(&mut self, slot: u32) {
        let connection = self.connections.at(slot);
        let token = connection.token(Operation::Shutdown, slot);
        let sealed = connection.sealed.as_mut().expect("a connection by TLS");
        sealed.session.seal_end(&mut connection.output);
        // SAFETY: nobody touches `output` before the slot is vacated, which is after the shutdown has completed. The vector's bytes
        // do not move with the table of connections. The table is dropped after the ring has been emptied, or leaked.
        unsafe { self.queue.shutdown_after(&connection.output, token) };
    }

    /// Ends the connections whose record began and did not go on. Nobody is judged while there is input that was not looked at.
    pub(super) fn give_up_halved(&mut self) {
        if self.queue.has_completions() {
            return;
        }
        while let Some((slot, is_same)) = self.connections.next_halved(self.monotonic_us) {
            if is_same {
                self.count(Outcome::Halved);
                self.give_up(slot);
            } else {
                self.connections.watch_half(slot, self.monotonic_us);
            }
        }
    }
}
