//! Text of a bounded length, written in one place: room for all of it is made once, and each piece is a store of a known length. A
//! vector that is asked for room at each piece costs more than the digits (`json.rs`).

use alloc::vec::Vec;
use core::mem;

use super::digits::{ZEROS, ascii, eight_digits};
use super::time;

const EIGHT_DIGITS: u64 = 100_000_000;
/// Bytes of a number's label.
const LABEL: usize = 24;

/// Text of at most `N` bytes that is always the same: it goes out by a store of all of them.
#[derive(Clone, Copy)]
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub(super) const fn new(text: &str) -> Text<N> {
        let mut bytes = [0; N];
        bytes.split_at_mut(text.len()).0.copy_from_slice(text.as_bytes());
        Text { bytes, len: text.len() }
    }
}

/// What is left of the room at the end of a vector.
pub(super) struct Line<'a> {
    room: &'a mut [u8],
}

impl Line<'_> {
    /// Appends what `write` writes.
    ///
    /// # Panics
    /// Where that is more than `room_bytes`: a defect, for all that is written has a length that is known. The last piece needs as
    /// much as its store takes, however short it is: a text `N` bytes, a number with its label 33.
    #[inline(always)]
    pub(super) fn append(out: &mut Vec<u8>, room_bytes: usize, write: impl FnOnce(&mut Line<'_>)) {
        let from = out.len();
        out.resize(from + room_bytes, 0);
        let mut line = Line { room: &mut out[from..] };
        write(&mut line);
        let left = line.room.len();
        out.truncate(from + room_bytes - left);
    }

    #[inline(always)]
    pub(super) fn text<const N: usize>(&mut self, text: Text<N>) {
        self.beginning(&text.bytes, text.len);
    }

    /// The first `len` bytes of `text`, by a store of all of them.
    #[inline(always)]
    pub(super) fn beginning<const N: usize>(&mut self, text: &[u8; N], len: usize) {
        let room = mem::take(&mut self.room);
        *room.first_chunk_mut().expect("room for it") = *text;
        self.room = &mut room[len..];
    }

    /// A number behind its label.
    #[inline(always)]
    pub(super) fn unsigned(&mut self, label: Text<LABEL>, number: u64) {
        self.number(label, false, number);
    }

    #[inline(always)]
    pub(super) fn signed(&mut self, label: Text<LABEL>, number: i64) {
        self.number(label, number < 0, number.unsigned_abs());
    }

    #[inline(always)]
    fn number(&mut self, label: Text<LABEL>, is_negative: bool, number: u64) {
        match number {
            0..EIGHT_DIGITS => self.short(label, is_negative, number),
            // The line itself is handed over and comes back: where somebody else might write to it, it would lie in memory for all.
            _ => *self = Line { room: mem::take(&mut self.room) }.with_long(label, is_negative, number),
        }
    }

    /// As [`time::rfc3339`] says it.
    #[inline(always)]
    pub(super) fn moment(&mut self, us: i64) {
        let (place, rest) = mem::take(&mut self.room).split_first_chunk_mut().expect("room for a time");
        time::write_rfc3339(place, us);
        self.room = rest;
    }

    #[inline(always)]
    fn short(&mut self, label: Text<LABEL>, is_negative: bool, number: u64) {
        let digits = eight_digits(number);
        // The last digit stands, even if it is a zero.
        let leading_zeros = (digits | 1 << 56).trailing_zeros() / 8;
        let digits = ((digits | ZEROS) >> (8 * leading_zeros)).to_le_bytes();
        // Room for all of it is asked for once. Nobody can tell in advance which are negative.
        let room = mem::take(&mut self.room);
        let place: &mut [u8; LABEL + 1 + 8] = room.first_chunk_mut().expect("room for it");
        place[..LABEL].copy_from_slice(&label.bytes);
        place[label.len] = b'-';
        let from = label.len + usize::from(is_negative);
        place[from..from + 8].copy_from_slice(&digits);
        self.room = &mut room[from + 8 - leading_zeros as usize..];
    }

    #[cold]
    fn with_long(mut self, label: Text<LABEL>, is_negative: bool, number: u64) -> Self {
        match number / EIGHT_DIGITS {
            first @ 0..EIGHT_DIGITS => self.short(label, is_negative, first),
            first => {
                self.short(label, is_negative, first / EIGHT_DIGITS);
                self.beginning(&ascii(first % EIGHT_DIGITS), 8);
            }
        }
        self.beginning(&ascii(number % EIGHT_DIGITS), 8);
        self
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Line<'_>)) -> Vec<u8> {
        let mut out = b"before ".to_vec();
        Line::append(&mut out, 64, write);
        out
    }

    fn check(number: u64) {
        assert_eq!(
            written(|line| line.unsigned(Text::new("is "), number)),
            format!("before is {number}").into_bytes()
        );
        let signed = number as i64;
        assert_eq!(
            written(|line| line.signed(Text::new("is "), signed)),
            format!("before is {signed}").into_bytes()
        );
    }

    #[test]
    fn every_four_digits_in_both_halves() {
        for number in 0..10_000 {
            check(number);
            check(number * 10_000);
            check(number * 10_001);
        }
    }

    #[test]
    fn every_length() {
        for power in (0..20).map(|zeros| 10_u64.pow(zeros)) {
            check(power - 1);
            check(power);
        }
        check(u64::MAX);
        check(i64::MAX as u64);
        check(i64::MIN as u64);
    }

    proptest! {
        #[test]
        fn any_number(number: u64, shift in 0_u32..64) {
            check(number >> shift);
        }
    }
}
