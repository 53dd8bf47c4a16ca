//! Accounts' histories, read again on a thread of their own: of the account's partition, all that was committed when it began.
//!
//! What was changed or removed is taken as it is now. A record that cannot be read leaves the account incomplete, until the row comes
//! after it that the account had still to get: then it was none of its rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, Thread};
use std::time::Instant;

use florin_core::follower::{Page, Row, SourceError, Unreadable};
use florin_core::ledger::Transaction;
use florin_core::limits::FEED_BATCH_ROWS;
use florin_record::threads::{Vital, spawn_vital};
use florin_schema::{UserId, Version};

use crate::address::Address;
use crate::client::{Asker, Edge, Reader, Sees, record};
use crate::decoder::{self, Layout, Record, Refused, Said};
use crate::failure::Failure;
use crate::limits::{POLL_PAUSE, SILENCE};
use crate::session::contradiction;

/// Whose, and what there is.
type Answer = (UserId, Result<History, Failure>);

/// The way to that thread. It ends when this is dropped.
pub struct Rereads {
    address: Arc<Address>,
    layout: Layout,
    thread: Option<(SyncSender<UserId>, Receiver<Answer>)>,
    awaited: Option<(UserId, Option<Version>)>,
    come: Option<Result<History, SourceError>>,
    /// The rows of this account that were read and not yet taken.
    rest: Option<(UserId, Vec<Row>)>,
}

impl Rereads {
    /// The thread starts with the first account.
    pub fn new(address: &Arc<Address>, layout: Layout) -> Rereads {
        let address = Arc::clone(address);
        Rereads { address, layout, thread: None, awaited: None, come: None, rest: None }
    }

    /// Begins to read an account's rows after a version; what was read of it and not taken is given out first.
    pub fn ask(&mut self, user: UserId, after: Option<Version>) {
        self.awaited = Some((user, after));
        if after.is_some()
            && self.rest.as_ref().is_some_and(|(known, rows)| *known == user && !rows.is_empty())
        {
            return;
        }
        (self.rest, self.come) = (None, None);
        let asked = self
            .start()
            .map(|()| self.thread.as_ref().is_some_and(|(users, _)| users.try_send(user).is_ok()));
        let refused = match asked {
            Ok(true) => return,
            Ok(false) => "an account was asked for before the last one came".to_owned(),
            Err(error) => {
                format!("the system gives no thread to read an account again: {error} (ulimit -u, TasksMax=)")
            }
        };
        self.come = Some(Err(SourceError::Unavailable(refused)));
    }

    /// Whose rows are awaited.
    pub fn user(&self) -> Option<UserId> {
        self.awaited.map(|(user, _)| user)
    }

    /// Whether there is something to take.
    pub fn has_come(&mut self) -> bool {
        if self.awaited.is_none() {
            return false;
        }
        if self.come.is_none()
            && self.rest.is_none()
            && let Some((_, answers)) = &self.thread
        {
            let wanted = self.user();
            self.come = match answers.try_recv() {
                Ok((user, _)) if Some(user) != wanted => None,
                Ok((_, answer)) => Some(answer.map_err(|failure| SourceError::from(&failure))),
                // A thread that has panicked ends the process in a moment: it says why, and not whoever waits for it.
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
            };
        }
        self.come.is_some() || self.rest.is_some()
    }

    /// The page that was asked for, if it is there. `misplaced` = records of the account lie where none of it should.
    pub fn take(&mut self, misplaced: Option<Unreadable>, rows: &mut Vec<Row>) -> Result<Page, SourceError> {
        let Some((user, after)) = self.awaited else { return Ok(Page::Last) };
        if !self.has_come() {
            return Ok(Page::Awaited);
        }
        self.awaited = None;
        if let Some(come) = self.come.take() {
            let mut read = come?.rows(after);
            read.extend(misplaced.map(|misplaced| Err(Box::new(misplaced))));
            self.rest = Some((user, read));
        }
        let (_, rest) = self.rest.as_mut().expect("it has come");
        rows.extend(rest.drain(..rest.len().min(FEED_BATCH_ROWS)));
        if rest.is_empty() {
            self.rest = None;
            return Ok(Page::Last);
        }
        Ok(Page::More)
    }

    fn start(&mut self) -> std::io::Result<()> {
        if self.thread.is_some() {
            return Ok(());
        }
        let (users, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let (address, layout, taker) = (Arc::clone(&self.address), self.layout, thread::current());
        spawn_vital(Vital::Reread, move || run(&address, layout, &asked, &answer, &taker))?;
        self.thread = Some((users, answers));
        Ok(())
    }
}

fn run(
    address: &Address,
    layout: Layout,
    asked: &Receiver<UserId>,
    answers: &SyncSender<Answer>,
    taker: &Thread,
) {
    while let Ok(user) = asked.recv() {
        Vital::Reread.at_work();
        if answers.send((user, read(address, layout, user))).is_err() {
            return;
        }
        taker.unpark();
    }
}

/// Reads the account's partition up to what is committed now.
fn read(address: &Address, layout: Layout, user: UserId) -> Result<History, Failure> {
    let key = user.to_string();
    let partition = layout.partitioner.partition_of(key.as_bytes(), layout.partitions);
    let asker = Asker::new(address, Sees::Committed)?;
    let end = asker.edges(Edge::Last, layout.partitions)?[partition as usize];
    let reader = Reader::begin(address, std::iter::once((partition, 0)))?;
    let (mut history, mut reached) = (History::new(user), 0);
    let mut deadline = Instant::now() + SILENCE;
    while reached < end {
        match reader.next(POLL_PAUSE)? {
            Some(message) => {
                let record = record(&message);
                reached = record.offset + 1;
                if record.key.is_none_or(|found| found == key.as_bytes()) {
                    history.take(&record, layout);
                }
                deadline = Instant::now() + SILENCE;
            }
            None => reader.reached(|_, offset| reached = reached.max(offset))?,
        }
        if Instant::now() > deadline {
            let seconds = SILENCE.as_secs();
            let reason = format!(
                "topic {} gives out no record of partition {partition} within {seconds} s",
                address.topic
            );
            return Err(Failure::Unavailable(reason));
        }
    }
    Ok(history)
}

/// An account's rows, as its partition has them.
#[derive(Debug)]
pub struct History {
    user: UserId,
    rows: BTreeMap<Version, Row>,
    /// Up to here no version is missing.
    whole: Version,
    /// A record of which nothing is known but whose it is.
    unplaced: Option<Box<Unreadable>>,
}

impl History {
    fn new(user: UserId) -> History {
        History { user, rows: BTreeMap::new(), whole: Version(0), unplaced: None }
    }

    /// Takes a record that may be the account's.
    fn take(&mut self, record: &Record<'_>, layout: Layout) {
        match decoder::read(record, layout) {
            Said::Row(row) if row.user_id == self.user => self.add(record, row),
            Said::Changed { after, before } => {
                if let Some((user, version)) = before
                    && user == self.user
                {
                    self.rows.remove(&version);
                }
                if after.user_id == self.user {
                    self.rows.insert(after.version, Ok(after));
                }
            }
            Said::Removed { user, version: Some(version) } if user == self.user => {
                self.rows.remove(&version);
            }
            Said::Refused(Refused { why, other, .. }) => {
                if [why.user_id, other].contains(&Some(self.user)) {
                    self.unplaced = Some(Box::new(Unreadable { user_id: Some(self.user), ..*why }));
                }
            }
            Said::Removed { user, version: None } if user == self.user => {
                self.unplaced = Some(Box::new(Unreadable {
                    place: format!("partition {} offset {}", record.partition, record.offset),
                    user_id: Some(user),
                    column: "before",
                    expected: "which row was removed (REPLICA IDENTITY FULL where the table is PostgreSQL's)",
                    found: "no version".to_owned(),
                }));
            }
            Said::Row(_) | Said::Removed { .. } | Said::Tombstone(_) | Said::Truncated => {}
        }
    }

    fn add(&mut self, record: &Record<'_>, row: Transaction) {
        match self.rows.get_mut(&row.version) {
            None => {
                self.rows.insert(row.version, Ok(row));
                while self.rows.contains_key(&self.whole.next()) {
                    self.whole = self.whole.next();
                    self.unplaced = None;
                }
            }
            Some(Ok(known)) if *known == row => {}
            Some(known) => *known = Err(contradiction(record, &row)),
        }
    }

    /// In the order of their versions, after one.
    fn rows(self, after: Option<Version>) -> Vec<Row> {
        let is_after = |(version, _): &(Version, Row)| after.is_none_or(|after| *version > after);
        let rows = self.rows.into_iter().filter(is_after).map(|(_, row)| row);
        rows.chain(self.unplaced.map(Err)).collect()
    }
}
