//! RESP, which Redis and Valkey speak → requests (wire.md, "RESP").
//!
//! | module | holds |
//! | --- | --- |
//! | `words` | an array of bulk strings: how long the command is, and its words |
//! | `command` | words → what they ask |
//! | `error` | why a command is refused |
//!
//! Replies come in the order of their commands. What leaves a command's length in doubt closes the connection.

mod command;
mod error;
mod words;

use alloc::string::ToString;
use alloc::vec::Vec;

pub use command::{COMMANDS, Chat, Described};
pub use error::RespError;
use florin_schema::{Opcode, UserId};

use self::words::{Halt, Words};
use super::{Format, Parsed, Rejection, ReplyTo, RespReply, RespShape, RespVersion};

/// Reads the command at the beginning of `bytes`, on a connection of this version. `users` receives the ids of an MGET; other
/// commands leave it be.
pub fn parse<'a>(bytes: &'a [u8], version: RespVersion, users: &mut Vec<UserId>) -> Parsed<'a> {
    let (words, length) = match Words::read(bytes) {
        Ok(read) => read,
        Err(Halt::Incomplete { .. }) => return Parsed::Incomplete,
        Err(Halt::Broken(error)) => return Parsed::Rejected(rejection(version, &error, None)),
    };
    match command::request(words, version, users) {
        Ok(request) => Parsed::Request(request, length),
        Err(error) => Parsed::Rejected(rejection(version, &error, Some(length))),
    }
}

/// How long the command that `begun` begins is at least: before so much is here it is of no use to read it again.
pub fn least_bytes(begun: &[u8]) -> usize {
    match Words::read(begun) {
        Err(Halt::Incomplete { least }) => least,
        Ok(_) | Err(Halt::Broken(_)) => 0,
    }
}

/// Whose balance the GET at the beginning of `bytes` asks for, and how long it is; `None` for everything else, which [`parse`] reads.
#[inline(always)]
pub fn plain_balance(bytes: &[u8]) -> Option<(UserId, usize)> {
    usual_balance(bytes).or_else(|| other_balance(bytes))
}

/// The same of an id of two to eight digits: all that stands before them has its place, and is compared at once.
#[inline(always)]
fn usual_balance(bytes: &[u8]) -> Option<(UserId, usize)> {
    const HEAD: &[u8; 26] = b"*2\r\n$3\r\nget\r\n$1\0\r\nbalance:";
    // Letters as clients write them: in upper or lower case.
    const LOWER: u64 = u64::from_le_bytes([b' ', b' ', b' ', 0, 0, 0, 0, 0]);
    let word = |text: &[u8; HEAD.len()], at: usize| {
        u64::from_le_bytes(*text[at..].first_chunk().expect("all of them lie in it"))
    };
    let head: &[u8; HEAD.len()] = bytes.first_chunk()?;
    let command = (word(head, 8) | LOWER) << 8 >> 8;
    let differs = word(head, 0) ^ word(HEAD, 0)
        | command ^ word(HEAD, 8)
        | word(head, 16) ^ word(HEAD, 16)
        | word(head, 18) ^ word(HEAD, 18);
    // Where 0 stands in its place is the last digit of the key's length.
    let digits = usize::from(head[15].wrapping_sub(b'0')) + 2;
    if differs != 0 || digits > 8 {
        return None;
    }
    let end = HEAD.len() + digits;
    let (last, end_of_line) = bytes.get(end - 8..end + 2)?.split_first_chunk()?;
    if end_of_line != b"\r\n" {
        return None;
    }
    Some((UserId::new(few_digits(last, digits)?)?, end + 2))
}

/// Out of line: it would stand in the loop of those that are read at once.
#[inline(never)]
fn other_balance(bytes: &[u8]) -> Option<(UserId, usize)> {
    let (head, rest) = bytes.split_first_chunk()?;
    // As clients write it: in upper or lower case.
    if head != b"*2\r\n$3\r\nGET\r\n$" && head != b"*2\r\n$3\r\nget\r\n$" {
        return None;
    }
    let (key_bytes, rest) = match rest {
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n', rest @ ..] => {
            (usize::from(tens - b'0') * 10 + usize::from(ones - b'0'), rest)
        }
        [ones @ b'0'..=b'9', b'\r', b'\n', rest @ ..] => (usize::from(ones - b'0'), rest),
        _ => return None,
    };
    let (key, rest) = rest.split_at_checked(key_bytes)?;
    let id = key.strip_prefix(b"balance:").and_then(command::decimal_id)?;
    rest.starts_with(b"\r\n").then_some((id, bytes.len() - rest.len() + 2))
}

/// The number that the last `digits` of these bytes spell, as [`florin_schema::decimal`] reads it: what stands before them counts as zeros, and
/// neighbours are put together, then pairs, then fours.
#[inline(always)]
fn few_digits(bytes: &[u8; 8], digits: usize) -> Option<u64> {
    const EACH: u64 = u64::MAX / 255;
    const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);
    let before = 64 - 8 * digits;
    let word = ((u64::from_le_bytes(*bytes) ^ ZEROS) >> before) << before;
    let is_number = (word | word.wrapping_add((0x80 - 10) * EACH)) & (0x80 * EACH) == 0;
    let begins_with_zero = (word >> before) & 0xff == 0;
    if !is_number || (begins_with_zero && digits > 1) {
        return None;
    }
    let pairs = (word.wrapping_mul(10) + (word >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff)
}

/// Refuses a command of which only a part has come in time.
pub fn timed_out(version: RespVersion) -> Rejection {
    rejection(version, &RespError::TimedOut, None)
}

/// Where the answer to a GET of a balance goes.
pub const fn get(version: RespVersion) -> ReplyTo {
    reply_to(Opcode::GetBalance, version, RespShape::Value)
}

/// Where the answer to a run of GETs goes, each of which is answered as if by itself.
pub const fn run(version: RespVersion) -> ReplyTo {
    reply_to(Opcode::GetBalance, version, RespShape::Run)
}

const fn reply_to(opcode: Opcode, version: RespVersion, shape: RespShape) -> ReplyTo {
    ReplyTo { opcode, request_id: 0, format: Format::Resp(RespReply { version, shape }) }
}

#[cold]
fn rejection(version: RespVersion, error: &RespError, consumed: Option<usize>) -> Rejection {
    Rejection::new(reply_to(Opcode::Ping, version, RespShape::Ok), error.to_string(), consumed)
}

#[cfg(test)]
mod tests;
