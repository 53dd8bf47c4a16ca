//! A connection's input that has come and was not read yet.

use alloc::vec::Vec;

use super::Buffers;

/// Bytes that wait, behind some that were read and whose room was not given back yet.
#[derive(Default)]
pub(in crate::shard) struct Input {
    bytes: Vec<u8>,
    /// Of them; never more than there are.
    read: usize,
}

impl Input {
    /// What waits.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.read
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends what has come.
    pub fn push(&mut self, bytes: &[u8], buffers: &mut Buffers) {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers.take();
            self.bytes.extend_from_slice(bytes);
        } else {
            // Without the doubling of a vector's growth: it is input that nobody has paid for.
            self.bytes.reserve_exact(bytes.len());
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The first `bytes` of what waits were read.
    pub fn consume(&mut self, bytes: usize, buffers: &mut Buffers) {
        assert!(bytes <= self.len(), "no more is read than waits");
        self.read += bytes;
        if self.is_empty() {
            self.clear(buffers);
        } else if self.read > self.bytes.len() / 2 {
            self.bytes.drain(..core::mem::take(&mut self.read));
        }
    }

    /// Forgets all of it, and gives its buffer back.
    pub fn clear(&mut self, buffers: &mut Buffers) {
        self.read = 0;
        buffers.give_back(core::mem::take(&mut self.bytes));
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pushed_is_read_once_and_in_order_whatever_the_pieces() {
        let (mut input, mut buffers) = (Input::default(), Buffers::default());
        let (mut pushed, mut read) = (0_u32, 0_u32);
        for round in 0..2_000_u32 {
            let until = pushed + round * 7 % 23;
            let piece: Vec<u8> = (pushed..until).map(|byte| byte as u8).collect();
            pushed = until;
            input.push(&piece, &mut buffers);
            assert_eq!(input.len(), (pushed - read) as usize);
            let bytes = input.len().min((round * 5 % 29) as usize);
            for &byte in &input.waiting()[..bytes] {
                assert_eq!(byte, read as u8);
                read += 1;
            }
            input.consume(bytes, &mut buffers);
            assert_eq!(input.is_empty(), pushed == read);
            assert!(input.read <= input.bytes.len() / 2, "what was read takes no more room than what waits");
        }
        assert!(read > 10_000);
    }

    /// Bytes that wait were once counted as a difference of two numbers that were set apart; an end that was moved without its
    /// beginning would have made it some 18 exabytes.
    #[test]
    #[should_panic(expected = "no more is read than waits")]
    fn more_cannot_be_read_than_waits() {
        let (mut input, mut buffers) = (Input::default(), Buffers::default());
        input.push(b"ab", &mut buffers);
        input.consume(3, &mut buffers);
    }
}
