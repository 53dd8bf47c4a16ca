//! RESP, as Valkey and Redis speak it: a GET for each question, or one MGET for all questions of a burst, as clients that pipeline
//! do. Valkey's keys are users' ids; its loader's values say whose they are and how long, so an answer can be checked. Florin's
//! keys say balance, and its values are the JSON of HTTP.

use florin_schema::Status;

use super::value::is_value_of;
use super::{Fate, Protocol, Question, Step, Wrong, beginning, http, malformed, number};
use crate::limits::KEYS_PER_ASK_MAX;
use crate::{
    generator::pending::{Ordering, Pending, SlotIndex},
    limits,
    truth::Claims,
    work::Kind,
};

/// Marks a group whose array's head has been read; below it stands how many values are still to come.
const BEGUN: u32 = 1 << 31;

/// How florin's error about a user begins whom another node has.
const MOVED: &[u8] = b"NOT_OWNER ";

/// Valkey, and whatever else speaks its protocol.
#[derive(Debug)]
pub struct Resp {
    /// How a burst is asked.
    pub ask: Ask,
    /// What is there to ask for.
    pub values: Values,
    /// What florin's say, where it is checked.
    pub claims: Option<Claims>,
}

/// What a server that speaks RESP has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Values {
    /// Those that the bench has loaded, by user.
    Loaded,
    /// Florin's balances.
    Balances,
}

impl Values {
    const fn prefix(self) -> &'static str {
        match self {
            Values::Loaded => "",
            Values::Balances => "balance:",
        }
    }
}

/// How several questions of one burst are asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ask {
    /// By a GET each.
    #[default]
    Get,
    /// By an MGET of up to 64 keys.
    Mget,
}

impl Protocol for Resp {
    const ORDERING: Ordering = Ordering::InOrder;

    fn speaks(kind: Kind) -> bool {
        kind == Kind::Balance
    }

    fn request_bytes_max(_: Kind) -> usize {
        "*2\r\n$4\r\nMGET\r\n$28\r\nbalance:01234567890123456789\r\n".len()
    }

    #[inline]
    fn request(&mut self, out: &mut Vec<u8>, _: u64, slot: SlotIndex, pending: &mut Pending) {
        let mut id = itoa::Buffer::new();
        let id = id.format(pending.asked(slot).user.get());
        match self.ask {
            Ask::Get => out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n"),
            Ask::Mget if pending.open_group == 0 => pending.group_at = out.len(),
            Ask::Mget => {}
        }
        out.push(b'$');
        let prefix = self.values.prefix();
        out.extend_from_slice(itoa::Buffer::new().format(prefix.len() + id.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(b"\r\n");
        if self.ask == Ask::Mget {
            pending.open_group += 1;
            if pending.open_group == KEYS_PER_ASK_MAX {
                self.finish(out, pending);
            }
        }
    }

    /// The head of an MGET says how many keys there are, and so is put before them last.
    fn finish(&mut self, out: &mut Vec<u8>, pending: &mut Pending) {
        if pending.open_group > 0 {
            let head = format!("*{}\r\n$4\r\nMGET\r\n", pending.open_group + 1);
            out.splice(pending.group_at..pending.group_at, head.bytes());
            pending.groups.push_back(pending.open_group);
            pending.open_group = 0;
        }
    }

    #[inline]
    fn reply(&mut self, bytes: &[u8], pending: &mut Pending) -> Result<Step, Wrong> {
        let Some(end) = memchr::memchr(b'\n', bytes) else { return Ok(Step::Partial) };
        let slot = pending.oldest().ok_or_else(|| Wrong::Unasked { found: beginning(bytes) })?;
        let question = Question::of(pending, slot, self.claims());
        let length = match &bytes[..end + 1] {
            b"$-1\r\n" => return Err(question.implausible("the key is not there")),
            [b'*', digits @ .., b'\r', b'\n'] => {
                let count = number(digits);
                let group = pending.groups.front_mut().filter(|group| count == Some(**group as usize));
                *group.ok_or_else(|| malformed("an array with a value for each key", bytes))? |= BEGUN;
                return Ok(Step::Skip(end + 1));
            }
            [b'$', digits @ .., b'\r', b'\n'] => {
                number(digits).filter(|&n| n <= limits::REPLY_BYTES_MAX).map(Some)
            }
            [b'-', message @ ..] if message.starts_with(MOVED) => Some(None),
            [b'-', message @ ..] => {
                return Err(Wrong::Status {
                    user: question.user,
                    kind: question.kind,
                    status: "an error".to_owned(),
                    message: beginning(message),
                });
            }
            _ => None,
        };
        let length = length.ok_or_else(|| malformed("a bulk string", bytes))?;
        let (consumed, fate) = match length {
            None => (end + 1, Fate::Shed(Status::NotOwner)),
            Some(length) => {
                let consumed = end + 1 + length + 2;
                let Some(value) = bytes.get(end + 1..consumed) else { return Ok(Step::Partial) };
                let Some(value) = value.strip_suffix(b"\r\n") else {
                    return Err(malformed("a bulk string as long as it says", bytes));
                };
                match self.values {
                    Values::Balances => http::check(value, &question)?,
                    Values::Loaded if is_value_of(value, question.user) => {}
                    Values::Loaded => return Err(question.other_user(question.user, beginning(value))),
                }
                (consumed, Fate::Served)
            }
        };
        if self.ask == Ask::Mget {
            let group = pending.groups.front_mut().filter(|group| **group > BEGUN);
            let group = group.ok_or_else(|| malformed("an array before its values", bytes))?;
            *group -= 1;
            if *group == BEGUN {
                pending.groups.pop_front();
            }
        }
        let since_ns = pending.asked(slot).since_ns;
        pending.release(slot);
        Ok(Step::Answered { consumed, since_ns, fate })
    }

    #[inline]
    fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use florin_schema::UserId;

    use super::*;
    use crate::{generator::pending::Asked, protocol::value::value};

    /// Asks about these users in one burst; gives what is sent, and who waits.
    fn burst(ask: Ask, users: &[u64]) -> (String, Pending) {
        let (mut pending, mut out) = (Pending::new(128, Ordering::InOrder), Vec::new());
        let mut resp = loaded(ask);
        for &user in users {
            let user = UserId::new(user).unwrap();
            let (slot, id) = pending.ask(Asked { kind: Kind::Balance, user, since_ns: 0 }).unwrap();
            resp.request(&mut out, id, slot, &mut pending);
        }
        resp.finish(&mut out, &mut pending);
        (String::from_utf8(out).unwrap(), pending)
    }

    fn loaded(ask: Ask) -> Resp {
        Resp { ask, values: Values::Loaded, claims: None }
    }

    /// Florin's values are read as HTTP's bodies are: another user's balance is none, nor is half of one.
    #[test]
    fn florins_values_are_its_balances() {
        let user = UserId::new(7).unwrap();
        let mut resp = Resp { ask: Ask::Get, values: Values::Balances, claims: None };
        let json = |user: u64| {
            format!(
                r#"{{"user_id":"{user}","version":"1","updated_at":"2026-11-22T04:05:06.000007Z","balances":[{{"asset":"COIN","available":"5","held":"0"}}]}}"#
            )
        };
        for (value, is_right) in [(json(7), true), (json(8), false), (json(7)[..40].to_owned(), false)] {
            let (mut pending, mut out) = (Pending::new(8, Ordering::InOrder), Vec::new());
            let (slot, id) = pending.ask(Asked { kind: Kind::Balance, user, since_ns: 0 }).unwrap();
            resp.request(&mut out, id, slot, &mut pending);
            assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$9\r\nbalance:7\r\n");
            let reply = format!("${}\r\n{value}\r\n", value.len());
            assert_eq!(resp.reply(reply.as_bytes(), &mut pending).is_ok(), is_right, "{value}");
        }
    }

    fn bulk(user: u64) -> String {
        let value = String::from_utf8(value(UserId::new(user).unwrap(), 40)).unwrap();
        format!("${}\r\n{value}\r\n", value.len())
    }

    /// Reads all of `bytes`; how many questions they have answered.
    fn read(ask: Ask, bytes: &str, pending: &mut Pending) -> Result<usize, Wrong> {
        let (mut at, mut answered) = (0, 0);
        while at < bytes.len() {
            match loaded(ask).reply(&bytes.as_bytes()[at..], pending)? {
                Step::Partial => break,
                Step::Skip(consumed) => at += consumed,
                Step::Answered { consumed, .. } => {
                    at += consumed;
                    answered += 1;
                }
            }
        }
        Ok(answered)
    }

    #[test]
    fn a_burst_is_asked_by_gets_or_by_one_mget() {
        let (text, _) = burst(Ask::Get, &[7, 12]);
        assert_eq!(text, "*2\r\n$3\r\nGET\r\n$1\r\n7\r\n*2\r\n$3\r\nGET\r\n$2\r\n12\r\n");
        let (text, _) = burst(Ask::Mget, &[7, 12]);
        assert_eq!(text, "*3\r\n$4\r\nMGET\r\n$1\r\n7\r\n$2\r\n12\r\n");
        let many: Vec<u64> = (0..70).collect();
        let (text, _) = burst(Ask::Mget, &many);
        assert!(
            text.starts_with("*65\r\n$4\r\nMGET\r\n") && text.contains("*7\r\n$4\r\nMGET\r\n$2\r\n64\r\n"),
            "{text}"
        );
    }

    #[test]
    fn each_value_must_be_there_whole_and_in_its_place() {
        let right = format!("*2\r\n{}{}", bulk(7), bulk(12));
        assert_eq!(read(Ask::Mget, &right, &mut burst(Ask::Mget, &[7, 12]).1), Ok(2));
        assert_eq!(read(Ask::Get, &right[4..], &mut burst(Ask::Get, &[7, 12]).1), Ok(2));
        for wrong in [
            format!("*2\r\n{}{}", bulk(12), bulk(7)),
            format!("*2\r\n{}$-1\r\n", bulk(7)),
            format!("*3\r\n{}{}", bulk(7), bulk(12)),
            format!("{}{}", bulk(7), bulk(12)),
            "-LOADING\r\n".to_owned(),
        ] {
            assert!(read(Ask::Mget, &wrong, &mut burst(Ask::Mget, &[7, 12]).1).is_err(), "{wrong}");
        }
    }
}
