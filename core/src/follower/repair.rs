//! Accounts that have to be read again: which is next, how much of it is sent at once, and when one whose history has a
//! hole in the ledger itself is tried again. What is read comes on a connection of its own, and is sent between the rows
//! that others wait for, a bounded number a round.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::ToString;
use alloc::vec::Vec;

use florin_schema::{UserId, Version};

use super::outlet::{Full, Outlets};
use super::{Note, Outlet, Page, Planted, Row, Source, SourceError, check_identity};
use crate::limits::{FEED_RETRY_US, REREAD_PAUSE_MAX_US, REREAD_PAUSE_MIN_US, REREAD_RUNS_MAX};
use crate::shard::{FeedEvent, Reason};

/// See the module.
#[derive(Default)]
pub(super) struct Repair {
    /// Never tried since they were found incomplete.
    fresh: VecDeque<UserId>,
    /// Asked for again while they may not be tried yet: by when they may.
    due: BTreeSet<(u64, UserId)>,
    /// Accounts that were read again in vain: at most one entry each.
    broken: BTreeMap<UserId, Broken>,
    current: Option<Current>,
    rows: Vec<Row>,
    /// How many of `rows` were sent.
    sent: usize,
    /// Rows that may still be sent in this round.
    budget: usize,
    /// Accounts whose history was begun.
    pub rereads: u64,
    /// Why no page came.
    failing: Option<SourceError>,
}

/// An account whose history has a hole in the ledger.
struct Broken {
    /// The last row before the hole.
    whole: Version,
    pause_us: u64,
    /// Not before.
    until_us: u64,
}

/// The account that is being read again.
struct Current {
    user: UserId,
    /// The last version read.
    after: Option<Version>,
    /// Rows 1 to this one are all there.
    whole: Version,
    has_hole: bool,
    /// The newest row of the account that was routed meanwhile: the history that is sent must reach it.
    live: Version,
    /// What `live` and `after` were when the last page was asked for.
    before: (Version, Option<Version>),
    /// Rows of the account that were routed meanwhile, as runs of versions: one of them may fill a hole that a page has which
    /// was read before.
    runs: Vec<(Version, Version)>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Beginning,
    Asking { not_before_us: u64 },
    Awaiting,
    Sending { is_last: bool },
    Ending,
}

impl Current {
    /// One of which nothing has been sent yet.
    fn new(user: UserId) -> Current {
        Current {
            user,
            after: None,
            whole: Version(0),
            has_hole: false,
            live: Version(0),
            before: (Version(0), None),
            runs: Vec::new(),
            stage: Stage::Beginning,
        }
    }

    fn note_live(&mut self, version: Version) {
        self.live = self.live.max(version);
        if let Some((_, last)) = self.runs.last_mut()
            && last.next() == version
        {
            *last = version;
        } else if self.runs.len() < REREAD_RUNS_MAX {
            self.runs.push((version, version));
        }
    }

    /// Whether a row may have been routed meanwhile.
    fn was_routed(&self, version: Version) -> bool {
        let holds = |&(first, last): &(Version, Version)| first <= version && version <= last;
        self.runs.len() == REREAD_RUNS_MAX || self.runs.iter().any(holds)
    }

    /// Whether the history that was sent holds every row that was routed meanwhile. Those that went by while a page was on
    /// its way are in the ledger, so a further page has them; one that was asked for since and leads no further ends this,
    /// whatever the ledger claims.
    fn reaches_live(&self, planted: Option<Planted>) -> bool {
        self.after.unwrap_or(Version(0)) >= self.live
            || self.before == (self.live, self.after)
            || Planted::ForgetsLiveRows.is(planted)
    }
}

/// What repairing needs of the follower.
pub(super) struct Around<'a, S: Source, O> {
    pub now_us: u64,
    pub source: &'a mut S,
    /// Of the ledger that is followed.
    pub identity: &'a S::Identity,
    pub outlets: &'a mut Outlets<O>,
    pub notes: &'a mut VecDeque<Note>,
    pub planted: Option<Planted>,
}

/// Whether to go on at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Repaired {
    /// Something was sent, and there is more.
    Some,
    /// There is nothing to do, or something has to be waited for.
    Nothing,
}

impl From<Full> for Repaired {
    fn from(Full: Full) -> Repaired {
        Repaired::Nothing
    }
}

impl Repair {
    /// A shard asks for an account's history.
    pub fn want(&mut self, user: UserId, reason: Reason, now_us: u64, planted: Option<Planted>) {
        match self.broken.get_mut(&user) {
            Some(broken) if !Planted::NeverBacksOff.is(planted) => {
                // What was missing may have come, so there is hope; but rows may come as fast as they like.
                if reason == Reason::HoleFilled {
                    broken.until_us = broken.until_us.min(now_us + REREAD_PAUSE_MIN_US);
                }
                self.due.insert((broken.until_us, user));
            }
            _ => self.fresh.push_back(user),
        }
    }

    /// A row of the account is routed that was committed just now.
    #[inline]
    pub fn note_live(&mut self, user: UserId, version: Version) {
        if let Some(current) = &mut self.current
            && current.user == user
        {
            current.note_live(version);
        }
    }

    /// Whether an account waits that was never tried.
    pub fn has_first_attempts(&self) -> bool {
        self.current.is_some() || !self.fresh.is_empty()
    }

    /// Accounts that wait.
    pub fn waiting(&self) -> usize {
        self.fresh.len() + self.due.len() + usize::from(self.current.is_some())
    }

    /// Allows so many rows until the next call of this.
    pub fn allow(&mut self, rows: usize) {
        self.budget = rows;
    }

    /// Goes on by a page at most.
    pub fn step<S: Source, O: Outlet>(&mut self, around: &mut Around<'_, S, O>) -> Repaired {
        if self.current.is_none() && !self.begin(around) {
            return Repaired::Nothing;
        }
        let Some(current) = &mut self.current else { return Repaired::Nothing };
        match current.stage {
            Stage::Beginning => {
                if let Err(full) = around.outlets.send(current.user, FeedEvent::RereadBegin(current.user)) {
                    return full.into();
                }
                current.stage = Stage::Asking { not_before_us: 0 };
            }
            Stage::Asking { not_before_us } if around.now_us < not_before_us => return Repaired::Nothing,
            Stage::Asking { .. } => {
                around.source.reread(current.user, current.after);
                current.before = (current.live, current.after);
                current.stage = Stage::Awaiting;
            }
            Stage::Awaiting => return self.receive(around),
            Stage::Sending { is_last } => return self.send(is_last, around),
            Stage::Ending if !current.reaches_live(around.planted) => {
                current.stage = Stage::Asking { not_before_us: 0 };
            }
            Stage::Ending => {
                if let Err(full) = around.outlets.send(current.user, FeedEvent::RereadEnd(current.user)) {
                    return full.into();
                }
                self.finish(around);
            }
        }
        Repaired::Some
    }

    fn begin<S: Source, O: Outlet>(&mut self, around: &mut Around<'_, S, O>) -> bool {
        // A source that cannot read an account again is repaired by a restart; until then the account says so.
        if !around.source.can_reread() {
            self.fresh.clear();
            self.due.clear();
            return false;
        }
        let Some(user) = self.next(around) else { return false };
        self.rereads += 1;
        around.notes.push_back(Note::Rereading(user));
        self.current = Some(Current::new(user));
        true
    }

    /// The account that is read next. One may be asked for several times before it is read: where that was in vain, what was
    /// asked before waits as long as what is asked now.
    fn next<S: Source, O: Outlet>(&mut self, around: &Around<'_, S, O>) -> Option<UserId> {
        while let Some(user) = self.fresh.pop_front().or_else(|| self.next_due(around.now_us)) {
            match self.broken.get(&user) {
                Some(broken)
                    if broken.until_us > around.now_us && !Planted::NeverBacksOff.is(around.planted) =>
                {
                    self.due.insert((broken.until_us, user));
                }
                _ => return Some(user),
            }
        }
        None
    }

    fn next_due(&mut self, now_us: u64) -> Option<UserId> {
        let &(us, user) = self.due.first().filter(|&&(us, _)| us <= now_us)?;
        self.due.remove(&(us, user));
        Some(user)
    }

    fn receive<S: Source, O: Outlet>(&mut self, around: &mut Around<'_, S, O>) -> Repaired {
        self.rows.clear();
        self.sent = 0;
        let page = around.source.page(&mut self.rows).and_then(|page| {
            if page != Page::Awaited {
                check_identity(around.source, around.identity, around.planted)?;
            }
            Ok(page)
        });
        let current = self.current.as_mut().expect("an account is being read again");
        match page {
            Ok(Page::Awaited) => return Repaired::Nothing,
            Ok(page) => {
                let leads_nowhere = !self.rows.iter().any(Result::is_ok);
                let is_last =
                    page == Page::Last || leads_nowhere || Planted::EndsWithFirstPage.is(around.planted);
                current.stage = Stage::Sending { is_last };
                self.failing = None;
            }
            Err(error) => {
                // A history that was begun must be ended, so it goes on where it was.
                self.rows.clear();
                current.stage = Stage::Asking { not_before_us: around.now_us + FEED_RETRY_US };
                if self.failing.as_ref() != Some(&error) {
                    around.notes.push_back(Note::RereadFailed(error.to_string()));
                    self.failing = Some(error);
                }
                return Repaired::Nothing;
            }
        }
        Repaired::Some
    }

    fn send<S: Source, O: Outlet>(&mut self, is_last: bool, around: &mut Around<'_, S, O>) -> Repaired {
        let current = self.current.as_mut().expect("an account is being read again");
        while self.sent < self.rows.len() {
            if self.budget == 0 && !Planted::IgnoresBudget.is(around.planted) {
                return Repaired::Nothing;
            }
            let event = match &self.rows[self.sent] {
                Ok(row) => FeedEvent::RereadRow(*row),
                Err(_) => FeedEvent::Unreadable(current.user),
            };
            if let Err(full) = around.outlets.send(current.user, event) {
                return full.into();
            }
            match &self.rows[self.sent] {
                Ok(row) => {
                    current.has_hole |= row.version > current.whole.next();
                    if row.version == current.whole.next() {
                        current.whole = row.version;
                    }
                    current.after = current.after.max(Some(row.version));
                }
                Err(_) => current.has_hole = true,
            }
            self.sent += 1;
            self.budget = self.budget.saturating_sub(1);
        }
        current.stage = if is_last { Stage::Ending } else { Stage::Asking { not_before_us: 0 } };
        Repaired::Some
    }

    fn finish<S: Source, O>(&mut self, around: &mut Around<'_, S, O>) {
        let Some(current) = self.current.take() else { return };
        let Current { user, whole, has_hole, .. } = current;
        if !has_hole {
            self.broken.remove(&user);
            return;
        }
        let pause_us = match self.broken.get(&user) {
            Some(before) if before.whole >= whole => (2 * before.pause_us).min(REREAD_PAUSE_MAX_US),
            _ => REREAD_PAUSE_MIN_US,
        };
        self.broken.insert(user, Broken { whole, pause_us, until_us: around.now_us + pause_us });
        around.notes.push_back(Note::Incomplete { user_id: user, whole, again_us: pause_us });
        // Rows that came meanwhile have asked for nothing, for the account had been asked for already.
        if current.was_routed(whole.next()) {
            self.want(user, Reason::HoleFilled, around.now_us, around.planted);
        } else if !current.runs.is_empty() {
            self.want(user, Reason::Gap, around.now_us, around.planted);
        }
    }
}

#[cfg(test)]
mod tests;
