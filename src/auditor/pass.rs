//! One pass: over all users of the ledger, in the order of their ids, and then over the sums.

use std::collections::BTreeMap;
use std::time::Instant;

use florin_schema::{UserId, Version};

use super::compare::{Difference, Outcome, compare};
use super::history::{ALL, History, Piece, read_piece};
use super::shards::{Copied, Shards, served};
use super::status::{Finding, Report};
use super::{AuditStatus, Ended, Keeper, Pace};
use crate::audit::{BUCKETS, Fingerprint, bucket_of};
use crate::follower::{Scan, SourceError};
use crate::limits::{
    AUDIT_ACCOUNTS_PER_ORDER, AUDIT_LOOK_PAUSE, AUDIT_LOOKS, AUDIT_REREADS_MAX, AUDIT_VISIBLE_TRIES,
};
use crate::shard::AuditOrder;
use crate::shard::audit::Below;

/// See the module.
pub(super) struct Pass<'a> {
    scan: &'a mut dyn Scan,
    shards: &'a mut Shards,
    pace: &'a mut Pace,
    status: &'a AuditStatus,
    keeper: Option<&'a dyn Keeper>,
    begun: Instant,
    /// By bucket: the ledger's rows of the accounts, up to the versions at which they were met.
    ledger: Vec<Fingerprint>,
    /// By bucket: what is wrong with it was told, or cannot be known.
    explained: Vec<bool>,
    /// See [`Suspected`].
    suspected: &'a mut Suspected,
    /// Some accounts of the piece that was read last have been met.
    has_met: bool,
    /// More users were new than were noted.
    has_lost_users: bool,
    /// How often it is still waited for rows that the node has and the ledger does not show yet.
    tries: usize,
    report: Report,
}

/// By bucket of which no account is wrong: what the last pass found too much in it. It is told if the next finds the same. A PostgreSQL
/// with a standby that confirms commits shows a row to those who follow it before those who read it see it, and a new user who came just
/// then is missing in what a pass has read.
pub(super) type Suspected = BTreeMap<usize, Fingerprint>;

/// Accounts of one shard that are to be compared.
type Histories = BTreeMap<UserId, History>;

impl<'a> Pass<'a> {
    pub fn new(
        scan: &'a mut dyn Scan,
        shards: &'a mut Shards,
        pace: &'a mut Pace,
        status: &'a AuditStatus,
        keeper: Option<&'a dyn Keeper>,
        suspected: &'a mut Suspected,
    ) -> Pass<'a> {
        Pass {
            scan,
            shards,
            pace,
            status,
            keeper,
            begun: Instant::now(),
            ledger: vec![Fingerprint::default(); BUCKETS],
            explained: vec![false; BUCKETS],
            suspected,
            has_met: false,
            has_lost_users: false,
            tries: AUDIT_VISIBLE_TRIES,
            report: Report::default(),
        }
    }

    pub fn run(mut self) -> Result<Report, Ended> {
        self.shards.tell_all(|| AuditOrder::Begin)?;
        let mut from = Below::NOBODY;
        while let Below::User(user) = from {
            from = self.meet(user)?;
            self.status.note_progress(&self.report);
            self.pace.rest()?;
        }
        self.compare_sums()?;
        self.report.seconds = self.begun.elapsed().as_secs_f64();
        Ok(self.report)
    }

    /// Compares some accounts from `from` on; where to go on.
    fn meet(&mut self, from: UserId) -> Result<Below, Ended> {
        for _ in 0..AUDIT_REREADS_MAX {
            if let Some(below) = self.try_to_meet(from)? {
                return Ok(below);
            }
        }
        // Whoever they are, the accounts are compared; which rows there are cannot be told in this pass.
        self.has_lost_users = true;
        loop {
            if let Some(below) = self.try_to_meet(from)? {
                return Ok(below);
            }
        }
    }

    /// `None` where so many users were new meanwhile that not all were noted.
    fn try_to_meet(&mut self, from: UserId) -> Result<Option<Below>, Ended> {
        self.has_met = false;
        self.shards.watch()?;
        let wall_us = self.shards.wall_us();
        let (scan, pace) = (&mut *self.scan, &mut *self.pace);
        let Piece { histories, below } = pace.work(|| read_piece(scan, from, wall_us))?;
        // The shards hold all that was read, and maybe more.
        self.shards.wait_until_complete(self.shards.monotonic_us())?;
        let mut by_shard: Vec<Histories> = (0..self.shards.count()).map(|_| BTreeMap::new()).collect();
        for history in histories {
            by_shard[self.shards.of(history.user())].insert(history.user(), history);
        }
        for (shard, histories) in by_shard.into_iter().enumerate() {
            if !self.meet_in_shard(shard, histories, below)? {
                return Ok(None);
            }
        }
        Ok(Some(below))
    }

    fn meet_in_shard(&mut self, shard: usize, mut histories: Histories, below: Below) -> Result<bool, Ended> {
        loop {
            let next = histories.keys().nth(AUDIT_ACCOUNTS_PER_ORDER).copied();
            let rest = next.map(|next| histories.split_off(&next)).unwrap_or_default();
            let until = next.map_or(below, Below::User);
            let users = histories.keys().copied().collect();
            match self.shards.copy(shard, users, Some(until))? {
                Copied::All(copies) => {
                    self.has_met = true;
                    let mut suspects = Vec::new();
                    for (mut history, served) in histories.into_values().zip(served(&copies)) {
                        self.note_rows(&mut history, served.version)?;
                        let outcome = self.pace.work(|| compare(&history, &served));
                        if self.note_outcome(&outcome) {
                            suspects.push(history.user());
                        }
                    }
                    self.shards.recycle(copies);
                    self.look_closely(suspects)?;
                    if next.is_none() {
                        return Ok(true);
                    }
                    histories = rest;
                }
                Copied::New(users) => {
                    let wall_us = self.shards.wall_us();
                    histories.extend(rest);
                    for user in users {
                        let history = self.work(|scan| History::read(scan, user, ALL, wall_us))?;
                        histories.insert(user, history);
                    }
                }
                // Whom the pass has gone by it cannot meet again: their rows would count twice.
                Copied::TooManyNew if self.has_met || self.has_lost_users => {
                    self.has_lost_users = true;
                    histories.extend(rest);
                }
                Copied::TooManyNew => return Ok(false),
            }
        }
    }

    fn work<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Scan) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let scan = &mut *self.scan;
        self.pace.work(|| work(scan))
    }

    /// Adds the ledger's rows of an account that was met at `version`; reads on where it has got on since it was read.
    fn note_rows(&mut self, history: &mut History, version: Version) -> Result<(), Ended> {
        if version > history.version() {
            self.catch_up(history, version)?;
        }
        let rows = if version < history.version() {
            let (user, wall_us) = (history.user(), self.shards.wall_us());
            let then = self.work(|scan| History::read(scan, user, version, wall_us))?;
            (then.version() == version).then_some(then.rows)
        } else {
            (version == history.version()).then_some(history.rows)
        };
        let bucket = bucket_of(history.user().hashed());
        match rows {
            Some(rows) => {
                self.report.rows += rows.rows;
                self.ledger[bucket] = self.ledger[bucket].plus(rows);
            }
            None => self.explained[bucket] = true,
        }
        Ok(())
    }

    /// Reads on up to `version`, which the node has: a commit may be in the log and not yet visible to whoever reads.
    fn catch_up(&mut self, history: &mut History, version: Version) -> Result<(), Ended> {
        loop {
            self.work(|scan| history.read_on(scan, version))?;
            if history.version() >= version || history.trouble.is_some() || self.tries == 0 {
                return Ok(());
            }
            self.tries -= 1;
            self.pace.wait(AUDIT_LOOK_PAUSE)?;
        }
    }

    /// Counts an account; whether it has to be looked at closely.
    fn note_outcome(&mut self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Equal => self.report.accounts += 1,
            Outcome::Quarantined => self.report.quarantined += 1,
            Outcome::WindowsUnknown => self.report.windows_unknown += 1,
            Outcome::Nobody => {}
            Outcome::Different(_) => return true,
        }
        false
    }

    /// Reads and compares accounts that seem different again: what moves is no difference. What stays is told. Which of them.
    fn look_closely(&mut self, users: Vec<UserId>) -> Result<Vec<UserId>, Ended> {
        let mut suspects: Vec<(UserId, Option<Difference>)> =
            users.into_iter().map(|user| (user, None)).collect();
        for _ in 0..AUDIT_LOOKS {
            if suspects.is_empty() {
                return Ok(Vec::new());
            }
            self.pace.wait(AUDIT_LOOK_PAUSE)?;
            let mut still = Vec::new();
            for (user, _) in suspects {
                match self.look_at(user)? {
                    Outcome::Different(difference) => still.push((user, Some(difference))),
                    outcome => {
                        self.note_outcome(&outcome);
                    }
                }
            }
            suspects = still;
        }
        let mut found = Vec::new();
        for (user, difference) in suspects {
            if let Some(difference) = difference {
                self.found(user, difference)?;
                found.push(user);
            }
        }
        Ok(found)
    }

    /// Reads and compares an account at one version.
    fn look_at(&mut self, user: UserId) -> Result<Outcome, Ended> {
        let wall_us = self.shards.wall_us();
        let mut history = self.work(|scan| History::read(scan, user, ALL, wall_us))?;
        self.shards.wait_until_complete(self.shards.monotonic_us())?;
        let Copied::All(copies) = self.shards.copy(self.shards.of(user), vec![user], None)? else {
            unreachable!("the pass stays where it is")
        };
        let version = copies.accounts[0].version;
        if version > history.version() {
            self.catch_up(&mut history, version)?;
        }
        let served = served(&copies).next().expect("one was asked for");
        let outcome = compare(&history, &served);
        self.shards.recycle(copies);
        Ok(outcome)
    }

    /// Tells of an account that differs, and has it read again.
    fn found(&mut self, user: UserId, difference: Difference) -> Result<(), Ended> {
        let bucket = bucket_of(user.hashed());
        self.explained[bucket] = true;
        self.tell(Finding::of_account(bucket, user, difference))
    }

    /// Tells of a difference, and quarantines the account that it is of. Nothing of it comes back from a checkpoint once anybody was told,
    /// whenever the node ends.
    fn tell(&mut self, finding: Finding) -> Result<(), Ended> {
        let user = finding.user;
        self.report.differences += 1;
        if let Some(keeper) = self.keeper {
            keeper.doubt();
        }
        self.status.keep(finding);
        if let Some(user) = user {
            self.shards.quarantine(user)?;
        }
        if let Some(keeper) = self.keeper {
            keeper.settle();
        }
        self.status.count_difference();
        Ok(())
    }

    /// Compares which rows were applied.
    fn compare_sums(&mut self) -> Result<(), Ended> {
        if self.has_lost_users {
            return Ok(());
        }
        let sums = self.shards.sums()?;
        // Also where an account of it was told, or a checkpoint did not know its rows: one of which the ledger has nothing any more was met
        // by nobody, and from here on the sum is the ledger's.
        let is_open = |bucket: usize| sums[bucket].is_unknown || sums[bucket].rows != self.ledger[bucket];
        let open: Vec<bool> = (0..BUCKETS).map(is_open).collect();
        if open.contains(&true) {
            self.search(&open)?;
        }
        for (bucket, sum) in sums.iter().enumerate() {
            let (ledger, held) = (self.ledger[bucket], sum.rows);
            let last = self.suspected.remove(&bucket);
            if ledger != held && !sum.is_unknown && !self.explained[bucket] {
                let surplus = held.minus(ledger);
                if last != Some(surplus) {
                    self.suspected.insert(bucket, surplus);
                    continue;
                }
                self.tell(Finding::of_bucket(bucket, held, ledger))?;
            }
            if ledger != held || sum.is_unknown {
                // Accounts that are wrong were told, and are read again; from here on the sum is the ledger's.
                self.shards.adopt(bucket, ledger.minus(held))?;
            } else {
                self.report.buckets += 1;
            }
        }
        Ok(())
    }

    /// Looks for what is wrong with buckets, account by account: those that the ledger does not have were not met.
    fn search(&mut self, buckets: &[bool]) -> Result<(), Ended> {
        for shard in 0..self.shards.count() {
            let mut users = Vec::new();
            self.shards.list(shard, buckets, |_, some| {
                users.extend(some);
                Ok(())
            })?;
            for some in users.chunks(AUDIT_ACCOUNTS_PER_ORDER) {
                let mut suspects = Vec::new();
                for &user in some {
                    if matches!(self.look_at(user)?, Outcome::Different(_)) {
                        suspects.push(user);
                    }
                }
                self.look_closely(suspects)?;
                self.pace.rest()?;
            }
        }
        Ok(())
    }
}
