//! Keeping a connection: what happens between one socket and the next.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::select;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::dial::Dialled;
use super::session::{Running, Standing};
use super::{Shared, State, dial};
use crate::builder::{Backoff, Retry};
use crate::counters::add;
use crate::{Disconnect, Error};

/// A connection, and how it stands.
pub(super) struct Link {
    pub shared: Arc<Shared>,
    pub state: Arc<watch::Sender<State>>,
}

impl Link {
    /// Connects, serves until the connection ends, waits, and begins again.
    pub async fn supervise(self) {
        let shared = &self.shared;
        let mut failures: u32 = 0;
        let mut parting = JoinSet::new();
        loop {
            let error = match dial::dial(shared).await {
                Ok(dialled) => {
                    let began = Instant::now();
                    let error = self.hold(Running::start(shared, dialled), &mut parting).await;
                    // A server that ends whatever it has accepted is asked no more often than one that refuses.
                    if began.elapsed() >= shared.settings.backoff.most {
                        failures = 0;
                    }
                    error
                }
                Err(error) => error,
            };
            add(&shared.tally.disconnects, 1);
            self.state.send_replace(State::Down(error));
            while parting.try_join_next().is_some() {}
            self.rest(failures).await;
            failures = failures.saturating_add(1);
        }
    }

    /// Waits before the next attempt: no longer than a moment where the node is wanted.
    async fn rest(&self, failures: u32) {
        let pause = self.shared.settings.backoff.pause(failures, &mut rand::rng());
        let least = Backoff::least(pause, &mut rand::rng());
        let wanted = pin!(async {
            sleep(least).await;
            self.shared.wanted.notified().await;
        });
        select(pin!(sleep(pause)), wanted).await;
    }

    /// Serves with a session, and with those that take its place, until there is none; answers why.
    async fn hold(&self, mut running: Running, parting: &mut JoinSet<()>) -> Error {
        let shared = &self.shared;
        self.state.send_replace(State::Up(Arc::clone(&running.session)));
        // One that falls silent soon after it was made is not replaced at once.
        let mut failures: u32 = 0;
        let mut began = Instant::now();
        let mut has_evicted = false;
        // Another connection is wanted, whatever is heard of this one.
        let mut is_doubted = false;
        loop {
            let is_silent = running.session.standing() == Standing::Stalled && shared.asks_again();
            if !is_doubted && !is_silent {
                tokio::select! {
                    ended = running.changed() => if let Some(error) = ended {
                        return self.ended(&running, error);
                    },
                    () = shared.renewal.notified() => is_doubted = true,
                }
            }
            match running.session.standing() {
                Standing::Leaving => {
                    parting.spawn(part(Arc::clone(shared), running));
                    return shared.disconnected(Disconnect::Draining);
                }
                Standing::Stalled if shared.asks_again() => {
                    // Once: whoever has nowhere else to go is back here by then.
                    if !std::mem::replace(&mut has_evicted, true) {
                        running.session.evict();
                    }
                }
                Standing::Stalled | Standing::Good | Standing::Over if is_doubted => {}
                Standing::Stalled | Standing::Good | Standing::Over => {
                    has_evicted = false;
                    continue;
                }
            }
            if began.elapsed() >= shared.settings.backoff.most {
                failures = 0;
            }
            match another(shared, &mut running, &mut failures).await {
                Ok(Some(dialled)) => {
                    (is_doubted, has_evicted, began) = (false, false, Instant::now());
                    running = self.succeed(running, dialled);
                }
                Ok(None) => {}
                Err(error) => return self.ended(&running, error),
            }
        }
    }

    /// The new connection takes the place of the old one, unless that is heard again and leads to the same node.
    fn succeed(&self, running: Running, dialled: Dialled) -> Running {
        let shared = &self.shared;
        if dialled.map == running.session.map && running.session.standing() == Standing::Good {
            return running;
        }
        let next = Running::start(shared, dialled);
        self.state.send_replace(State::Up(Arc::clone(&next.session)));
        running.session.end(&shared.disconnected(Disconnect::Stalled(shared.settings.stall_after)));
        add(&shared.tally.disconnects, 1);
        next
    }

    /// Tells those who wait why it has ended: first the state, so that none of them comes back here.
    fn ended(&self, running: &Running, error: Error) -> Error {
        self.state.send_replace(State::Down(error.clone()));
        running.session.end(&error);
        error
    }
}

/// Lets what is under way on a connection that the server is ending come to its end; a server that neither answers nor
/// ends is left.
async fn part(shared: Arc<Shared>, mut running: Running) {
    let limit = shared.settings.silence_max;
    let error = timeout(limit, running.ended()).await;
    running.session.end(&error.unwrap_or_else(|_| shared.disconnected(Disconnect::Silent(limit))));
}

/// Tries to make another connection, once, beside one that is in doubt; an error where that ends meanwhile.
async fn another(
    shared: &Arc<Shared>,
    running: &mut Running,
    failures: &mut u32,
) -> Result<Option<Dialled>, Error> {
    let pause = match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(failures) => shared.settings.backoff.pause(failures, &mut rand::rng()),
    };
    *failures = failures.saturating_add(1);
    let mut attempt = pin!(async {
        sleep(pause).await;
        dial::dial(shared).await.ok()
    });
    loop {
        tokio::select! {
            ended = running.changed() => if let Some(error) = ended {
                return Err(error);
            },
            dialled = &mut attempt => return Ok(dialled),
        }
    }
}

impl Shared {
    /// Whether calls may be asked again, elsewhere.
    fn asks_again(&self) -> bool {
        self.settings.retry == Retry::UntilDeadline
    }
}
