//! The shadow's admin port.
//!
//! | method and path | answers |
//! | --- | --- |
//! | GET / | the live page |
//! | GET /v1/shadow | the state of the run |
//! | GET, POST /v1/shadow/serve | the candidate's share of callers: `{"candidate":"5%"}` |
//! | GET /metrics | the same for Prometheus |
//! | GET /healthz | 200 while the process answers |

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use florin_input::connections::{self, Bounds};
use florin_input::origin::check_command;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::cutover::{Cutover, Share};
use crate::evidence::{Evidence, Summary, page, render_metrics};
use crate::limits::{
    ACCEPT_RETRY, ADMIN_CONNECTIONS_MAX, ADMIN_HEAD, ADMIN_HEAD_SILENCE, CALLER_LINGER, CALLER_STALL,
    SCARCITY_SAID_EVERY,
};
use crate::proxy::Phase;

/// What the port shows, and what it may change.
#[derive(Clone)]
pub struct RunState {
    /// Counts.
    pub evidence: Arc<Evidence>,
    /// Who serves whom.
    pub cutover: Arc<Cutover>,
    /// Whether callers are still taken.
    pub phase: watch::Receiver<Phase>,
}

impl RunState {
    /// The state of the run.
    pub fn summary(&self) -> Summary {
        let state = match *self.phase.borrow() {
            Phase::Serving => "running",
            Phase::Draining => "draining",
        };
        self.evidence.summary(state, self.cutover.summary())
    }
}

/// A command that moves live traffic, and how it is answered.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Serving {
    candidate: String,
}

/// Serves until `end` resolves.
///
/// # Errors
/// Where the listener breaks.
pub async fn serve(
    listener: TcpListener,
    run_state: RunState,
    end: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(|| async { html(page(None)) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/v1/shadow", get(shadow))
        .route("/v1/shadow/serve", get(served).post(set_served))
        .route("/metrics", get(metrics))
        .with_state(run_state);
    connections::serve(listener, BOUNDS, router, end).await
}

/// Of connections to the port.
const BOUNDS: Bounds = Bounds {
    connections_max: ADMIN_CONNECTIONS_MAX,
    idle: CALLER_STALL,
    head_silence: ADMIN_HEAD_SILENCE,
    head: ADMIN_HEAD,
    linger: CALLER_LINGER,
    accept_retry: ACCEPT_RETRY,
    say_every: SCARCITY_SAID_EVERY,
};

fn html(text: String) -> Response {
    // The page loads nothing but the state, and runs nothing but its own script.
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:";
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, policy)];
    (headers, text).into_response()
}

async fn shadow(State(run_state): State<RunState>) -> Json<Summary> {
    Json(run_state.summary())
}

async fn metrics(State(run_state): State<RunState>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, render_metrics(&run_state.summary())).into_response()
}

async fn served(State(run_state): State<RunState>) -> Json<Serving> {
    Json(Serving { candidate: run_state.cutover.share().to_string() })
}

async fn set_served(State(run_state): State<RunState>, headers: HeaderMap, body: Bytes) -> Response {
    let values = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    if let Err(refusal) = check_command(values, &[]) {
        let status = StatusCode::from_u16(refusal.status()).expect("a refusal's status is one of HTTP's");
        return problem(status, &refusal.to_string());
    }
    let wanted = florin_input::json(&body).map_err(|error| error.to_string());
    let share = wanted
        .and_then(|Serving { candidate }| candidate.parse::<Share>().map_err(|error| error.to_string()));
    match share {
        Ok(share) => {
            tracing::info!(
                "cutover: the candidate's share is set to {share}, from {}",
                run_state.cutover.share()
            );
            match run_state.cutover.set_share(share) {
                Ok(()) => served(State(run_state)).await.into_response(),
                Err(error) => problem(StatusCode::CONFLICT, &error.to_string()),
            }
        }
        Err(why) => {
            problem(StatusCode::BAD_REQUEST, &format!("body: expected {{\"candidate\":\"5%\"}}: {why}"))
        }
    }
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let problem = serde_json::json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail});
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, problem.to_string()).into_response()
}
