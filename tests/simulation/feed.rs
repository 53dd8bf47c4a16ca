//! The feed by its protocol: batches and their ends, acknowledgements, the watermark only after them, re-reading. It
//! also does to the rows what a feed must never rely on not happening: it loses, swaps and repeats some.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};

use florin::clock::Now;
use florin::ledger::Transaction;
use florin::mesh::{self, Latest, Parking, Receiver, Sender};
use florin::shard::{FeedEvent, FeedLink, FeedRequest};
use florin_schema::UserId;

use super::Fault;
use super::ledger::Ledger;
use super::random::Random;

const POLL_US: u64 = 5_000;

/// The feed's end of its link to one shard.
pub struct FeedEnd {
    events: Sender<FeedEvent>,
    slots: usize,
    requests: Receiver<FeedRequest>,
    applied: Arc<AtomicU64>,
    pub watermark: Arc<Latest>,
    parking: Arc<Parking>,
    /// Everything that was ever pushed.
    pub log: Vec<FeedEvent>,
    /// Something was pushed since its shard was last notified.
    pushed: bool,
}

impl FeedEnd {
    /// Both ends. The rings are small, so that they fill.
    pub fn new(random: &mut Random, parking: Arc<Parking>) -> (FeedEnd, FeedLink) {
        let slots = random.pick(&[4, 16, 64, 256]);
        let (events, events_out) = mesh::ring(slots);
        let (requests_in, requests) = mesh::ring(random.pick(&[1, 2, 64]));
        let (applied, watermark) = (Arc::new(AtomicU64::new(0)), Arc::new(Latest::new()));
        let link = FeedLink {
            events: events_out,
            requests: requests_in,
            applied_batch: Arc::clone(&applied),
            watermark: Arc::clone(&watermark),
        };
        (
            FeedEnd { events, slots, requests, applied, watermark, parking, log: Vec::new(), pushed: false },
            link,
        )
    }

    /// How many events the shard has taken.
    pub fn taken(&mut self) -> usize {
        self.log.len() - (self.slots - self.events.free())
    }
}

enum Phase {
    Resting,
    Pushing,
    Acknowledging,
    Storing(usize),
}

/// The feed's state between two steps.
pub struct Feed {
    pub ends: Vec<FeedEnd>,
    phase: Phase,
    next_poll_us: u64,
    /// Rows of the ledger that were read.
    read: usize,
    batch: u64,
    batch_rows_max: usize,
    outbox: VecDeque<(usize, FeedEvent)>,
    /// Of the batch, the shards that got rows.
    awaited: Vec<usize>,
    /// Captured before the query; `None` where the query did not reach the ledger's end.
    captured: Option<(i64, u64)>,
    /// Percent of batches that lose, swap or repeat rows.
    unruly: usize,
    fault: Fault,
    pub rereads: u64,
    /// Heard, and not yet answered: a batch may count as applied only once they are heard.
    asked: VecDeque<(usize, FeedRequest)>,
    /// When the watermark that every shard has by now was captured.
    pub published_us: u64,
}

impl Feed {
    pub fn new(ends: Vec<FeedEnd>, random: &mut Random, fault: Fault) -> Feed {
        Feed {
            ends,
            phase: Phase::Resting,
            next_poll_us: 0,
            read: 0,
            batch: 0,
            batch_rows_max: random.pick(&[3, 20, 1_000]),
            outbox: VecDeque::new(),
            awaited: Vec::new(),
            captured: None,
            unruly: random.pick(&[0, 0, 10, 40]),
            fault,
            rereads: 0,
            asked: VecDeque::new(),
            published_us: 0,
        }
    }

    /// When it has something to do again; `None` while it waits for a shard.
    pub fn next_us(&self) -> Option<u64> {
        match self.phase {
            Phase::Resting => Some(self.next_poll_us),
            Phase::Storing(_) => Some(0),
            Phase::Pushing | Phase::Acknowledging => None,
        }
    }

    /// Whether it can take on a request now.
    pub fn has_requests(&self) -> bool {
        matches!(self.phase, Phase::Resting)
            && (!self.asked.is_empty() || self.ends.iter().any(|end| !end.requests.is_empty()))
    }

    /// Whether it has delivered all of `ledger` and answered all requests.
    pub fn is_done(&self, ledger: &Ledger) -> bool {
        matches!(self.phase, Phase::Resting) && self.read == ledger.rows.len() && !self.has_requests()
    }

    /// Goes on as far as one step takes it; the shards whose bells it rings.
    pub fn step(&mut self, now: Now, ledger: &Ledger, random: &mut Random) -> Vec<usize> {
        for (shard, end) in self.ends.iter_mut().enumerate() {
            self.asked.extend(std::iter::from_fn(|| end.requests.pop()).map(|request| (shard, request)));
        }
        match self.phase {
            Phase::Resting => self.rest(now, ledger, random),
            Phase::Pushing => self.push(random),
            Phase::Acknowledging => {
                if self.awaited.iter().all(|&shard| self.ends[shard].applied.load(Acquire) >= self.batch) {
                    self.phase = Phase::Storing(0);
                }
            }
            Phase::Storing(shard) => self.store(shard),
        }
        let pushed = |end: &mut FeedEnd| std::mem::take(&mut end.pushed) && end.parking.notify();
        let mut bells = Vec::new();
        for (shard, end) in self.ends.iter_mut().enumerate() {
            if pushed(end) {
                bells.push(shard);
            }
        }
        bells
    }

    fn rest(&mut self, now: Now, ledger: &Ledger, random: &mut Random) {
        if let Some((shard, request)) = self.asked.pop_front() {
            if let FeedRequest::Reread { user_id, .. } = request {
                self.reread(shard, user_id, ledger);
            }
        } else if now.monotonic_us >= self.next_poll_us {
            self.query(now, ledger, random);
        }
    }

    fn reread(&mut self, shard: usize, user: UserId, ledger: &Ledger) {
        self.rereads += 1;
        self.outbox.push_back((shard, FeedEvent::RereadBegin(user)));
        let rows = ledger.histories[&user].committed();
        self.outbox.extend(rows.map(|row| (shard, FeedEvent::RereadRow(row))));
        self.outbox.push_back((shard, FeedEvent::RereadEnd(user)));
        self.awaited.clear();
        self.captured = None;
        self.phase = Phase::Pushing;
    }

    fn query(&mut self, now: Now, ledger: &Ledger, random: &mut Random) {
        self.next_poll_us = now.monotonic_us + POLL_US;
        let end = ledger.rows.len().min(self.read + self.batch_rows_max);
        let mut rows = ledger.rows[self.read..end].to_vec();
        self.read = end;
        self.captured = (end == ledger.rows.len()).then_some((now.wall_us, now.monotonic_us));
        if self.fault == Fault::EarlyWatermark {
            for end in &self.ends {
                end.watermark.store(now.wall_us, now.monotonic_us);
            }
        }
        if random.percent(self.unruly) {
            upset(&mut rows, ledger, random);
        }
        self.awaited.clear();
        self.batch += 1;
        for row in rows {
            let shard = usize::from(row.user_id.shard(self.ends.len() as u16).0);
            self.outbox.push_back((shard, FeedEvent::Row(row)));
            if !self.awaited.contains(&shard) {
                self.awaited.push(shard);
            }
        }
        self.outbox.extend(self.awaited.iter().map(|&shard| (shard, FeedEvent::BatchEnd(self.batch))));
        self.phase = Phase::Pushing;
    }

    fn push(&mut self, random: &mut Random) {
        for _ in 0..random.between(1, 400) {
            let Some((shard, event)) = self.outbox.pop_front() else { break };
            let end = &mut self.ends[shard];
            if end.events.push(event).is_err() {
                self.outbox.push_front((shard, event));
                break;
            }
            end.log.push(event);
            end.pushed = true;
        }
        if self.outbox.is_empty() {
            self.phase = Phase::Acknowledging;
        }
    }

    /// The watermark reaches one shard after the other.
    fn store(&mut self, shard: usize) {
        match self.captured {
            Some((as_of_us, taken_us)) if shard < self.ends.len() => {
                self.ends[shard].watermark.store(as_of_us, taken_us);
                self.phase = Phase::Storing(shard + 1);
            }
            captured => {
                self.published_us = captured.map_or(self.published_us, |(_, taken_us)| taken_us);
                self.phase = Phase::Resting;
            }
        }
    }
}

/// Loses, swaps or repeats some rows of a batch. A row is lost only where a higher one of its account is in the same
/// batch: so the gap shows before the batch is acknowledged, as it must for the watermark to be true.
fn upset(rows: &mut Vec<Transaction>, ledger: &Ledger, random: &mut Random) {
    for _ in 0..random.between(1, 3) {
        if rows.is_empty() {
            return;
        }
        let at = random.below(rows.len());
        let is_higher = |row: &Transaction| row.user_id == rows[at].user_id && row.version > rows[at].version;
        match (random.below(3), rows.iter().position(is_higher)) {
            (0, Some(_)) => drop(rows.remove(at)),
            (1, Some(higher)) => rows.swap(at, higher),
            _ => {
                let history: Vec<_> = ledger.histories[&rows[at].user_id].committed().collect();
                let old = history[random.below(history.len())];
                // Only what was delivered before: a row ahead of its turn would be another story.
                if old.version < rows[at].version {
                    rows.insert(at, old);
                }
            }
        }
    }
}
