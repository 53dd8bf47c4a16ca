//! Numbers, texts and times, of the types that a ledger's columns may have. Nothing is rounded or wrapped: what is not exactly
//! a whole number, a text or a time is `None`.

use super::{Cell, EPOCH_US};

/// How a type's values are read. Domains are read as what they are based on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `numeric`: whole numbers of it.
    Numeric,
    /// `text`, `varchar`, `char(n)`, `name`, and the words of an enumeration.
    Text,
    /// `timestamp with time zone`
    TimestampTz,
    /// `timestamp`, which is taken to be in UTC.
    Timestamp,
    /// `uuid`
    Uuid,
}

impl Type {
    /// The type with this object id, of those that every database has.
    pub fn of_oid(oid: u32) -> Option<Type> {
        Some(match oid {
            21 => Type::Int2,
            23 => Type::Int4,
            20 => Type::Int8,
            1_700 => Type::Numeric,
            18 | 19 | 25 | 1_042 | 1_043 => Type::Text,
            1_184 => Type::TimestampTz,
            1_114 => Type::Timestamp,
            2_950 => Type::Uuid,
            _ => return None,
        })
    }
}

/// A whole number.
#[inline]
pub fn integer(of: Type, cell: Cell<'_>) -> Option<i64> {
    match (of, cell) {
        (Type::Int8, Cell::Binary(bytes)) => bytes.try_into().ok().map(i64::from_be_bytes),
        (Type::Int4, Cell::Binary(bytes)) => {
            bytes.try_into().ok().map(|bytes| i32::from_be_bytes(bytes).into())
        }
        (Type::Int2, Cell::Binary(bytes)) => {
            bytes.try_into().ok().map(|bytes| i16::from_be_bytes(bytes).into())
        }
        (Type::Numeric, Cell::Binary(bytes)) => numeric(bytes),
        (Type::Int2 | Type::Int4 | Type::Int8 | Type::Numeric, Cell::Text(text)) => {
            str::from_utf8(text).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// A text.
#[inline]
pub fn text(of: Type, cell: Cell<'_>) -> Option<&str> {
    match (of, cell) {
        (Type::Text, Cell::Binary(bytes) | Cell::Text(bytes)) => str::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// A time in µs since 1970 UTC: a time, or a whole number, which is taken to be that.
#[inline]
pub fn time_us(of: Type, cell: Cell<'_>) -> Option<i64> {
    match (of, cell) {
        (Type::TimestampTz | Type::Timestamp, Cell::Binary(bytes)) => {
            let since_2000 = bytes.try_into().ok().map(i64::from_be_bytes)?;
            // The ends are PostgreSQL's infinities.
            if [i64::MIN, i64::MAX].contains(&since_2000) { None } else { since_2000.checked_add(EPOCH_US) }
        }
        (Type::Int8, cell) => integer(of, cell),
        _ => None,
    }
}

/// A whole `numeric`: digits of base 10,000, the first of which counts 10,000 to the power of `weight`.
fn numeric(bytes: &[u8]) -> Option<i64> {
    const NEGATIVE: u16 = 0x4000;
    let (head, digits) = bytes.split_first_chunk::<8>()?;
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (count, weight, sign) = (word(0), word(2).cast_signed(), word(4));
    if digits.len() != 2 * usize::from(count) || ![0, NEGATIVE].contains(&sign) {
        return None;
    }
    let mut value: i128 = 0;
    let mut place = i32::from(weight);
    for digit in digits.chunks_exact(2) {
        let digit = u16::from_be_bytes([digit[0], digit[1]]);
        // More places than an i64 has, or a fraction.
        if digit > 9_999 || place > 4 || (place < 0 && digit != 0) {
            return None;
        }
        if place >= 0 {
            value += i128::from(digit) * 10_000_i128.pow(place.unsigned_abs());
        }
        place -= 1;
    }
    i64::try_from(if sign == NEGATIVE { -value } else { value }).ok()
}

/// For a message: what is there.
pub fn shown(of: Type, cell: Cell<'_>) -> String {
    let shown = match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Unchanged => "a value that was not sent".to_owned(),
        Cell::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Cell::Binary(bytes) => match (integer(of, cell), time_us(of, cell)) {
            (Some(number), _) => number.to_string(),
            (None, Some(time)) => format!("{time} µs since 1970"),
            (None, None) => String::from_utf8_lossy(bytes).into_owned(),
        },
    };
    shown.chars().take(64).collect()
}
