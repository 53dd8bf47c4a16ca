//! Text of a bounded length, written in one place: room for all of it is made once, and each piece is a store of a known length. A
//! vector that is asked for room at each piece costs more than the digits (`json.rs`).

use alloc::vec::Vec;

use super::digits::{ZEROS, ascii, eight_digits};
use super::time;

const EIGHT_DIGITS: u64 = 100_000_000;

/// The end of a vector, with room for `N` bytes.
pub(super) struct Line<'a, const N: usize> {
    room: &'a mut [u8; N],
    len: usize,
}

impl<const N: usize> Line<'_, N> {
    /// Appends what `write` writes.
    ///
    /// # Panics
    /// Where that is more than `N` bytes: a defect, for all that is written has a length that is known. Of the last number or time there
    /// are eight bytes, however short it is.
    #[inline(always)]
    pub(super) fn append(out: &mut Vec<u8>, write: impl FnOnce(&mut Line<'_, N>)) {
        let from = out.len();
        out.extend_from_slice(&[0; N]);
        let mut line = Line { room: out.last_chunk_mut().expect("it was appended"), len: 0 };
        write(&mut line);
        let len = line.len;
        out.truncate(from + len);
    }

    #[inline(always)]
    pub(super) fn text<const K: usize>(&mut self, text: &[u8; K]) {
        self.beginning(text, K);
    }

    /// The first `len` bytes of `text`, by a store of all of them.
    #[inline(always)]
    pub(super) fn beginning<const K: usize>(&mut self, text: &[u8; K], len: usize) {
        self.room[self.len..self.len + K].copy_from_slice(text);
        self.len += len;
    }

    #[inline(always)]
    pub(super) fn unsigned(&mut self, number: u64) {
        match number {
            0..EIGHT_DIGITS => self.short(number),
            _ => self.long(number),
        }
    }

    #[inline(always)]
    pub(super) fn signed(&mut self, number: i64) {
        if number < 0 {
            self.text(b"-");
        }
        self.unsigned(number.unsigned_abs());
    }

    /// As [`time::rfc3339`] says it.
    #[inline(always)]
    pub(super) fn moment(&mut self, us: i64) {
        self.text(&time::rfc3339(us));
    }

    #[inline(always)]
    fn short(&mut self, number: u64) {
        let digits = eight_digits(number);
        // The last digit stands, even if it is a zero.
        let leading_zeros = (digits | 1 << 56).trailing_zeros() / 8;
        self.beginning(&((digits | ZEROS) >> (8 * leading_zeros)).to_le_bytes(), 8 - leading_zeros as usize);
    }

    #[cold]
    fn long(&mut self, number: u64) {
        match number / EIGHT_DIGITS {
            first @ 0..EIGHT_DIGITS => self.short(first),
            first => {
                self.short(first / EIGHT_DIGITS);
                self.text(&ascii(first % EIGHT_DIGITS));
            }
        }
        self.text(&ascii(number % EIGHT_DIGITS));
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Line<'_, 32>)) -> Vec<u8> {
        let mut out = b"before ".to_vec();
        Line::append(&mut out, write);
        out
    }

    fn check(number: u64) {
        assert_eq!(
            written(|line| line.unsigned(number)),
            [b"before ", number.to_string().as_bytes()].concat()
        );
        let signed = number as i64;
        assert_eq!(written(|line| line.signed(signed)), [b"before ", signed.to_string().as_bytes()].concat());
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
