//! Follows the primary's answers as they pass, and copies them.

use bytes::Bytes;
use http::Method;

use super::framing::{AnswerHead, Body, Copy, End, Parsed, answer_head};
use crate::answer::Stated;
use crate::budget::{Budget, Held};
use crate::judge::Reason;
use crate::limits::{ANSWER_COPY_BYTES_MAX, HEAD_BYTES_MAX};

/// A whole answer that has passed.
#[derive(Debug)]
pub struct Passed {
    /// The status.
    pub status: u16,
    /// What its headers say.
    pub stated: Stated,
    /// The content and the room that it takes, or why it was not copied.
    pub body: Result<(Bytes, Held), Reason>,
}

/// Where in the stream of answers it stands.
pub struct AnswerReader {
    state: State,
    budget: Budget,
}

enum State {
    Head(Vec<u8>),
    Body(Box<(AnswerHead, Copy)>),
    /// It cannot be followed any more.
    Lost,
}

/// What some bytes were.
pub enum Seen {
    /// Part of an answer, up to the bytes' end.
    Part,
    /// An answer ended after so many bytes.
    Whole(Passed, usize),
    /// What comes cannot be followed from here on.
    Lost,
}

impl AnswerReader {
    /// Before the first answer.
    pub fn new(budget: Budget) -> AnswerReader {
        AnswerReader { state: State::Head(Vec::new()), budget }
    }

    /// Follows bytes that belong to the answer to a request with `method`.
    pub fn follow(&mut self, bytes: &[u8], method: &Method) -> Seen {
        let mut at = 0;
        loop {
            match &mut self.state {
                State::Lost => return Seen::Lost,
                State::Head(head) => {
                    let before = head.len();
                    let room = HEAD_BYTES_MAX - before;
                    let more = &bytes[at..bytes.len().min(at + room)];
                    head.extend_from_slice(more);
                    match answer_head(head, method) {
                        Parsed::Head(found, length) => {
                            at += length - before;
                            self.state = if found.is_interim {
                                State::Head(Vec::new())
                            } else {
                                State::Body(Box::new((
                                    found,
                                    Copy::new(0, ANSWER_COPY_BYTES_MAX, &self.budget),
                                )))
                            };
                        }
                        Parsed::Partial if head.len() < HEAD_BYTES_MAX => return Seen::Part,
                        Parsed::Partial | Parsed::Garbled => self.state = State::Lost,
                    }
                }
                State::Body(open) => {
                    let (head, copy) = &mut **open;
                    // A body of no bytes ends before any come.
                    let followed = match head.body {
                        Body::Length(0) => Ok((0, End::Here)),
                        _ => head.body.follow(&bytes[at..], copy),
                    };
                    match followed {
                        Ok((_, End::NotYet)) => return Seen::Part,
                        Ok((taken, End::Here)) => {
                            let State::Body(ended) =
                                std::mem::replace(&mut self.state, State::Head(Vec::new()))
                            else {
                                unreachable!("the state was just looked at")
                            };
                            return Seen::Whole(passed(*ended), at + taken);
                        }
                        Err(_) => self.state = State::Lost,
                    }
                }
            }
        }
    }

    /// The connection has ended: the answer that ends with it, if one does.
    pub fn end(&mut self) -> Option<Passed> {
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Body(open) if open.0.body == Body::UntilClose => Some(passed(*open)),
            _ => None,
        }
    }
}

fn passed((head, copy): (AnswerHead, Copy)) -> Passed {
    Passed { status: head.status, stated: Stated::of(&head.headers), body: copy.finish() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_one_stream_are_told_apart_however_they_are_cut() {
        let stream = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 100 Continue\r\n\r\n\
            HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\nHTTP/1.1 204 None\r\n\r\n";
        for size in 1..=stream.len() {
            let mut reader = AnswerReader::new(Budget::new(1_000));
            let mut found = Vec::new();
            for piece in stream.chunks(size) {
                let mut rest = piece;
                while !rest.is_empty() {
                    match reader.follow(rest, &Method::GET) {
                        Seen::Whole(passed, taken) => {
                            found.push((passed.status, passed.body.unwrap().0));
                            rest = &rest[taken..];
                        }
                        Seen::Part => break,
                        Seen::Lost => panic!("lost at pieces of {size}"),
                    }
                }
            }
            let expected = [(200, &b"abc"[..]), (404, b"de"), (204, b"")];
            let expected: Vec<_> = expected.iter().map(|(s, b)| (*s, Bytes::from_static(b))).collect();
            assert_eq!(found, expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_answer_may_end_with_its_connection() {
        let mut reader = AnswerReader::new(Budget::new(1_000));
        assert!(matches!(reader.follow(b"HTTP/1.0 200 OK\r\n\r\nabc", &Method::GET), Seen::Part));
        assert_eq!(reader.end().unwrap().body.unwrap().0, "abc");
        let mut reader = AnswerReader::new(Budget::new(1_000));
        assert!(matches!(
            reader.follow(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", &Method::GET),
            Seen::Part
        ));
        assert!(reader.end().is_none());
    }

    #[test]
    fn what_is_no_answer_is_not_followed() {
        let mut reader = AnswerReader::new(Budget::new(1_000));
        assert!(matches!(reader.follow(b"SSH-2.0\r\n", &Method::GET), Seen::Lost));
        assert!(matches!(reader.follow(b"HTTP/1.1 200 OK\r\n\r\n", &Method::GET), Seen::Lost));
    }
}
