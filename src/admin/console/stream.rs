//! `GET /v1/activity`: an event each second with what the node is doing (server-sent events). All who watch share one sampler, which
//! looks when the first of them is due. While nobody watches, nothing happens.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use crate::admin::activity::{Activity, Sampler};
use crate::admin::guard::Guard;
use crate::admin::problem::Problem;
use crate::admin::view::View;
use crate::limits::{ACTIVITY_PERIOD, ACTIVITY_STREAMS_MAX};
use crate::shard::{Principal, Rights};
use crate::threads::{EndsProcess, Vital};

/// All who watch.
pub(super) struct Streams {
    view: Arc<View>,
    guard: Guard,
    latest: Mutex<Latest>,
    places: Arc<Semaphore>,
    ended: watch::Receiver<bool>,
}

/// The last event, and what makes the next.
#[derive(Default)]
struct Latest {
    sampler: Sampler,
    /// Counts events; 0 = there was none.
    number: u64,
    at: Option<Instant>,
    event: Bytes,
}

impl Streams {
    pub(super) fn new(view: Arc<View>, guard: Guard, ended: watch::Receiver<bool>) -> Streams {
        let places = Arc::new(Semaphore::new(ACTIVITY_STREAMS_MAX));
        Streams { view, guard, latest: Mutex::default(), places, ended }
    }

    /// The first event that comes after the one with this number. Whoever waits for it longest makes it, for all.
    async fn next(&self, seen: u64) -> (u64, Bytes) {
        let mut latest = self.latest.lock().await;
        let is_current = latest.at.is_some_and(|at| at.elapsed() < 2 * ACTIVITY_PERIOD);
        match latest.at {
            // Somebody has looked since, and that is what there is to see.
            Some(_) if is_current && latest.number > seen => {}
            Some(at) if is_current => {
                sleep_until(at + ACTIVITY_PERIOD).await;
                latest.look(&self.view, &self.guard);
            }
            _ => {
                latest.sampler.forget();
                latest.look(&self.view, &self.guard);
            }
        }
        (latest.number, latest.event.clone())
    }
}

impl Latest {
    fn look(&mut self, view: &View, guard: &Guard) {
        let activity = Activity { refusals: guard.refused(), ..self.sampler.look(view) };
        (self.number, self.at, self.event) = (self.number + 1, Some(Instant::now()), event(&activity));
    }
}

fn event(activity: &Activity) -> Bytes {
    let text = serde_json::to_string(activity).expect("its keys are strings");
    format!("event: activity\ndata: {text}\n\n").into()
}

/// One that watches.
struct Watching {
    streams: Arc<Streams>,
    seen: u64,
    principal: Principal,
    ended: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
    /// A panic would stay with the connection's task.
    _end: EndsProcess,
}

impl Watching {
    /// `None` once it may no longer look, for its token's time is over or it was taken away, and when the node ends.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Watching)> {
        let (number, event) = tokio::select! {
            next = self.streams.next(self.seen) => next,
            _ = self.ended.wait_for(|ended| *ended) => return None,
        };
        self.seen = number;
        self.streams.guard.may_still(self.principal, Rights::METRICS).then_some((Ok(event), self))
    }
}

/// Handles `GET`.
pub(super) async fn get(
    State(streams): State<Arc<Streams>>,
    Extension(principal): Extension<Principal>,
) -> Response {
    let Ok(place) = Arc::clone(&streams.places).try_acquire_owned() else {
        let detail = format!("{ACTIVITY_STREAMS_MAX} watch this node already: close one, or ask later");
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response();
    };
    let ended = streams.ended.clone();
    let end = EndsProcess::of(Vital::Admin);
    let watching = Watching { streams, seen: 0, principal, ended, _place: place, _end: end };
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(unfold(watching, Watching::next))).into_response()
}
