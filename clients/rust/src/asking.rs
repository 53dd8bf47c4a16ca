//! One call: whom it asks, one after the other, until there is an answer.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use florin_schema::{NodeId, Opcode, ShardIndex, Status, Version};
use futures_util::future::{Either, select};
use tokio::time::{sleep, timeout};

use crate::builder::Retry;
use crate::connection::read::RawReply;
use crate::counters::add;
use crate::fleet::{Choice, Fleet};
use crate::hedge::Hedging;
use crate::hooks::Watch;
use crate::request::Request;
use crate::routes::{Next, Tour};
use crate::seen::{Behind, Mark, Shown};
use crate::topology::Route;
use crate::{Address, Disconnect, Error, Origin, Refusal, reply};

/// A call.
pub(crate) struct Asking<'a, R> {
    pub fleet: &'a Fleet,
    pub route: Route,
    pub request: &'a Request<'a>,
    /// The epoch of the map by which a batch's users were put together.
    pub divided: Option<u64>,
    /// Who is told of it.
    pub watch: Option<&'a Watch>,
    /// Makes the answer of a reply.
    pub read: &'a R,
}

struct Failed {
    error: Error,
    next: Next,
}

impl<T: Shown, R: Fn(&Address, RawReply) -> Result<T, Error>> Asking<'_, R> {
    /// Asks until there is an answer, or an error that no other node and no time will mend. Leaves in `last` what the last
    /// attempt ended with.
    pub async fn until_answered(&self, last: &mut Option<Error>) -> Result<T, Error> {
        let (mut tour, mut attempts, mut has_hedged) = (Tour::default(), 0, false);
        loop {
            let Some(choice) = self.fleet.pick(self.route, &tour) else {
                // Whoever can be asked has been.
                self.fleet.want(self.route);
                match (tour.begin_again(), last.take()) {
                    (None, Some(error)) => return Err(error),
                    (rounds, error) => {
                        *last = error;
                        sleep(Fleet::pause(rounds.unwrap_or(0))).await;
                    }
                }
                continue;
            };
            attempts += 1;
            self.tell(&choice, attempts, last.as_ref());
            let ended = match self.hedging() {
                None => self.attempt(&choice, &tour).await,
                // On the heap: whoever sends no second requests has no room for one.
                Some(hedging) => Box::pin(self.hedged(hedging, &choice, &tour, &mut has_hedged)).await,
            };
            let Failed { error, next } = match ended {
                Ok(answer) => {
                    self.look_for_news(&choice, choice.is_first);
                    return Ok(answer);
                }
                Err(failed) => failed,
            };
            if self.fleet.common().settings.retry == Retry::Never {
                return Err(error);
            }
            if next == Next::Tell {
                return Err(error);
            }
            tour.failed(choice.place, next);
            if let Error::NotOwner(refusal) = &error {
                match self.fleet.lacks(refusal.as_of_us.cast_unsigned()) {
                    true => choice.connection.learn().await,
                    false => tour.astray(),
                }
                if self.divided.is_some_and(|divided| divided != self.fleet.epoch()) {
                    // Its users are split anew.
                    return Err(error);
                }
            }
            // Who loads the user's partition, or is behind with it, may know who has it by now; others are asked meanwhile.
            if matches!(error, Error::Unavailable(_) | Error::Stale(_)) {
                self.look_for_news(&choice, false);
            }
            *last = Some(error);
            if next == Next::Reconnect {
                self.fleet.up(self.route).await;
            }
        }
    }

    /// Asks for the map, where that is due. A call that went to another than the owner did so for that one is gone: somebody may be
    /// named in its place.
    fn look_for_news(&self, choice: &Choice, is_well: bool) {
        if self.fleet.wants_news(is_well) {
            let connection = Arc::clone(&choice.connection);
            tokio::spawn(async move { connection.learn().await });
        }
    }

    /// Counts an attempt, and tells of it.
    fn tell(&self, choice: &Choice, attempt: u32, last: Option<&Error>) {
        if last.is_some() {
            add(&self.fleet.common().tally.retries, 1);
        }
        if let Some(watch) = self.watch {
            watch.asks(self.fleet, choice, attempt, last);
        }
    }

    /// Where second requests may be sent: a Ping is about the one that is asked.
    fn hedging(&self) -> Option<&Hedging> {
        self.fleet.hedging.as_ref().filter(|_| self.request.opcode != Opcode::Ping)
    }

    /// Asks one node, and where that takes long another one beside it, or the same over another connection, unless that has been done:
    /// the first whole answer is the call's.
    async fn hedged(
        &self,
        hedging: &Hedging,
        choice: &Choice,
        tour: &Tour,
        has_hedged: &mut bool,
    ) -> Result<T, Failed> {
        hedging.earn();
        let (opcode, held) = (self.request.opcode, self.request.freshness.held());
        let began = Instant::now();
        let mut first = pin!(self.attempt(choice, tour));
        let delay = hedging.delay(opcode).filter(|_| !*has_hedged);
        let ended = match delay {
            None => first.await,
            Some(delay) => match timeout(delay + held, first.as_mut()).await {
                Ok(ended) => ended,
                Err(_) => match self.second(hedging, choice, tour) {
                    None => first.await,
                    Some(second) => {
                        *has_hedged = true;
                        if let Some(watch) = self.watch {
                            watch.hedges(self.fleet, choice, &second, began.elapsed());
                        }
                        self.race(first, &second, tour).await
                    }
                },
            },
        };
        if ended.is_ok() && held.is_zero() {
            hedging.note(opcode, began.elapsed());
        }
        ended
    }

    /// Whom to ask a second time, where there is somebody and the share allows it.
    fn second(&self, hedging: &Hedging, first: &Choice, tour: &Tour) -> Option<Choice> {
        let tally = &self.fleet.common().tally;
        let second = self.fleet.second(self.route, first, tour)?;
        if !hedging.spend() {
            add(&tally.hedges_withheld, 1);
            return None;
        }
        add(&tally.hedges, 1);
        Some(second)
    }

    /// The answer of the first, or of the second where that comes sooner and lacks nothing. Whoever loses is dropped, and what it is
    /// told is discarded.
    async fn race(
        &self,
        first: Pin<&mut impl Future<Output = Result<T, Failed>>>,
        second: &Choice,
        tour: &Tour,
    ) -> Result<T, Failed> {
        let asked = pin!(self.attempt(second, tour));
        let won = |answer| {
            add(&self.fleet.common().tally.hedges_won, 1);
            if let Some(watch) = self.watch {
                watch.answered_by(second);
            }
            Ok(answer)
        };
        match select(first, asked).await {
            Either::Left((Ok(answer), _)) => Ok(answer),
            Either::Left((Err(failed), _)) if matches!(failed.next, Next::Tell) => Err(failed),
            Either::Left((Err(failed), asked)) => match asked.await {
                Ok(answer) if answer.is_whole() => won(answer),
                Ok(_) | Err(_) => Err(failed),
            },
            Either::Right((Ok(answer), _)) if answer.is_whole() => won(answer),
            Either::Right((_, first)) => first.await,
        }
    }

    /// Asks one node, once.
    async fn attempt(&self, choice: &Choice, tour: &Tour) -> Result<T, Failed> {
        let address = choice.connection.address();
        let shown = self.shown();
        let floor = shown.filter(|mark| mark.node != choice.id || choice.id == NodeId(0));
        let floor = floor.map_or(Version(0), |mark| mark.version);
        let request = Request { freshness: self.request.freshness.raised_to(floor), ..*self.request };
        let raw = self.reply(choice, tour, &request).await?;
        let answer = raw.and_then(|raw| available(address, raw)).and_then(|raw| (self.read)(address, raw));
        let answer = answer.map_err(|error| self.failed(error, floor, shown))?;
        if self.fleet.is_many() {
            let Origin { shard, as_of_us, .. } = answer.origin();
            let shown = self.fleet.seen.show(&answer, choice.id);
            shown.map_err(|behind| Failed::behind(&behind, shard, as_of_us))?;
        }
        Ok(answer)
    }

    /// What has been shown of the user whom the request names.
    fn shown(&self) -> Option<Mark> {
        match self.request.opcode {
            Opcode::GetBalance | Opcode::GetStatistics if self.fleet.is_many() => {
                self.fleet.seen.mark(self.request.user_id)
            }
            _ => None,
        }
    }

    /// Waits for the reply, but once there is somebody else to ask no longer than a while: another node may be found, or heard again,
    /// while this one is silent.
    async fn reply(
        &self,
        choice: &Choice,
        tour: &Tour,
        request: &Request<'_>,
    ) -> Result<Result<RawReply, Error>, Failed> {
        let settings = &self.fleet.common().settings;
        let mut calling = pin!(choice.connection.call(request));
        if settings.retry == Retry::Never || !self.fleet.is_many() {
            return Ok(calling.await);
        }
        let patience = settings.stall_after + request.freshness.held();
        let mut waited = Duration::ZERO;
        loop {
            if let Ok(reply) = timeout(patience, &mut calling).await {
                return Ok(reply);
            }
            waited += patience;
            if self.fleet.has_other(self.route, tour, choice) {
                let address = choice.connection.address().clone();
                let error = Error::Disconnected { address, cause: Disconnect::Stalled(waited) };
                return Err(Failed { error, next: Next::AskAgain });
            }
            // Whoever could answer instead may have come back, and another may have been given the user meanwhile.
            self.fleet.want(self.route);
            if let Some(witness) = self.fleet.witness(self.route, tour, choice) {
                self.look_for_news(&witness, false);
            }
        }
    }

    /// What follows an error. `floor` is what the client itself asked for, so that nothing goes back in time.
    fn failed(&self, error: Error, floor: Version, shown: Option<Mark>) -> Failed {
        if let (Error::NotFound(refusal), Some(mark)) = (&error, shown) {
            // There is such a user.
            let behind = Behind { user: self.request.user_id, shown: mark.version, got: Version(0) };
            return Failed::behind(&behind, refusal.shard, refusal.as_of_us);
        }
        let is_callers = self.request.freshness.has_min_version(floor);
        let next = Next::after(&error, self.fleet.is_many(), is_callers);
        Failed { error, next }
    }
}

impl Failed {
    /// An answer that shows less than has been shown is none: the node follows the ledger behind another, and catches up.
    fn behind(behind: &Behind, shard: ShardIndex, as_of_us: i64) -> Failed {
        let Behind { user, shown, got } = *behind;
        let message = format!(
            "user_id: expected version {} of {user} or more, which another node has shown, got {}",
            shown.0, got.0
        );
        Failed {
            error: Error::Stale(Refusal {
                message,
                shard,
                as_of_us,
                is_quarantined: false,
                is_lasting: false,
            }),
            next: Next::AskAgain,
        }
    }
}

/// The reply, unless it says that the node cannot answer at the moment.
fn available(address: &Address, raw: RawReply) -> Result<RawReply, Error> {
    if raw.header.status != Status::Unavailable as u8 {
        return Ok(raw);
    }
    let refused = reply::refusal(address, &raw)?;
    Err(Error::Unavailable(refused))
}
