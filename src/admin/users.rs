//! `GET /v1/users/{id}/balance` and `/statistics` on the admin port: what a caller of the shards' ports would be answered, to the byte and
//! with the same headers, for an operator who looks at one user. The shard answers it; nobody connects to anything.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use florin_schema::nodes::node_authority;
use florin_schema::{UserId, decimal, misspelling};

use super::problem::Problem;
use super::view::View;
use crate::nodes::NodesStatus;
use crate::shard::{Look, Rights};

/// A path that names a user's data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Named<'a> {
    /// As the path has it.
    pub(super) user: &'a str,
    /// What of the user.
    pub(super) leaf: &'static str,
    /// The right that it takes, as on the shards' ports.
    pub(super) takes: Rights,
}

/// Whose data a path names; `None` where it names nobody's.
pub(super) fn named(path: &str) -> Option<Named<'_>> {
    let (user, leaf) = path.strip_prefix("/v1/users/")?.split_once('/')?;
    let known = [("balance", Rights::BALANCE), ("statistics", Rights::STATISTICS)];
    let (leaf, takes) = known.into_iter().find(|(known, _)| *known == leaf)?;
    Some(Named { user, leaf, takes })
}

/// The id that a path has for a user.
pub(super) fn user(text: &str) -> Option<UserId> {
    decimal(text).and_then(UserId::new)
}

/// Handles `GET …/balance`.
pub(super) async fn balance(State(view): State<Arc<View>>, Path(user): Path<String>) -> Response {
    look(&view, &user, Look::Balance).await
}

/// Handles `GET …/statistics`.
pub(super) async fn statistics(State(view): State<Arc<View>>, Path(user): Path<String>) -> Response {
    look(&view, &user, Look::Statistics).await
}

async fn look(view: &View, text: &str, at: fn(UserId) -> Look) -> Response {
    let Some(user) = user(text) else {
        let detail = format!("user_id: expected 0 to {}, got {text:?}{}", i64::MAX, misspelling(text));
        return Problem::new(StatusCode::BAD_REQUEST, detail).into_response();
    };
    if let Some(problem) = view.nodes.as_ref().and_then(|nodes| elsewhere(nodes, user)) {
        return problem.into_response();
    }
    match view.looks.ask(at(user), &view.clock).await {
        Ok(answer) => passed_on(&answer).expect("a shard answers in HTTP"),
        Err(problem) => problem.into_response(),
    }
}

/// Says which node has a user that this one has not.
fn elsewhere(nodes: &NodesStatus, user: UserId) -> Option<Problem> {
    let map = nodes.standing().map?;
    let partition = map.partition_of(user);
    if map.holders(partition).any(|place| map.nodes()[usize::from(place)].id == nodes.id) {
        return None;
    }
    let owner = &map.nodes()[usize::from(map.owner(partition)?)];
    let owner = node_authority(&owner.host, owner.port, owner.tls_port);
    let detail =
        format!("user_id: {user} belongs to partition {partition}, which {owner} has: look at that node");
    Some(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
}

/// A response as it came, but for what belongs to its connection.
fn passed_on(answer: &[u8]) -> Option<Response> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(&answer[..end]).ok()?, &answer[end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        let name: HeaderName = name.parse().ok()?;
        if name != header::CONNECTION {
            headers.insert(name, HeaderValue::from_str(value).ok()?);
        }
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some((StatusCode::from_u16(status).ok()?, headers, Body::from(body.to_vec())).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_whose_data_it_names() {
        let takes = |path| named(path).map(|named| (named.user, named.takes));
        assert_eq!(takes("/v1/users/42/balance"), Some(("42", Rights::BALANCE)));
        assert_eq!(takes("/v1/users/x/statistics"), Some(("x", Rights::STATISTICS)));
        for path in
            ["/v1/users/42", "/v1/users/42/", "/v1/users/42/balance/", "/v1/users/balance", "/metrics"]
        {
            assert_eq!(takes(path), None, "{path}");
        }
        assert_eq!((user("42"), user("-1"), user("042x")), (UserId::new(42), None, None));
    }

    #[test]
    fn a_response_is_passed_on_but_for_its_connection() {
        let answer =
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nFlorin-Shard: 1\r\nConnection: close\r\n\r\n{}";
        let response = passed_on(answer).unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()["florin-shard"], "1");
        assert!(!response.headers().contains_key(header::CONNECTION));
        assert!(passed_on(b"HTTP/1.1 200 OK\r\n").is_none());
    }
}
