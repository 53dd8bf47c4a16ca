//! Text of a bounded length, written in one place: room for all of it is made once, and each piece is a store of a known length. A
//! vector that is asked for room at each piece costs more than the digits (`json.rs`), and one whose room is emptied first, more than half of them.
#![allow(unsafe_code)]

use alloc::vec::Vec;
use core::mem::{self, MaybeUninit};

use super::digits::{self, ZEROS, ascii, eight_digits};
use super::time::{Days, Moment};

const EIGHT_DIGITS: u64 = 100_000_000;
/// Bytes that a number needs with its label, of which the store of 24 at the most.
const NUMBER: usize = 24 + 1 + 8;

/// Text of at most `N` bytes that is always the same: it goes out by a store of all of them.
#[derive(Clone, Copy)]
pub(super) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub(super) const fn new(text: &str) -> Text<N> {
        Text::of([text])
    }

    /// Several, one behind the other.
    pub(super) const fn of<const PARTS: usize>(parts: [&str; PARTS]) -> Text<N> {
        let (mut bytes, mut len, mut part) = ([0; N], 0, 0);
        while part < PARTS {
            let text = parts[part].as_bytes();
            bytes.split_at_mut(len).1.split_at_mut(text.len()).0.copy_from_slice(text);
            (len, part) = (len + text.len(), part + 1);
        }
        Text { bytes, len }
    }
}

/// An integer of 64 bits, signed or not.
#[derive(Clone, Copy)]
pub(super) struct Number {
    is_negative: bool,
    magnitude: u64,
}

impl From<u64> for Number {
    #[inline(always)]
    fn from(number: u64) -> Number {
        Number { is_negative: false, magnitude: number }
    }
}

impl From<i64> for Number {
    #[inline(always)]
    fn from(number: i64) -> Number {
        Number { is_negative: number < 0, magnitude: number.unsigned_abs() }
    }
}

/// What is left of the room at the end of a vector, of which nothing has been written yet.
pub(super) struct Line<'a> {
    room: &'a mut [MaybeUninit<u8>],
}

impl Line<'_> {
    /// Appends what `write` writes.
    ///
    /// # Panics
    /// Where that is more than `room_bytes`: a defect, for all that is written has a length that is known. The last piece needs as
    /// much as its store takes, however short it is: a text `N` bytes, a number with its label 33.
    #[inline(always)]
    pub(super) fn append(out: &mut Vec<u8>, room_bytes: usize, write: impl FnOnce(&mut Line<'_>)) {
        out.reserve(room_bytes);
        let from = out.len();
        let room = &mut out.spare_capacity_mut()[..room_bytes];
        let mut line = Line { room };
        write(&mut line);
        let left = line.room.len();
        // SAFETY: it is the same room, for nobody else can make a line; and it is passed over by `skip` alone, which is told no more
        // bytes than were stored at its beginning just before.
        unsafe { out.set_len(from + room_bytes - left) };
    }

    /// The room's first `N` bytes.
    #[inline(always)]
    fn place<const N: usize>(&mut self) -> &mut [MaybeUninit<u8>; N] {
        self.room.first_chunk_mut().expect("room for it")
    }

    /// Goes on behind so many bytes, which have been stored.
    #[inline(always)]
    fn skip(&mut self, bytes: usize) {
        self.room = &mut mem::take(&mut self.room)[bytes..];
    }

    #[inline(always)]
    pub(super) fn text<const N: usize>(&mut self, text: Text<N>) {
        self.beginning(&text.bytes, text.len);
    }

    /// The first `len` bytes of `text`, by a store of all of them.
    #[inline(always)]
    pub(super) fn beginning<const N: usize>(&mut self, text: &[u8; N], len: usize) {
        assert!(len <= N, "no more than all of it");
        store(self.place::<N>(), 0, text);
        self.skip(len);
    }

    /// A code's text, which was checked when it was written, behind its label.
    #[inline(always)]
    pub(super) fn code(&mut self, label: &Text<16>, code: u64) {
        let place = self.place::<{ 16 + 8 }>();
        store(place, 0, &label.bytes);
        store(place, label.len, &code.to_le_bytes());
        self.skip(label.len + 8 - code.leading_zeros() as usize / 8);
    }

    /// A number behind its label.
    #[inline(always)]
    pub(super) fn number<const N: usize>(&mut self, label: &'static Text<N>, number: impl Into<Number>) {
        let number = number.into();
        match number.magnitude {
            0..EIGHT_DIGITS => {
                let end = short(self.place::<NUMBER>(), 0, label, number);
                self.skip(end);
            }
            // The line itself is handed over and comes back: where somebody else might write to it, it would lie in memory for all.
            _ => *self = Line { room: mem::take(&mut self.room) }.with_long(label, number),
        }
    }

    /// Two of them, one behind the other: room for both is asked for once.
    #[inline(always)]
    pub(super) fn numbers<const N: usize, const M: usize>(
        &mut self,
        labels: (&'static Text<N>, &'static Text<M>),
        numbers: (impl Into<Number>, impl Into<Number>),
    ) {
        let (first, second) = (numbers.0.into(), numbers.1.into());
        if first.magnitude.max(second.magnitude) < EIGHT_DIGITS {
            let place = self.place::<{ 2 * NUMBER }>();
            let begin = short(place, 0, labels.0, first);
            let end = short(place, begin, labels.1, second);
            self.skip(end);
        } else {
            *self = Line { room: mem::take(&mut self.room) }.with_either_long(labels, (first, second));
        }
    }

    /// A text in which [`TIME`](super::time::TIME) stands at `at`, with a time in its place, as [`rfc3339`](super::time::rfc3339) says it.
    #[inline(always)]
    pub(super) fn moment<const N: usize>(&mut self, text: &Text<N>, at: usize, us: i64, days: &mut Days) {
        let Moment { date, clock, micros } = days.moment(us);
        let place = self.place::<N>();
        store(place, 0, &text.bytes);
        store(place, at, &date);
        store(place, at + Moment::CLOCK, &clock);
        store(place, at + Moment::MICROS, &micros);
        self.skip(text.len);
    }

    #[cold]
    fn with_long<const N: usize>(mut self, label: &'static Text<N>, number: Number) -> Self {
        let Number { is_negative, magnitude } = number;
        let begins_with = |magnitude| Number { is_negative, magnitude };
        match magnitude / EIGHT_DIGITS {
            first @ 0..EIGHT_DIGITS => self.number(label, begins_with(first)),
            first => {
                self.number(label, begins_with(first / EIGHT_DIGITS));
                self.beginning(&ascii(first % EIGHT_DIGITS), 8);
            }
        }
        self.beginning(&ascii(magnitude % EIGHT_DIGITS), 8);
        self
    }

    #[cold]
    fn with_either_long<const N: usize, const M: usize>(
        mut self,
        labels: (&'static Text<N>, &'static Text<M>),
        numbers: (Number, Number),
    ) -> Self {
        self.number(labels.0, numbers.0);
        self.number(labels.1, numbers.1);
        self
    }
}

/// Writes a number of at most eight digits behind its label to `at`; where it ends.
#[inline(always)]
fn short<const P: usize, const N: usize>(
    place: &mut [MaybeUninit<u8>; P],
    at: usize,
    label: &'static Text<N>,
    number: Number,
) -> usize {
    store(place, at, &label.bytes);
    // Nobody can tell in advance which are negative.
    store(place, at + label.len, b"-");
    let from = at + label.len + usize::from(number.is_negative);
    // Most accounts hold nothing back, and a digit is its own text.
    if number.magnitude < 10 {
        store(place, from, &[b'0' + number.magnitude as u8]);
        return from + 1;
    }
    let count = digits::count(number.magnitude);
    let digits = (eight_digits(number.magnitude) | ZEROS) >> (64 - 8 * count);
    store(place, from, &digits.to_le_bytes());
    from + count
}

#[inline(always)]
fn store<const P: usize, const N: usize>(place: &mut [MaybeUninit<u8>; P], at: usize, bytes: &[u8; N]) {
    place[at..at + N].write_copy_of_slice(bytes);
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Line<'_>)) -> Vec<u8> {
        let mut out = b"before ".to_vec();
        Line::append(&mut out, 96, write);
        out
    }

    fn check(number: u64) {
        assert_eq!(
            written(|line| line.number(const { &Text::<4>::new("is ") }, number)),
            format!("before is {number}").into_bytes()
        );
        let signed = number as i64;
        assert_eq!(
            written(|line| line.number(const { &Text::<4>::new("is ") }, signed)),
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

        #[test]
        fn any_two(first: u64, second: i64, shifts in prop::array::uniform2(0_u32..64)) {
            let (first, second) = (first >> shifts[0], second >> shifts[1]);
            let labels = const { (&Text::<24>::new("one is "), &Text::<16>::new(", the other ")) };
            let got = written(|line| line.numbers(labels, (first, second)));
            prop_assert_eq!(got, format!("before one is {first}, the other {second}").into_bytes());
        }
    }
}
