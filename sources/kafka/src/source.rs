//! A topic as a ledger to be followed: the follower's side.
//!
//! Kafka tells nobody where a transaction of several records ends: every record is shown by itself, those of one account that are
//! read together at once. Nothing of a transaction that was aborted is seen.

use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use florin_core::clock::Now;
use florin_core::follower::{Page, Progress, Row, Source, SourceError, Unreadable};
use florin_record::threads::{Vital, spawn_vital};
use florin_schema::{UserId, Version};

use crate::address::Address;
use crate::ledger::KafkaLedger;
use crate::limits::{AWAIT_US, BATCHES_AHEAD, BUSY_ASK_US, BUSY_US, IDLE_ASK_US};
use crate::position::{KafkaIdentity, KafkaPosition};
use crate::reread::Rereads;
use crate::session::{self, Event, Start};
use crate::share::Share;
use crate::status::KafkaStatus;

/// See the module.
pub struct KafkaSource {
    address: Arc<Address>,
    identity: KafkaIdentity,
    /// Which partitions are followed; none = all.
    share: Option<Arc<Share>>,
    status: Arc<KafkaStatus>,
    session: Option<Session>,
    /// Of the session before, which ends by itself.
    ending: Option<JoinHandle<()>>,
    rereads: Rereads,
    changed: VecDeque<UserId>,
    /// Accounts with records in partitions that are not theirs, or under others' keys: what those say is missing for good.
    misplaced: HashSet<UserId>,
    /// Accounts with records that are no transactions: once a row comes behind those, their partitions are to say whether one is missing.
    unsettled: HashSet<UserId>,
    /// Accounts that were to be read again while their partitions were not followed: they are once those are.
    put_off: HashSet<UserId>,
    /// Which of what the share has said was heard.
    heard: u64,
    rows_at_us: u64,
}

/// The way to the thread that reads.
struct Session {
    events: Receiver<Event>,
    asks: SyncSender<Now>,
    come: Option<Event>,
    asked_at_us: Option<u64>,
    thread: JoinHandle<()>,
}

impl KafkaSource {
    /// Prepares to follow a ledger; nothing is read before it is loaded.
    pub fn new(ledger: &KafkaLedger) -> KafkaSource {
        let identity = ledger.identity().clone();
        KafkaSource {
            address: Arc::clone(ledger.address()),
            rereads: Rereads::new(ledger.address(), identity.layout()),
            identity,
            share: ledger.share().cloned(),
            status: Arc::default(),
            session: None,
            ending: None,
            changed: VecDeque::new(),
            misplaced: HashSet::new(),
            unsettled: HashSet::new(),
            put_off: HashSet::new(),
            heard: 0,
            rows_at_us: 0,
        }
    }

    /// What it tells of the topic.
    pub fn status(&self) -> Arc<KafkaStatus> {
        Arc::clone(&self.status)
    }

    fn partition_of(&self, user: UserId) -> u32 {
        let KafkaIdentity { partitioner, partitions, .. } = &self.identity;
        partitioner.partition_of_user(user, *partitions)
    }

    /// Accounts that were not read again are now, where their partitions are followed again.
    fn take_up(&mut self) {
        let Some(share) = self.share.as_ref().filter(|_| !self.put_off.is_empty()) else { return };
        let Some(wanted) = share.news(&mut self.heard) else { return };
        let put_off = std::mem::take(&mut self.put_off).into_iter();
        let (again, still): (HashSet<_>, _) =
            put_off.partition(|&user| wanted.contains_key(&self.partition_of(user)));
        self.changed.extend(again);
        self.put_off = still;
    }

    fn take(
        &mut self,
        event: Event,
        now: Now,
        rows: &mut Vec<Row>,
    ) -> Result<Progress<KafkaPosition>, SourceError> {
        match event {
            Event::Batch(batch) => {
                *rows = batch.rows;
                if !rows.is_empty() {
                    self.rows_at_us = now.monotonic_us;
                }
                self.unsettled.extend(batch.unsettled);
                if !self.unsettled.is_empty() {
                    let users = rows.iter().flatten().map(|row| row.user_id);
                    let again: HashSet<UserId> = users.filter(|user| self.unsettled.contains(user)).collect();
                    self.changed.extend(again);
                }
                self.changed.extend(batch.changed);
                self.misplaced.extend(batch.misplaced);
                Ok(Progress {
                    position: Some(batch.reached),
                    whole: Some(rows.len()),
                    loaded: Some(batch.loaded),
                    ..nothing(0)
                })
            }
            Event::Complete(at) => Ok(Progress { whole: Some(0), complete_before: Some(at), ..nothing(0) }),
            Event::Failed(failure) => {
                self.end();
                Err(SourceError::from(&failure))
            }
        }
    }

    /// Lets the session go. Its thread notices, and ends.
    fn end(&mut self) {
        if let Some(Session { thread, .. }) = self.session.take() {
            self.ending = Some(thread);
        }
    }
}

impl Session {
    /// Asks where the partitions end, if it is time to.
    fn ask(&mut self, now: Now, is_busy: bool) {
        let every_us = if is_busy { BUSY_ASK_US } else { IDLE_ASK_US };
        let is_due =
            self.asked_at_us.is_none_or(|asked_us| now.monotonic_us.saturating_sub(asked_us) >= every_us);
        // One that is not taken yet will do: its time is earlier.
        if is_due && self.asks.try_send(now).is_ok() {
            self.asked_at_us = Some(now.monotonic_us);
        }
    }

    fn has_come(&mut self) -> bool {
        self.come = self.come.take().or_else(|| self.events.try_recv().ok());
        self.come.is_some()
    }
}

fn nothing(again_us: u64) -> Progress<KafkaPosition> {
    Progress { position: None, whole: None, complete_before: None, again_us, loaded: None }
}

impl Source for KafkaSource {
    type Identity = KafkaIdentity;
    type Position = KafkaPosition;

    fn identity(&mut self) -> Result<KafkaIdentity, SourceError> {
        // Each session compares it before anything of it is delivered.
        Ok(self.identity.clone())
    }

    fn lasting_identity(&mut self) -> Result<String, SourceError> {
        let KafkaIdentity { cluster, topic, partitions, partitioner } = &self.identity;
        Ok(format!("kafka {cluster} {topic} {partitions} {partitioner}"))
    }

    fn resume(&mut self, begin: &KafkaPosition, end: &KafkaPosition) -> Result<(), SourceError> {
        if begin.partial_cmp(end).is_none_or(Ordering::is_gt) {
            return Err(SourceError::Replaced("the checkpoint ends before it begins".to_owned()));
        }
        for position in [begin, end] {
            session::check(&self.address, position).map_err(|failure| SourceError::from(&failure))?;
        }
        Ok(())
    }

    fn load(&mut self, after: Option<&KafkaPosition>) -> Result<(), SourceError> {
        self.end();
        if self.ending.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Err(SourceError::Unavailable("the reading that broke off has not ended yet".to_owned()));
        }
        let (events, taken) = sync_channel(BATCHES_AHEAD);
        let (asks, asked) = sync_channel(1);
        let start = Start {
            address: Arc::clone(&self.address),
            identity: self.identity.clone(),
            after: after.cloned(),
            share: self.share.clone(),
            asks: asked,
            events,
            taker: thread::current(),
            status: Arc::clone(&self.status),
        };
        let thread = spawn_vital(Vital::Kafka, move || session::run(start)).map_err(|error| {
            SourceError::Unavailable(format!("the system gives no thread: {error} (ulimit -u, TasksMax=)"))
        })?;
        self.session = Some(Session { events: taken, asks, come: None, asked_at_us: None, thread });
        Ok(())
    }

    fn next(&mut self, now: Now, rows: &mut Vec<Row>) -> Result<Progress<KafkaPosition>, SourceError> {
        self.take_up();
        let is_busy = now.monotonic_us.saturating_sub(self.rows_at_us) < BUSY_US;
        let Some(session) = &mut self.session else {
            return Err(SourceError::Unavailable("nothing is read".to_owned()));
        };
        session.ask(now, is_busy);
        let come = session.come.take().map_or_else(|| session.events.try_recv(), Ok);
        match come {
            Ok(event) => self.take(event, now, rows),
            Err(TryRecvError::Empty) => {
                Ok(nothing(if is_busy { BUSY_ASK_US } else { IDLE_ASK_US }.min(AWAIT_US)))
            }
            Err(TryRecvError::Disconnected) => {
                self.end();
                Err(SourceError::Unavailable("the thread that reads has ended".to_owned()))
            }
        }
    }

    fn has_news(&mut self) -> bool {
        self.session.as_mut().is_some_and(Session::has_come) || self.rereads.has_come()
    }

    fn next_changed(&mut self) -> Option<UserId> {
        self.changed.pop_front()
    }

    fn can_reread(&self) -> bool {
        true
    }

    fn reread(&mut self, user: UserId, after: Option<Version>) {
        if self.share.as_ref().is_none_or(|share| share.wants(self.partition_of(user))) {
            self.rereads.ask(user, after);
        } else {
            // Its page is empty: nobody asks for the account here, and it stays quarantined.
            self.put_off.insert(user);
        }
    }

    fn page(&mut self, rows: &mut Vec<Row>) -> Result<Page, SourceError> {
        let user_read = self.rereads.user();
        let misplaced = user_read.filter(|user| self.misplaced.contains(user)).map(|user| Unreadable {
            place: "in another partition".to_owned(),
            user_id: Some(user),
            column: "partition",
            expected: "all records of the account in its key's partition",
            found: "some of them elsewhere".to_owned(),
        });
        let before = rows.len();
        let page = self.rereads.take(misplaced, rows)?;
        if page == Page::Last
            && let Some(user) = user_read
            && rows[before..].iter().all(Result::is_ok)
        {
            self.unsettled.remove(&user);
        }
        Ok(page)
    }
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("identity", &self.identity).finish_non_exhaustive()
    }
}
