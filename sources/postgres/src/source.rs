//! A PostgreSQL table as a ledger to be followed.
//!
//! ```text
//!     follower's thread            thread "florin-postgres"
//!     load(position) ────────────▶ session: resume, or snapshot and stream
//!     next(now)      ◀── events ── rows of whole commits, places reached
//!                    ─── asks ───▶ where does the log end?  ◀── place
//!     applied(p)     ────────────▶ confirmed to the server, every second
//!     reread(user)   ────────────▶ a connection of its own
//! ```
//!
//! The time of an ask is a watermark once the stream has reached the place that was its answer.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::thread;

use florin_core::clock::Now;
use florin_core::follower::{Page, Progress, Row, Source, SourceError};
use florin_core::limits::FEED_POLL_US;
use florin_record::threads::{Vital, spawn_vital};
use florin_schema::{UserId, Version};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{self, error::TryRecvError};

use crate::failure::Failure;
use crate::following::{Following, Load, Order};
use crate::journal::{Compared, Comparison, Journal};
use crate::ledger::PgLedger;
use crate::limits::{AWAIT_US, BUSY_US, IDLE_POLL_US, RESUME_TIMEOUT};
use crate::outbox::{Batch, Event, Outbox};
use crate::position::{Anchor, Lsn, PgIdentity, PgPosition};
use crate::reread::{Asked, Rereads};
use crate::session::Before;
use crate::status::PgStatus;

/// See the module.
pub struct PgSource {
    orders: mpsc::UnboundedSender<Order>,
    identity: PgIdentity,
    /// What its columns and words mean: accounts that were made by another mapping are others.
    mapping: String,
    status: Arc<PgStatus>,
    events: Option<mpsc::Receiver<Event>>,
    asks: Option<mpsc::Sender<Now>>,
    rereads: Rereads,
    journal: Journal,
    /// Of the snapshot that is being loaded.
    loading: Journal,
    /// The stream has begun.
    is_following: bool,
    /// Everything up to here was handed over.
    position: Option<PgPosition>,
    /// What is there came from a checkpoint, whose accounts hold rows up to here; and of those nothing is remembered.
    checkpoint_end: Option<PgPosition>,
    /// How often everything was loaded.
    loads: u64,
    /// The last load was not whole, or the slot has lost the position.
    from_snapshot: bool,
    /// An ask whose answer has not come, or whose place was not reached; and how many rows had been changed or removed by then.
    asked: Option<(Now, Option<(Lsn, u64)>)>,
    /// Rows that had been changed or removed up to some place that was reached.
    changes: Option<u64>,
    /// How the table looks, for positions.
    look: Arc<AtomicU64>,
    asked_at_us: u64,
    rows_at_us: u64,
    applied: Arc<AtomicU64>,
    /// Accounts of which rows were changed.
    changed: VecDeque<UserId>,
    /// By which transactions, last: it is in the log before it is visible.
    changed_by: HashMap<UserId, u32>,
    /// Why nothing is followed any more, whatever is tried.
    given_up: Option<String>,
    counted: Option<Counted>,
}

/// The rows of a ledger without versions, by account.
#[derive(Default)]
struct Counted {
    rows: HashMap<UserId, u64>,
    /// Since the last position: they may come once more.
    uncertain: Vec<UserId>,
}

impl PgSource {
    /// Prepares to follow a ledger. A thread of its own speaks with the server from here on.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn open(ledger: &PgLedger) -> Result<PgSource, SourceError> {
        let none = |error| {
            SourceError::Unavailable(format!("the system gives no thread: {error} (ulimit -u, TasksMax=)"))
        };
        let (orders, taken) = mpsc::unbounded_channel();
        let target = ledger.target().clone();
        let mapping = target.mapping.name();
        let counted = target.mapping.is_derived().then(Counted::default);
        let status = Arc::new(PgStatus::default());
        let following = Following::new(target, Arc::clone(&status), ledger.followed().clone());
        let runtime = Builder::new_current_thread().enable_all().build().map_err(none)?;
        spawn_vital(Vital::Postgres, move || following.run(&runtime, taken)).map_err(none)?;
        Ok(PgSource {
            orders,
            identity: ledger.identity().clone(),
            mapping,
            status,
            events: None,
            asks: None,
            rereads: Rereads::default(),
            journal: Journal::default(),
            loading: Journal::default(),
            is_following: false,
            position: None,
            checkpoint_end: None,
            loads: 0,
            from_snapshot: true,
            asked: None,
            changes: None,
            look: Arc::default(),
            asked_at_us: 0,
            rows_at_us: 0,
            applied: Arc::default(),
            changed: VecDeque::new(),
            changed_by: HashMap::new(),
            given_up: None,
            counted,
        })
    }

    /// What it tells of the server.
    pub fn status(&self) -> Arc<PgStatus> {
        Arc::clone(&self.status)
    }

    /// Asks where the log ends, if it is time to.
    fn ask(&mut self, now: Now) {
        let is_busy = now.monotonic_us.saturating_sub(self.rows_at_us) < BUSY_US;
        let every_us = if is_busy { FEED_POLL_US } else { IDLE_POLL_US };
        let is_due = now.monotonic_us.saturating_sub(self.asked_at_us) >= every_us;
        if self.asked.is_none() && is_due && self.is_following {
            self.asked_at_us = now.monotonic_us;
            if self.asks.as_ref().is_some_and(|asks| asks.try_send(now).is_ok()) {
                self.asked = Some((now, None));
            }
        }
    }

    fn take(
        &mut self,
        event: Event,
        now: Now,
        rows: &mut Vec<Row>,
    ) -> Result<Progress<PgPosition>, SourceError> {
        let mut progress =
            Progress { position: None, whole: None, complete_before: None, again_us: 0, loaded: None };
        match event {
            Event::Batch(Batch { rows: read, whole, changed, reached, loaded }) => {
                *rows = read;
                progress.whole = whole;
                if !rows.is_empty() {
                    self.rows_at_us = now.monotonic_us;
                }
                for (user, xid) in changed {
                    self.changed.push_back(user);
                    self.changed_by.insert(user, xid);
                }
                self.count(rows, reached.is_some());
                let journal = if self.is_following { &mut self.journal } else { &mut self.loading };
                rows.iter().flatten().for_each(|row| journal.note(*row));
                if let Some(reached) = reached {
                    self.from_snapshot = false;
                    let anchor = self.journal.last().map(Anchor::from);
                    let before = self.position.and_then(|position| position.anchor);
                    let look = self.look.load(Relaxed);
                    let reached = PgPosition { anchor: anchor.or(before), look, ..reached };
                    self.position = Some(reached);
                    // From here on the rows that are remembered tell of another history.
                    let is_told = |end: &PgPosition| anchor.is_some() && reached.lsn >= end.lsn;
                    self.checkpoint_end = self.checkpoint_end.filter(|end| !is_told(end));
                    self.status.note_position(reached.lsn);
                    progress.position = Some(reached);
                }
                progress.loaded = loaded;
            }
            Event::Following => self.is_following = true,
            Event::Asked(at, place, changes) => self.asked = Some((at, Some((place, changes)))),
            Event::Compared(Compared::Unknown) => {
                let lost = "the server has lost more rows than florin remembers having read".to_owned();
                return Err(self.failed(&Failure::Changed(lost)));
            }
            Event::Compared(compared) => {
                self.journal = std::mem::take(&mut self.loading);
                if let Compared::Differs(users) = compared {
                    self.note_lost(&users);
                }
            }
            Event::Failed(failure) => return Err(self.failed(&failure)),
        }
        progress.complete_before = self.complete_before();
        Ok(progress)
    }

    /// The time of the ask whose place was reached.
    fn complete_before(&mut self) -> Option<Now> {
        let (at, answer) = self.asked?;
        let (place, changes) = answer?;
        self.position.is_some_and(|position| position.lsn >= place).then(|| {
            self.asked = None;
            self.changes = Some(changes);
            at
        })
    }

    fn note_lost(&mut self, users: &BTreeSet<UserId>) {
        tracing::error!(
            accounts = users.len(),
            "the server has another history since some place: rows that were answered from are gone or others are in their \
             place; their accounts are quarantined, and read again"
        );
        self.changed.extend(users);
        // Transactions of the other history are none of this one's, and never become visible.
        self.changed_by.clear();
    }

    /// Numbers the rows of a ledger that has no versions.
    fn count(&mut self, rows: &mut [Row], is_whole: bool) {
        let Some(counted) = &mut self.counted else { return };
        for row in rows.iter_mut().flatten() {
            let count = counted.rows.entry(row.user_id).or_default();
            *count += 1;
            row.version = Version(*count);
            counted.uncertain.push(row.user_id);
        }
        if is_whole {
            counted.uncertain.clear();
        }
    }

    fn failed(&mut self, failure: &Failure) -> SourceError {
        self.events = None;
        match failure {
            Failure::Lost(reason) if self.counted.is_some() => {
                let reason = format!(
                    "{reason}; a ledger without versions cannot be loaded on top of what is there: restart florin to load it"
                );
                return self.give_up(reason);
            }
            Failure::Lost(reason) if self.checkpoint_end.is_some() => {
                let reason = format!(
                    "{reason}, nor from the checkpoint that was loaded: restart florin to load what is there now"
                );
                return self.give_up(reason);
            }
            Failure::Lost(_) => self.from_snapshot = true,
            Failure::Replaced(reason) => return self.give_up(reason.clone()),
            Failure::Changed(_) => {
                // So that no checkpoint is gone on from, and nothing is kept for a node that reads no more.
                let _ = self.orders.send(Order::DropSlot);
                return self.give_up(failure.to_string());
            }
            Failure::Unavailable(_) => {}
        }
        SourceError::from(failure)
    }

    fn give_up(&mut self, reason: String) -> SourceError {
        self.events = None;
        let _ = self.orders.send(Order::Rest);
        SourceError::Replaced(self.given_up.insert(reason).clone())
    }
}

fn counted_from_the_first() -> SourceError {
    SourceError::Unavailable(
        "a ledger without versions is counted from its first row: no checkpoint helps".to_owned(),
    )
}

impl Source for PgSource {
    type Identity = PgIdentity;
    type Position = PgPosition;

    fn identity(&mut self) -> Result<PgIdentity, SourceError> {
        // Each connection is checked against it before anything of it is delivered.
        Ok(self.identity.clone())
    }

    fn lasting_identity(&mut self) -> Result<String, SourceError> {
        if self.counted.is_some() {
            return Err(counted_from_the_first());
        }
        let PgIdentity { system, database, table_oid, .. } = &self.identity;
        Ok(format!("postgres {system} {database} {table_oid} {}", self.mapping))
    }

    fn resume(&mut self, begin: &PgPosition, end: &PgPosition) -> Result<(), SourceError> {
        if self.counted.is_some() {
            return Err(counted_from_the_first());
        }
        if begin.partial_cmp(end).is_none_or(Ordering::is_gt) {
            return Err(SourceError::Replaced(
                "it was begun in one history of the server and ended in another".to_owned(),
            ));
        }
        let before = Before {
            identity: Some(self.identity.clone()),
            position: Some(*begin),
            end: Some(*end),
            ..Before::default()
        };
        let (answer, answered) = sync_channel(1);
        let silent = |_| {
            SourceError::Unavailable("the server did not say whether it can be gone on from there".to_owned())
        };
        let asked = self.orders.send(Order::Resume(Box::new(before), answer));
        asked.map_err(|_| SourceError::Unavailable("the connection's thread ended".to_owned()))?;
        let can = answered.recv_timeout(2 * RESUME_TIMEOUT).map_err(silent)?;
        can.map_err(|failure| match failure {
            Failure::Lost(reason) => SourceError::Replaced(reason),
            failure => SourceError::from(&failure),
        })?;
        self.from_snapshot = false;
        self.checkpoint_end = Some(*end);
        Ok(())
    }

    fn load(&mut self, after: Option<&PgPosition>) -> Result<(), SourceError> {
        if let Some(reason) = &self.given_up {
            return Err(SourceError::Replaced(reason.clone()));
        }
        let is_half_counted = self.counted.as_ref().is_some_and(|counted| !counted.uncertain.is_empty());
        if self.from_snapshot && is_half_counted {
            // Another snapshot may have a row at another place: counted anew, one could be applied twice in another's stead.
            return Err(self.give_up(
                "the snapshot broke off, and what came of a ledger without versions cannot be told from what is still to come: \
                 restart florin to load it"
                    .to_owned(),
            ));
        }
        if let Some(counted) = &mut self.counted {
            for user in counted.uncertain.drain(..) {
                counted.rows.entry(user).and_modify(|count| *count -= 1);
            }
        }
        // A snapshot that broke off was delivered as far as it came.
        self.journal.append(std::mem::take(&mut self.loading));
        let (outbox, events) = Outbox::to(thread::current());
        let (asks, asked) = mpsc::channel(1);
        // Only what was reached by whole commits is a position; a snapshot that broke off is begun anew.
        let position = after.copied().filter(|_| !self.from_snapshot);
        let anchor = self.journal.last().map(Anchor::from).filter(|_| self.counted.is_none());
        if position.is_none() {
            self.loads += 1;
            // What was applied of another history says nothing of this one.
            self.applied.store(0, Relaxed);
        }
        let end = self.checkpoint_end.filter(|end| position.is_some_and(|position| position.lsn < end.lsn));
        let load = Load {
            before: Before {
                identity: Some(self.identity.clone()),
                position,
                end,
                anchor,
                changes: self.changes.filter(|_| after.is_some()),
                ..Before::default()
            },
            // Without a position everything is loaded on top, and compared with what came before.
            comparison: if position.is_none() { self.journal.compare() } else { Comparison::default() },
            is_on_top: after.is_some(),
            look: Arc::clone(&self.look),
            asked,
            applied: Arc::clone(&self.applied),
            outbox,
        };
        if self.orders.send(Order::Load(Box::new(load))).is_err() {
            return Err(SourceError::Unavailable("the connection's thread ended".to_owned()));
        }
        self.events = Some(events);
        self.asks = Some(asks);
        self.is_following = false;
        self.asked = None;
        self.position = position;
        Ok(())
    }

    fn next(&mut self, now: Now, rows: &mut Vec<Row>) -> Result<Progress<PgPosition>, SourceError> {
        self.ask(now);
        let Some(events) = &mut self.events else {
            return Err(SourceError::Unavailable("nothing is followed".to_owned()));
        };
        match events.try_recv() {
            Ok(event) => self.take(event, now, rows),
            Err(TryRecvError::Empty) => Ok(Progress {
                position: None,
                whole: None,
                complete_before: None,
                again_us: AWAIT_US,
                loaded: None,
            }),
            Err(TryRecvError::Disconnected) => {
                self.events = None;
                Err(SourceError::Unavailable("the connection's task ended".to_owned()))
            }
        }
    }

    fn has_news(&mut self) -> bool {
        self.events.as_ref().is_some_and(|events| !events.is_empty()) || self.rereads.has_come()
    }

    fn loads(&self) -> u64 {
        self.loads
    }

    fn applied(&mut self, position: &PgPosition) {
        // A place in another history says nothing of this one's log: the server would skip what comes before it.
        if self.position.is_none_or(|reached| position.partial_cmp(&reached).is_none_or(Ordering::is_gt)) {
            return;
        }
        self.applied.fetch_max(position.lsn.0, Relaxed);
    }

    fn next_changed(&mut self) -> Option<UserId> {
        self.changed.pop_front()
    }

    fn can_reread(&self) -> bool {
        self.counted.is_none()
    }

    fn reread(&mut self, user: UserId, after: Option<Version>) {
        let known = self.journal.last_of(user).unwrap_or_default();
        let after_xid = self.changed_by.get(&user).copied().unwrap_or(0);
        let (asked, page) = Asked::new(user, after, (known, after_xid), thread::current());
        self.rereads.await_page(page);
        // Where nobody takes it, the page is missed when it is asked for.
        let _ = self.orders.send(Order::Reread(asked));
    }

    fn page(&mut self, rows: &mut Vec<Row>) -> Result<Page, SourceError> {
        self.rereads.take(rows)
    }
}

impl fmt::Debug for PgSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgSource")
            .field("identity", &self.identity)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
