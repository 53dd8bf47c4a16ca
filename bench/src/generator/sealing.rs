//! A caller's side of TLS once its handshake is done: bytes in, bytes out.

use std::io::{self, Read, Write};

use rustls::ClientConnection;

use crate::protocol::Wrong;

/// A connection's encryption.
#[derive(Debug)]
pub(super) struct Sealing(Box<ClientConnection>);

impl Sealing {
    /// Of a connection that has shaken hands.
    pub(super) fn new(connection: ClientConnection) -> Sealing {
        Sealing(Box::new(connection))
    }

    /// Appends `plain` to `sealed` as records.
    pub(super) fn seal(&mut self, mut plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), Wrong> {
        while !plain.is_empty() {
            // It takes what its buffer holds, and that is emptied each time.
            let taken = self.0.writer().write(plain).map_err(broken)?;
            while self.0.wants_write() {
                self.0.write_tls(sealed).map_err(broken)?;
            }
            plain = &plain[taken..];
        }
        Ok(())
    }

    /// Appends to `plain` what `sealed` holds, and what came before with the last bytes of something else.
    pub(super) fn open(&mut self, mut sealed: &[u8], plain: &mut Vec<u8>) -> Result<(), Wrong> {
        while !sealed.is_empty() {
            let taken = self.0.read_tls(&mut sealed).map_err(broken)?;
            let state = self.0.process_new_packets().map_err(|error| broken(io::Error::other(error)))?;
            let at = plain.len();
            plain.resize(at + state.plaintext_bytes_to_read(), 0);
            self.0.reader().read_exact(&mut plain[at..]).map_err(broken)?;
            if state.peer_has_closed() {
                // The socket's end says the same.
                return Ok(());
            }
            if taken == 0 {
                return Err(broken(io::ErrorKind::InvalidData.into()));
            }
        }
        Ok(())
    }
}

fn broken(error: io::Error) -> Wrong {
    Wrong::Tls { error: error.to_string() }
}
