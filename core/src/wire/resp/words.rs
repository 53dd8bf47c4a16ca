//! A command as RESP has it: an array of bulk strings.

use alloc::string::String;

use super::RespError;
use crate::limits::{RESP_COMMAND_BYTES_MAX, RESP_WORD_BYTES_MAX, RESP_WORDS_MAX};

/// The shortest that a word can be: `$0`, two ends of lines, and nothing between.
const WORD_BYTES_MIN: usize = 6;
/// Digits of a count or a length; all limits have fewer.
const DIGITS_MAX: usize = 9;

/// Why there are no words yet, or none at all.
#[derive(Debug)]
pub(super) enum Halt {
    /// The command has at least so many bytes.
    Incomplete { least: usize },
    /// Where it ends cannot be known.
    Broken(RespError),
}

/// The words of one command that is whole, from the first to the last.
#[derive(Clone, Debug)]
pub(super) struct Words<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Words<'a> {
    /// The words of the command at the beginning of `bytes`, and how many bytes it takes.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Words<'a>, usize), Halt> {
        let (count, begin) = number(bytes, 0, b'*', WORD_BYTES_MIN)?;
        if !(1..=RESP_WORDS_MAX).contains(&count) {
            return Err(Halt::Broken(RespError::Words(count)));
        }
        let mut at = begin;
        for later in (0..count).rev() {
            let behind = later * WORD_BYTES_MIN;
            let (length, from) = number(bytes, at, b'$', 2 + behind)?;
            if length > RESP_WORD_BYTES_MAX {
                return Err(Halt::Broken(RespError::WordTooLong(length)));
            }
            at = from + length + 2;
            if at + behind > RESP_COMMAND_BYTES_MAX {
                return Err(Halt::Broken(RespError::CommandTooLong));
            }
            match bytes.get(from + length..at) {
                Some(b"\r\n") => {}
                Some(_) => return Err(Halt::Broken(RespError::WordEnd(length))),
                None => return Err(Halt::Incomplete { least: at + behind }),
            }
        }
        Ok((Words { bytes: &bytes[begin..at], left: count }, at))
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (length, from) = number(self.bytes, 0, b'$', 0).expect("a command that was read whole");
        let (word, rest) = self.bytes[from..].split_at(length);
        self.bytes = &rest[2..];
        Some(word)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Words<'_> {}

/// The number of the line at `at`, which begins with `mark`, and where the next begins, behind which there are at least `behind` bytes.
fn number(bytes: &[u8], at: usize, mark: u8, behind: usize) -> Result<(usize, usize), Halt> {
    let line = bytes.get(at..).unwrap_or_default();
    let Some((&first, rest)) = line.split_first() else {
        return Err(Halt::Incomplete { least: at + "$0\r\n".len() + behind });
    };
    if first != mark {
        return Err(Halt::Broken(RespError::Mark { expected: char::from(mark), got: char::from(first) }));
    }
    let digits = rest.iter().take(DIGITS_MAX).take_while(|byte| byte.is_ascii_digit()).count();
    let value = rest[..digits].iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0'));
    let is_canonical = digits == 1 || (digits > 1 && rest[0] != b'0');
    match &rest[digits..] {
        [b'\r', b'\n', ..] if is_canonical => Ok((value, at + 1 + digits + 2)),
        [] | [b'\r'] => Err(Halt::Incomplete { least: at + 1 + digits.max(1) + 2 + behind }),
        _ => {
            // As far as it was wrong, and no farther: what follows may not be here yet.
            let got = String::from_utf8_lossy(&rest[..=digits]).into_owned();
            Err(Halt::Broken(RespError::Number { mark: char::from(mark), got }))
        }
    }
}
