//! Decimal digits, several at once in one word: tested where they are used (`line.rs`, `time.rs`).
//!
//! Each step divides all parts of the word at once: by 10,000, by 100, by 10. A multiplication and a shift are exact for parts as small
//! as these; and `(part << bits) - quotient * ((divisor << bits) - 1)` is the quotient with the remainder behind it, in one subtraction.

/// The digit 0, eight times.
pub(super) const ZEROS: u64 = u64::from_le_bytes(*b"00000000");

/// Eight decimal digits of a number that has no more.
#[inline(always)]
pub(super) fn ascii(number: u64) -> [u8; 8] {
    (eight_digits(number) | ZEROS).to_le_bytes()
}

/// The same as numbers from 0 to 9, the first in the lowest byte.
#[inline(always)]
pub(super) fn eight_digits(number: u64) -> u64 {
    let fours = (number << 32) - ((number * 3_518_437_209) >> 45) * ((10_000 << 32) - 1);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    pairs_digits((fours << 16) - hundreds * ((100 << 16) - 1))
}

/// How many decimal digits a number below 10⁸ has. Known long before its digits are, and with it where all that follows goes. A number
/// between two powers of two has as many digits as the lower of them, or one more from a power of ten on, which makes the sum with the
/// table's entry go over 2³².
#[inline(always)]
pub(super) fn count(number: u64) -> usize {
    const TABLE: [u64; 32] = {
        let mut table = [0; 32];
        let mut log = 0;
        while log < table.len() {
            let digits = (1_u64 << log).ilog10() as u64 + 1;
            let next = 10_u64.pow(digits as u32);
            table[log] = if next < 2 << log { ((digits + 1) << 32) - next } else { digits << 32 };
            log += 1;
        }
        table
    };
    ((number + TABLE[(number | 1).ilog2() as usize % TABLE.len()]) >> 32) as usize
}

/// Four numbers below 100, each in 16 bits, the first in the lowest → their digits.
#[inline(always)]
pub(super) fn pairs_digits(pairs: u64) -> u64 {
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    (pairs << 8) - tens * ((10 << 8) - 1)
}

/// The two digits of a number below 100, and of some above, so that seven bits are a place of it.
const PAIRS: [[u8; 2]; 128] = {
    let mut pairs = [[0; 2]; 128];
    let mut number = 0;
    while number < pairs.len() {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// The digits of a number below 100: looked up, where they are to stand by themselves.
#[inline(always)]
pub(super) fn pair(number: u64) -> [u8; 2] {
    debug_assert!(number < 100);
    PAIRS[number as usize % PAIRS.len()]
}
