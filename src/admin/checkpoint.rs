//! `POST /v1/checkpoint` makes one now; `GET /v1/checkpoint` says what there is.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::problem::Problem;
use super::view::View;
use super::{Hosts, intake, json};
use crate::checkpoints::{Made, MakerHandle};
use crate::limits::CHECKPOINT_WAIT;

/// 64-bit integers are strings, as everywhere in florin's JSON.
#[derive(Serialize)]
struct Shown {
    path: String,
    accounts: String,
    bytes: String,
    made_at_us: String,
    seconds: f64,
}

/// What there is.
#[derive(Serialize)]
struct Standing {
    last: Option<Shown>,
    made: String,
    failures: String,
    restored: String,
    refused: Option<String>,
}

impl Shown {
    fn of(made: &Made) -> Shown {
        Shown {
            path: made.path.display().to_string(),
            accounts: made.accounts.to_string(),
            bytes: made.bytes.to_string(),
            made_at_us: made.made_at_us.to_string(),
            seconds: made.seconds,
        }
    }
}

/// Handles `GET`.
pub(super) async fn get(State((view, _)): State<(Arc<View>, Hosts)>) -> Response {
    match maker(&view) {
        Ok(maker) => json(&standing(maker)),
        Err(problem) => problem.into_response(),
    }
}

/// Handles `POST`: 200 with the checkpoint, 202 where it takes longer, 503 where none can be made.
pub(super) async fn post(State((view, hosts)): State<(Arc<View>, Hosts)>, headers: HeaderMap) -> Response {
    let maker = match intake::check_writer(&headers, &hosts).and_then(|()| maker(&view)) {
        Ok(maker) => maker,
        Err(problem) => return intake::closing(problem),
    };
    let (told, heard) = oneshot::channel();
    maker.make(move |made| {
        // Whoever asked may have gone.
        let _ = told.send(made);
    });
    match timeout(CHECKPOINT_WAIT, heard).await {
        Ok(Ok(Ok(made))) => json(&Shown::of(&made)),
        Ok(Ok(Err(reason))) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("no checkpoint was made: {reason}"))
                .into_response()
        }
        Ok(Err(_)) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the node ends").into_response(),
        Err(_) => (StatusCode::ACCEPTED, json(&standing(maker))).into_response(),
    }
}

fn maker(view: &View) -> Result<&MakerHandle, Problem> {
    let detail = "this node keeps no checkpoints: start it with --checkpoint DIR";
    view.checkpoints.as_ref().ok_or_else(|| Problem::new(StatusCode::CONFLICT, detail))
}

fn standing(maker: &MakerHandle) -> Standing {
    let status = maker.status();
    Standing {
        last: status.last().as_ref().map(Shown::of),
        made: status.made().to_string(),
        failures: status.failures().to_string(),
        restored: status.restored().to_string(),
        refused: status.refused(),
    }
}
