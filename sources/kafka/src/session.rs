//! The thread that reads: from a position to rows, offsets, and the times before which everything is in.
//!
//! A time is one if, of every partition, everything was given out that lay before the end that was asked for since: the log's
//! own end, so that no record waits behind a transaction that is open. Partitions in which nothing happens are at theirs.

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

use crate::address::Address;
use crate::client::{Asker, Edge, Reader, Sees, record};
use crate::decoder::{self, Fault, Record, Refused, Said};
use crate::failure::Failure;
use crate::ledger::check_first;
use crate::limits::{POLL_PAUSE, SILENCE};
use crate::position::{Anchor, KafkaIdentity, KafkaPosition, Reached};
use crate::recent::Recent;
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
#[derive(Debug)]
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
    reader: Reader,
    partitions: Vec<Partition>,
    recent: Recent,
    /// Where the partitions ended when this began, and how far that was away.
    first_ends: Vec<u64>,
    to_load: u64,
    /// An ask that is not answered yet, and where the partitions ended.
    asked: Option<(Now, Vec<u64>)>,
    /// The last ask that came meanwhile.
    next_ask: Option<Now>,
}

#[derive(Clone, Copy, Default)]
struct Partition {
    reached: Reached,
    /// The record that has to come first: it was the last of another session.
    expected: Option<Anchor>,
}

impl Session {
    fn begin(start: Start) -> Result<Session, End> {
        let asker = Asker::new(&start.address, Sees::All)?;
        let found = asker.identity()?;
        if found != start.identity {
            return Err(End::Failed(Failure::Replaced(format!(
                "what was followed was {}, and this is {found}: keys may belong to other partitions. Put that one back, or restart \
                 florin to load this one",
                start.identity
            ))));
        }
        let first = asker.edges(Edge::First, found.partitions)?;
        let ends = asker.edges(Edge::Last, found.partitions)?;
        let partitions: Vec<Partition> = match &start.after {
            None => {
                check_first(&found, &first)?;
                vec![Partition::default(); first.len()]
            }
            Some(after) => after
                .partitions
                .iter()
                .map(|&reached| Partition { reached, expected: reached.anchor })
                .collect(),
        };
        if partitions.len() != ends.len() {
            return Err(End::Failed(Failure::Replaced("the position is of another topic".to_owned())));
        }
        check_ends(&found.topic, &partitions, &ends)?;
        let from = partitions
            .iter()
            .map(|partition| partition.expected.map_or(partition.reached.next, |anchor| anchor.offset));
        let reader = Reader::begin(&start.address, (0..).zip(from))?;
        let to_load = left(&partitions, &ends);
        start.status.sessions.fetch_add(1, Relaxed);
        Ok(Session {
            start,
            asker,
            reader,
            partitions,
            recent: Recent::default(),
            first_ends: ends,
            to_load,
            asked: None,
            next_ask: None,
        })
    }

    fn follow(mut self) -> Result<std::convert::Infallible, End> {
        loop {
            Vital::Kafka.at_work();
            self.read()?;
            self.ask()?;
            self.answer()?;
        }
    }

    /// Reads what is there, at most a batch; waits a little for the first of it.
    fn read(&mut self) -> Result<(), End> {
        let Session { start, reader, partitions, recent, .. } = self;
        let reached = KafkaPosition { partitions: Vec::new() };
        let mut batch = Batch {
            rows: Vec::new(),
            changed: Vec::new(),
            unsettled: Vec::new(),
            misplaced: Vec::new(),
            reached,
            loaded: 0,
        };
        let (mut records, mut last) = (0, Vec::new());
        last.resize_with(partitions.len(), || None);
        while records < FEED_BATCH_ROWS {
            let wait = if records == 0 { POLL_PAUSE } else { Duration::ZERO };
            let Some(message) = reader.next(wait)? else { break };
            records += 1;
            let record = record(&message);
            let at = record.partition as usize;
            if partitions[at].is_news(&record, &start.identity)? {
                take(&record, start, recent, &mut batch)?;
                last[at] = Some(message);
            }
        }
        // Of a partition's records only the last of a batch is one that a position names, and digests are not made for nothing.
        for (partition, message) in partitions.iter_mut().zip(&last) {
            partition.reached.anchor =
                message.as_ref().map(|message| Anchor::of(&record(message))).or(partition.reached.anchor);
        }
        start.status.records.fetch_add(records as u64, Relaxed);
        let has_moved = self.skip()?;
        if records == 0 && !has_moved {
            return Ok(());
        }
        batch.reached.partitions = self.partitions.iter().map(|partition| partition.reached).collect();
        let loaded = self.to_load.saturating_sub(left(&self.partitions, &self.first_ends));
        batch.loaded = (1_000 * loaded).checked_div(self.to_load).unwrap_or(1_000) as u16;
        self.tell(Event::Batch(batch))
    }

    /// Moves over what the brokers do not give out; whether there was any.
    fn skip(&mut self) -> Result<bool, End> {
        let Session { reader, partitions, start, .. } = self;
        let (mut has_moved, mut is_missing) = (false, None);
        reader.reached(|at, offset| {
            let Some(partition) = partitions.get_mut(at).filter(|partition| partition.reached.next < offset)
            else {
                return;
            };
            if partition.expected.is_some() {
                is_missing = Some(at);
            }
            partition.reached.next = offset;
            has_moved = true;
        })?;
        match is_missing {
            None => Ok(has_moved),
            Some(partition) => {
                Err(End::Failed(gone(&start.identity.topic, partition as u32, "is not there any more")))
            }
        }
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
        check_ends(topic, &self.partitions, &ends)?;
        self.asked = Some((at, ends));
        Ok(())
    }

    /// Answers what was asked, once it is so.
    fn answer(&mut self) -> Result<(), End> {
        let Some((at, ends)) = &self.asked else { return Ok(()) };
        let is_left = left(&self.partitions, ends);
        self.start.status.lag.store(is_left, Relaxed);
        let is_verified = self.partitions.iter().all(|partition| partition.expected.is_none());
        if is_left > 0 || !is_verified {
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

impl Partition {
    /// Whether a record was not delivered before.
    fn is_news(&mut self, record: &Record<'_>, identity: &KafkaIdentity) -> Result<bool, Failure> {
        if let Some(expected) = self.expected.take() {
            let found = Anchor::of(record);
            return if found == expected {
                Ok(false)
            } else {
                let what =
                    if found.offset == expected.offset { "is another one" } else { "is not there any more" };
                Err(gone(&identity.topic, record.partition, what))
            };
        }
        if record.offset < self.reached.next {
            return Ok(false);
        }
        self.reached.next = record.offset + 1;
        Ok(true)
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

/// A topic that ends before what was read of it is another.
fn check_ends(topic: &str, partitions: &[Partition], ends: &[u64]) -> Result<(), Failure> {
    let is_short = |(partition, &end): (&Partition, &u64)| end < partition.reached.next;
    match partitions.iter().zip(ends).position(is_short) {
        None => Ok(()),
        Some(partition) => Err(gone(topic, partition as u32, "is not there any more")),
    }
}

fn gone(topic: &str, partition: u32, what: &str) -> Failure {
    Failure::Replaced(format!(
        "the record that was read last of partition {partition} of topic {topic} {what}: the topic was made anew, or restored to \
         what it was before. Put that one back, or restart florin to load what is there now"
    ))
}

/// Offsets between what was read and the ends.
fn left(partitions: &[Partition], ends: &[u64]) -> u64 {
    partitions.iter().zip(ends).map(|(partition, end)| end.saturating_sub(partition.reached.next)).sum()
}

/// Whether the topic still has the last record of each partition that a position knows of.
pub fn check(address: &Address, position: &KafkaPosition) -> Result<(), Failure> {
    let asker = Asker::new(address, Sees::All)?;
    let mut partitions: Vec<Partition> =
        position.partitions.iter().map(|&reached| Partition { reached, expected: reached.anchor }).collect();
    let found = asker.identity()?;
    if partitions.len() != found.partitions as usize {
        return Err(Failure::Replaced(format!("this is {found}, and the position has other partitions")));
    }
    check_ends(&found.topic, &partitions, &asker.edges(Edge::Last, found.partitions)?)?;
    let known =
        (0..).zip(&partitions).filter_map(|(partition, known)| Some((partition, known.expected?.offset)));
    let reader = Reader::begin(address, known.collect::<Vec<_>>().into_iter())?;
    let mut deadline = Instant::now() + SILENCE;
    while partitions.iter().any(|partition| partition.expected.is_some()) {
        if let Some(message) = reader.next(POLL_PAUSE)? {
            let record = record(&message);
            let partition = &mut partitions[record.partition as usize];
            if partition.expected.is_some() {
                partition.is_news(&record, &found)?;
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
