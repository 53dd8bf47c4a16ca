//! Whether the primary would answer a caller. The candidate does not know who may ask what, so it answers only whom somebody
//! vouches for, or whom the primary itself has answered the same question a moment ago.
//!
//! The primary is asked all the time: what it answers itself it is asked by the caller, and what the candidate has answered it is
//! asked by the mirror, with the caller's own headers. So its word is never older than a moment, and a refusal takes back what
//! was said before.

use std::hash::Hasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use florin_schema::UserId;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::answer::{Answer, Level, Reading};
use crate::clock::now_us;
use crate::credentials::{are_carried, is_passing};
use crate::generations::Generations;
use crate::limits::ADMITTED_MAX;
use crate::request::{Question, Request};

/// Whom the candidate may answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Everybody: whoever this names has made sure that callers may ask what they ask.
    Everybody(String),
    /// Whom the primary has answered the same question within this time, if the request carries nothing that may be a credential.
    Anonymous(Duration),
    /// Whom the primary has answered the same question, and the very same credentials, within this time.
    ByPrimary(Duration),
}

/// What the primary has said to callers, by all that may decide what they get.
pub struct Admitted {
    admission: Admission,
    /// Nobody can find two callers with one hash who does not know it.
    key: [u8; 16],
    words: Mutex<Words>,
}

type Words = Generations<u128, Word>;

/// The primary's word on a caller.
#[derive(Clone, Copy)]
struct Word {
    /// When it was asked, µs since 1970 UTC: answers may be heard of in another order.
    asked_us: i64,
    /// Until when it answers for the caller; a refusal does for nobody.
    until: Option<Instant>,
}

impl Admitted {
    /// Nobody has been answered yet.
    pub fn new(admission: Admission) -> Admitted {
        Admitted { admission, key: rand::random(), words: Mutex::new(Words::new(ADMITTED_MAX)) }
    }

    /// For how long the primary's word to this request counts; nothing where it does not.
    fn life(&self, request: &Request) -> Option<Duration> {
        match self.admission {
            Admission::Anonymous(life) => (!are_carried(request)).then_some(life),
            Admission::ByPrimary(life) => Some(life),
            Admission::Everybody(_) => None,
        }
    }

    /// Whether the candidate may answer.
    pub fn admits(&self, request: &Request) -> bool {
        if matches!(self.admission, Admission::Everybody(_)) {
            return true;
        }
        let users = request.question.users();
        if users.is_empty() || self.life(request).is_none() {
            return false;
        }
        let (words, now) = (self.words(), Instant::now());
        users.iter().all(|user| {
            let word = words.get(&self.caller(request, *user));
            word.and_then(|word| word.until).is_some_and(|until| now < until)
        })
    }

    /// The primary has answered. A 404 may be how it refuses, and what it says when it fails says nothing.
    pub fn learn(&self, request: &Request, answer: &Answer) {
        let Some(life) = self.life(request) else { return };
        if matches!(answer.status, 304 | 412 | 500..) {
            return;
        }
        let users = request.question.users();
        // A batch may be refused user by user.
        let readings = match &request.question {
            Question::Balances(users) => answer.entries(users.len()).unwrap_or_default(),
            question => vec![answer.reading(question)],
        };
        let asked_us = answer.at.asked_us;
        let age = Duration::from_micros(u64::try_from(now_us() - asked_us).unwrap_or(0));
        let until = Instant::now() + life.saturating_sub(age);
        let mut words = self.words();
        for (at, user) in users.iter().enumerate() {
            let is_answered = readings.get(at).is_some_and(|reading| speaks_of(reading, *user));
            let caller = self.caller(request, *user);
            if words.get(&caller).is_none_or(|known| known.asked_us <= asked_us) {
                words.insert(caller, Word { asked_us, until: is_answered.then_some(until) }, 1);
            }
        }
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that may decide whether this is answered: what is asked, where, of whom, and every header but those of one request.
    fn caller(&self, request: &Request, user: UserId) -> u128 {
        let mut headers: Vec<_> = request.headers.iter().filter(|(name, _)| !is_passing(name)).collect();
        // Of several with one name their order may decide.
        headers.sort_by_key(|(name, _)| name.as_str());
        let mut hasher = SipHasher24::new_with_key(&self.key);
        let mut part = |bytes: &[u8]| {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        };
        part(request.method.as_str().as_bytes());
        part(request.target.split('?').next().unwrap_or_default().as_bytes());
        part(&user.get().to_le_bytes());
        for (name, value) in headers {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
        hasher.finish128().as_u128()
    }
}

/// Whether it is the account that was asked for. A page to log in on has status 200 as well.
fn speaks_of(reading: &Reading, user: UserId) -> bool {
    reading.is_ok()
        && match reading.user() {
            Some(named) => named == user,
            None => matches!(reading.level, Level::At(1..)),
        }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, Method};

    use super::*;
    use crate::answer::{Form, Moment, Stated};

    fn ask(target: &str, headers: &[(&'static str, &str)]) -> Request {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        Request::new(Method::GET, target.to_owned(), Arc::new(map), Bytes::new())
    }

    /// An answer to a question that was asked so many seconds ago.
    fn said(status: u16, body: &'static str, seconds: i64) -> Answer {
        let asked_us = now_us() - seconds * 1_000_000;
        let at = Moment { asked_us, answered_us: asked_us };
        let (form, stated) = (Form::Http, Stated::default());
        Answer { status, form, stated, body: Bytes::from_static(body.as_bytes()), packed: None, at }
    }

    fn answer(status: u16) -> Answer {
        said(status, r#"{"user_id":"1","version":"7","balances":[]}"#, 0)
    }

    const LIFE: Duration = Duration::from_secs(60);

    #[test]
    fn only_whom_the_primary_has_answered_is_admitted_and_until_it_refuses() {
        let admitted = Admitted::new(Admission::Anonymous(LIFE));
        let one = ask("/v1/users/1/balance", &[("x-request-id", "a")]);
        assert!(!admitted.admits(&one));
        for refusal in [302, 401, 403, 404, 429, 500, 503] {
            admitted.learn(&one, &answer(refusal));
            assert!(!admitted.admits(&one), "{refusal}");
        }
        // A page to log in on, somebody else's account, and none.
        for body in ["<html>", r#"{"user_id":"2","version":"7"}"#, r#"{"error":"forbidden"}"#] {
            admitted.learn(&one, &said(200, body, 0));
            assert!(!admitted.admits(&one), "{body}");
        }
        admitted.learn(&one, &answer(200));
        assert!(
            admitted.admits(&one) && admitted.admits(&ask("/v1/users/1/balance", &[("x-request-id", "b")]))
        );
        for other in [
            ask("/v1/users/2/balance", &[]),
            ask("/v1/users/1/statistics", &[]),
            ask("/v1/users/1/balance", &[("origin", "https://elsewhere")]),
            ask("/v1/users/1/balance", &[("x-forwarded-proto", "http")]),
            ask("/v1/users/1/balance", &[("authorization", "Bearer x")]),
            ask("/v1/users/1/balance", &[("x-api-key", "x")]),
            ask("/v1/users/1/balance?token=x", &[]),
            ask("http://elsewhere/v1/users/1/balance", &[]),
        ] {
            assert!(!admitted.admits(&other), "{other:?}");
        }
        // What it says when it fails takes nothing back; a refusal does, whichever.
        for refusal in [302, 401, 403, 404, 429] {
            admitted.learn(&one, &answer(200));
            admitted.learn(&one, &answer(503));
            assert!(admitted.admits(&one));
            admitted.learn(&one, &answer(refusal));
            assert!(!admitted.admits(&one), "{refusal}");
        }
        // What was asked first is not the last word, though it may be heard of last.
        admitted.learn(&one, &said(200, r#"{"user_id":"1"}"#, 1));
        assert!(!admitted.admits(&one));
        let later = Admitted::new(Admission::Anonymous(LIFE));
        later.learn(&one, &said(200, r#"{"user_id":"1"}"#, 59));
        assert!(later.admits(&one));
        let later = Admitted::new(Admission::Anonymous(LIFE));
        later.learn(&one, &said(200, r#"{"user_id":"1"}"#, 60));
        assert!(!later.admits(&one), "an answer counts for a while only, from when it was asked for");
    }

    #[test]
    fn credentials_are_admitted_only_where_the_primary_vouches_for_them_and_each_for_itself() {
        let bearer = |token: &str| ask("/v1/users/1/balance", &[("authorization", token)]);
        let login = ask("http://me:secret@host/v1/users/1/balance", &[]);
        let admitted = Admitted::new(Admission::Anonymous(LIFE));
        for request in [bearer("a"), login.clone()] {
            admitted.learn(&request, &answer(200));
            assert!(!admitted.admits(&request), "{request:?}");
        }
        let admitted = Admitted::new(Admission::ByPrimary(LIFE));
        admitted.learn(&bearer("a"), &answer(200));
        assert!(admitted.admits(&bearer("a")) && !admitted.admits(&bearer("b")));
        for other in [ask("/v1/users/1/balance", &[]), login] {
            assert!(!admitted.admits(&other), "{other:?}");
        }
        // Which of two the primary goes by, it knows alone.
        let both = |tokens: [&str; 2]| {
            ask("/v1/users/1/balance", &[("authorization", tokens[0]), ("authorization", tokens[1])])
        };
        admitted.learn(&both(["a", "b"]), &answer(200));
        assert!(admitted.admits(&both(["a", "b"])) && !admitted.admits(&both(["b", "a"])));
        assert!(Admitted::new(Admission::Everybody("the gateway".to_owned())).admits(&bearer("b")));
    }
}
