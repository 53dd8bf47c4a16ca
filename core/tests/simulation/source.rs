//! The ledger as a follower sees it, with everything that a ledger may do to one: errors between any two calls, half of what
//! was asked for, duplicates, lost and swapped rows, rows that appear below the position, another ledger in its place for
//! a while, times that are told late, histories that come slowly, in pieces, and not at the first try.

use std::collections::VecDeque;

use florin_core::clock::Now;
use florin_core::follower::{Page, Position, Progress, Row, Source, SourceError, Unreadable};
use florin_core::ledger::Transaction;
use florin_schema::{UserId, Version};

use super::random::Random;

const POLL_US: u64 = 5_000;

/// How far the simulated ledger was read: numbers with holes between them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub struct Place(pub u64);

impl Position for Place {
    fn encode(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Place> {
        Some(Place(u64::from_le_bytes(bytes.try_into().ok()?)))
    }
}

/// A row, whose it is, and its version, known or not.
#[derive(Clone)]
struct Stored {
    at: u64,
    commit: u64,
    user: UserId,
    version: Version,
    row: Row,
}

/// A page of a history under way.
struct Asked {
    user: UserId,
    after: Option<Version>,
    /// Looks until it is there.
    looks: usize,
    /// What it holds, where it was read at once and not when it comes.
    read: Option<(Vec<Row>, Page)>,
}

/// See the module.
pub struct FakeSource {
    random: Random,
    /// In the order of their places.
    rows: Vec<Stored>,
    /// Read up to here.
    place: u64,
    /// It goes on from a commit's end alone: what broke off comes again from its beginning.
    in_commits: bool,
    batch_max: usize,
    page_max: usize,
    /// Percent of calls that fail, of batches whose rows are upset, of commits that appear below the position.
    errors: usize,
    upset: usize,
    late: usize,
    /// It tells times like a stream: (when it was asked, where the end was then).
    marks: Option<VecDeque<(Now, u64)>>,
    asked: Option<Asked>,
    /// A page was asked for since the follower was last woken.
    wakes: bool,
    /// Another ledger lies in its place.
    pub is_replaced: bool,
    /// From now on it behaves.
    pub is_calm: bool,
    /// Calls of `next`.
    pub rounds: u64,
}

impl FakeSource {
    pub fn new(random: &mut Random) -> FakeSource {
        FakeSource {
            random: Random::new(random.next()),
            rows: Vec::new(),
            place: 0,
            in_commits: random.one_in(2),
            batch_max: random.pick(&[3, 20, 1_000]),
            page_max: random.pick(&[2, 5, 1_000]),
            errors: random.pick(&[0, 0, 3, 15]),
            upset: random.pick(&[0, 0, 10, 40]),
            late: random.pick(&[0, 0, 3]),
            marks: random.one_in(3).then(VecDeque::new),
            asked: None,
            wakes: false,
            is_replaced: false,
            is_calm: false,
            rounds: 0,
        }
    }

    /// Commits a row. `false` where it appears at a place that was passed already.
    pub fn commit(&mut self, transaction: Transaction, commit: u64, is_readable: bool) -> bool {
        let last = self.rows.last().map_or(0, |stored| stored.at);
        let (user, version) = (transaction.user_id, transaction.version);
        let row = if is_readable { Ok(transaction) } else { Err(unreadable(user)) };
        let far = self.random.pick(&[1, 2, 1_000, 1 << 40]);
        let mut stored = Stored { at: last + far, commit, user, version, row };
        let passed = self.rows.partition_point(|stored| stored.at <= self.place);
        if is_readable && passed > 0 && !self.is_calm && self.random.percent(self.late) {
            let index = self.random.below(passed);
            let before = if index == 0 { 0 } else { self.rows[index - 1].at };
            if self.rows[index].at > before + 1 {
                stored.at = before + 1;
                // The commit that it is found in.
                stored.commit = self.rows[index].commit;
                self.rows.insert(index, stored);
                return false;
            }
        }
        self.rows.push(stored);
        true
    }

    /// Whether everything was read.
    pub fn is_read(&self) -> bool {
        self.rows.last().is_none_or(|stored| stored.at <= self.place)
    }

    /// Whether it wakes the follower.
    pub fn wakes(&mut self) -> bool {
        std::mem::take(&mut self.wakes)
    }

    fn trouble(&mut self, what: &str) -> Result<(), SourceError> {
        if !self.is_calm && self.random.percent(self.errors) {
            return Err(SourceError::Unavailable(format!("{what}: too many open files")));
        }
        Ok(())
    }

    /// The rows of a batch that ends at a place, and behind how many of them a commit ends.
    fn batch(&mut self, rows: &mut Vec<Row>) -> (Option<Place>, Option<usize>) {
        let begin = self.rows.partition_point(|stored| stored.at <= self.place);
        let end = self.rows.len().min(begin + self.batch_max);
        let commit_at = |at: usize| self.rows.get(at).map(|stored| stored.commit);
        let ends_at = |at: &usize| *at == 0 || commit_at(at - 1) != commit_at(*at);
        let whole = (begin..=end).rev().find(ends_at).map(|at| at - begin);
        let mut batch = self.rows[begin..end].to_vec();
        let last = batch.last().map(|stored| Place(stored.at));
        let mut part = batch.split_off(whole.unwrap_or(0));
        for some in [&mut batch, &mut part] {
            if !self.is_calm && self.random.percent(self.upset) {
                self.upset(some);
            }
        }
        let whole = whole.map(|_| batch.len());
        rows.extend(batch.into_iter().chain(part).map(|stored| stored.row));
        (last, whole)
    }

    /// Loses, swaps or repeats some rows of a batch. A row is lost only where a higher one of its account is in the same
    /// batch: so the gap shows before the batch is acknowledged, as it must for the watermark to be true.
    fn upset(&mut self, batch: &mut Vec<Stored>) {
        for _ in 0..self.random.between(1, 3) {
            if batch.is_empty() {
                return;
            }
            let at = self.random.below(batch.len());
            let Stored { user, version, .. } = batch[at];
            let is_higher =
                |stored: &Stored| stored.user == user && stored.version > version && stored.row.is_ok();
            match (self.random.below(3), batch.iter().position(is_higher)) {
                (0, Some(_)) => drop(batch.remove(at)),
                (1, Some(higher)) => batch.swap(at, higher),
                _ => {
                    let passed = self.rows.partition_point(|stored| stored.at <= self.place);
                    // Only what was delivered before: a row ahead of its turn would be another story.
                    if passed > 0 {
                        batch.insert(at, self.rows[self.random.below(passed)].clone());
                    }
                }
            }
        }
    }

    /// What another ledger holds: the same users, other rows.
    fn strange(&mut self, rows: &mut Vec<Row>) -> (Option<Place>, Option<usize>) {
        let begin = self.rows.partition_point(|stored| stored.at <= self.place);
        let stranger = |stored: &Stored| {
            let row = stored.row.as_ref().ok()?;
            Some(Ok(Transaction { amount: row.amount % 1_000_000 + 1, ..*row }))
        };
        rows.extend(self.rows[begin..].iter().filter_map(stranger));
        (self.rows.last().map(|stored| Place(stored.at + 1_000)), Some(rows.len()))
    }

    /// The account's rows after a version.
    fn read_page(&mut self, user: UserId, after: Option<Version>) -> (Vec<Row>, Page) {
        let is_wanted =
            |stored: &&Stored| stored.user == user && after.is_none_or(|after| stored.version > after);
        let mut found: Vec<&Stored> = self.rows.iter().filter(is_wanted).collect();
        found.sort_by_key(|stored| stored.version);
        let is_last = found.len() < self.page_max;
        let page = found.into_iter().take(self.page_max).map(|stored| stored.row.clone()).collect();
        (page, if is_last { Page::Last } else { Page::More })
    }
}

impl Source for FakeSource {
    type Identity = &'static str;
    type Position = Place;

    fn identity(&mut self) -> Result<&'static str, SourceError> {
        self.trouble("who")?;
        Ok(if self.is_replaced { "another" } else { "the ledger" })
    }

    fn load(&mut self, after: Option<&Place>) -> Result<(), SourceError> {
        self.trouble("load")?;
        self.place = after.map_or(0, |place| place.0);
        if let Some(marks) = &mut self.marks {
            marks.clear();
        }
        Ok(())
    }

    fn next(&mut self, now: Now, rows: &mut Vec<Row>) -> Result<Progress<Place>, SourceError> {
        self.rounds += 1;
        self.trouble("next")?;
        if !self.is_calm && self.random.one_in(12) {
            return Ok(Progress {
                position: None,
                whole: None,
                complete_before: None,
                again_us: 300,
                loaded: None,
            });
        }
        let (reached, whole) = if self.is_replaced { self.strange(rows) } else { self.batch(rows) };
        // Some of it has come when it fails.
        self.trouble("next, after some rows")?;
        self.place = reached.map_or(self.place, |place| place.0);
        let end = self.rows.last().map_or(0, |stored| stored.at);
        let mut complete_before = (self.place >= end).then_some(now);
        if let Some(marks) = &mut self.marks {
            marks.push_back((now, end));
            complete_before = None;
            let lag = if self.is_calm { 0 } else { self.random.below(3) };
            while marks.len() > lag && marks.front().is_some_and(|&(_, end)| end <= self.place) {
                complete_before = marks.pop_front().map(|(at, _)| at);
            }
        }
        let again_us = if self.place >= end { POLL_US } else { 0 };
        // A source may say so once, and no more until rows come.
        let whole = whole.filter(|_| !rows.is_empty() || self.is_calm || self.random.one_in(2));
        let mut position = reached;
        if self.in_commits && !self.is_replaced {
            // As a stream does it: within a commit there is no place to go on from.
            let read = self.rows.partition_point(|stored| stored.at <= self.place);
            let commit_at = |at: usize| self.rows.get(at).map(|stored| stored.commit);
            position = reached.filter(|_| read > 0 && commit_at(read - 1) != commit_at(read));
        }
        Ok(Progress { position, whole, complete_before, again_us, loaded: None })
    }

    fn can_reread(&self) -> bool {
        true
    }

    fn reread(&mut self, user: UserId, after: Option<Version>) {
        self.wakes = true;
        let read = self.random.one_in(2).then(|| self.read_page(user, after));
        let looks = if self.is_calm { 0 } else { self.random.pick(&[0, 0, 1, 4, 20]) };
        self.asked = Some(Asked { user, after, looks, read });
    }

    fn page(&mut self, rows: &mut Vec<Row>) -> Result<Page, SourceError> {
        let Some(mut asked) = self.asked.take() else { return Ok(Page::Last) };
        if asked.looks > 0 {
            asked.looks -= 1;
            self.asked = Some(asked);
            return Ok(Page::Awaited);
        }
        let (read, page) = match asked.read {
            Some(read) => read,
            None => self.read_page(asked.user, asked.after),
        };
        if !self.is_calm && self.random.percent(self.errors) {
            let some = self.random.below(read.len() + 1);
            rows.extend(read.into_iter().take(some));
            self.trouble("page, after some rows")?;
            return Err(SourceError::Unavailable("page: the connection is gone".to_owned()));
        }
        rows.extend(read);
        Ok(page)
    }
}

fn unreadable(user: UserId) -> Box<Unreadable> {
    Box::new(Unreadable {
        place: "somewhere".to_owned(),
        user_id: Some(user),
        column: "amount",
        expected: "an integer from 1 on",
        found: "NULL".to_owned(),
    })
}
