//! What the feed brings: rows into the table, the watermark into the answers.

use alloc::collections::VecDeque;
use core::sync::atomic::Ordering::Release;

use florin_schema::{UserId, Version};

use super::fingerprints::MetBy;
use super::table::{Coming, Outcome};
use super::{FeedEvent, FeedLink, FeedRequest, Reason, Shard};
use crate::clock::Now;
use crate::ledger::Transaction;
use crate::limits::{ASKED_US, FEED_EVENTS_BESIDE_ANSWERS, FEED_EVENTS_PER_TURN};

/// A shard's side of the feed.
pub(super) struct Follow {
    pub feed: FeedLink,
    /// What the feed's ring had no room for: each account at most once, so bounded by them.
    pub requests: VecDeque<FeedRequest>,
    /// A batch whose end has come, and which the feed has not been told of.
    applied_batch: Option<u64>,
    /// A commit has ended, and not all of its accounts are shown as it left them.
    ends_commit: bool,
    /// When the watermark was taken, monotonic µs; 0 = there is none yet.
    pub watermark_taken_us: u64,
    /// By when all that is asked in this turn had come, monotonic µs: its age is judged by that.
    pub asked_by_us: u64,
    /// When somebody was answered last, monotonic µs.
    pub answered_us: Option<u64>,
    /// Something was taken in in this turn.
    pub has_taken: bool,
    /// The table or the watermark has moved since the waiting room was looked through.
    pub moved: bool,
    /// Age of the watermark beyond which no data is answered.
    pub max_staleness_us: u64,
}

impl Follow {
    pub fn new(feed: FeedLink, max_staleness_us: u64) -> Follow {
        Follow {
            feed,
            requests: VecDeque::new(),
            applied_batch: None,
            ends_commit: false,
            watermark_taken_us: 0,
            asked_by_us: 0,
            answered_us: None,
            has_taken: false,
            moved: false,
            max_staleness_us,
        }
    }
}

impl Follow {
    /// Whether there is something to be taken in.
    pub fn has_work(&self) -> bool {
        self.ends_commit || !self.feed.events.is_empty()
    }
}

impl Shard {
    /// Whether somebody was answered in this turn, or a moment ago.
    fn is_asked(&self) -> bool {
        let since = |answered_us| self.now.monotonic_us.saturating_sub(answered_us);
        self.follow.answered_us.is_some_and(|us| since(us) < ASKED_US) || self.responder.has_answered()
    }

    /// Takes in what the feed has sent, up to a turn's worth.
    pub(super) fn drain_feed(&mut self) {
        let mut left = if self.is_asked() { FEED_EVENTS_BESIDE_ANSWERS } else { FEED_EVENTS_PER_TURN };
        while left > 0 && !self.responder.table.has_asked_for_memory() {
            if self.follow.ends_commit {
                match self.responder.table.show_next() {
                    Some((user, coming)) => self.note_shown(user, coming),
                    None => self.follow.ends_commit = false,
                }
                left -= 1;
                continue;
            }
            let Some(event) = self.follow.feed.events.pop() else { break };
            left -= 1;
            (self.follow.moved, self.follow.has_taken) = (true, true);
            match event {
                FeedEvent::Row(row) => {
                    #[cfg(debug_assertions)]
                    if self.damage_row(&row) {
                        continue;
                    }
                    self.apply(&row, &row);
                }
                FeedEvent::Part(row) => {
                    let outcome = self.responder.table.apply_part(&row, &self.responder.horizon);
                    if outcome.is_applied() {
                        let rows = self.fingerprints.note_applied(&row);
                        let is_new = row.version == Version(1);
                        self.responder.table.note_coming(row.user_id, Coming { rows, is_new });
                    }
                    self.note(&row, outcome);
                }
                FeedEvent::CommitEnd => self.follow.ends_commit = true,
                FeedEvent::RereadRow(row) => {
                    let outcome = self.responder.table.apply_reread(&row, &self.responder.horizon);
                    if outcome.is_applied() {
                        self.fingerprints.note_reread(&row);
                    }
                    self.note(&row, outcome);
                }
                FeedEvent::BatchEnd(batch) => self.follow.applied_batch = Some(batch),
                FeedEvent::RereadBegin(user) => {
                    let version = self.responder.table.coming_version(user);
                    self.fingerprints.begin_reread(user, version);
                    self.responder.table.begin_reread(user);
                }
                FeedEvent::RereadEnd(user) => self.end_reread(user),
                FeedEvent::Unreadable(user) => {
                    let coming = self.responder.table.take_coming(user);
                    self.responder.table.mark_unreadable(user);
                    coming.into_iter().for_each(|coming| self.note_shown(user, coming));
                }
            }
        }
        let asked = self.responder.rereads.drain(..);
        self.follow
            .requests
            .extend(asked.map(|user_id| FeedRequest::Reread { user_id, reason: Reason::ClockMoved }));
        while let Some(request) = self.follow.requests.pop_front() {
            if let Err(request) = self.follow.feed.requests.push(request) {
                self.follow.requests.push_front(request);
                break;
            }
        }
        // What a batch led to is known to the feed before the batch counts as applied: else the watermark, or the word that
        // all is loaded, could run ahead of accounts that have to be read again.
        if self.follow.requests.is_empty()
            && let Some(batch) = self.follow.applied_batch.take()
        {
            self.follow.feed.applied_batch.store(batch, Release);
        }
        if self.follow.has_taken {
            self.publish_table();
        }
    }

    /// Applies a row as it was committed, or as damage has left it, and shows it with what came of its account before it in the same
    /// commit.
    #[inline]
    pub(super) fn apply(&mut self, applied: &Transaction, row: &Transaction) -> Outcome {
        let coming = self.responder.table.take_coming(row.user_id);
        let outcome = self.responder.table.apply(applied, &self.responder.horizon);
        if outcome.is_applied() {
            let rows = self.fingerprints.note_applied(row);
            self.note_shown(row.user_id, Coming { rows, is_new: row.version == Version(1) });
        }
        if let Some(coming) = coming {
            self.note_shown(row.user_id, coming);
        }
        self.note(row, outcome);
        outcome
    }

    /// Rows of the user's are shown from now on.
    #[inline]
    fn note_shown(&mut self, user: UserId, Coming { rows, is_new }: Coming) {
        let met_by = self.met_by(user);
        self.fingerprints.add(user, rows, met_by);
        if is_new {
            self.audits.note_new(user);
        }
    }

    fn end_reread(&mut self, user: UserId) {
        let is_coming = self.responder.table.is_coming(user);
        let is_taken = self.responder.table.end_reread(user);
        let Some(coming) = self.fingerprints.end_reread().filter(|_| is_taken) else { return };
        if is_coming {
            self.responder.table.note_coming(user, coming);
        } else {
            self.note_shown(user, coming);
        }
    }

    fn met_by(&self, user: UserId) -> MetBy {
        MetBy {
            copying: self.checkpoints.has_copied(&self.responder.table, user),
            audit: self.audits.has_met(user),
        }
    }

    pub(super) fn note(&mut self, row: &Transaction, outcome: Outcome) {
        let metrics = &self.responder.metrics;
        match outcome {
            Outcome::Applied => metrics.applied.add(1),
            Outcome::AppliedLate => {
                metrics.applied.add(1);
                let reason = Reason::HoleFilled;
                self.follow.requests.push_back(FeedRequest::Reread { user_id: row.user_id, reason });
            }
            Outcome::Duplicate => metrics.duplicates.add(1),
            Outcome::Ignored => {}
            Outcome::Gap { ask } => {
                metrics.gaps.add(1);
                if ask {
                    let reason = Reason::Gap;
                    self.follow.requests.push_back(FeedRequest::Reread { user_id: row.user_id, reason });
                }
            }
            Outcome::Defective(defect) => {
                let (user_id, version) = (row.user_id, row.version);
                self.follow.requests.push_back(FeedRequest::Defect { user_id, version, defect });
            }
        }
    }

    pub(super) fn publish_table(&self) {
        let (table, metrics) = (&self.responder.table, &self.responder.metrics);
        metrics.accounts.set(table.accounts() as u64);
        metrics.quarantined.set(table.quarantined() as u64);
        metrics.table_bytes.set(table.bytes() as u64);
        metrics.table_parts.iter().zip(table.parts()).for_each(|(metric, bytes)| metric.set(bytes as u64));
    }

    /// Reads the watermark, and decides whether data may be answered in this turn.
    pub(super) fn read_watermark(&mut self) {
        let (as_of_us, taken_us) = self.follow.feed.watermark.load();
        self.follow.moved |= core::mem::replace(&mut self.follow.watermark_taken_us, taken_us) != taken_us;
        let responder = &mut self.responder;
        responder.as_of_us = as_of_us;
        responder.table.watermark = Now { wall_us: as_of_us, monotonic_us: taken_us };
        responder.metrics.watermark_us.set(as_of_us);
        responder.metrics.watermark_monotonic_us.set(taken_us);
        self.follow.asked_by_us = self.now.monotonic_us;
        self.judge_age();
    }

    /// What is asked from now on in this turn may have come since it began, but by `monotonic_us`. Between a look at the clock and what
    /// follows it, a thread stands still for as long as its host likes: judged by the turn's beginning, an answer would be taken for younger
    /// than it is.
    pub fn input_came_by(&mut self, monotonic_us: u64) {
        if monotonic_us > self.follow.asked_by_us {
            self.follow.asked_by_us = monotonic_us;
            self.judge_age();
        }
    }

    fn judge_age(&mut self) {
        let is_ending = self.refuses_new_work();
        let (taken_us, asked_by_us) = (self.follow.watermark_taken_us, self.follow.asked_by_us);
        let responder = &mut self.responder;
        responder.age_us = asked_by_us.saturating_sub(taken_us);
        responder.unavailable = if taken_us == 0 {
            Some("warming up: this shard has not loaded its ledger yet; ask again in a moment, or elsewhere")
        } else if responder.age_us > self.follow.max_staleness_us {
            Some("the feed has been down for longer than this server may answer without it; ask elsewhere")
        } else if is_ending {
            Some("draining: this server is about to end; ask elsewhere")
        } else {
            None
        };
    }
}
