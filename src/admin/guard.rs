//! Who may do what on the admin port: the same callers as on the shards' ports, proved by a token or a certificate. Whether the node
//! lives and is ready is told to everybody; what it counts takes `metrics`, an append `write`, and what the audit has found, a profile,
//! and whatever else changes something `admin`.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use florin_input::connections::{PeerAddress, PeerNames};
use florin_schema::Status;

use super::intake::closing;
use super::problem::Problem;
use crate::callers::{AuditLog, Callers, Deed};
use crate::clock::Clock;
use crate::limits::AUDIT_LOG_PATH_BYTES_MAX;
use crate::shard::callers::bearer;
use crate::shard::strikes::Strikes;
use crate::shard::{Directory, Principal, Proof, Rights};

/// Who may do what, and where it is written down. Without callers everybody who gets here may do everything.
#[derive(Clone, Debug)]
pub struct Guard {
    callers: Option<Callers>,
    audit: Option<AuditLog>,
    clock: Clock,
    strikes: Arc<Mutex<Strikes>>,
}

impl Guard {
    /// Of these callers.
    pub fn new(callers: Option<Callers>, audit: Option<AuditLog>, clock: Clock) -> Guard {
        Guard { callers, audit, clock, strikes: Arc::default() }
    }

    /// Who makes a request.
    fn principal(
        &self,
        headers: &HeaderMap,
        from: Option<IpAddr>,
        names: &[&str],
    ) -> Result<Principal, Problem> {
        let Some(callers) = &self.callers else { return Ok(Principal::ANONYMOUS) };
        let directory = callers.current();
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        // A token, if one is shown, says more than a certificate.
        let Some(value) = values.next() else {
            return Ok(directory.principal(Proof::Certificate(names), self.clock.now().wall_us));
        };
        if values.next().is_some() {
            let detail = "authorization: expected once, got it twice";
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
        let unauthorized = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
        let token = bearer(value.as_bytes())
            .ok_or_else(|| unauthorized("authorization: expected Bearer, one space and a token"))?;
        let now = self.clock.now();
        let mut strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        if !strikes.looks_at(from, now.monotonic_us) {
            let detail = "token: too many wrong ones have come from this address; ask again in a second, with the right one";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail));
        }
        let found = Directory::principal(&*directory, Proof::Token(token), now.wall_us);
        found.ok_or_else(|| {
            strikes.count(from, now.monotonic_us);
            unauthorized("token: expected one that this node knows and whose time is not over")
        })
    }

    fn name(&self, principal: Principal) -> Option<String> {
        Some(self.callers.as_ref()?.current().name(principal.number()?)?.to_owned())
    }

    fn note(&self, action: &str, outcome: u16, principal: Option<Principal>, from: Option<IpAddr>) {
        let Some(audit) = &self.audit else { return };
        audit.note(Deed {
            at_us: self.clock.now().wall_us,
            action: action.to_owned(),
            outcome: outcome.to_string(),
            principal: principal.and_then(|principal| self.name(principal)),
            from,
        });
    }

    /// Lets a request through, or refuses it before its body is looked at.
    pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
        let Some(needed) = needed(request.method(), request.uri().path()) else {
            return next.run(request).await;
        };
        let from = request.extensions().get::<PeerAddress>().map(|from| from.0.ip().to_canonical());
        let action = action(request.method(), request.uri().path());
        let names = request.extensions().get::<PeerNames>().map(PeerNames::proved).unwrap_or_default();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let principal = guard.principal(request.headers(), from, &names);
        let known = principal.as_ref().ok().copied();
        let admitted = principal.and_then(|principal| match principal.lacks(needed) {
            None => Ok(()),
            Some(status) => Err(refusal(status, needed)),
        });
        if let Err(problem) = admitted {
            guard.note(&action, problem.status().as_u16(), known, from);
            return closing(problem);
        }
        let response = next.run(request).await;
        if needed != Rights::METRICS {
            guard.note(&action, response.status().as_u16(), known, from);
        }
        response
    }
}

/// What a request takes; `None` = nothing. What nobody has thought of takes the most.
fn needed(method: &Method, path: &str) -> Option<Rights> {
    match (method, path) {
        (&Method::GET | &Method::HEAD, "/healthz" | "/readyz") => None,
        // Its evidence holds balances.
        (&Method::GET | &Method::HEAD, "/v1/audit") => Some(Rights::ADMIN),
        // A profile costs something, and shows what the node is busy with.
        (&Method::GET | &Method::HEAD, path) if path.starts_with("/debug/") => Some(Rights::ADMIN),
        (&Method::GET | &Method::HEAD, _) => Some(Rights::METRICS),
        (&Method::POST, "/v1/transactions") => Some(Rights::WRITE),
        _ => Some(Rights::ADMIN),
    }
}

fn action(method: &Method, path: &str) -> String {
    let end = (0..=AUDIT_LOG_PATH_BYTES_MAX).rev().find(|&at| path.is_char_boundary(at)).unwrap_or(0);
    format!("{method} {}", &path[..end.min(path.len())])
}

fn refusal(status: Status, needed: Rights) -> Problem {
    let right = Rights::NAMED.iter().find(|(_, right)| *right == needed).map_or("that", |(name, _)| name);
    match status {
        Status::Unauthenticated => Problem::new(
            StatusCode::UNAUTHORIZED,
            format!(
                "token: expected one of a caller who may {right}, as Authorization: Bearer, or by TLS the caller's certificate"
            ),
        ),
        _ => Problem::new(
            StatusCode::FORBIDDEN,
            format!(
                "{right}: this caller may not; whoever runs this node grants it with may = [\"{right}\"]"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_thought_of_takes_the_most() {
        for (method, path, expected) in [
            (Method::GET, "/healthz", None),
            (Method::HEAD, "/readyz", None),
            (Method::POST, "/healthz", Some(Rights::ADMIN)),
            (Method::GET, "/metrics", Some(Rights::METRICS)),
            (Method::GET, "/v1/anything", Some(Rights::METRICS)),
            (Method::GET, "/debug/pprof/profile", Some(Rights::ADMIN)),
            (Method::GET, "/debug/flamegraph", Some(Rights::ADMIN)),
            (Method::POST, "/v1/transactions", Some(Rights::WRITE)),
            (Method::POST, "/v1/transactions/", Some(Rights::ADMIN)),
            (Method::POST, "/v1/checkpoint", Some(Rights::ADMIN)),
            (Method::DELETE, "/v1/transactions", Some(Rights::ADMIN)),
        ] {
            assert_eq!(needed(&method, path), expected, "{method} {path}");
        }
        assert_eq!(action(&Method::GET, &"/ä".repeat(100)).len(), "GET ".len() + 128 - 1);
    }
}
