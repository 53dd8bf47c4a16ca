//! What a caller asks: an HTTP request, and which of the contract's questions it is (`schemas/wire.md`).

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use florin_schema::{UserId, Window, WindowMask};
use http::{HeaderMap, HeaderName, Method, header};
use percent_encoding::percent_decode_str;

use crate::json::Value;

/// The path of the batch: a POST that only reads.
pub const BATCH_PATH: &str = "/v1/balances:batchGet";
/// Users that one batch may name.
const BATCH_USERS_MAX: usize = florin_schema::frame::BATCH_USERS_MAX;

/// Headers that belong to a connection, not to a request.
pub const HOP_BY_HOP: [HeaderName; 12] = [
    HeaderName::from_static("http2-settings"),
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
];

named! {
    /// One of the contract's three, or anything else.
    pub enum Endpoint {
        /// `GET /v1/users/{user_id}/balance`
        Balance = "balance",
        /// `GET /v1/users/{user_id}/statistics`
        Statistics = "statistics",
        /// `POST /v1/balances:batchGet`
        Balances = "balances",
        /// Whatever else the primary answers.
        Other = "other",
    }
}

/// A request's meaning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// One user's balances.
    Balance(UserId),
    /// One user's statistics.
    Statistics(UserId, WindowMask),
    /// Several users' balances.
    Balances(Vec<UserId>),
    /// Something that the contract does not know, or would refuse.
    Other,
}

impl Question {
    /// Where it is counted.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Question::Balance(_) => Endpoint::Balance,
            Question::Statistics(..) => Endpoint::Statistics,
            Question::Balances(_) => Endpoint::Balances,
            Question::Other => Endpoint::Other,
        }
    }

    /// Whom it is about.
    pub fn users(&self) -> &[UserId] {
        match self {
            Question::Balance(user) | Question::Statistics(user, _) => std::slice::from_ref(user),
            Question::Balances(users) => users,
            Question::Other => &[],
        }
    }

    /// The one user whom it is about.
    pub fn user(&self) -> Option<UserId> {
        match self {
            Question::Balance(user) | Question::Statistics(user, _) => Some(*user),
            Question::Balances(_) | Question::Other => None,
        }
    }
}

/// What an answer must satisfy, as wire.md's parameters have it; 0 asks nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Freshness {
    /// Of the user's transactions, at least so many.
    pub min_version: u64,
    /// The view is no older.
    pub max_age_ms: u32,
    /// How long the server may hold the request until both hold.
    pub wait_ms: u32,
}

/// A request as it came, without its framing.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, HEAD, POST, …
    pub method: Method,
    /// Path and query, as they came.
    pub target: String,
    /// Without those of the connection.
    pub headers: Arc<HeaderMap>,
    /// Empty where there is none.
    pub body: Bytes,
    /// What it means.
    pub question: Question,
    /// What it asks of the answer's age.
    pub freshness: Freshness,
}

impl Request {
    /// Reads the meaning out of a request.
    pub fn new(method: Method, target: String, headers: Arc<HeaderMap>, body: Bytes) -> Request {
        let understood = is_json(&headers).then(|| understand(&method, &target, &body)).flatten();
        let (question, freshness) = understood.unwrap_or((Question::Other, Freshness::default()));
        Request { method, target, headers, body, question, freshness }
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        let path = self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path);
        // A proxy's callers may name the host in the target.
        match path.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => path,
        }
    }

    /// The same question, of an answer that holds at least `min_version`, for which the server may wait.
    #[must_use]
    pub fn at_least(&self, min_version: u64, wait_ms: u32) -> Request {
        let mut target = self.path().to_owned();
        let mut separator = '?';
        let given = self.target.split_once('?').map_or("", |(_, query)| query);
        let kept = given.split('&').filter(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            !matches!(&*decoded(name).unwrap_or_default(), "min_version" | "wait_ms") && !pair.is_empty()
        });
        for pair in kept {
            target.push(separator);
            target.push_str(pair);
            separator = '&';
        }
        let _ = write!(target, "{separator}min_version={min_version}&wait_ms={wait_ms}");
        Request { target, freshness: Freshness { min_version, wait_ms, ..self.freshness }, ..self.clone() }
    }

    /// A GET of one user's balance, in this request's name.
    #[must_use]
    pub fn balance_of(&self, user: UserId, min_version: u64, wait_ms: u32) -> Request {
        let question = Question::Balance(user);
        let freshness = Freshness { min_version: 0, wait_ms: 0, ..self.freshness };
        let target = match freshness.max_age_ms {
            0 => format!("/v1/users/{user}/balance"),
            age => format!("/v1/users/{user}/balance?max_age_ms={age}"),
        };
        let single = Request {
            method: Method::GET,
            target,
            headers: Arc::clone(&self.headers),
            body: Bytes::new(),
            question,
            freshness,
        };
        if min_version > 0 { single.at_least(min_version, wait_ms) } else { single }
    }
}

/// What says to be anything else is refused by the contract; what says nothing is read as JSON.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default());
    kind.is_none_or(|kind| {
        let essence = kind.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    })
}

/// `None` where the contract has no such request.
fn understand(method: &Method, target: &str, body: &[u8]) -> Option<(Question, Freshness)> {
    let origin_form =
        target.strip_prefix("http://").map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
    let (path, query) = origin_form.split_once('?').unwrap_or((origin_form, ""));
    let path = decoded(path)?;
    let mut freshness = Freshness::default();
    let mut windows = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let value = decoded(value)?;
        match &*decoded(name)? {
            "min_version" => freshness.min_version = value.parse().ok()?,
            "max_age_ms" => freshness.max_age_ms = value.parse().ok()?,
            "wait_ms" => freshness.wait_ms = value.parse().ok()?,
            "window" => windows = Some(mask(&value)?),
            _ => return None,
        }
    }
    if path == BATCH_PATH {
        let users = (method == Method::POST && windows.is_none()).then(|| batch(body)).flatten()?;
        return Some((Question::Balances(users), freshness));
    }
    if method != Method::GET && method != Method::HEAD {
        return None;
    }
    let (user, aspect) = path.strip_prefix("/v1/users/")?.split_once('/')?;
    let user =
        user.parse().ok().filter(|_| user.bytes().all(|b| b.is_ascii_digit())).and_then(UserId::new)?;
    match aspect {
        "balance" if windows.is_none() => Some((Question::Balance(user), freshness)),
        "statistics" => Some((Question::Statistics(user, windows.unwrap_or(WindowMask::ALL)), freshness)),
        _ => None,
    }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn mask(text: &str) -> Option<WindowMask> {
    let bits = text.split(',').try_fold(0, |bits, name| {
        let window = Window::ALL.into_iter().find(|window| window.name() == name)?;
        Some(bits | 1 << window as u8)
    });
    WindowMask::new(bits?)
}

fn batch(body: &[u8]) -> Option<Vec<UserId>> {
    let Value::Object(fields) = Value::parse(body).ok()? else { return None };
    let [(name, ids)] = &fields[..] else { return None };
    let ids = ids.elements().filter(|_| name == "user_ids")?;
    let users: Option<Vec<UserId>> = ids.iter().map(|id| UserId::new(id.as_whole()?)).collect();
    users.filter(|users| (1..=BATCH_USERS_MAX).contains(&users.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, target: &str, body: &'static str) -> Request {
        Request::new(method, target.to_owned(), Arc::default(), Bytes::from_static(body.as_bytes()))
    }

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    #[test]
    fn the_contracts_questions_are_understood() {
        let cases = [
            ("/v1/users/42/balance", Question::Balance(user(42))),
            ("/v1/users/%34%32/balance?", Question::Balance(user(42))),
            ("http://host:1/v1/users/42/balance?min_version=7&wait_ms=9", Question::Balance(user(42))),
            ("/v1/users/0/statistics", Question::Statistics(user(0), WindowMask::ALL)),
            (
                "/v1/users/1/statistics?window=30d%2C24h",
                Question::Statistics(user(1), WindowMask::new(5).unwrap()),
            ),
            ("/v1/users/42/balance?window=24h", Question::Other),
            ("/v1/users/42/balance?x=1", Question::Other),
            ("/v1/users/+42/balance", Question::Other),
            ("/v1/users/9223372036854775808/balance", Question::Other),
            ("/v1/users/42/statistics?window=1h", Question::Other),
            ("/healthz", Question::Other),
        ];
        for (target, expected) in cases {
            assert_eq!(request(Method::GET, target, "").question, expected, "{target}");
        }
        let batch = request(Method::POST, BATCH_PATH, r#"{"user_ids":["1",2,"1"]}"#);
        assert_eq!(batch.question, Question::Balances(vec![user(1), user(2), user(1)]));
        let more = r#"{"user_ids":["1"],"pin":"1"}"#;
        let twice = r#"{"user_ids":["1"],"user_ids":["2"]}"#;
        for body in ["", "{}", r#"{"user_ids":[]}"#, r#"{"user_ids":["x"]}"#, r#"[["1"]]"#, more, twice] {
            assert_eq!(request(Method::POST, BATCH_PATH, body).question, Question::Other, "{body}");
        }
        assert_eq!(request(Method::POST, "/v1/users/1/balance", "").question, Question::Other);
    }

    #[test]
    fn a_request_asked_again_insists_on_a_version_and_keeps_the_rest() {
        let first = request(
            Method::GET,
            "/v1/users/1/statistics?wait_ms=5&window=24h&min_version=2&max_age_ms=9",
            "",
        );
        let again = first.at_least(7, 100);
        assert_eq!(again.target, "/v1/users/1/statistics?window=24h&max_age_ms=9&min_version=7&wait_ms=100");
        assert_eq!(again.freshness, Freshness { min_version: 7, max_age_ms: 9, wait_ms: 100 });
        assert_eq!(again.question, first.question);
        let reread = Request::new(again.method.clone(), again.target.clone(), Arc::default(), Bytes::new());
        assert_eq!((reread.question, reread.freshness), (again.question, again.freshness));
        let single = first.balance_of(user(3), 8, 50);
        assert_eq!(single.target, "/v1/users/3/balance?max_age_ms=9&min_version=8&wait_ms=50");
        assert_eq!(
            request(Method::GET, "/v1/users/1/balance", "").balance_of(user(3), 0, 50).target,
            "/v1/users/3/balance"
        );
    }
}
