//! Eight decimal digits at once, in one word: tested where they are used (`line.rs`).

/// The digit 0, eight times.
pub(super) const ZEROS: u64 = u64::from_le_bytes(*b"00000000");

/// Eight decimal digits of a number that has no more.
#[inline(always)]
pub(super) fn ascii(number: u64) -> [u8; 8] {
    (eight_digits(number) | ZEROS).to_le_bytes()
}

/// The same as numbers from 0 to 9, the first in the lowest byte. Each step divides every part of the word at once: by 10,000, by 100,
/// by 10; a multiplication and a shift are exact for parts as small as these.
#[inline(always)]
pub(super) fn eight_digits(number: u64) -> u64 {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((twos - tens * 10) << 8)
}
