//! Who may do what on the admin port: the same callers as on the shards' ports, proved by a token or a certificate. Whether the node
//! lives and is ready is told to everybody, and so is the console's page; what it counts takes `metrics`, a look at a user what the same
//! takes on the shards' ports, and counts against the same quota, an append `write`, and what the audit has found, who was refused, a
//! profile and whatever else changes something `admin`.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use florin_input::connections::{PeerAddress, PeerNames};
use florin_schema::{Status, UserId};

use super::console::parts;
use super::intake::closing;
use super::problem::{Problem, Reason};
use super::users;
use crate::callers::{AuditLog, Callers, Deed};
use crate::clock::Clock;
use crate::limits::AUDIT_LOG_PATH_BYTES_MAX;
use crate::shard::callers::bearer;
use crate::shard::quota::{self, Usage};
use crate::shard::strikes::{Strikes, Struck};
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
        certificate: Proof<'_>,
    ) -> Result<Principal, Problem> {
        let Some(callers) = &self.callers else { return Ok(Principal::ANONYMOUS) };
        let directory = callers.current();
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        // A token, if one is shown, says more than a certificate.
        let Some(value) = values.next() else {
            return Ok(directory.principal(certificate, self.clock.now().wall_us));
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
        let find = || Directory::principal(&*directory, Proof::Token(token), now.wall_us);
        let found = strikes.judge(from, now.monotonic_us, directory.form(token), find);
        found.map_err(|struck| match struck {
            Struck::Wrong => unauthorized("token: expected one that this node knows and whose time is not over"),
            Struck::TooMany => {
                let detail = "token: too many wrong ones have come from this address; ask again in a second, with the right one";
                Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
            }
        })
    }

    fn name(&self, principal: Principal) -> Option<String> {
        Some(self.callers.as_ref()?.current().name(principal.number()?)?.to_owned())
    }

    /// Whether one that was let through still may, for whatever lasts.
    pub(super) fn may_still(&self, principal: Principal, needed: Rights) -> bool {
        let Some(callers) = &self.callers else { return true };
        let now = Directory::again(&*callers.current(), principal, self.clock.now().wall_us);
        now.lacks(needed).is_none()
    }

    /// Counts a request against its caller's quota, where that is what the shards' ports do with the same.
    fn draw(&self, principal: Principal, needed: Rights) -> Result<Option<InFlight>, Problem> {
        let counted = principal.number().filter(|_| principal.is_metered() && Rights::READS.hold(needed));
        let (Some(number), Some(callers)) = (counted, &self.callers) else { return Ok(None) };
        let directory = callers.current();
        let Some(quota) = Directory::quota(&*directory, number) else { return Ok(None) };
        let shed = |words: String| {
            quota.count_shed();
            Problem::new(StatusCode::TOO_MANY_REQUESTS, words)
        };
        if !quota.begin() {
            return Err(shed(quota::TOO_MANY_WAIT.to_owned()));
        }
        let in_flight = InFlight(Arc::clone(quota.usage()));
        let now_us = self.clock.now().monotonic_us;
        quota.take_one(now_us).map_err(|again_us| shed(quota::too_often(again_us, now_us)))?;
        Ok(Some(in_flight))
    }

    /// Who was refused last, as lines of the audit log, oldest first; `None` where none is written.
    pub(super) fn refusals(&self) -> Option<Vec<String>> {
        self.audit.as_ref().map(AuditLog::refusals)
    }

    /// How many were refused since the start; 0 where it is not written down.
    pub(super) fn refused(&self) -> u64 {
        self.audit.as_ref().map_or(0, AuditLog::refused)
    }

    fn note(&self, asked: &Asked, outcome: StatusCode, reason: Option<String>, principal: Option<Principal>) {
        let Some(audit) = &self.audit else { return };
        audit.note(Deed {
            at_us: self.clock.now().wall_us,
            action: asked.action.clone(),
            outcome: outcome.as_u16().to_string(),
            reason,
            principal: principal.and_then(|principal| self.name(principal)),
            from: asked.from,
            user: asked.user,
        });
    }

    /// Lets a request through, or refuses it before its body is looked at.
    pub(super) async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
        let Some(needed) = needed(request.method(), request.uri().path()) else {
            return next.run(request).await;
        };
        let asked = Asked::of(&request);
        let proved = request.extensions().get::<PeerNames>().map(PeerNames::proved);
        let (names, until_us) = proved.unwrap_or((&[], i64::MAX));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let certificate = Proof::Certificate { names: &names, until_us };
        let principal = guard.principal(request.headers(), asked.from, certificate);
        let known = principal.as_ref().ok().copied();
        let admitted = principal.and_then(|principal| match principal.lacks(needed) {
            None => guard.draw(principal, needed).map(|in_flight| (principal, in_flight)),
            Some(status) => Err(refusal(status, needed)),
        });
        let (principal, _in_flight) = match admitted {
            Ok(admitted) => admitted,
            Err(problem) => {
                guard.note(&asked, problem.status(), problem.detail().map(str::to_owned), known);
                return closing(problem);
            }
        };
        request.extensions_mut().insert(principal);
        let response = next.run(request).await;
        let reason = response.extensions().get::<Reason>();
        if needed != Rights::METRICS || reason.is_some() {
            guard.note(&asked, response.status(), reason.map(|Reason(words)| words.clone()), known);
        }
        response
    }
}

/// One of a caller's requests that waits for its answer, until this is dropped.
struct InFlight(Arc<Usage>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.settle(1, 0);
    }
}

/// What a request takes; `None` = nothing. What nobody has thought of takes the most.
fn needed(method: &Method, path: &str) -> Option<Rights> {
    match (method, path) {
        (&Method::GET | &Method::HEAD, "/healthz" | "/readyz") => None,
        (&Method::GET | &Method::HEAD, path) if parts::is_part(path) => None,
        // Its evidence holds balances; and who was refused is no counter.
        (&Method::GET | &Method::HEAD, "/v1/audit" | "/v1/refusals") => Some(Rights::ADMIN),
        // A profile costs something, and shows what the node is busy with.
        (&Method::GET | &Method::HEAD, path) if path.starts_with("/debug/") => Some(Rights::ADMIN),
        (&Method::GET | &Method::HEAD, path) => {
            Some(users::named(path).map_or(Rights::METRICS, |named| named.takes))
        }
        (&Method::POST, "/v1/transactions") => Some(Rights::WRITE),
        _ => Some(Rights::ADMIN),
    }
}

/// A request, as it is written down. No user's id is: it becomes a keyed hash.
struct Asked {
    action: String,
    user: Option<UserId>,
    from: Option<IpAddr>,
}

impl Asked {
    fn of(request: &Request) -> Asked {
        let path = request.uri().path();
        let named = users::named(path);
        let written = named.map(|named| format!("/v1/users/{{user}}/{}", named.leaf));
        Asked {
            action: action(request.method(), written.as_deref().unwrap_or(path)),
            user: named.and_then(|named| users::user(named.user)),
            from: request.extensions().get::<PeerAddress>().map(|from| from.0.ip().to_canonical()),
        }
    }
}

fn action(method: &Method, path: &str) -> String {
    let end = (0..=AUDIT_LOG_PATH_BYTES_MAX).rev().find(|&at| path.is_char_boundary(at)).unwrap_or(0);
    let path: String = path[..end.min(path.len())].chars().map(florin_schema::printable).collect();
    format!("{method} {path}")
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
            (Method::GET, "/", None),
            (Method::POST, "/", Some(Rights::ADMIN)),
            (Method::GET, "/console/console.js", None),
            (Method::GET, "/console/else", Some(Rights::METRICS)),
            (Method::GET, "/v1/activity", Some(Rights::METRICS)),
            (Method::GET, "/v1/refusals", Some(Rights::ADMIN)),
            (Method::GET, "/v1/users/42/balance", Some(Rights::BALANCE)),
            (Method::GET, "/v1/users/42/statistics", Some(Rights::STATISTICS)),
            (Method::POST, "/v1/users/42/balance", Some(Rights::ADMIN)),
            (Method::POST, "/v1/transactions", Some(Rights::WRITE)),
            (Method::POST, "/v1/transactions/", Some(Rights::ADMIN)),
            (Method::POST, "/v1/checkpoint", Some(Rights::ADMIN)),
            (Method::DELETE, "/v1/transactions", Some(Rights::ADMIN)),
        ] {
            assert_eq!(needed(&method, path), expected, "{method} {path}");
        }
        let asked =
            Asked::of(&Request::builder().uri("/v1/users/1/balance").body(Default::default()).unwrap());
        assert_eq!((&*asked.action, asked.user), ("GET /v1/users/{user}/balance", UserId::new(1)));
        assert_eq!(action(&Method::GET, &"/ä".repeat(100)).len(), "GET ".len() + 128 - 1);
        // Whoever reads the log on a terminal sees what was asked, in its order.
        assert_eq!(action(&Method::GET, "/\u{202e}x"), "GET /\u{fffd}x");
    }
}
