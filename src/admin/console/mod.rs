//! The console: `GET /` is a page that shows what the node is doing, for as long as somebody looks at it.
//!
//! The page and its parts hold nothing of this node and are told to everybody; whatever they show comes by `GET /v1/activity`,
//! `/v1/refusals` and `/v1/users/{id}/…`, with the rights that `guard` asks for each. Everything comes from here: the page's policy
//! permits no other host, no script and no style in its text, and no frame around it.

mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
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
use stream::Streams;

/// What the page is made of: path, type, text.
const PARTS: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("page.html")),
    ("/console/console.js", "text/javascript; charset=utf-8", include_str!("console.js")),
    ("/console/console.css", "text/css; charset=utf-8", include_str!("console.css")),
    ("/console/uplot.js", "text/javascript; charset=utf-8", include_str!("uplot/uPlot.iife.min.js")),
    ("/console/uplot.css", "text/css; charset=utf-8", include_str!("uplot/uPlot.min.css")),
];

/// Only what comes from here; what is drawn sets its style by script, which this permits.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether a path is a part of the page, which is told to everybody.
pub(super) fn is_part(path: &str) -> bool {
    PARTS.iter().any(|(part, ..)| *part == path)
}

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

fn part(kind: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
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
