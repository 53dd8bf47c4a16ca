//! The callers' path: accepts, relays, and hands copies on. What happens behind it, no caller ever waits for.
//!
//! | module | holds |
//! | --- | --- |
//! | `relay` | one caller's connection |
//! | `framing` | where messages begin and end |
//! | `reader` | the primary's answers, read and copied as they pass |
//! | `scope` | which requests are the candidate's business |

mod framing;
mod reader;
mod relay;
mod scope;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use framing::Copied;
pub use scope::{Scope, ScopeRule};

use crate::answer::Answer;
use crate::budget::{Budget, Held};
use crate::clock::now_us;
use crate::cutover::Cutover;
use crate::evidence::{Evidence, Finding};
use crate::judge::{Failure, Reason, Ruling, Verdict};
use crate::limits::{
    ACCEPT_RETRY, CALLER_IDLE, CALLER_LINGER, CALLER_STALL, CONNECT_TIMEOUT, SCARCITY_SAID_EVERY,
};
use crate::mirror::{Exchange, Mirror};
use crate::record::Recorder;
use crate::request::{Endpoint, Request};

/// Whether callers are still taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// They are.
    Serving,
    /// They are not; requests under way are answered.
    Draining,
}

/// What stands behind the callers' connections.
pub struct ProxyContext {
    /// Where the primary listens: `host:port`.
    pub primary: String,
    /// How long it and callers may take.
    pub timeouts: Timeouts,
    /// Which requests are compared.
    pub scope: Scope,
    /// The way to the candidate; none where traffic is only recorded.
    pub mirror: Option<Mirror>,
    /// Where traffic is written, if it is.
    pub recorder: Option<Recorder>,
    /// Counts.
    pub evidence: Arc<Evidence>,
    /// Which callers the candidate serves.
    pub cutover: Arc<Cutover>,
    /// Room for copies of what passes.
    pub budget: Budget,
}

/// How long either end of a caller's connection may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// To connect to the primary.
    pub connect: Duration,
    /// A caller in the midst of a request, or that takes nothing of its answer.
    pub stall: Duration,
    /// A caller between two requests.
    pub idle: Duration,
    /// A caller that still sends once the primary has closed.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { connect: CONNECT_TIMEOUT, stall: CALLER_STALL, idle: CALLER_IDLE, linger: CALLER_LINGER }
    }
}

impl ProxyContext {
    /// A request has passed, with what the primary and the candidate have answered, as far as they were asked.
    fn passed(
        &self,
        sent: Copied,
        primary: Option<(Answer, Held)>,
        candidate: Option<Result<Answer, Failure>>,
    ) {
        let (request, mut held) = sent.request();
        if self.offer(&request).is_none() {
            return;
        }
        let primary = primary.map(|(answer, more)| {
            held.join(more);
            answer
        });
        self.take(Exchange::new(request, primary, candidate, held));
    }

    /// The primary's answer broke off.
    fn cut(&self, request: &Request) {
        if self.offer(request).is_none() {
            return;
        }
        let ruling = Ruling::plain(Verdict::NotComparable, Some(Reason::PrimaryCut));
        let finding = Finding {
            request,
            ruling: &ruling,
            primary: None,
            candidate: None,
            failure: None,
            now_us: now_us(),
        };
        self.evidence.rule(&finding);
    }

    /// A request is not compared because of this.
    fn dropped(&self, request: &Request, reason: Reason) {
        if let Some(endpoint) = self.offer(request) {
            self.evidence.dropped(endpoint, reason);
        }
    }

    /// Something has passed that could not be followed.
    fn lost(&self) {
        self.evidence.offer(Endpoint::Other);
        self.evidence.dropped(Endpoint::Other, Reason::Unparsed);
    }

    /// Counts a request, and says where, if it is to be compared.
    fn offer(&self, request: &Request) -> Option<Endpoint> {
        if let Some(why) = self.scope.leaves_out(request) {
            self.evidence.not_mirrored(why);
            return None;
        }
        let endpoint = request.question.endpoint();
        self.evidence.offer(endpoint);
        Some(endpoint)
    }

    fn take(&self, exchange: Exchange) {
        if let Some(recorder) = &self.recorder {
            recorder.take(&exchange.request, exchange.primary.as_ref(), exchange.asked_us());
        }
        match &self.mirror {
            Some(mirror) => mirror.take(exchange),
            None => self.evidence.recorded(exchange.request.question.endpoint()),
        }
    }
}

/// Resolves when callers are no longer taken.
async fn draining(phase: &mut watch::Receiver<Phase>) {
    // Without a sender nobody takes callers either.
    drop(phase.wait_for(|phase| *phase == Phase::Draining).await);
}

/// Accepts callers, `callers_max` at a time, until the phase changes, then lets those that are being answered end, for at most `drain`.
pub async fn serve(
    listener: TcpListener,
    context: Arc<ProxyContext>,
    mut phase: watch::Receiver<Phase>,
    drain: Duration,
    callers_max: usize,
) {
    let mut relays = JoinSet::new();
    let seen_by_relays = phase.clone();
    let mut said: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = draining(&mut phase) => break,
            Some(_) = relays.join_next(), if !relays.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((caller, _)) if relays.len() >= callers_max => {
                    context.evidence.not_mirrored("too many callers: refused");
                    let _ = caller.set_zero_linger();
                }
                Ok((caller, _)) => {
                    relays.spawn(relay::relay(Arc::clone(&context), caller, seen_by_relays.clone()));
                }
                // Out of file descriptors, or a caller that had gone already: others may still be served.
                Err(error) => {
                    if said.is_none_or(|said| said.elapsed() >= SCARCITY_SAID_EVERY) {
                        tracing::warn!("cannot accept a caller: {error}; raise the number of open files (ulimit -n)");
                        said = Some(Instant::now());
                    }
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    drop(listener);
    let all = async { while relays.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, all).await.is_err() {
        tracing::warn!("callers were still being answered after {drain:?}: their connections are closed");
    }
}

#[cfg(test)]
mod tests;
