//! The console: `GET /` is a page that shows what the node is doing, for as long as somebody looks at it.
//!
//! The page and its parts hold nothing of this node and are told to everybody; whatever they show comes by `GET /v1/activity`,
//! `/v1/refusals` and `/v1/users/{id}/…`, with the rights that `guard` asks for each. Everything comes from here: the page's policy
//! permits no other host, no script and no style in its text, and no frame around it.

pub(super) mod parts;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::guard::Guard;
use super::hosts::Hosts;
use super::problem::Problem;
use super::view::View;
use super::{intake, json, users};
use parts::{PARTS, part};
use stream::Streams;

/// The console's paths. Streams end when `ended` says so.
pub(super) fn router(view: &Arc<View>, guard: &Guard, hosts: Hosts, ended: watch::Receiver<bool>) -> Router {
    let streams = Arc::new(Streams::new(Arc::clone(view), guard.clone(), ended));
    let parts = PARTS.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || async move { part(kind, text) }))
    });
    // The page holds nothing, and links to it may stand anywhere.
    let shown = Router::new()
        .merge(Router::new().route("/v1/activity", get(stream::get)).with_state(streams))
        .merge(Router::new().route("/v1/refusals", get(refusals)).with_state(guard.clone()))
        .route("/v1/users/{user}/balance", get(users::balance))
        .route("/v1/users/{user}/statistics", get(users::statistics))
        .with_state(Arc::clone(view))
        .layer(from_fn_with_state(hosts, check_reader));
    parts.merge(shown)
}

/// No page but ours may read here, under whatever name it has led a browser to this host.
async fn check_reader(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match intake::check_reader(request.headers(), &hosts) {
        Ok(()) => next.run(request).await,
        Err(problem) => intake::closing(problem),
    }
}

/// Who was refused last, oldest first: lines of the audit log.
async fn refusals(State(guard): State<Guard>) -> Response {
    match guard.refusals() {
        Some(lines) => {
            let lines: Vec<Box<RawValue>> =
                lines.into_iter().filter_map(|line| RawValue::from_string(line).ok()).collect();
            json(&serde_json::json!({ "refusals": lines }))
        }
        None => {
            let detail = "this node writes no audit log: start it with --audit-log FILE";
            Problem::new(StatusCode::CONFLICT, detail).into_response()
        }
    }
}
