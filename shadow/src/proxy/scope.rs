//! Which requests are the candidate's business: those that only read.

use http::Method;

use crate::request::{BATCH_PATH, Request};

/// A rule about which requests are mirrored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScopeRule {
    /// What reports call it.
    pub name: String,
    /// The method; any where none is named.
    pub method: Option<Method>,
    /// The path, in which `*` stands for one segment.
    pub path: String,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Requests that are left out though they only read.
    pub leave_out: Vec<ScopeRule>,
    /// Requests that only read though their method does not say so.
    pub also: Vec<ScopeRule>,
}

impl Scope {
    /// Why a request is not mirrored and compared, if it is not.
    pub fn leaves_out(&self, request: &Request) -> Option<&str> {
        if let Some(rule) = self.leave_out.iter().find(|rule| rule.is_about(request)) {
            return Some(&rule.name);
        }
        let reads = matches!(request.method, Method::GET | Method::HEAD)
            // wire.md's batch: a POST because it has a body.
            || (request.method == Method::POST && request.path() == BATCH_PATH)
            || self.also.iter().any(|rule| rule.is_about(request));
        (!reads).then(|| writes(&request.method))
    }
}

/// By names of a fixed number: callers may invent methods without end.
fn writes(method: &Method) -> &'static str {
    match *method {
        Method::POST => "writes (POST)",
        Method::PUT => "writes (PUT)",
        Method::PATCH => "writes (PATCH)",
        Method::DELETE => "writes (DELETE)",
        Method::OPTIONS => "asks what is offered (OPTIONS)",
        _ => "another method",
    }
}

impl ScopeRule {
    fn is_about(&self, request: &Request) -> bool {
        let mut path = request.path().split('/');
        let is_path =
            self.path.split('/').all(|part| path.next().is_some_and(|other| part == "*" || part == other));
        self.method.as_ref().is_none_or(|method| *method == request.method)
            && is_path
            && path.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_only_reads_is_compared_and_nothing_else() {
        let rule = |name: &str, method, path: &str| ScopeRule {
            name: name.to_owned(),
            method,
            path: path.to_owned(),
        };
        let scope = Scope {
            leave_out: vec![rule("health", None, "/healthz"), rule("old", Some(Method::GET), "/v0/*/x")],
            also: vec![rule("search", Some(Method::POST), "/v1/search")],
        };
        for (method, target, expected) in [
            (Method::GET, "/v1/users/1/balance?x=1", None),
            (Method::HEAD, "/anything", None),
            (Method::POST, "/v1/balances:batchGet?wait_ms=1", None),
            (Method::POST, "/v1/transactions", Some("writes (POST)")),
            (Method::PUT, "/v1/balances:batchGet", Some("writes (PUT)")),
            (Method::DELETE, "/v1/users/1/balance", Some("writes (DELETE)")),
            (Method::from_bytes(b"BREW").unwrap(), "/v1/users/1/balance", Some("another method")),
            (Method::POST, "http://host/v1/balances:batchGet", None),
            (Method::POST, "/v1/search?q=a", None),
            (Method::GET, "/healthz", Some("health")),
            (Method::GET, "/v0/7/x", Some("old")),
            (Method::GET, "/v0/7/x/y", None),
            (Method::HEAD, "/v0/7/x", None),
        ] {
            let request = Request::new(method, target.to_owned(), Arc::default(), Bytes::new());
            assert_eq!(scope.leaves_out(&request), expected, "{target}");
        }
    }
}
