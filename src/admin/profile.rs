//! `GET /debug/pprof/profile` and `GET /debug/flamegraph`: where the node's threads spend their CPU time.

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use florin_schema::decimal;
use serde::Deserialize;

use super::problem::Problem;
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

/// Handles `GET /debug/pprof/profile`.
pub(super) async fn pprof(State((profiler, clock)): State<(Profiler, Clock)>, asked: Told) -> Response {
    match take(&profiler, clock, asked, Form::Pprof).await {
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
pub(super) async fn flamegraph(State((profiler, clock)): State<(Profiler, Clock)>, asked: Told) -> Response {
    match take(&profiler, clock, asked, Form::Flamegraph).await {
        Ok(picture) => ([(header::CONTENT_TYPE, "image/svg+xml")], picture).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn take(profiler: &Profiler, clock: Clock, asked: Told, form: Form) -> Result<Vec<u8>, Problem> {
    let seconds = asked.ok().and_then(|Query(Asked { seconds })| match seconds {
        Some(seconds) => decimal(seconds),
        None => Some(PROFILE_SECONDS),
    });
    let during = match seconds {
        Some(seconds @ 1..=PROFILE_SECONDS_MAX) => Duration::from_secs(seconds),
        Some(_) | None => {
            let detail = format!(
                "seconds: expected a whole number from 1 to {PROFILE_SECONDS_MAX}, and nothing else in the query"
            );
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
    };
    let order = Order { during, form, began_us: clock.now().wall_us };
    profiler.take(order).await.map_err(|error| {
        let status = match &error {
            ProfileError::Busy => StatusCode::TOO_MANY_REQUESTS,
            ProfileError::Forbidden { .. } => StatusCode::NOT_IMPLEMENTED,
            ProfileError::Memory { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ProfileError::Failed { .. } | ProfileError::Ended => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, error.to_string())
    })
}
