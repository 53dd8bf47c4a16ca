//! The values that peers hold: each says whose it is and how long, so that no other's and no cut one passes for it.

use florin_schema::UserId;

/// Digits of the id that a value begins with.
const ID_DIGITS: usize = 20;
/// Digits of its own length that follow.
const LENGTH_DIGITS: usize = 10;
/// What the rest is.
const FILL: u8 = b'x';

/// A user's value in a peer: the id in 20 digits, its own length in 10, and as many more bytes as asked.
pub fn value(user: UserId, bytes: usize) -> Vec<u8> {
    let bytes = bytes.max(ID_DIGITS + LENGTH_DIGITS);
    let mut value = format!("{:0ID_DIGITS$}{bytes:0LENGTH_DIGITS$}", user.get()).into_bytes();
    value.resize(bytes, FILL);
    value
}

/// Whether a value is that user's, and whole.
#[inline]
pub fn is_value_of(value: &[u8], user: UserId) -> bool {
    let Some((id, rest)) = value.split_at_checked(ID_DIGITS) else { return false };
    let Some((length, rest)) = rest.split_at_checked(LENGTH_DIGITS) else { return false };
    is_number(id, user.get())
        && is_number(length, value.len() as u64)
        && rest.iter().all(|&byte| byte == FILL)
}

/// Whether these digits are that number, with zeroes before it.
#[inline]
fn is_number(digits: &[u8], number: u64) -> bool {
    let mut buffer = itoa::Buffer::new();
    let number = buffer.format(number).as_bytes();
    let zeroes = digits.strip_suffix(number);
    zeroes.is_some_and(|zeroes| zeroes.iter().all(|&byte| byte == b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_its_users_and_nobody_elses() {
        let user = |id| UserId::new(id).unwrap();
        for id in [0, 7, 123_456, UserId::MAX.get()] {
            assert!(is_value_of(&value(user(id), 80), user(id)), "{id}");
            assert_eq!(value(user(id), 80).len(), 80);
        }
        assert!(!is_value_of(&value(user(17), 80), user(7)));
        assert!(!is_value_of(&value(user(7), 80), user(70)));
        assert!(!is_value_of(b"7", user(7)));
        // A value that was cut, and one that was changed behind the id, once passed.
        assert!(!is_value_of(&value(user(7), 80)[..79], user(7)));
        let mut changed = value(user(7), 80);
        changed[60] = b'y';
        assert!(!is_value_of(&changed, user(7)));
    }
}
