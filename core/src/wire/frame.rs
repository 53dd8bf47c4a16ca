//! Native frames → requests, parsed where they lie (wire.md, "Request frame").
//!
//! | what is wrong | the connection |
//! | --- | --- |
//! | length outside 24..=65,536; another version; FRESHNESS without room for the options | closes: where the next frame begins is unknown |
//! | opcode, encoding, other flags, user ids, the body and its length | goes on behind the frame, whose length is sound |
//!
//! What the header alone shows is refused as soon as its 24 bytes are there, so a refused frame's body is never waited
//! for.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use florin_schema::frame::{
    BATCH_USERS_MAX, FLAG_FRESHNESS, FreshnessOptions, HELLO_CLIENT_BYTES_MAX, HELLO_TOKEN_BYTES_MAX,
    PING_BYTES_MAX, REQUEST_BYTES_MAX, RequestHeader, VERSION, WAIT_MS_MAX,
};
use florin_schema::{Encoding, Opcode, UserId, Version, WindowMask, generated};
use thiserror::Error;
use zerocopy::FromBytes;
use zerocopy::little_endian::U64;

use super::{Format, Freshness, Parsed, Query, Rejection, ReplyTo, Request};
use crate::limits::HELLO_BYTES_MAX;

const HEADER_BYTES: usize = size_of::<RequestHeader>();
const OPTIONS_BYTES: usize = size_of::<FreshnessOptions>();

/// Why a frame is refused: which field, what was expected and what came.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// Closes the connection.
    #[error("length: expected 24 to 65536 bytes, got {0}")]
    Length(u32),
    /// Closes the connection.
    #[error("version: expected 1, got {0}")]
    Version(u8),
    /// Closes the connection.
    #[error("length: expected at least 40 bytes where the FRESHNESS flag is set, got {0}")]
    NoRoomForOptions(u32),
    /// No such request.
    #[error("opcode: expected 0 to 4, got {0}")]
    Opcode(u8),
    /// No such encoding.
    #[error("encoding: expected 0 (FlatBuffers), 1 (rkyv) or 2 (FlatBuffers), got {0}")]
    Encoding(u8),
    /// Bits that must be 0.
    #[error("flags: expected 0 or 1 (FRESHNESS), got {0}")]
    Flags(u8),
    /// Beyond what a ledger can name.
    #[error("user_id: expected 0 to 9223372036854775807, got {0}")]
    UserId(u64),
    /// An opcode that names no user in its header.
    #[error("user_id: expected 0 in the header of {opcode:?}, got {got}")]
    UserIdSet {
        /// The request's.
        opcode: Opcode,
        /// What came.
        got: u64,
    },
    /// A body that is not its opcode's.
    #[error("body: expected {} for {opcode:?}, got {got} bytes", expected_body(*opcode))]
    BodyBytes {
        /// The request's.
        opcode: Opcode,
        /// What came.
        got: usize,
    },
    /// No or unknown windows.
    #[error("windows: expected a mask of 1 to 15 (1 = 24h, 2 = 7d, 4 = 30d, 8 = lifetime), got {0}")]
    WindowMask(u8),
    /// One of a GetBalances.
    #[error("user_ids[{index}]: expected 0 to 9223372036854775807, got {got}")]
    BatchUserId {
        /// Counted from 0.
        index: usize,
        /// What came.
        got: u64,
    },
    /// Bytes that do not verify.
    #[error("body: expected a FlatBuffers Hello: {0}")]
    Hello(String),
    /// A string beyond its limit.
    #[error("{field}: expected at most {limit} bytes, got {got}")]
    HelloString {
        /// `client` or `token`.
        field: &'static str,
        /// Its limit.
        limit: usize,
        /// What came.
        got: usize,
    },
}

impl FrameError {
    /// Whether nothing behind the frame can be trusted.
    pub const fn closes(&self) -> bool {
        matches!(self, FrameError::Length(_) | FrameError::Version(_) | FrameError::NoRoomForOptions(_))
    }
}

const fn expected_body(opcode: Opcode) -> &'static str {
    match opcode {
        Opcode::Hello => "a FlatBuffers Hello of at most 4096 bytes",
        Opcode::GetBalance => "none",
        Opcode::GetStatistics => "none or one byte",
        Opcode::GetBalances => "1 to 1024 user ids of 8 bytes each",
        Opcode::Ping => "at most 1024 bytes",
    }
}

/// Reads the frame at the beginning of `bytes`. `users` receives the ids of a GetBalances; other requests leave it be.
#[inline]
pub fn parse<'a>(bytes: &'a [u8], users: &mut Vec<UserId>) -> Parsed<'a> {
    let Ok((header, rest)) = RequestHeader::ref_from_prefix(bytes) else {
        return beginning(bytes);
    };
    match read(header, rest, users) {
        Ok(Some(request)) => Parsed::Request(request, header.length.get() as usize),
        Ok(None) => Parsed::Incomplete,
        Err(error) => refuse(header, &error),
    }
}

/// The commonest request by far, a GetBalance of any age: nothing but a header, told by its first eight bytes. `None` is
/// anything else, which [`parse`] tells.
#[inline(always)]
pub fn plain_balance(header: &[u8; HEADER_BYTES]) -> Option<(ReplyTo, UserId)> {
    const fn first_word(encoding: u8) -> u64 {
        let [l0, l1, l2, l3] = (HEADER_BYTES as u32).to_le_bytes();
        u64::from_le_bytes([l0, l1, l2, l3, VERSION, Opcode::GetBalance as u8, encoding, 0])
    }
    const DEFAULT: u64 = first_word(0);
    const RKYV: u64 = first_word(Encoding::Rkyv as u8);
    const FLATBUFFERS: u64 = first_word(Encoding::FlatBuffers as u8);

    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let format = match word(0) {
        RKYV => Format::Rkyv,
        FLATBUFFERS | DEFAULT => Format::FlatBuffers,
        _ => return None,
    };
    let reply_to = ReplyTo { opcode: Opcode::GetBalance, request_id: word(8), format };
    Some((reply_to, UserId::new(word(16))?))
}

/// `Ok(None)` where the header is in order and the rest is not all there.
#[inline]
fn read<'a>(
    header: &RequestHeader,
    rest: &'a [u8],
    users: &mut Vec<UserId>,
) -> Result<Option<Request<'a>>, FrameError> {
    let length = header.length.get() as usize;
    if !(HEADER_BYTES..=REQUEST_BYTES_MAX).contains(&length) {
        return Err(FrameError::Length(header.length.get()));
    }
    if header.version != VERSION {
        return Err(FrameError::Version(header.version));
    }
    let opcode = Opcode::try_from(header.opcode).map_err(|unknown| FrameError::Opcode(unknown.0))?;
    let format = reply_format(header.encoding)?;
    if header.flags & !FLAG_FRESHNESS != 0 {
        return Err(FrameError::Flags(header.flags));
    }
    let option_bytes = if header.flags == 0 { 0 } else { OPTIONS_BYTES };
    let rest_bytes = length - HEADER_BYTES;
    let Some(body_bytes) = rest_bytes.checked_sub(option_bytes) else {
        return Err(FrameError::NoRoomForOptions(header.length.get()));
    };
    let user_id = routing_key(opcode, header.user_id.get())?;
    if !body_fits(opcode, body_bytes) {
        return Err(FrameError::BodyBytes { opcode, got: body_bytes });
    }
    let Some(rest) = rest.get(..rest_bytes) else { return Ok(None) };

    let (options, body) = rest.split_at(option_bytes);
    let query = match opcode {
        Opcode::GetBalance => Query::Balance(user_id),
        Opcode::GetStatistics => Query::Statistics(user_id, windows(body)?),
        Opcode::GetBalances => batch(body, users)?,
        Opcode::Ping => Query::Ping(body),
        Opcode::Hello => hello(body)?,
    };
    let reply_to = ReplyTo { opcode, request_id: header.request_id.get(), format };
    Ok(Some(Request { reply_to, freshness: freshness(options), query, authorization: None }))
}

#[inline]
fn reply_format(encoding: u8) -> Result<Format, FrameError> {
    match Encoding::try_from(encoding) {
        Ok(Encoding::Rkyv) => Ok(Format::Rkyv),
        Ok(Encoding::FlatBuffers) => Ok(Format::FlatBuffers),
        Err(_) if encoding == 0 => Ok(Format::FlatBuffers),
        Err(unknown) => Err(FrameError::Encoding(unknown.0)),
    }
}

/// The header's user, which is 0 where the opcode has none.
#[inline]
fn routing_key(opcode: Opcode, got: u64) -> Result<UserId, FrameError> {
    match opcode {
        Opcode::GetBalance | Opcode::GetStatistics => UserId::new(got).ok_or(FrameError::UserId(got)),
        Opcode::Hello | Opcode::GetBalances | Opcode::Ping if got != 0 => {
            Err(FrameError::UserIdSet { opcode, got })
        }
        Opcode::Hello | Opcode::GetBalances | Opcode::Ping => Ok(UserId::default()),
    }
}

#[inline]
fn body_fits(opcode: Opcode, bytes: usize) -> bool {
    match opcode {
        Opcode::Hello => bytes <= HELLO_BYTES_MAX,
        Opcode::GetBalance => bytes == 0,
        Opcode::GetStatistics => bytes <= 1,
        Opcode::GetBalances => bytes != 0 && bytes.is_multiple_of(8) && bytes <= 8 * BATCH_USERS_MAX,
        Opcode::Ping => bytes <= PING_BYTES_MAX,
    }
}

#[inline]
fn freshness(options: &[u8]) -> Freshness {
    let Ok(options) = FreshnessOptions::ref_from_bytes(options) else { return Freshness::default() };
    Freshness {
        min_version: Version(options.min_version.get()),
        max_age_ms: options.max_age_ms.get(),
        wait_ms: options.wait_ms.get().min(WAIT_MS_MAX),
    }
}

#[inline]
fn windows(body: &[u8]) -> Result<WindowMask, FrameError> {
    match body.first() {
        None => Ok(WindowMask::ALL),
        Some(&mask) => WindowMask::new(mask).ok_or(FrameError::WindowMask(mask)),
    }
}

fn batch<'a>(body: &[u8], users: &mut Vec<UserId>) -> Result<Query<'a>, FrameError> {
    let ids = <[U64]>::ref_from_bytes(body).expect("the body's length was checked to be a multiple of 8");
    users.clear();
    for (index, id) in ids.iter().enumerate() {
        let got = id.get();
        users.push(UserId::new(got).ok_or(FrameError::BatchUserId { index, got })?);
    }
    Ok(Query::Balances)
}

fn hello(body: &[u8]) -> Result<Query<'_>, FrameError> {
    let hello = flatbuffers::root::<generated::Hello<'_>>(body).map_err(|error| {
        // The verifier's trace goes over several lines; the first says what is wrong.
        FrameError::Hello(error.to_string().lines().next().unwrap_or_default().to_owned())
    })?;
    let client = bounded("client", hello.client(), HELLO_CLIENT_BYTES_MAX)?;
    let token = bounded("token", hello.token(), HELLO_TOKEN_BYTES_MAX)?;
    Ok(Query::Hello { client, token })
}

fn bounded<'a>(field: &'static str, text: Option<&'a str>, limit: usize) -> Result<&'a str, FrameError> {
    let text = text.unwrap_or_default();
    if text.len() > limit {
        return Err(FrameError::HelloString { field, limit, got: text.len() });
    }
    Ok(text)
}

/// Fewer bytes than a header: an illegal length is refused at once, for what it announces may never come.
#[cold]
fn beginning<'a>(bytes: &[u8]) -> Parsed<'a> {
    let Some(length) = bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) else {
        return Parsed::Incomplete;
    };
    if (HEADER_BYTES..=REQUEST_BYTES_MAX).contains(&(length as usize)) {
        return Parsed::Incomplete;
    }
    let reply_to = ReplyTo { opcode: Opcode::Ping, request_id: 0, format: Format::FlatBuffers };
    Parsed::Rejected(rejection(reply_to, Opcode::Ping as u8, &FrameError::Length(length), None))
}

#[cold]
fn refuse<'a>(header: &RequestHeader, error: &FrameError) -> Parsed<'a> {
    let reply_to = ReplyTo {
        opcode: Opcode::try_from(header.opcode).unwrap_or(Opcode::Ping),
        request_id: header.request_id.get(),
        format: reply_format(header.encoding).unwrap_or(Format::FlatBuffers),
    };
    let consumed = (!error.closes()).then_some(header.length.get() as usize);
    Parsed::Rejected(rejection(reply_to, header.opcode, error, consumed))
}

fn rejection(reply_to: ReplyTo, opcode: u8, error: &FrameError, consumed: Option<usize>) -> Rejection {
    Rejection { opcode, ..Rejection::new(reply_to, error.to_string(), consumed) }
}

#[cfg(test)]
mod tests;
