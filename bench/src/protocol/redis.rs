//! RESP: GET of a key that is the user's id. The loader's values say whose they are and how long, so an answer can be checked.

use super::{Fate, Protocol, Question, Step, Wrong, beginning, malformed};
use crate::{
    generator::pending::{Ordering, Pending, SlotIndex},
    limits,
    targets::peers::is_value_of,
    work::Kind,
};

/// Redis, and whatever else speaks its protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redis;

impl Protocol for Redis {
    const ORDERING: Ordering = Ordering::InOrder;

    fn speaks(kind: Kind) -> bool {
        kind == Kind::Balance
    }

    fn request_bytes_max(_: Kind) -> usize {
        "*2\r\n$3\r\nGET\r\n$20\r\n01234567890123456789\r\n".len()
    }

    #[inline]
    fn request(&mut self, out: &mut Vec<u8>, _: u64, slot: SlotIndex, pending: &mut Pending) {
        let (mut id, mut length) = (itoa::Buffer::new(), itoa::Buffer::new());
        let id = id.format(pending.asked(slot).user.get());
        out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$");
        out.extend_from_slice(length.format(id.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn reply(&mut self, bytes: &[u8], pending: &mut Pending) -> Result<Step, Wrong> {
        let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(Step::Partial) };
        let slot = pending.oldest().ok_or_else(|| Wrong::Unasked { found: beginning(bytes) })?;
        let question = Question::of(pending, slot, None);
        let length = match &bytes[..end + 1] {
            b"$-1\r\n" => return Err(question.implausible("the key is not there")),
            [b'$', digits @ .., b'\r', b'\n'] => number(digits).filter(|&n| n <= limits::REPLY_BYTES_MAX),
            [b'-', message @ ..] => {
                return Err(Wrong::Status {
                    user: question.user,
                    kind: question.kind,
                    status: "an error".to_owned(),
                    message: beginning(message),
                });
            }
            _ => None,
        };
        let length = length.ok_or_else(|| malformed("a bulk string", bytes))?;
        let consumed = end + 1 + length + 2;
        let Some(value) = bytes.get(end + 1..consumed) else { return Ok(Step::Partial) };
        let Some(value) = value.strip_suffix(b"\r\n") else {
            return Err(malformed("a bulk string as long as it says", bytes));
        };
        if !is_value_of(value, question.user) {
            return Err(question.other_user(question.user, beginning(value)));
        }
        let since_ns = pending.asked(slot).since_ns;
        pending.release(slot);
        Ok(Step::Answered { consumed, since_ns, fate: Fate::Served })
    }
}

/// A decimal number of at most nine digits.
#[inline]
pub(super) fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0, |n, digit| digit.is_ascii_digit().then(|| n * 10 + usize::from(digit - b'0')))
}
