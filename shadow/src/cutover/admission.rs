//! Whether the primary would answer a caller. The candidate does not know who may ask what, so it answers only whom somebody
//! vouches for, or whom the primary itself has answered the same question a moment ago.

use std::collections::HashMap;
use std::hash::Hasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use florin_schema::UserId;
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::answer::{Answer, Level};
use crate::credentials::{are_carried, is_passing};
use crate::limits::ADMITTED_MAX;
use crate::request::{Question, Request};

/// Whom the candidate may answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Everybody: whoever this names has made sure that callers may ask what they ask.
    Vouched(String),
    /// Whom the primary has answered the same question within this time.
    Seen {
        /// How long its answer counts.
        within: Duration,
        /// What becomes of requests that carry credentials.
        credentials: Credentials,
    },
}

/// What becomes of requests that carry credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Credentials {
    /// They are the primary's.
    Primary,
    /// The primary's answer to the very same credentials counts.
    Seen,
}

/// Callers, by all that may decide what they get, whom the primary has answered.
pub struct Admitted {
    admission: Admission,
    /// Nobody can find two callers with one hash who does not know it.
    key: [u8; 16],
    seen: Mutex<Seen>,
}

/// Two generations: the older is dropped when the newer is full.
#[derive(Default)]
struct Seen {
    recent: HashMap<u128, Instant>,
    older: HashMap<u128, Instant>,
}

impl Admitted {
    /// Nobody has been answered yet.
    pub fn new(admission: Admission) -> Admitted {
        Admitted { admission, key: rand::random(), seen: Mutex::default() }
    }

    /// Whether the candidate may answer.
    pub fn admits(&self, request: &Request) -> bool {
        let (within, credentials) = match &self.admission {
            Admission::Vouched(_) => return true,
            Admission::Seen { within, credentials } => (*within, *credentials),
        };
        if credentials == Credentials::Primary && are_carried(&request.headers) {
            return false;
        }
        let users = request.question.users();
        let seen = self.seen();
        !users.is_empty()
            && users.iter().all(|user| {
                let caller = self.caller(request, *user);
                let at = seen.recent.get(&caller).or_else(|| seen.older.get(&caller));
                at.is_some_and(|at| at.elapsed() <= within)
            })
    }

    /// The primary has answered a caller itself. A 404 may be how it refuses, and what it says when it is busy says nothing.
    pub fn learn(&self, request: &Request, answer: &Answer) {
        let Admission::Seen { credentials, .. } = self.admission else { return };
        let is_silent = matches!(answer.status, 100..=199 | 300..=399 | 412 | 429 | 500..);
        let is_ignored = credentials == Credentials::Primary && are_carried(&request.headers);
        if is_silent || is_ignored {
            return;
        }
        // A batch may be refused user by user.
        let entries = match &request.question {
            Question::Balances(users) => answer.entries(users.len()),
            _ => None,
        };
        let mut seen = self.seen();
        for (at, user) in request.question.users().iter().enumerate() {
            let is_answered = match (&request.question, &entries) {
                (Question::Balances(_), None) => false,
                (Question::Balances(_), Some(entries)) => matches!(entries[at].level, Level::At(1..)),
                _ => answer.is_ok(),
            };
            seen.note(self.caller(request, *user), is_answered);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that may decide whether this is answered: what is asked, of whom, and every header but those of one request.
    fn caller(&self, request: &Request, user: UserId) -> u128 {
        let mut headers: Vec<_> = request.headers.iter().filter(|(name, _)| !is_passing(name)).collect();
        headers.sort_by(|a, b| (a.0.as_str(), a.1.as_bytes()).cmp(&(b.0.as_str(), b.1.as_bytes())));
        let mut hasher = SipHasher24::new_with_key(&self.key);
        let mut part = |bytes: &[u8]| {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        };
        part(request.method.as_str().as_bytes());
        part(request.path().as_bytes());
        part(&user.get().to_le_bytes());
        for (name, value) in headers {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
        hasher.finish128().as_u128()
    }
}

impl Seen {
    fn note(&mut self, caller: u128, is_answered: bool) {
        self.older.remove(&caller);
        if !is_answered {
            self.recent.remove(&caller);
            return;
        }
        if self.recent.len() >= ADMITTED_MAX && !self.recent.contains_key(&caller) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(caller, Instant::now());
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

    fn answer(status: u16) -> Answer {
        let (form, stated) = (Form::Http, Stated::default());
        Answer { status, form, stated, body: Bytes::new(), packed: None, at: Moment::default() }
    }

    fn seen(credentials: Credentials) -> Admitted {
        Admitted::new(Admission::Seen { within: Duration::from_secs(60), credentials })
    }

    #[test]
    fn only_whom_the_primary_has_answered_is_admitted_and_until_it_refuses() {
        let admitted = seen(Credentials::Primary);
        let one = ask("/v1/users/1/balance", &[("x-request-id", "a")]);
        assert!(!admitted.admits(&one));
        for refusal in [401, 403, 404, 429, 500, 503] {
            admitted.learn(&one, &answer(refusal));
            assert!(!admitted.admits(&one), "{refusal}");
        }
        admitted.learn(&one, &answer(200));
        assert!(
            admitted.admits(&one) && admitted.admits(&ask("/v1/users/1/balance", &[("x-request-id", "b")]))
        );
        for other in [
            ask("/v1/users/2/balance", &[]),
            ask("/v1/users/1/statistics", &[]),
            ask("/v1/users/1/balance", &[("origin", "https://elsewhere")]),
            ask("/v1/users/1/balance", &[("authorization", "Bearer x")]),
            ask("/v1/users/1/balance", &[("x-api-key", "x")]),
            ask("/v1/users/1/balance?token=x", &[]),
        ] {
            assert!(!admitted.admits(&other), "{other:?}");
        }
        // What it says when it is busy takes nothing back; a refusal does.
        admitted.learn(&one, &answer(503));
        assert!(admitted.admits(&one));
        admitted.learn(&one, &answer(403));
        assert!(!admitted.admits(&one));
        let old =
            Admitted::new(Admission::Seen { within: Duration::ZERO, credentials: Credentials::Primary });
        old.learn(&one, &answer(200));
        assert!(!old.admits(&one), "an answer counts for a while only");
    }

    #[test]
    fn credentials_are_admitted_only_where_the_configuration_says_so_and_each_for_itself() {
        let bearer = |token: &str| ask("/v1/users/1/balance", &[("authorization", token)]);
        let admitted = seen(Credentials::Primary);
        admitted.learn(&bearer("a"), &answer(200));
        assert!(!admitted.admits(&bearer("a")));
        let admitted = seen(Credentials::Seen);
        admitted.learn(&bearer("a"), &answer(200));
        assert!(admitted.admits(&bearer("a")) && !admitted.admits(&bearer("b")));
        assert!(!admitted.admits(&ask("/v1/users/1/balance", &[])));
        assert!(Admitted::new(Admission::Vouched("the gateway".to_owned())).admits(&bearer("b")));
    }
}
