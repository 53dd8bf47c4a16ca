//! Reading bytes that a server sent, without trust: every step says what it expected.

use super::DecodeError;

/// The bytes that are still to be read.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    pub fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(DecodeError::Short { what, bytes: self.0.len() })?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) =
            self.0.split_first_chunk().ok_or(DecodeError::Short { what, bytes: self.0.len() })?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_be_bytes)
    }

    pub fn i64(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// A length, which the protocol sends as an `i32`, and as many bytes.
    pub fn counted(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.u32(what)?;
        let length =
            i32::try_from(length).map_err(|_| DecodeError::Illegal { what, found: length.into() })?;
        self.bytes(length.unsigned_abs() as usize, what)
    }

    /// A text that ends with a zero byte.
    pub fn text(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let end = memchr::memchr(0, self.0).ok_or(DecodeError::Short { what, bytes: self.0.len() })?;
        let text = self.bytes(end, what)?;
        self.0 = &self.0[1..];
        str::from_utf8(text).map_err(|_| DecodeError::NotUtf8 { what })
    }

    pub fn end(&self, message: u8) -> Result<(), DecodeError> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::Trailing { message: message.into(), bytes }),
        }
    }
}
