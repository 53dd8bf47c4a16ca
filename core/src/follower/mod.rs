//! Follows a ledger: routes its rows to the shards that own them, waits until they are applied, publishes the watermark,
//! and has accounts read again whose history came incomplete. Pure: it is given the time, a [`Source`] and an [`Outlet`] a
//! shard, and whoever calls [`Follower::step`] does the waiting. The simulator drives this very code.
//!
//! ```text
//!     source ──rows──▶ Asking ──▶ Routing ──▶ Settling ──▶ Resting ──▶ Asking …
//!        │                ▲          │           │            │
//!        │                │          ▼           ▼            ▼
//!        │             Failed     outlets   acknowledged   watermark
//!        └──pages of accounts' histories──▶ repair ──▶ outlets, a bounded number of rows a round
//! ```
//!
//! What holds, whatever the source does:
//! - The position moves when all rows up to it were sent, as one value. After an error the source is set going from there.
//! - The watermark is published when every shard has applied all that had been committed by then, and never goes back.
//!   An account that is known to be incomplete keeps the watermark that it had when it was whole; its shard sees to that.
//! - No account shows a part of a commit: its rows are shown together, however many turns of a shard they take.
//! - The first watermark waits until each account that loading found incomplete was read again once.
//! - Rows of another ledger are never routed: its identity is asked after each read, before the rows go on.
//!
//! | module | holds |
//! | --- | --- |
//! | `source` | what a ledger must be able to do |
//! | `outlet` | the way to each shard |
//! | `commits` | of which rows an account may show what |
//! | `scan` | what a ledger must be able to do to be compared with |
//! | `repair` | accounts that are read again: order, budget, back-off |
//! | `watermark` | why it never goes back |
//! | `note` | what there is to say |
//! | `planted` | defects for the simulation to find |

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use florin_schema::UserId;

use crate::clock::Now;
use crate::ledger::Transaction;
use crate::limits::{FEED_RETRY_US, FEED_STANDING_US, FEED_WAKE_ROWS, REREAD_ROWS_PER_ROUND};
use crate::shard::{FeedEvent, FeedRequest, Reason};

mod commits;
mod note;
mod outlet;
mod planted;
mod repair;
mod scan;
mod source;
mod watermark;

use commits::Commits;
pub use note::Note;
use outlet::{Full, Outlets};
pub use outlet::{MeshOutlet, Outlet, Waker, link, link_of};
pub use planted::Planted;
use repair::{Around, Repair, Repaired};
pub use scan::Scan;
pub use source::{Page, Position, Progress, Row, Source, SourceError, Unreadable};
use watermark::Watermark;

/// What a step waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Nothing: call again at once.
    No,
    /// A shard takes something out of its ring, or says that it has.
    Shard,
    /// This time (monotonic µs), or that a thread of the source's has something.
    Until(u64),
}

/// What the follower has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Rows routed, unreadable ones included, re-read ones not.
    pub rows: u64,
    /// Rows that no transaction could be made of.
    pub unreadable: u64,
    /// Accounts read again.
    pub rereads: u64,
    /// Times that the wall clock was set.
    pub clock_steps: u64,
}

/// What the follower does at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing<'a> {
    /// Nothing is answered yet. How much was loaded, in thousandths, and how many accounts are still to be read again.
    Loading {
        /// Of what there was when loading began.
        thousandths: u16,
        /// Found incomplete, and not yet tried.
        to_repair: usize,
    },
    /// The shards have what the ledger has.
    Following,
    /// The ledger cannot be read, or is another one.
    Failing(&'a str),
}

enum Phase<P> {
    /// The source is set going again at this time.
    Failed {
        until_us: u64,
    },
    Asking,
    Routing(Progress<P>),
    Settling(Progress<P>),
    Resting {
        until_us: u64,
    },
}

/// See the module.
pub struct Follower<S: Source, O> {
    source: S,
    /// Of the ledger that was loaded first.
    identity: S::Identity,
    outlets: Outlets<O>,
    phase: Phase<S::Position>,
    /// All rows up to here were sent.
    position: Option<S::Position>,
    /// All rows up to here are applied by every shard.
    applied: Option<S::Position>,
    /// Everything that was committed before this (monotonic µs) lies up to there; 0 = that is not known.
    complete_us: u64,
    /// The source hears of what is applied; else of what is safe, from whoever makes checkpoints.
    confirms_applied: bool,
    rows: Vec<Row>,
    /// How many of `rows` were sent.
    sent: usize,
    commits: Commits,
    /// Accounts of which rows were changed or removed; quarantined before the rows are sent.
    changed: VecDeque<UserId>,
    repair: Repair,
    watermark: Watermark,
    loaded: u16,
    /// Why it stands still.
    failing: Option<String>,
    notes: VecDeque<Note>,
    counts: Counts,
    reread_rows: usize,
    planted: Option<Planted>,
}

impl<S: Source, O: Outlet> Follower<S, O> {
    /// Follows `source` from its beginning into shards: `outlets` in the order of their indices.
    ///
    /// # Errors
    /// Those of asking the source who it is.
    ///
    /// # Panics
    /// Without outlets.
    pub fn new(mut source: S, outlets: Vec<O>) -> Result<Follower<S, O>, SourceError> {
        Ok(Follower {
            identity: source.identity()?,
            source,
            outlets: Outlets::new(outlets),
            phase: Phase::Failed { until_us: 0 },
            applied: None,
            complete_us: 0,
            confirms_applied: true,
            position: None,
            rows: Vec::new(),
            sent: 0,
            commits: Commits::default(),
            changed: VecDeque::new(),
            repair: Repair::default(),
            watermark: Watermark::default(),
            loaded: 0,
            failing: None,
            notes: VecDeque::new(),
            counts: Counts::default(),
            reread_rows: REREAD_ROWS_PER_ROUND,
            planted: None,
        })
    }

    /// Makes it defective, for the simulation to notice. Without effect in a release build.
    #[doc(hidden)]
    pub fn plant(&mut self, planted: Planted) {
        self.planted = Some(planted);
    }

    /// Sends at most so many re-read rows a round once it answers, instead of [`REREAD_ROWS_PER_ROUND`].
    #[must_use]
    pub fn with_reread_rows(mut self, rows_per_round: usize) -> Follower<S, O> {
        self.reread_rows = rows_per_round;
        self
    }

    /// The shards hold a checkpoint: `source` is followed from where it begins. Before the first step.
    pub fn resume_after(&mut self, begin: S::Position) {
        self.applied = Some(begin.clone());
        self.position = Some(begin);
        // Shards may have something to ask before the first row comes, and the first watermark waits for it.
        self.outlets.unsettle();
    }

    /// The source is not told of what is applied, but by [`Follower::note_durable`].
    #[must_use]
    pub fn with_checkpoints(mut self) -> Follower<S, O> {
        self.confirms_applied = false;
        self
    }

    /// A checkpoint that begins here is on disk.
    pub fn note_durable(&mut self, begin: &S::Position) {
        self.source.applied(begin);
    }

    /// Everything up to here is applied by every shard, and everything that was committed before this time (monotonic µs) lies
    /// up to there. `None` while nothing is answered.
    pub fn reached(&self) -> Option<(&S::Position, u64)> {
        let position = self.applied.as_ref().filter(|_| self.watermark.is_published())?;
        Some((position, self.complete_us))
    }

    /// Goes on as far as it can without waiting: a read, or a bounded number of rows.
    pub fn step(&mut self, now: Now) -> Wait {
        self.take_requests(now.monotonic_us);
        match &self.phase {
            Phase::Failed { until_us } if now.monotonic_us < *until_us => Wait::Until(*until_us),
            Phase::Failed { .. } => self.set_going(now),
            Phase::Asking => self.ask(now),
            Phase::Routing(_) => self.route(now),
            Phase::Settling(_) => self.settle(now),
            &Phase::Resting { until_us } => self.rest(until_us, now),
        }
    }

    /// What it does at the moment.
    pub fn doing(&self) -> Doing<'_> {
        match &self.failing {
            Some(reason) => Doing::Failing(reason),
            None if self.watermark.is_published() => Doing::Following,
            None => Doing::Loading { thousandths: self.loaded, to_repair: self.repair.waiting() },
        }
    }

    /// Accounts that wait to be read again, or are.
    pub fn to_repair(&self) -> usize {
        self.repair.waiting()
    }

    /// What it has counted.
    pub fn counts(&self) -> Counts {
        Counts { rereads: self.repair.rereads, ..self.counts }
    }

    /// What it has to say, oldest first.
    pub fn next_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// The ledger.
    pub fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// The ways to the shards.
    pub fn outlets(&mut self) -> &mut [O] {
        self.outlets.all()
    }

    fn take_requests(&mut self, now_us: u64) {
        while let Some(request) = self.outlets.next_request() {
            match request {
                _ if Planted::IgnoresRequests.is(self.planted) => {}
                FeedRequest::Reread { user_id, reason } => {
                    self.repair.want(user_id, reason, now_us, self.planted);
                }
                FeedRequest::Defect { user_id, version, defect } => {
                    self.notes.push_back(Note::Defect { user_id, version, defect });
                }
            }
        }
    }

    fn set_going(&mut self, now: Now) -> Wait {
        match self.check_source().and_then(|()| self.source.load(self.position.as_ref())) {
            Ok(()) => {
                self.phase = Phase::Asking;
                Wait::No
            }
            Err(error) => self.fail(&error, now),
        }
    }

    fn check_source(&mut self) -> Result<(), SourceError> {
        check_identity(&mut self.source, &self.identity, self.planted)
    }

    /// Asks what is new. Before the source is asked the time was taken, and after it who it is: so the answer is the
    /// followed ledger's, and holds what had been committed by then.
    fn ask(&mut self, now: Now) -> Wait {
        if let Some(by_us) = self.watermark.look_at(now) {
            self.counts.clock_steps += 1;
            self.notes.push_back(Note::ClockStepped { by_us });
        }
        self.repair.allow(if self.watermark.is_published() { self.reread_rows } else { usize::MAX });
        self.repair(now);
        self.rows.clear();
        self.sent = 0;
        let asked = self.source.next(now, &mut self.rows);
        if Planted::MovesPositionEarly.is(self.planted)
            && let Ok(Progress { position: Some(position), .. }) = &asked
        {
            self.position = Some(position.clone());
        }
        match asked.and_then(|progress| self.check_source().map(|()| progress)) {
            Ok(mut progress) => {
                while let Some(user) = self.source.next_changed() {
                    self.changed.push_back(user);
                }
                if Planted::EarlyWatermark.is(self.planted) {
                    self.publish(progress.complete_before.unwrap_or(now));
                }
                let is_shown = self.watermark.is_published() && !Planted::ShowsHalfCommits.is(self.planted);
                let is_complete = progress.complete_before.is_some();
                self.commits.look_at(&self.rows, progress.whole, is_complete, is_shown);
                if self.commits.is_broken() {
                    progress.complete_before = None;
                }
                self.phase = Phase::Routing(progress);
                Wait::No
            }
            Err(error) => self.fail(&error, now),
        }
    }

    fn fail(&mut self, error: &SourceError, now: Now) -> Wait {
        self.rows.clear();
        if self.outlets.has_unfinished() && !Planted::ShowsBrokenCommits.is(self.planted) {
            self.commits.break_off();
        }
        let pause_us = match error {
            SourceError::Unavailable(_) => FEED_RETRY_US,
            SourceError::Replaced(_) => FEED_STANDING_US,
        };
        self.say_failing(error);
        let until_us = now.monotonic_us + pause_us;
        self.phase = Phase::Failed { until_us };
        Wait::Until(until_us)
    }

    fn say_failing(&mut self, error: &SourceError) {
        let reason = error.to_string();
        if self.failing.as_ref() != Some(&reason) {
            self.notes.push_back(Note::Failing(reason.clone()));
            self.failing = Some(reason);
        }
    }

    /// Quarantines the accounts of which rows were changed; whether there was room for that.
    fn quarantine_changed(&mut self, now: Now) -> bool {
        while let Some(&user) = self.changed.front() {
            if self.outlets.send(user, FeedEvent::Unreadable(user)) == Err(Full) {
                return false;
            }
            self.changed.pop_front();
            self.notes.push_back(Note::Changed(user));
            self.repair.want(user, Reason::Gap, now.monotonic_us, self.planted);
        }
        true
    }

    /// Sends the rows to their shards.
    fn route(&mut self, now: Now) -> Wait {
        if !self.quarantine_changed(now) {
            self.wake();
            return Wait::Shard;
        }
        while self.sent < self.rows.len() {
            if self.end_commit() == Err(Full) {
                self.wake();
                return Wait::Shard;
            }
            let sent = match &self.rows[self.sent] {
                Ok(row) => {
                    self.repair.note_live(row.user_id, row.version);
                    self.send_row(*row)
                }
                Err(unreadable) => match unreadable.user_id {
                    Some(user) if !Planted::SkipsUnreadable.is(self.planted) => {
                        self.outlets.send(user, FeedEvent::Unreadable(user))
                    }
                    _ => Ok(()),
                },
            };
            if sent == Err(Full) && !Planted::DropsWhenFull.is(self.planted) {
                // The others have something to do while this one is waited for.
                self.wake();
                return Wait::Shard;
            }
            if let Err(unreadable) = &self.rows[self.sent] {
                self.counts.unreadable += 1;
                self.notes.push_back(Note::Unreadable(unreadable.clone()));
            }
            self.sent += 1;
            self.counts.rows += 1;
            if self.sent.is_multiple_of(FEED_WAKE_ROWS) {
                self.wake();
            }
        }
        let ended = self.end_commit();
        self.wake();
        if ended == Err(Full) { Wait::Shard } else { self.routed(now) }
    }

    fn send_row(&mut self, row: Transaction) -> Result<(), Full> {
        if !self.commits.has_more(self.sent) {
            return self.outlets.send(row.user_id, FeedEvent::Row(row));
        }
        self.outlets.send(row.user_id, FeedEvent::Part(row))?;
        if self.commits.is_unfinished(self.sent) {
            self.outlets.note_unfinished(row.user_id);
        }
        Ok(())
    }

    /// Where a commit ends of which parts were sent, says so to their shards.
    fn end_commit(&mut self) -> Result<(), Full> {
        if !self.commits.end_after(self.sent) || Planted::ForgetsCommitEnd.is(self.planted) {
            return Ok(());
        }
        self.outlets.end_commit()
    }

    /// All rows that were read have been sent.
    fn routed(&mut self, now: Now) -> Wait {
        let Phase::Routing(mut progress) = core::mem::replace(&mut self.phase, Phase::Asking) else {
            unreachable!("rows are routed in this phase alone")
        };
        if Planted::PartialWatermark.is(self.planted) {
            progress.complete_before.get_or_insert(now);
        }
        if let Some(position) = progress.position.take() {
            self.position = Some(position);
        }
        self.loaded = progress.loaded.unwrap_or(self.loaded);
        if progress.complete_before.is_some() {
            self.outlets.end_batch();
            self.phase = Phase::Settling(progress);
            return Wait::No;
        }
        self.go_on_after(progress.again_us, now)
    }

    fn go_on_after(&mut self, again_us: u64, now: Now) -> Wait {
        if again_us > 0 {
            self.phase = Phase::Resting { until_us: now.monotonic_us + again_us };
        }
        Wait::No
    }

    /// Waits until every shard has applied all that it was sent.
    fn settle(&mut self, now: Now) -> Wait {
        let is_settled = self.outlets.is_settled();
        self.wake();
        if !is_settled {
            return Wait::Shard;
        }
        // What a shard asks for because of a batch, it has asked for before it says that it has applied it.
        self.take_requests(now.monotonic_us);
        let Phase::Settling(progress) = core::mem::replace(&mut self.phase, Phase::Asking) else {
            unreachable!("a batch is settled in this phase alone")
        };
        self.applied.clone_from(&self.position);
        if let Some(position) = self.applied.as_ref().filter(|_| self.confirms_applied) {
            self.source.applied(position);
        }
        self.complete_us = progress.complete_before.map_or(0, |complete| complete.monotonic_us);
        let is_whole = self.watermark.is_published()
            || !self.repair.has_first_attempts() && !self.commits.goes_on()
            || Planted::ReadyBeforeRepair.is(self.planted);
        if let (Some(complete_before), true) = (progress.complete_before, is_whole) {
            let is_first = !self.watermark.is_published();
            self.publish(complete_before);
            if self.failing.take().is_some() {
                self.notes.push_back(Note::Recovered);
            }
            if is_first {
                self.repair.allow(self.reread_rows);
                self.notes.push_back(Note::Loaded);
            }
        }
        self.go_on_after(progress.again_us, now)
    }

    fn publish(&mut self, complete_before: Now) {
        let mut published = self.watermark.advance(complete_before);
        if Planted::WatermarkGoesBack.is(self.planted) {
            published.wall_us = complete_before.wall_us;
        }
        self.outlets.publish(published.wall_us, published.monotonic_us);
    }

    fn rest(&mut self, until_us: u64, now: Now) -> Wait {
        let repaired = self.repair(now);
        if now.monotonic_us >= until_us || self.source.has_news() {
            self.phase = Phase::Asking;
            return Wait::No;
        }
        match repaired {
            Repaired::Some => Wait::No,
            Repaired::Nothing => Wait::Until(until_us),
        }
    }

    /// Goes on with the accounts that are to be read again.
    fn repair(&mut self, now: Now) -> Repaired {
        let planted = self.planted;
        let mut around = Around {
            now_us: now.monotonic_us,
            source: &mut self.source,
            identity: &self.identity,
            outlets: &mut self.outlets,
            notes: &mut self.notes,
            planted,
        };
        let repaired = self.repair.step(&mut around);
        self.wake();
        repaired
    }

    fn wake(&mut self) {
        if !Planted::NeverWakes.is(self.planted) {
            self.outlets.wake();
        }
    }
}

/// Whether the source is the ledger that was loaded.
fn check_identity<S: Source>(
    source: &mut S,
    followed: &S::Identity,
    planted: Option<Planted>,
) -> Result<(), SourceError> {
    let found = source.identity()?;
    if found == *followed || Planted::IgnoresIdentity.is(planted) {
        return Ok(());
    }
    Err(SourceError::Replaced(alloc::format!(
        "this is not the ledger that was loaded, which was {followed}, and this is {found}: put that one back, or restart \
         florin to load this one"
    )))
}

impl<S: Source, O> fmt::Debug for Follower<S, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("identity", &self.identity)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
