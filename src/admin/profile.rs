//! `GET /debug/pprof/profile` and `GET /debug/flamegraph`: where the node's threads spend their CPU time.

use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use florin_input::connections::PeerEnd;
use florin_schema::decimal;
use serde::Deserialize;
use tokio::sync::watch;

use super::problem::{Problem, caller_gone};
use crate::clock::Clock;
use crate::limits::{PROFILE_SECONDS, PROFILE_SECONDS_MAX};
use crate::profiler::{Form, Order, ProfileError, Profiler};

/// What a query says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    seconds: Option<String>,
}

type Told = Result<Query<Asked>, QueryRejection>;

/// Who takes profiles, and until when.
#[derive(Clone)]
pub(super) struct Profiles {
    pub(super) profiler: Profiler,
    pub(super) clock: Clock,
    /// The admin port ends.
    pub(super) end: watch::Receiver<bool>,
}

/// Handles `GET /debug/pprof/profile`.
pub(super) async fn pprof(
    State(profiles): State<Profiles>,
    Extension(peer): Extension<PeerEnd>,
    asked: Told,
) -> Response {
    match profiles.take(&peer, asked, Form::Pprof).await {
        Ok(profile) => {
            let name = "attachment; filename=\"profile.pb.gz\"";
            let headers =
                [(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_DISPOSITION, name)];
            (headers, profile).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// Handles `GET /debug/flamegraph`.
pub(super) async fn flamegraph(
    State(profiles): State<Profiles>,
    Extension(peer): Extension<PeerEnd>,
    asked: Told,
) -> Response {
    match profiles.take(&peer, asked, Form::Flamegraph).await {
        Ok(picture) => ([(header::CONTENT_TYPE, "image/svg+xml")], picture).into_response(),
        Err(problem) => problem.into_response(),
    }
}

impl Profiles {
    /// Takes one, as long as somebody waits for it and the node goes on.
    async fn take(mut self, peer: &PeerEnd, asked: Told, form: Form) -> Result<Vec<u8>, Problem> {
        let during = during(asked)?;
        let order = Order { during, form, began_us: self.clock.now().wall_us };
        tokio::select! {
            taken = self.profiler.take(order) => taken.map_err(|error| refusal(&error)),
            () = peer.wait() => {
                let detail = "no profile: it is taken as long as somebody waits for it, and this caller has shut its half of the connection";
                Err(Problem::new(caller_gone(), detail))
            }
            // An error says that nobody is left who could say so.
            _ = self.end.wait_for(|has_ended| *has_ended) => {
                let detail = "no profile: the node ends; ask again once it is back";
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
            }
        }
    }
}

/// For how long.
fn during(asked: Told) -> Result<Duration, Problem> {
    let seconds = asked.ok().and_then(|Query(Asked { seconds })| match seconds {
        Some(seconds) => decimal(seconds),
        None => Some(PROFILE_SECONDS),
    });
    match seconds {
        Some(seconds @ 1..=PROFILE_SECONDS_MAX) => Ok(Duration::from_secs(seconds)),
        Some(_) | None => {
            let detail = format!(
                "seconds: expected a whole number from 1 to {PROFILE_SECONDS_MAX}, and nothing else in the query"
            );
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
    }
}

fn refusal(error: &ProfileError) -> Problem {
    let status = match error {
        ProfileError::Busy => StatusCode::TOO_MANY_REQUESTS,
        ProfileError::Forbidden { .. } => StatusCode::NOT_IMPLEMENTED,
        ProfileError::Memory { .. } => StatusCode::SERVICE_UNAVAILABLE,
        ProfileError::Failed { .. } | ProfileError::Ended => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Problem::new(status, error.to_string())
}
