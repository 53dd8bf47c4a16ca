//! The three reads of wire.md.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use crate::view::{Account, Balance, Text, moment};

/// As wire.md has it.
const BATCH_MAX: usize = 1_024;

/// Everything that answers come from.
#[derive(Default)]
pub struct State {
    /// By user.
    pub accounts: DashMap<u64, Arc<Account>>,
    /// µs: all rows that had been committed then are applied.
    as_of_us: AtomicI64,
    /// A clock that stands still, for tests.
    fixed_us: Option<i64>,
}

impl State {
    /// With the clock fixed, where it is.
    pub fn new(fixed_us: Option<i64>) -> State {
        State { fixed_us, ..State::default() }
    }

    /// Who holds an answer's account holds no lock: two of them, taken one after the other, could wait for a writer that waits for
    /// the first.
    fn account(&self, user: u64) -> Option<Arc<Account>> {
        self.accounts.get(&user).map(|account| Arc::clone(&account))
    }

    /// µs since 1970 UTC.
    pub fn now_us(&self) -> i64 {
        let clock =
            || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        self.fixed_us.unwrap_or_else(clock)
    }

    /// Says that everything is applied that had been committed at `at_us`.
    pub fn holds_everything_up_to(&self, at_us: i64) {
        self.as_of_us.store(at_us, Ordering::Release);
    }
}

/// The routes.
pub fn routes(state: Arc<State>) -> Router {
    Router::new()
        .route("/v1/users/{id}/balance", get(balance))
        .route("/v1/users/{id}/statistics", get(statistics))
        .route("/v1/balances:batchGet", post(batch))
        .with_state(state)
}

async fn balance(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let user = match user_of(&id, query) {
        Ok(user) => user,
        Err(detail) => return invalid(detail),
    };
    match state.account(user) {
        Some(account) => answer(&state, Some(account.version()), &account.balance(user)),
        None => not_found(),
    }
}

async fn statistics(
    Shared(state): Shared<Arc<State>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let user = match user_of(&id, query) {
        Ok(user) => user,
        Err(detail) => return invalid(detail),
    };
    let Some(account) = state.account(user) else { return not_found() };
    match account.statistics(user, state.now_us()) {
        Some(statistics) => answer(&state, Some(account.version()), &statistics),
        None => problem(StatusCode::INTERNAL_SERVER_ERROR, "the sums of a window exceed 64 bits"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    user_ids: Vec<String>,
}

#[derive(Serialize)]
struct Balances<'a> {
    balances: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    user_id: Text<u64>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    balance: Option<Balance<'a>>,
}

async fn batch(Shared(state): Shared<Arc<State>>, body: Bytes) -> Response {
    let asked: Asked = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(error) => return invalid(&error.to_string()),
    };
    if !(1..=BATCH_MAX).contains(&asked.user_ids.len()) {
        return invalid(&format!("expected 1 to {BATCH_MAX} user_ids, got {}", asked.user_ids.len()));
    }
    let Some(users) = asked.user_ids.iter().map(|id| parse(id)).collect::<Option<Vec<u64>>>() else {
        return invalid("a user id is a number from 0 to 9223372036854775807");
    };
    let found: Vec<_> = users.iter().map(|user| (*user, state.account(*user))).collect();
    let balances = found.iter().map(|(user, account)| Entry {
        user_id: Text::of(*user),
        status: if account.is_some() { "OK" } else { "NOT_FOUND" },
        balance: account.as_ref().map(|account| account.balance(*user)),
    });
    answer(&state, None, &Balances { balances: balances.collect() })
}

fn user_of(id: &str, query: Option<String>) -> Result<u64, &'static str> {
    if query.is_some_and(|query| !query.is_empty()) {
        return Err("this service knows no parameters: it answers with what it holds");
    }
    parse(id).ok_or("a user id is a number from 0 to 9223372036854775807")
}

/// One spelling for each id.
fn parse(id: &str) -> Option<u64> {
    let is_spelt =
        id == "0" || id.bytes().next().is_some_and(|first| first.is_ascii_digit() && first != b'0');
    id.parse().ok().filter(|id| is_spelt && *id <= i64::MAX as u64)
}

fn answer<T: Serialize>(state: &State, version: Option<u64>, body: &T) -> Response {
    let body = match serde_json::to_vec(body) {
        Ok(body) => body,
        Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}")),
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(as_of) = HeaderValue::try_from(moment(state.as_of_us.load(Ordering::Acquire))) {
        headers.insert(HeaderName::from_static("florin-as-of"), as_of);
    }
    if let Some(version) = version {
        headers.insert(HeaderName::from_static("florin-version"), HeaderValue::from(version));
    }
    response
}

fn invalid(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, detail)
}

fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "the ledger has never named this user")
}

/// RFC 9457.
fn problem(status: StatusCode, detail: &str) -> Response {
    #[derive(Serialize)]
    struct Problem<'a> {
        r#type: &'static str,
        title: &'a str,
        status: u16,
        detail: &'a str,
    }
    let title = status.canonical_reason().unwrap_or_default();
    let problem = Problem { r#type: "about:blank", title, status: status.as_u16(), detail };
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
