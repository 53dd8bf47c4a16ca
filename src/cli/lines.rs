//! The lines of a file that people made: a record never spans two of them, and their numbers are the file's.

use std::io::{self, BufRead};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads lines of bounded length. Blank ones count; nothing is decided about what a line holds.
pub struct Lines<R> {
    input: R,
    number: u64,
    bytes_max: usize,
}

/// One line, without its end (LF or CRLF) and, at the file's beginning, without a byte order mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// Its first bytes, as many as a line may have. The rest was skipped.
    TooLong(&'a [u8]),
}

impl<R: BufRead> Lines<R> {
    /// Those of `input`; a line may have `bytes_max` bytes.
    pub fn new(input: R, bytes_max: usize) -> Lines<R> {
        Lines { input, number: 0, bytes_max }
    }

    /// The number of the last line that was read, from 1; 0 before the first.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line, laid into `buffer`; `None` at the end.
    ///
    /// # Errors
    /// The input's. What had been read of the line is lost, and its number is not counted.
    pub fn next<'b>(&mut self, buffer: &'b mut Vec<u8>) -> io::Result<Option<Line<'b>>> {
        buffer.clear();
        let (mut is_there, mut is_too_long) = (false, false);
        loop {
            let here = match self.input.fill_buf() {
                Ok(here) => here,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if here.is_empty() {
                break;
            }
            is_there = true;
            let end = memchr::memchr(b'\n', here);
            let piece = &here[..end.unwrap_or(here.len())];
            // Room for a mark in front and a CR behind, which are not the line's own.
            let room = (self.bytes_max + BOM.len() + 1).saturating_sub(buffer.len());
            is_too_long |= piece.len() > room;
            buffer.extend_from_slice(&piece[..piece.len().min(room)]);
            let taken = end.map_or(here.len(), |end| end + 1);
            self.input.consume(taken);
            if end.is_some() {
                break;
            }
        }
        if !is_there {
            return Ok(None);
        }
        self.number += 1;
        let mut line = buffer.as_slice();
        if self.number == 1 {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if !is_too_long {
            line = line.strip_suffix(b"\r").unwrap_or(line);
        }
        Ok(Some(if is_too_long || line.len() > self.bytes_max {
            Line::TooLong(&line[..line.len().min(self.bytes_max)])
        } else {
            Line::Whole(line)
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_are_the_same_however_the_input_comes() {
        let text = b"\xef\xbb\xbfone\r\n\r\n\n12345678\r\n123456789\n\xff";
        let expected: [(u64, bool, &[u8]); 6] = [
            (1, false, b"one"),
            (2, false, b""),
            (3, false, b""),
            (4, false, b"12345678"),
            (5, true, b"12345678"),
            (6, false, b"\xff"),
        ];
        for capacity in [1, 2, 3, 7, 64] {
            let mut lines = Lines::new(BufReader::with_capacity(capacity, &text[..]), 8);
            let mut buffer = Vec::new();
            for (number, is_too_long, bytes) in expected {
                let line = lines.next(&mut buffer).unwrap().unwrap();
                assert_eq!(line, if is_too_long { Line::TooLong(bytes) } else { Line::Whole(bytes) });
                assert_eq!(lines.number(), number);
            }
            assert_eq!(lines.next(&mut buffer).unwrap(), None);
        }
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_a_line_may() {
        let endless = io::Read::take(io::repeat(b'x'), 1 << 20);
        let mut buffer = Vec::new();
        let mut lines = Lines::new(BufReader::new(endless), 8);
        assert_eq!(lines.next(&mut buffer).unwrap(), Some(Line::TooLong(b"xxxxxxxx")));
        assert!(buffer.capacity() < 64, "{}", buffer.capacity());
    }
}
