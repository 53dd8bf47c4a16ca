//! HTTP/1.1 with JSON: the three endpoints of wire.md, of whichever server.

use std::sync::Arc;

use florin_schema::{Status, UserId};

use super::{Fate, Protocol, Question, Step, Wrong, beginning, json::Json, malformed, number};
use crate::limits::HEADERS_MAX;
use crate::{
    generator::pending::{Ordering, Pending, SlotIndex},
    limits,
    truth::{Claims, Truth},
    work::Kind,
};

/// A caller with keep-alive, and with pipelining where the depth is above 1.
#[derive(Debug, Default)]
pub struct Http {
    /// A chunked body, put together.
    joined: Vec<u8>,
    /// A batch's request body.
    asking: Vec<u8>,
    /// A header that says who asks; empty where nobody does.
    shown: Vec<u8>,
    claims: Option<Claims>,
}

impl Protocol for Http {
    const ORDERING: Ordering = Ordering::InOrder;

    fn speaks(_: Kind) -> bool {
        true
    }

    fn request_bytes_max(kind: Kind) -> usize {
        match kind {
            Kind::Balance | Kind::Statistics => 128,
            Kind::Batch(users) => 160 + 22 * usize::from(users),
        }
    }

    #[inline]
    fn request(&mut self, out: &mut Vec<u8>, _: u64, slot: SlotIndex, pending: &mut Pending) {
        let asked = pending.asked(slot);
        let path: &[u8] = match asked.kind {
            Kind::Balance => b"/balance HTTP/1.1\r\nHost: bench\r\n",
            Kind::Statistics => b"/statistics HTTP/1.1\r\nHost: bench\r\n",
            Kind::Batch(_) => return self.batch(out, pending.batch(slot)),
        };
        out.extend_from_slice(b"GET /v1/users/");
        out.extend_from_slice(itoa::Buffer::new().format(asked.user.get()).as_bytes());
        out.extend_from_slice(path);
        out.extend_from_slice(&self.shown);
        out.extend_from_slice(b"\r\n");
    }

    fn reply(&mut self, bytes: &[u8], pending: &mut Pending) -> Result<Step, Wrong> {
        let Some(head) = Head::read(bytes)? else { return Ok(Step::Partial) };
        let slot = pending.oldest().ok_or_else(|| Wrong::Unasked { found: beginning(bytes) })?;
        let (body, consumed) = match head.body {
            Length::Bytes(length) => match bytes.get(head.bytes..head.bytes + length) {
                Some(body) => (body, head.bytes + length),
                None => return Ok(Step::Partial),
            },
            Length::Chunked => match join_chunks(&bytes[head.bytes..], &mut self.joined)? {
                Some(length) => (&self.joined[..], head.bytes + length),
                None => return Ok(Step::Partial),
            },
        };
        let question = Question::of(pending, slot, self.claims());
        let fate = match head.code {
            200 => {
                check(body, &question)?;
                Fate::Served
            }
            code => question.refused(status(code), body)?,
        };
        let since_ns = pending.asked(slot).since_ns;
        pending.release(slot);
        Ok(Step::Answered { consumed, since_ns, fate })
    }

    fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }
}

impl Http {
    /// Checks values against `truth` where there is one.
    pub fn new(truth: Option<Arc<Truth>>) -> Http {
        Http { claims: truth.map(Claims::new), ..Http::default() }
    }

    /// Each request shows this token.
    #[must_use]
    pub fn showing(self, token: Option<&str>) -> Http {
        Http { shown: token.map(bearer).unwrap_or_default(), ..self }
    }

    fn batch(&mut self, out: &mut Vec<u8>, users: &[UserId]) {
        self.asking.clear();
        self.asking.extend_from_slice(b"{\"user_ids\":[\"");
        for (index, user) in users.iter().enumerate() {
            self.asking.extend_from_slice(if index > 0 { b"\",\"" } else { b"" });
            self.asking.extend_from_slice(itoa::Buffer::new().format(user.get()).as_bytes());
        }
        self.asking.extend_from_slice(b"\"]}");
        out.extend_from_slice(
            b"POST /v1/balances:batchGet HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: ",
        );
        out.extend_from_slice(itoa::Buffer::new().format(self.asking.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.shown);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.asking);
    }
}

/// The header that shows a token.
pub(crate) fn bearer(token: &str) -> Vec<u8> {
    format!("Authorization: Bearer {token}\r\n").into_bytes()
}

/// What wire.md's table of statuses says backwards.
fn status(code: u16) -> Status {
    match code {
        307 => Status::NotOwner,
        404 => Status::NotFound,
        401 => Status::Unauthenticated,
        403 => Status::PermissionDenied,
        412 => Status::Stale,
        429 => Status::Overloaded,
        503 => Status::Unavailable,
        400..=499 => Status::InvalidRequest,
        _ => Status::Internal,
    }
}

/// The head of an answer, as far as it matters.
struct Head {
    code: u16,
    bytes: usize,
    body: Length,
}

enum Length {
    Bytes(usize),
    Chunked,
}

impl Head {
    #[inline]
    fn read(bytes: &[u8]) -> Result<Option<Head>, Wrong> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let head_bytes = match response.parse(bytes) {
            Ok(httparse::Status::Complete(bytes)) => bytes,
            Ok(httparse::Status::Partial) if bytes.len() < limits::REPLY_BYTES_MAX => return Ok(None),
            _ => return Err(malformed("an HTTP/1.1 response", bytes)),
        };
        let mut body = None;
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = number(header.value).filter(|&n| n <= limits::REPLY_BYTES_MAX);
                body = Some(Length::Bytes(length.ok_or_else(|| malformed("a Content-Length", bytes))?));
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                body = Some(Length::Chunked);
            }
        }
        let body = body.ok_or_else(|| malformed("a Content-Length or chunks", bytes))?;
        Ok(Some(Head { code: response.code.unwrap_or_default(), bytes: head_bytes, body }))
    }
}

/// Puts the chunks of a body together; returns how many bytes they take, `None` where some are missing.
fn join_chunks(bytes: &[u8], joined: &mut Vec<u8>) -> Result<Option<usize>, Wrong> {
    joined.clear();
    let mut at = 0;
    loop {
        let (line, size) = match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(malformed("a chunk's size", &bytes[at..])),
        };
        let size = usize::try_from(size).ok().filter(|&size| joined.len() + size <= limits::REPLY_BYTES_MAX);
        let size = size.ok_or_else(|| malformed("a chunk of at most 4 MiB", &bytes[at..]))?;
        let chunk = at + line;
        let Some(content) = bytes.get(chunk..chunk + size + 2) else { return Ok(None) };
        let content =
            content.strip_suffix(b"\r\n").ok_or_else(|| malformed("a chunk's end", &bytes[at..]))?;
        joined.extend_from_slice(content);
        at = chunk + size + 2;
        if size == 0 {
            return Ok(Some(at));
        }
    }
}

/// Reads a body to its last byte.
pub(super) fn check(body: &[u8], question: &Question<'_>) -> Result<(), Wrong> {
    let mut json = Json::new(body);
    match question.kind {
        Kind::Balance => {
            let said = json.balance().ok_or_else(|| malformed("the body of a balance", body))?;
            question.check(question.user, &said)?;
        }
        Kind::Statistics => {
            let said = json.statistics().ok_or_else(|| malformed("the body of statistics", body))?;
            question.check(question.user, &said)?;
        }
        Kind::Batch(_) => batch(&mut json, question)?,
    }
    if json.rest().is_empty() { Ok(()) } else { Err(malformed("the body's end", json.rest())) }
}

fn batch(json: &mut Json<'_>, question: &Question<'_>) -> Result<(), Wrong> {
    let begin = json.rest();
    json.literal(b"{\"balances\":[").ok_or_else(|| malformed("a batch of balances", begin))?;
    for (index, &user) in question.batch.iter().enumerate() {
        if index > 0 {
            json.literal(b",").ok_or_else(|| question.implausible("too few entries"))?;
        }
        match json.literal(b"{\"user_id\":\"").and_then(|()| json.unsigned()) {
            Some(id) if id == user.get() => {}
            Some(id) => return Err(question.other_user(user, id)),
            None => return Err(malformed("a user_id", json.rest())),
        }
        json.literal(b",\"status\":\"OK\",\"balance\":")
            .ok_or_else(|| question.implausible("an entry of the batch without a balance"))?;
        let said = json.balance().ok_or_else(|| malformed("a balance", json.rest()))?;
        question.check(user, &said)?;
        json.end_object().ok_or_else(|| malformed("the end of an entry", json.rest()))?;
    }
    json.literal(b"]").ok_or_else(|| question.implausible("more than one entry for each user asked"))?;
    json.end_object().ok_or_else(|| malformed("the end of a batch", json.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{generator::pending::Asked, truth::tests::of_one};

    const BALANCE: &str = r#"{"user_id":"42","version":"7","updated_at":"2026-11-22T04:05:06.000007Z","balances":[{"asset":"COIN","available":"1200","held":"0"}]}"#;

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn ask(kind: Kind, users: &[u64]) -> Pending {
        let mut pending = Pending::new(4, Ordering::InOrder);
        let (slot, _) = pending.ask(Asked { kind, user: user(users[0]), since_ns: 5 }).unwrap();
        pending.batch_mut(slot).extend(users.iter().map(|&id| user(id)));
        pending
    }

    fn respond(code: u16, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {code} X\r\nContent-Type: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
    }

    #[test]
    fn an_answer_is_taken_only_when_it_is_whole() {
        let reply = respond(200, BALANCE);
        for cut in 0..reply.len() {
            let mut pending = ask(Kind::Balance, &[42]);
            assert_eq!(Http::default().reply(&reply[..cut], &mut pending), Ok(Step::Partial), "cut at {cut}");
        }
        let mut pending = ask(Kind::Balance, &[42]);
        let step = Step::Answered { consumed: reply.len(), since_ns: 5, fate: Fate::Served };
        assert_eq!(Http::default().reply(&reply, &mut pending), Ok(step));
        assert_eq!(pending.waiting(), 0);
    }

    #[test]
    fn chunks_are_put_together() {
        let (a, b) = BALANCE.split_at(20);
        let reply = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
            a.len(),
            b.len()
        );
        for cut in 0..reply.len() {
            let step = Http::default().reply(&reply.as_bytes()[..cut], &mut ask(Kind::Balance, &[42]));
            assert_eq!(step, Ok(Step::Partial), "cut at {cut}");
        }
        let step = Http::default().reply(reply.as_bytes(), &mut ask(Kind::Balance, &[42])).unwrap();
        assert_eq!(step, Step::Answered { consumed: reply.len(), since_ns: 5, fate: Fate::Served });
    }

    #[test]
    fn another_user_and_an_impossible_version_are_wrong() {
        let wrong = |body: &str| {
            Http::default().reply(&respond(200, body), &mut ask(Kind::Balance, &[42])).unwrap_err()
        };
        assert!(matches!(wrong(&BALANCE.replace("42", "421")), Wrong::User { .. }));
        assert!(matches!(wrong(&BALANCE.replace("\"7\"", "\"0\"")), Wrong::Implausible { .. }));
        assert!(matches!(
            wrong(r#"{"user_id":"42","version":"7","updated_at":"x","balances":[]}"#),
            Wrong::Implausible { .. }
        ));
        assert!(matches!(wrong("{}"), Wrong::Malformed { .. }));
    }

    const STATISTICS: &str = r#"{"user_id":"42","version":"7","statistics":[{"asset":"COIN","windows":{"24h":{"credit_count":"0","credit_sum":"0","debit_count":"0","debit_sum":"0","largest_debit":"0"},"7d":{"credit_count":"1","credit_sum":"500","debit_count":"0","debit_sum":"0","largest_debit":"0"},"30d":{"credit_count":"1","credit_sum":"500","debit_count":"0","debit_sum":"0","largest_debit":"0"},"lifetime":{"credit_count":"3","credit_sum":"1500","debit_count":"2","debit_sum":"300","largest_debit":"200"}},"first_transaction_at":"2026-11-22T04:05:06Z","last_transaction_at":"2026-11-22T04:05:06Z"}]}"#;

    #[test]
    fn an_answer_with_a_wrong_value_or_without_its_end_is_not_served() {
        // Wrong amounts, huge versions, missing assets and bodies that lacked their last ten bytes once counted as served.
        let truth = Arc::new(of_one(42, 7, "COIN", [1_200, 0], [3, 1_500, 2, 300, 200]));
        for (kind, body, unknown) in [
            (Kind::Balance, BALANCE, &["updated_at"][..]),
            (
                Kind::Statistics,
                STATISTICS,
                &["24h", "7d", "30d", "first_transaction_at", "last_transaction_at"],
            ),
        ] {
            let read = |body: &str| {
                let mut http = Http::new(Some(Arc::clone(&truth)));
                let step = http.reply(&respond(200, body), &mut ask(kind, &[42]))?;
                http.settle().map(|()| step)
            };
            assert!(matches!(read(body), Ok(Step::Answered { fate: Fate::Served, .. })), "{:?}", read(body));
            for cut in 0..body.len() {
                assert!(read(&body[..cut]).is_err(), "cut at {cut}");
            }
            // Each digit, changed: but for what depends on the time of day.
            let mut changed = 0;
            for (at, digit) in body.char_indices().filter(|(_, c)| c.is_ascii_digit()) {
                let is_unknown = unknown.iter().any(|key| {
                    let from = body.find(key).unwrap();
                    let to = body[from..].find(['}', 'Z']).unwrap();
                    (from..from + to).contains(&at)
                });
                let other = if digit == '9' { "1" } else { "9" };
                let text = [&body[..at], other, &body[at + 1..]].concat();
                assert!(is_unknown || read(&text).is_err(), "{text}");
                changed += usize::from(!is_unknown);
            }
            assert!(changed > 7, "{changed}");
            let other_asset = body.replace("COIN", "GOLD");
            assert!(read(&other_asset).is_err());
        }
        // Whoever does not know the ledger still knows which numbers there are.
        let blind = |body: &str| Http::default().reply(&respond(200, body), &mut ask(Kind::Balance, &[42]));
        assert!(blind(&BALANCE.replace("\"7\"", "\"18446744073709551615\"")).is_err());
        assert!(blind(&BALANCE.replace("1200", "9223372036854775808")).is_err());
        assert!(blind(&BALANCE.replace("1200", "-9223372036854775808")).is_ok());
        assert!(blind(&BALANCE.replace("1200", "01200")).is_err());
        assert!(blind(&BALANCE.replace(r#""0"}]}"#, r#""0","later":true}],"flags":3}"#)).is_ok());
    }

    #[test]
    fn what_is_shed_is_told_from_what_is_wrong() {
        let reply = |code| Http::default().reply(&respond(code, "{}"), &mut ask(Kind::Balance, &[42]));
        for (code, status) in [(429, Status::Overloaded), (503, Status::Unavailable), (412, Status::Stale)] {
            assert!(matches!(reply(code), Ok(Step::Answered { fate: Fate::Shed(s), .. }) if s == status));
        }
        for code in [400, 404, 500] {
            assert!(matches!(reply(code), Err(Wrong::Status { .. })), "{code}");
        }
    }

    #[test]
    fn a_batch_has_an_entry_for_each_user() {
        let entry = |id: u64| {
            let balance = BALANCE.replace("42", &id.to_string());
            format!(r#"{{"user_id":"{id}","status":"OK","balance":{balance}}}"#)
        };
        let body = |ids: &[u64]| {
            format!(r#"{{"balances":[{}]}}"#, ids.iter().map(|&id| entry(id)).collect::<Vec<_>>().join(","))
        };
        let reply = |asked: &[u64], answered: &[u64]| {
            Http::default().reply(&respond(200, &body(answered)), &mut ask(Kind::Batch(2), asked))
        };
        assert!(matches!(reply(&[1, 2], &[1, 2]), Ok(Step::Answered { .. })));
        assert!(matches!(reply(&[1, 2], &[2, 1]), Err(Wrong::User { .. })));
        assert!(matches!(reply(&[1, 2], &[1]), Err(Wrong::Implausible { .. })));
        assert!(matches!(reply(&[1], &[1, 2]), Err(Wrong::Implausible { .. })));
        let refused = body(&[1]).replace(r#""status":"OK""#, r#""status":"NOT_FOUND""#);
        let outcome = Http::default().reply(&respond(200, &refused), &mut ask(Kind::Batch(1), &[1]));
        assert!(matches!(outcome, Err(Wrong::Implausible { .. })));
    }

    #[test]
    fn a_batch_is_asked_as_the_contract_has_it() {
        let mut pending = Pending::new(1, Ordering::InOrder);
        let (slot, id) = pending.ask(Asked { kind: Kind::Batch(2), user: user(1), since_ns: 0 }).unwrap();
        pending.batch_mut(slot).extend([user(1), user(2)]);
        let mut out = Vec::new();
        Http::default().request(&mut out, id, slot, &mut pending);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"user_ids":["1","2"]}"#);
        assert!(head.starts_with("POST /v1/balances:batchGet HTTP/1.1\r\n"));
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
    }
}
