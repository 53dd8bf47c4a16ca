//! The thread that reads: from a position to rows, offsets, and the times before which everything is in.
//!
//! A time is one if, of every partition, everything was given out that lay before the end that was asked for since: the log's
//! own end, so that no record waits behind a transaction that is open. Partitions in which nothing happens are at theirs.
//!
//! Where a [`Share`] says which partitions are followed, those that it adds are loaded by a reader of their own, a bounded number of
//! records in each turn, and time goes on for the others. What becomes of a partition when says [`crate::partitions`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use florin_core::clock::Now;
use florin_core::follower::{Row, Unreadable};
use florin_core::ledger::Transaction;
use florin_core::limits::FEED_BATCH_ROWS;
use florin_record::threads::Vital;
use florin_schema::UserId;
use rdkafka::message::BorrowedMessage;

use crate::address::Address;
use crate::client::{Asker, Edge, Reader, Sees, record};
use crate::decoder::{self, Fault, Record, Refused, Said};
use crate::failure::Failure;
use crate::ledger::check_first;
use crate::limits::{LOADING_RECORDS, POLL_PAUSE, SILENCE};
use crate::partitions::{Changes, Lane, Partitions};
use crate::position::{KafkaIdentity, KafkaPosition};
use crate::recent::Recent;
use crate::share::Share;
use crate::status::KafkaStatus;

/// What the follower's side is told, in the order in which it happens.
#[derive(Debug)]
pub enum Event {
    /// Records were read.
    Batch(Batch),
    /// Everything that was committed before this time has been told.
    Complete(Now),
    /// Nothing more comes.
    Failed(Failure),
}

/// What was read together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Rows, and what is none.
    pub rows: Vec<Row>,
    /// Accounts of which rows were changed or removed.
    pub changed: Vec<UserId>,
    /// Accounts with records that are no transactions, and may have been meant for nobody.
    pub unsettled: Vec<UserId>,
    /// Accounts with records that no reading of their own partition would find: elsewhere, or under other keys.
    pub misplaced: Vec<UserId>,
    /// How far the topic was read with these.
    pub reached: KafkaPosition,
    /// How much of what there was at the beginning, in thousandths.
    pub loaded: u16,
}

/// What a session begins with.
pub struct Start {
    /// The topic.
    pub address: Arc<Address>,
    /// What it was.
    pub identity: KafkaIdentity,
    /// Where to go on; none = at the beginning.
    pub after: Option<KafkaPosition>,
    /// Which partitions to read; none = all.
    pub share: Option<Arc<Share>>,
    /// Times at which the follower has asked.
    pub asks: Receiver<Now>,
    /// Where events go. Nobody takes them any more = this ends.
    pub events: SyncSender<Event>,
    /// Who takes them.
    pub taker: Thread,
    /// For the metrics.
    pub status: Arc<KafkaStatus>,
}

/// Why a session ends.
enum End {
    /// Nobody takes its events.
    Unwanted,
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failed(failure)
    }
}

/// The thread's life.
pub fn run(start: Start) {
    Vital::Kafka.at_work();
    let (events, taker) = (start.events.clone(), start.taker.clone());
    let Err(end) = Session::begin(start).and_then(Session::follow);
    if let End::Failed(failure) = end
        && events.send(Event::Failed(failure)).is_ok()
    {
        taker.unpark();
    }
}

struct Session {
    start: Start,
    asker: Asker,
    /// Of those that are followed.
    followed: Reader,
    /// Of those that are loaded beside them, once there has been one. It stays: to end one takes longer than a record may wait.
    loading: Option<Reader>,
    partitions: Partitions,
    /// Which of what the share has said was taken over.
    seen: u64,
    recent: Recent,
    /// Where the partitions ended when this began, and how far that was away.
    first_ends: Vec<u64>,
    to_load: u64,
    /// An ask that is not answered yet, and where the partitions ended.
    asked: Option<(Now, Vec<u64>)>,
    /// The last ask that came meanwhile.
    next_ask: Option<Now>,
}

impl Session {
    fn begin(mut start: Start) -> Result<Session, End> {
        let asker = Asker::new(&start.address, Sees::All)?;
        let found = asker.identity()?;
        if found != start.identity {
            return Err(End::Failed(Failure::Replaced(format!(
                "what was followed was {}, and this is {found}: keys may belong to other partitions. Put that one back, or restart \
                 florin to load this one",
                start.identity
            ))));
        }
        let ends = asker.edges(Edge::Last, found.partitions)?;
        let after = start.after.take().unwrap_or_else(|| KafkaPosition::beginning(found.partitions));
        if after.partitions.len() != ends.len() {
            return Err(End::Failed(Failure::Replaced("the position is of another topic".to_owned())));
        }
        let mut session = Session {
            asker,
            followed: Reader::new(&start.address)?,
            loading: None,
            partitions: Partitions::new(&found.topic, &after),
            seen: 0,
            recent: Recent::default(),
            first_ends: ends,
            to_load: 0,
            asked: None,
            next_ask: None,
            start,
        };
        if session.start.share.is_none() {
            let all = (0..found.partitions).map(|partition| (partition, Some(Now::default())));
            session.turn_to(&all.collect())?;
        }
        session.take_over()?;
        session.partitions.check_ends(&session.first_ends)?;
        session.to_load = session.left(&session.first_ends);
        session.start.status.sessions.fetch_add(1, Relaxed);
        Ok(session)
    }

    fn follow(mut self) -> Result<std::convert::Infallible, End> {
        loop {
            Vital::Kafka.at_work();
            self.take_over()?;
            self.read()?;
            self.ask()?;
            self.answer()?;
        }
    }

    /// Follows what the share says, where it says something new.
    fn take_over(&mut self) -> Result<(), End> {
        let Some(share) = self.start.share.clone() else { return Ok(()) };
        let Some(wanted) = share.news(&mut self.seen) else { return Ok(()) };
        self.turn_to(&wanted)?;
        // One that was not wanted for less than a turn was never let go of.
        self.partitions.followed().for_each(|(partition, since)| share.arrive(partition, since));
        Ok(())
    }

    fn turn_to(&mut self, wanted: &BTreeMap<u32, Option<Now>>) -> Result<(), End> {
        let changes = self.partitions.turn_to(wanted);
        let unread: Vec<u32> = self.partitions.unread(&changes).collect();
        if !unread.is_empty() {
            let identity = &self.start.identity;
            let first = self.asker.edges(Edge::First, identity.partitions)?;
            check_first(
                identity,
                unread.into_iter().map(|partition| (partition, first[partition as usize])),
            )?;
        }
        self.apply(&changes)
    }

    /// Has the readers read what they are to.
    fn apply(&mut self, changes: &Changes) -> Result<(), End> {
        if self.loading.is_none() && !changes.loading.begun.is_empty() {
            self.loading = Some(Reader::new(&self.start.address)?);
        }
        if let Some(loading) = &self.loading {
            loading.change(&changes.loading)?;
        }
        Ok(self.followed.change(&changes.followed)?)
    }

    /// Reads what is there, at most a batch; waits a little for the first of it. What is loaded comes behind what is followed, and where
    /// there is any of that only a bounded part of it: what is read next stands behind it in the way to the shards.
    fn read(&mut self) -> Result<(), End> {
        let is_loading = self.partitions.has(Lane::Loading);
        let room = if self.partitions.has(Lane::Followed) { LOADING_RECORDS } else { FEED_BATCH_ROWS };
        let mut taking = Taking {
            start: &self.start,
            partitions: &mut self.partitions,
            recent: &mut self.recent,
            batch: Batch::default(),
            records: 0,
            last: Vec::new(),
        };
        taking.last.resize_with(self.start.identity.partitions as usize, || None);
        let wait = if is_loading { Duration::ZERO } else { POLL_PAUSE };
        taking.drain(Lane::Followed, &self.followed, FEED_BATCH_ROWS, wait)?;
        if let Some(loading) = &self.loading {
            // One that has nothing to read has to be heard.
            let wait = if is_loading && taking.records == 0 { POLL_PAUSE } else { Duration::ZERO };
            taking.drain(Lane::Loading, loading, room, wait)?;
        }
        let Taking { partitions, mut batch, records, last, .. } = taking;
        // Of a partition's records only the last of a batch is one that a position names, and digests are not made for nothing.
        last.iter().flatten().for_each(|message| partitions.note_last(&record(message)));
        self.start.status.records.fetch_add(records as u64, Relaxed);
        let has_moved = self.skip()?;
        if records == 0 && !has_moved {
            return Ok(());
        }
        batch.reached = self.partitions.position();
        let loaded = self.to_load.saturating_sub(self.left(&self.first_ends));
        batch.loaded = (1_000 * loaded).checked_div(self.to_load).unwrap_or(1_000) as u16;
        self.tell(Event::Batch(batch))
    }

    /// Moves over what the brokers do not give out; whether there was any.
    fn skip(&mut self) -> Result<bool, End> {
        let Session { followed, loading, partitions, .. } = self;
        let mut moved = Ok(false);
        let readers = [(Lane::Followed, Some(&*followed)), (Lane::Loading, loading.as_ref())];
        for (lane, reader) in readers.into_iter().filter_map(|(lane, reader)| Some((lane, reader?))) {
            reader.reached(|at, offset| {
                if let Ok(has_moved) = &mut moved {
                    match partitions.skip(at, offset, lane) {
                        Ok(moves) => *has_moved |= moves,
                        Err(failure) => moved = Err(failure),
                    }
                }
            })?;
        }
        Ok(moved?)
    }

    /// Offsets between what was read and these ends.
    fn left(&self, ends: &[u64]) -> u64 {
        self.partitions.left(ends).map(|(_, left)| left).sum()
    }

    /// Asks where the partitions end, where the follower wants to know.
    fn ask(&mut self) -> Result<(), End> {
        match self.start.asks.try_recv() {
            Ok(at) => self.next_ask = Some(at),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Err(End::Unwanted),
        }
        if self.asked.is_some() {
            return Ok(());
        }
        let Some(at) = self.next_ask.take() else { return Ok(()) };
        let KafkaIdentity { topic, partitions, .. } = &self.start.identity;
        let found = self.asker.partitions()?;
        if found != *partitions {
            return Err(End::Failed(Failure::Replaced(format!(
                "topic {topic} has {found} partitions, and had {partitions}: keys belong to other partitions since, and accounts to \
                 two. Nothing more is read: write the ledger to a new topic"
            ))));
        }
        let ends = self.asker.edges(Edge::Last, found)?;
        self.partitions.check_ends(&ends)?;
        let changes = self.partitions.note_ends(&ends);
        self.asked = Some((at, ends));
        self.apply(&changes)
    }

    /// Answers what was asked, once it is so.
    fn answer(&mut self) -> Result<(), End> {
        let Some((at, ends)) = &self.asked else { return Ok(()) };
        let joined = self.partitions.joined(*at);
        let mut all_left = 0;
        for (partition, left) in self.partitions.left(ends) {
            all_left += left;
            if let Some(share) = &self.start.share {
                share.lags_by(partition, left);
            }
        }
        self.start.status.lag.store(all_left, Relaxed);
        if let Some(share) = &self.start.share {
            joined.into_iter().for_each(|partition| share.arrive(partition, *at));
        }
        if !self.partitions.is_complete(ends) {
            return Ok(());
        }
        let complete = Event::Complete(*at);
        self.asked = None;
        self.tell(complete)
    }

    fn tell(&self, event: Event) -> Result<(), End> {
        self.start.events.send(event).map_err(|_| End::Unwanted)?;
        self.start.taker.unpark();
        Ok(())
    }
}

/// A batch that is being read.
struct Taking<'a> {
    start: &'a Start,
    partitions: &'a mut Partitions,
    recent: &'a mut Recent,
    batch: Batch,
    records: usize,
    /// Of each partition that has any the last message.
    last: Vec<Option<BorrowedMessage<'a>>>,
}

impl<'a> Taking<'a> {
    /// Takes what a reader has, at most so many records; waits for the first of them.
    fn drain(&mut self, lane: Lane, reader: &'a Reader, room: usize, wait: Duration) -> Result<(), Failure> {
        let room = self.records + room;
        let mut wait = wait;
        while self.records < room {
            let Some(message) = reader.next(wait)? else { break };
            wait = Duration::ZERO;
            self.records += 1;
            let record = record(&message);
            if self.partitions.is_news(&record, lane)? {
                take(&record, self.start, self.recent, &mut self.batch)?;
                let at = record.partition as usize;
                self.last[at] = Some(message);
            }
        }
        Ok(())
    }
}

/// What a record says becomes rows, and accounts that are to be read again.
fn take(record: &Record<'_>, start: &Start, recent: &mut Recent, batch: &mut Batch) -> Result<(), Failure> {
    let status = &*start.status;
    match decoder::read(record, start.identity.layout()) {
        Said::Row(row) if recent.contradicts(&row) => {
            KafkaStatus::count(&status.unreadable);
            KafkaStatus::count(&status.contradicting);
            batch.rows.push(Err(contradiction(record, &row)));
        }
        Said::Row(row) => batch.rows.push(Ok(row)),
        Said::Changed { after, before } => {
            KafkaStatus::count(&status.changes);
            recent.replace(&after);
            batch.changed.push(after.user_id);
            batch.changed.extend(before.map(|(user, _)| user).filter(|&user| user != after.user_id));
        }
        Said::Removed { user, .. } | Said::Tombstone(user) => {
            KafkaStatus::count(&status.changes);
            batch.changed.push(user);
        }
        Said::Truncated => {
            return Err(Failure::Replaced(format!(
                "partition {} offset {} says that the ledger's table was emptied: nothing after it is answered from. Write the ledger \
                 to a new topic",
                record.partition, record.offset
            )));
        }
        Said::Refused(Refused { fault, why, other }) => {
            KafkaStatus::count(&status.unreadable);
            match fault {
                Fault::Unreadable | Fault::Key => {}
                Fault::Oversize => KafkaStatus::count(&status.oversize),
                Fault::Misplaced => KafkaStatus::count(&status.misplaced),
            }
            match fault {
                Fault::Key | Fault::Misplaced => batch.misplaced.extend(why.user_id),
                Fault::Unreadable | Fault::Oversize => batch.unsettled.extend(why.user_id),
            }
            batch.rows.extend(
                other.map(|user| Err(Box::new(Unreadable { user_id: Some(user), ..(*why).clone() }))),
            );
            batch.rows.push(Err(why));
        }
    }
    Ok(())
}

/// A version is taken by another row.
pub fn contradiction(record: &Record<'_>, row: &Transaction) -> Box<Unreadable> {
    Box::new(Unreadable {
        place: format!("partition {} offset {}", record.partition, record.offset),
        user_id: Some(row.user_id),
        column: "version",
        expected: "a version that no other record of the account has, or the same record again",
        found: format!("version {} with another content", row.version),
    })
}

/// Whether the topic still has the last record of each partition that a position knows of.
pub fn check(address: &Address, position: &KafkaPosition) -> Result<(), Failure> {
    let asker = Asker::new(address, Sees::All)?;
    let found = asker.identity()?;
    if position.partitions.len() != found.partitions as usize {
        return Err(Failure::Replaced(format!("this is {found}, and the position has other partitions")));
    }
    let mut partitions = Partitions::new(&found.topic, position);
    let all = (0..found.partitions).map(|partition| (partition, Some(Now::default())));
    let mut change = partitions.turn_to(&all.collect()).followed;
    partitions.check_ends(&asker.edges(Edge::Last, found.partitions)?)?;
    change.begun.retain(|(partition, _)| position.partitions[*partition as usize].anchor.is_some());
    let reader = Reader::new(address)?;
    reader.change(&change)?;
    let mut deadline = Instant::now() + SILENCE;
    while partitions.unverified() > 0 {
        if let Some(message) = reader.next(POLL_PAUSE)? {
            let before = partitions.unverified();
            partitions.is_news(&record(&message), Lane::Followed)?;
            if partitions.unverified() < before {
                deadline = Instant::now() + SILENCE;
            }
        }
        if Instant::now() > deadline {
            return Err(Failure::Unavailable(format!(
                "topic {} does not give out its records within {} s",
                found.topic,
                SILENCE.as_secs()
            )));
        }
    }
    Ok(())
}
