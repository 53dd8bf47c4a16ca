//! One connection's encryption, once its handshake is done: bytes in, bytes out. The rest of florin sees [`Session`] alone, so what
//! another version of rustls, or another library, would change lies in this file and in `identity`.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use rustls::{HandshakeKind, ServerConfig, ServerConnection};

use super::names::CertificateNames;
use crate::limits::HANDSHAKE_BYTES_MAX;

/// What a peer has said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Nothing but what was handed on, if anything.
    Bytes,
    /// It has sent all it will.
    End,
}

/// A connection's encryption. One that has failed once is done for.
pub trait Session: Send + fmt::Debug {
    /// Takes what has come, and hands on what it holds, piece by piece. Also what came with the handshake's last bytes.
    ///
    /// # Errors
    /// Where it is not what the peer would send.
    fn open(&mut self, sealed: &[u8], take: &mut dyn FnMut(&[u8])) -> Result<Heard, SessionError>;

    /// Appends `plain` to `sealed` as records.
    ///
    /// # Errors
    /// Where the connection has failed before.
    fn seal(&mut self, plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), SessionError>;

    /// Appends the last word: that nothing more comes, or what was wrong.
    fn seal_end(&mut self, sealed: &mut Vec<u8>);

    /// Which record, by its number, has begun to come and is not whole.
    fn half(&self) -> Option<u64>;
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// What came, or a keys' use that is over.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// More than a handshake takes.
    #[error("expected a handshake of at most {HANDSHAKE_BYTES_MAX} bytes, found more")]
    TooLong,
    /// Its buffers.
    #[error("TLS: {0}")]
    Buffer(#[source] io::Error),
}

/// How far a handshake is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shaken {
    /// It goes on.
    No,
    /// It is done: with certificates.
    Full,
    /// It is done: with a ticket of one before.
    Resumed,
}

/// A caller's connection, from its first byte on.
pub struct Caller {
    connection: ServerConnection,
    edge: Edge,
    /// Bytes that have come before the handshake was done.
    bytes: usize,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("edge", &self.edge).finish_non_exhaustive()
    }
}

impl Caller {
    /// Of whom nothing is known yet.
    ///
    /// # Errors
    /// Where the configuration allows no handshake at all.
    pub fn new(config: Arc<ServerConfig>) -> Result<Caller, SessionError> {
        Ok(Caller { connection: ServerConnection::new(config)?, edge: Edge::default(), bytes: 0 })
    }

    /// Takes bytes of the handshake, and appends what is to be answered, also where it fails.
    ///
    /// # Errors
    /// Where it cannot go on.
    pub fn shake(&mut self, came: &[u8], answer: &mut Vec<u8>) -> Result<Shaken, SessionError> {
        self.bytes += came.len();
        self.edge.pass(came);
        let outcome =
            if self.bytes > HANDSHAKE_BYTES_MAX { Err(SessionError::TooLong) } else { self.read(came) };
        self.flush(answer).map_err(SessionError::Buffer)?;
        outcome?;
        if self.connection.is_handshaking() {
            return Ok(Shaken::No);
        }
        match self.connection.handshake_kind() {
            Some(HandshakeKind::Resumed) => Ok(Shaken::Resumed),
            _ => Ok(Shaken::Full),
        }
    }

    /// The names in the certificate that the caller has proved to be its own; `None` where it was not asked for one.
    pub fn names(&self) -> Option<Result<CertificateNames, super::names::NamesError>> {
        let certificate = self.connection.peer_certificates()?.first()?;
        Some(CertificateNames::of(certificate))
    }

    /// Bytes of a handshake. What else comes with its end stays inside.
    fn read(&mut self, mut came: &[u8]) -> Result<(), SessionError> {
        while !came.is_empty() {
            if self.connection.read_tls(&mut came).map_err(SessionError::Buffer)? == 0 {
                break;
            }
            self.connection.process_new_packets()?;
        }
        Ok(())
    }

    fn flush(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(into)?;
        }
        Ok(())
    }

    fn hand_on(&mut self, take: &mut dyn FnMut(&[u8])) {
        while let Ok(piece @ [_, ..]) = self.connection.reader().into_first_chunk() {
            let bytes = piece.len();
            take(piece);
            self.connection.reader().consume(bytes);
        }
    }
}

impl Session for Caller {
    fn open(&mut self, sealed: &[u8], take: &mut dyn FnMut(&[u8])) -> Result<Heard, SessionError> {
        self.edge.pass(sealed);
        let mut rest = sealed;
        loop {
            // An empty read would be taken for the peer's end.
            let is_over =
                !rest.is_empty() && self.connection.read_tls(&mut rest).map_err(SessionError::Buffer)? == 0;
            let state = self.connection.process_new_packets()?;
            self.hand_on(take);
            if state.peer_has_closed() {
                return Ok(Heard::End);
            }
            if rest.is_empty() {
                return Ok(Heard::Bytes);
            }
            if is_over {
                return Err(SessionError::Buffer(io::ErrorKind::InvalidData.into()));
            }
        }
    }

    fn seal(&mut self, plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), SessionError> {
        let mut rest = plain;
        while !rest.is_empty() {
            // It takes what its buffer holds, and that is emptied each time.
            let taken = self.connection.writer().write(rest).map_err(SessionError::Buffer)?;
            self.flush(sealed).map_err(SessionError::Buffer)?;
            rest = &rest[taken..];
        }
        Ok(())
    }

    fn seal_end(&mut self, sealed: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.flush(sealed).expect("a vector takes what it is given");
    }

    fn half(&self) -> Option<u64> {
        self.edge.is_inside().then_some(self.edge.whole)
    }
}

/// Where the bytes that have come end in the stream of records. rustls does not say, and half a record is memory that a caller holds.
#[derive(Debug, Default)]
struct Edge {
    /// The head of a record, as far as it has come: kind, version, length.
    head: [u8; Edge::HEAD_BYTES],
    head_bytes: usize,
    /// Bytes of its body that have yet to come.
    left: usize,
    /// Records that have come whole.
    whole: u64,
}

impl Edge {
    const HEAD_BYTES: usize = 5;

    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = &bytes[passed..];
            } else {
                self.head[self.head_bytes] = first;
                self.head_bytes += 1;
                bytes = rest;
                if self.head_bytes < Edge::HEAD_BYTES {
                    continue;
                }
                self.head_bytes = 0;
                self.left = usize::from(u16::from_be_bytes([self.head[3], self.head[4]]));
            }
            self.whole += u64::from(self.left == 0);
        }
    }

    fn is_inside(&self) -> bool {
        self.head_bytes > 0 || self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_edge_is_found_however_its_bytes_come() {
        let records: Vec<u8> =
            [&[23, 3, 3, 0, 2, 1, 2][..], &[23, 3, 3, 0, 0], &[23, 3, 3, 1, 4], &[7; 260]].concat();
        let ends = [7, 12, records.len()];
        for step in 1..=records.len() {
            let (mut edge, mut passed) = (Edge::default(), 0);
            for piece in records.chunks(step) {
                edge.pass(piece);
                passed += piece.len();
                let whole = ends.iter().filter(|&&end| end <= passed).count() as u64;
                assert_eq!(edge.whole, whole, "{passed} bytes by {step}");
                assert_eq!(
                    edge.is_inside(),
                    passed != 0 && !ends.contains(&passed),
                    "{passed} bytes by {step}"
                );
            }
        }
    }
}
