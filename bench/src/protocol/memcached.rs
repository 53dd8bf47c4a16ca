//! memcached's text protocol: `get`, and one multi-`get` for all questions of a burst, as its clients pipeline.

use super::value::is_value_of;
use super::{Fate, Protocol, Question, Step, Wrong, beginning, malformed, number};
use crate::limits::KEYS_PER_ASK_MAX;
use crate::{
    generator::pending::{Ordering, Pending, SlotIndex},
    limits,
    truth::Claims,
    work::Kind,
};

/// memcached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memcached;

impl Protocol for Memcached {
    const ORDERING: Ordering = Ordering::InOrder;

    fn speaks(kind: Kind) -> bool {
        kind == Kind::Balance
    }

    fn request_bytes_max(_: Kind) -> usize {
        "get 01234567890123456789\r\n".len()
    }

    #[inline]
    fn request(&mut self, out: &mut Vec<u8>, _: u64, slot: SlotIndex, pending: &mut Pending) {
        if pending.open_group == 0 {
            out.extend_from_slice(b"get");
        }
        out.push(b' ');
        out.extend_from_slice(itoa::Buffer::new().format(pending.asked(slot).user.get()).as_bytes());
        pending.open_group += 1;
        if pending.open_group == KEYS_PER_ASK_MAX {
            self.finish(out, pending);
        }
    }

    #[inline]
    fn finish(&mut self, out: &mut Vec<u8>, pending: &mut Pending) {
        if pending.open_group > 0 {
            out.extend_from_slice(b"\r\n");
            pending.groups.push_back(pending.open_group);
            pending.open_group = 0;
        }
    }

    #[inline]
    fn reply(&mut self, bytes: &[u8], pending: &mut Pending) -> Result<Step, Wrong> {
        let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(Step::Partial) };
        let line = bytes[..end].strip_suffix(b"\r").ok_or_else(|| malformed("a line", bytes))?;
        if line == b"END" {
            return end_group(end + 1, pending);
        }
        let slot = pending.oldest().ok_or_else(|| Wrong::Unasked { found: beginning(bytes) })?;
        let question = Question::of(pending, slot, None);
        let mut words = line.split(|&byte| byte == b' ');
        let (word, key, _flags, length) = (words.next(), words.next(), words.next(), words.next());
        let length = length.and_then(number).filter(|&n| n <= limits::REPLY_BYTES_MAX);
        let (Some(b"VALUE"), Some(key), Some(length)) = (word, key, length) else {
            return Err(malformed("VALUE, or END", bytes));
        };
        let consumed = end + 1 + length + 2;
        let Some(value) = bytes.get(end + 1..consumed) else { return Ok(Step::Partial) };
        let value =
            value.strip_suffix(b"\r\n").ok_or_else(|| malformed("a value as long as it says", bytes))?;
        if key != itoa::Buffer::new().format(question.user.get()).as_bytes()
            || !is_value_of(value, question.user)
        {
            return Err(question.other_user(question.user, beginning(key)));
        }
        let left = pending.groups.front_mut().filter(|left| **left > 0);
        *left.ok_or_else(|| Wrong::Unasked { found: beginning(bytes) })? -= 1;
        let since_ns = pending.asked(slot).since_ns;
        pending.release(slot);
        Ok(Step::Answered { consumed, since_ns, fate: Fate::Served })
    }

    fn claims(&self) -> Option<&Claims> {
        None
    }
}

/// The end of a `get`: all its keys must have been there.
fn end_group(consumed: usize, pending: &mut Pending) -> Result<Step, Wrong> {
    match pending.groups.pop_front() {
        Some(0) => Ok(Step::Skip(consumed)),
        Some(_) => {
            let slot = pending.oldest().expect("a group with questions left has them in the order");
            Err(Question::of(pending, slot, None).implausible("the key is not there"))
        }
        None => Err(Wrong::Unasked { found: "END".to_owned() }),
    }
}
