//! Bytes from the server → whole replies whose bodies are aligned.
//!
//! Replies in a burst lie at any address, for frames are not padded; rkyv wants its root aligned. So the bodies of a
//! burst are copied, each to a multiple of 16, into one allocation that the burst's replies share.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use florin_schema::Stranger;
use florin_schema::frame::{ReplyHeader, VERSION};
use rkyv::util::AlignedVec;
use zerocopy::FromBytes;

use crate::limits::{READ_BYTES, READ_BYTES_MIN, REPLY_BYTES_MAX};
use crate::{Disconnect, ProtocolError};

const HEADER_BYTES: usize = size_of::<ReplyHeader>();

/// A reply, not yet looked into.
#[derive(Clone, Debug)]
pub(crate) struct RawReply {
    pub header: ReplyHeader,
    /// The bodies of the whole burst.
    pub burst: Arc<AlignedVec<16>>,
    /// This reply's.
    pub body: Range<usize>,
}

impl RawReply {
    pub fn body(&self) -> &[u8] {
        &self.burst[self.body.clone()]
    }
}

/// What has been read and not yet been taken.
#[derive(Default)]
pub(crate) struct ReadBuffer {
    bytes: BytesMut,
}

impl ReadBuffer {
    /// Where to read to: room for the rest of a frame that has begun, and for a burst otherwise.
    pub fn room(&mut self) -> &mut BytesMut {
        let missing = self.expected().map_or(0, |length| (length as usize).saturating_sub(self.bytes.len()));
        if self.bytes.capacity() - self.bytes.len() < missing.max(READ_BYTES_MIN) {
            self.bytes.reserve(missing.max(READ_BYTES));
        }
        &mut self.bytes
    }

    /// Bytes that are there of a reply that is not whole.
    pub fn part(&self) -> usize {
        self.bytes.len()
    }

    /// How long the reply at the front says that it is; none before that is there.
    pub fn expected(&self) -> Option<u32> {
        self.bytes.first_chunk().map(|&length| u32::from_le_bytes(length))
    }

    /// What it means where the server closes the connection now.
    pub fn closed(&self) -> Disconnect {
        match self.part() {
            0 => Disconnect::Closed,
            got => Disconnect::CutShort { got, expected: self.expected() },
        }
    }

    /// What it means where the server has said nothing for so long.
    pub fn silent(&self, limit: Duration) -> Disconnect {
        match self.part() {
            0 => Disconnect::Silent(limit),
            got => Disconnect::Dripped { after: limit, got, expected: self.expected() },
        }
    }

    /// Takes the whole replies at the front. After an error nothing behind it can be trusted.
    pub fn take(&mut self, replies: &mut Vec<RawReply>) -> Result<(), ProtocolError> {
        let mut found: Vec<(ReplyHeader, Range<usize>)> = Vec::new();
        let (mut taken, mut aligned_bytes) = (0, 0);
        while let Some(header) = next(&self.bytes[taken..])? {
            let end = taken + header.length.get() as usize;
            found.push((header, taken + HEADER_BYTES..end));
            aligned_bytes += (end - taken - HEADER_BYTES).next_multiple_of(16);
            taken = end;
        }
        if found.is_empty() {
            return Ok(());
        }
        let mut burst = AlignedVec::with_capacity(aligned_bytes);
        for (_, body) in &mut found {
            let at = burst.len();
            burst.extend_from_slice(&self.bytes[body.clone()]);
            *body = at..burst.len();
            burst.resize(burst.len().next_multiple_of(16), 0);
        }
        self.bytes.advance(taken);
        let burst = Arc::new(burst);
        replies.extend(found.into_iter().map(|(header, body)| RawReply {
            header,
            burst: Arc::clone(&burst),
            body,
        }));
        Ok(())
    }
}

/// The header at the front of `bytes`, if its whole frame is there. A header that cannot be is refused as soon as it
/// shows.
fn next(bytes: &[u8]) -> Result<Option<ReplyHeader>, ProtocolError> {
    let Some(&length) = bytes.first_chunk() else { return Ok(None) };
    let got = u32::from_le_bytes(length);
    if !(HEADER_BYTES..=REPLY_BYTES_MAX).contains(&(got as usize)) {
        return Err(foreign(bytes, ProtocolError::Length { max: REPLY_BYTES_MAX, got }));
    }
    match bytes.get(4) {
        Some(&VERSION) | None => {}
        Some(&other) => return Err(foreign(bytes, ProtocolError::Version(other))),
    }
    if bytes.len() < got as usize {
        return Ok(None);
    }
    let (header, _) = ReplyHeader::read_from_prefix(bytes).expect("the frame is there, so its header is");
    Ok(Some(header))
}

/// What a wrong header is told as: the protocol that it is of, where that shows.
fn foreign(bytes: &[u8], error: ProtocolError) -> ProtocolError {
    match Stranger::of(bytes) {
        Some(Stranger::Tls) => ProtocolError::Tls,
        Some(Stranger::Http) => ProtocolError::Http,
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    fn read(buffer: &mut ReadBuffer, bytes: &[u8]) -> Result<Vec<RawReply>, ProtocolError> {
        buffer.room().extend_from_slice(bytes);
        let mut replies = Vec::new();
        buffer.take(&mut replies)?;
        Ok(replies)
    }

    #[test]
    fn a_burst_cut_at_every_byte_gives_the_same_aligned_replies() {
        let frames = ["reply-balance-rkyv", "reply-ping", "reply-ping-empty", "reply-balances-rkyv"];
        let stream: Vec<u8> = frames.iter().flat_map(|name| golden::frame(name)).collect();
        for cut in 0..=stream.len() {
            let mut buffer = ReadBuffer::default();
            let mut replies = read(&mut buffer, &stream[..cut]).unwrap();
            replies.extend(read(&mut buffer, &stream[cut..]).unwrap());
            assert_eq!(replies.len(), frames.len(), "cut at {cut}");
            for (reply, name) in replies.iter().zip(frames) {
                assert_eq!(reply.body(), &golden::frame(name)[HEADER_BYTES..], "{name}, cut at {cut}");
                assert!(reply.body().as_ptr().addr().is_multiple_of(16), "{name}, cut at {cut}");
            }
        }
    }

    #[test]
    fn a_burst_shares_one_allocation() {
        let stream = golden::frame("reply-balance-rkyv").repeat(100);
        let replies = read(&mut ReadBuffer::default(), &stream).unwrap();
        assert_eq!(replies.len(), 100);
        assert!(replies.iter().all(|reply| Arc::ptr_eq(&reply.burst, &replies[0].burst)));
    }

    #[test]
    fn frames_that_cannot_be_are_refused_by_their_first_bytes() {
        let wrong = read(&mut ReadBuffer::default(), &31u32.to_le_bytes()).unwrap_err();
        assert_eq!(wrong, ProtocolError::Length { max: REPLY_BYTES_MAX, got: 31 });
        let wrong = read(&mut ReadBuffer::default(), b"HTTP/1.1 200 OK").unwrap_err();
        assert_eq!(wrong, ProtocolError::Http);
        let wrong = read(&mut ReadBuffer::default(), b"\x15\x03\x03\x00\x02\x02\x32").unwrap_err();
        assert_eq!(wrong, ProtocolError::Tls);
        let wrong = read(&mut ReadBuffer::default(), &[32, 0, 0, 0, 2]).unwrap_err();
        assert_eq!(wrong, ProtocolError::Version(2));
    }
}
