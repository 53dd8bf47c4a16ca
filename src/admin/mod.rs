//! The admin port: whether the node lives and is ready, what it counts, and the way into the embedded ledger. Control
//! plane only: it runs on a tokio runtime of its own thread and never touches a shard but to read its counters.
//!
//! | method and path | answers |
//! | --- | --- |
//! | GET / | the console: a page that shows what the node is doing; `console` |
//! | GET /healthz | 200 as long as the process answers |
//! | GET /readyz | 200 when every shard has loaded the ledger and follows it; else 503 and the reasons |
//! | GET /metrics | everything that the shards count, for Prometheus |
//! | GET /v1/shards | the shards: CPU, thread, port, accounts, connections, watermark; and where each thread runs |
//! | GET /v1/nodes | which nodes divide the users, and how each stands |
//! | GET /v1/activity | what the node is doing, an event each second |
//! | GET /v1/users/{id}/balance, …/statistics | what a caller would be answered |
//! | GET /v1/refusals | who was refused last, and why |
//! | GET /v1/audit | what the audit has compared, and what differs |
//! | GET /v1/checkpoint | the newest checkpoint, and how often one was made or could not be |
//! | POST /v1/checkpoint | makes one now |
//! | GET /debug/pprof/profile | where the threads spend their CPU time, for pprof; `?seconds=` says for how long it is looked at |
//! | GET /debug/flamegraph | the same as a picture |
//! | POST /v1/transactions | appends to the ledger; see `transactions` |
//!
//! Where callers have to prove who they are, `guard` says what each of these takes.

pub mod activity;
mod audit;
mod checkpoint;
mod console;
mod guard;
mod hosts;
mod intake;
mod looks;
mod metrics;
pub mod neighbours;
mod problem;
mod profile;
mod secure;
mod shards;
mod threads;
mod transactions;
mod users;
mod view;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use florin_input::connections::{self, Bounds, Port};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use guard::Guard;
pub use hosts::Hosts;
pub use looks::Looks;
use problem::Problem;
use profile::Profiles;
pub use view::{Readiness, View};
pub use writer::{AppendError, LedgerWriter, WriterThread};

use crate::limits::{
    ACCEPT_RETRY_US, ADMIN_CONNECTIONS_MAX, ADMIN_IDLE_US, ADMIN_PART, ADMIN_PART_SILENCE, LINGER_US,
    SCARCITY_LOG_US,
};
use crate::profiler::Profiler;
use crate::shard::NO_NODES;
use crate::tls::Identities;

/// Where the admin port listens.
pub struct Ports {
    /// Plain.
    pub plain: Option<TcpListener>,
    /// By TLS, and what is shown there.
    pub tls: Option<(TcpListener, Arc<Identities>)>,
}

/// Serves the admin port until `end` resolves; requests that are being answered then still are.
pub async fn serve(
    ports: Ports,
    view: Arc<View>,
    writing: Writing,
    guard: Guard,
    end: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let has_ended = watch::Sender::new(false);
    let router = router(view, writing, guard, has_ended.subscribe());
    let plain = ports.plain.map(Port::from);
    let tls = ports.tls.map(|(listener, identities)| Port::from(listener).over(secure::over(identities)));
    let serve_one = async |port: Option<Port>| {
        let Some(port) = port else { return Ok(()) };
        let mut ended = has_ended.subscribe();
        let end = async move {
            // An error says that nobody is left who could say so.
            let _ = ended.wait_for(|ended| *ended).await;
        };
        connections::serve(port, BOUNDS, router.clone(), end).await
    };
    let until_ended = async {
        end.await;
        has_ended.send_replace(true);
        Ok(())
    };
    tokio::try_join!(serve_one(plain), serve_one(tls), until_ended).map(drop)
}

/// Of connections to the admin port.
const BOUNDS: Bounds = Bounds {
    connections_max: ADMIN_CONNECTIONS_MAX,
    idle: Duration::from_micros(ADMIN_IDLE_US),
    head_silence: ADMIN_PART_SILENCE,
    head: ADMIN_PART,
    linger: Duration::from_micros(LINGER_US),
    accept_retry: Duration::from_micros(ACCEPT_RETRY_US),
    say_every: Duration::from_micros(SCARCITY_LOG_US),
};

/// The way into the ledger, and the names under which it may be asked for.
#[derive(Clone)]
pub struct Writing {
    /// Appends.
    pub writer: LedgerWriter,
    /// Besides addresses, `localhost` and this host's own name.
    pub hosts: Hosts,
}

fn router(view: Arc<View>, writing: Writing, guard: Guard, end: watch::Receiver<bool>) -> Router {
    let console = console::router(&view, &guard, writing.hosts.clone(), end.clone());
    let checkpoint = Router::new()
        .route("/v1/checkpoint", get(checkpoint::get).post(checkpoint::post))
        .with_state((Arc::clone(&view), writing.hosts.clone()));
    let profiles = Router::new()
        .route("/debug/pprof/profile", get(profile::pprof))
        .route("/debug/flamegraph", get(profile::flamegraph))
        .with_state(Profiles { profiler: Profiler::default(), clock: view.clock, end });
    let transactions = Router::new().route("/v1/transactions", post(transactions::post)).with_state(writing);
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/shards", get(shards))
        .route("/v1/nodes", get(nodes))
        .route("/v1/audit", get(audit::get))
        .with_state(view)
        .merge(checkpoint)
        .merge(profiles)
        .merge(transactions)
        .merge(console)
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, format!("expected one of {PATHS}")) })
        .method_not_allowed_fallback(|| async {
            let detail = "expected POST for /v1/transactions, GET or POST for /v1/checkpoint, and GET for everything else";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(axum::middleware::from_fn_with_state(guard, Guard::check))
        .layer(axum::middleware::from_fn(intake::check_head))
}

const PATHS: &str = "/, /healthz, /readyz, /metrics, /v1/activity, /v1/shards, /v1/nodes, /v1/users/{id}/balance, /v1/users/{id}/statistics, \
                     /v1/refusals, /v1/audit, /v1/checkpoint, /v1/transactions, /debug/pprof/profile, /debug/flamegraph";

async fn readyz(State(view): State<Arc<View>>) -> Response {
    let readiness = view.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, json(&readiness)).into_response()
}

async fn metrics(State(view): State<Arc<View>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render(&view))
        .into_response()
}

async fn shards(State(view): State<Arc<View>>) -> Response {
    json(&shards::map(&view))
}

/// What is asked of the nodes, as at the shards' ports.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct News {
    /// Only what is new since this version.
    since: Option<u64>,
}

async fn nodes(State(view): State<Arc<View>>, asked: Result<Query<News>, QueryRejection>) -> Response {
    let Some(nodes) = &view.nodes else {
        return Problem::new(StatusCode::NOT_FOUND, NO_NODES).into_response();
    };
    let Ok(Query(News { since })) = asked else {
        let expected = "since: expected a version, which an answer has told, and no other parameter";
        return Problem::new(StatusCode::BAD_REQUEST, expected).into_response();
    };
    match nodes.standing().told {
        Some(told) => {
            ([(header::CONTENT_TYPE, "application/json")], told.answer(since).concat()).into_response()
        }
        None => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "nodes: nothing is known yet").into_response(),
    }
}

fn json(value: &impl serde::Serialize) -> Response {
    let text = serde_json::to_string(value).expect("the admin port's answers have string keys");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// What a caller may send, read as the admin port reads it: for `fuzz/`, and for no caller.
#[doc(hidden)]
pub mod fuzzed {
    use florin_record::NewTransaction;

    /// Reads a body of `POST /v1/transactions`.
    ///
    /// # Errors
    /// What the refusal says.
    pub fn transactions(body: &[u8]) -> Result<Vec<NewTransaction>, String> {
        let parsed = super::transactions::parse(body);
        parsed.map_err(|problem| problem.detail().unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests;
