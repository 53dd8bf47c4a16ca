//! The audit's orders to the shards, and how far they are.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use florin_schema::UserId;
use florin_schema::frame::ReplyHeader;

use super::compare::Served;
use super::{AuditStatus, Doing, Ended, look_again};
use crate::audit::{BUCKETS, Fingerprint};
use crate::clock::Clock;
use crate::limits::AUDIT_WAIT_SAID;
use crate::mesh::Latest;
use crate::orders;
use crate::shard::audit::{Below, Copies, Sum};
use crate::shard::{AuditAnswer, AuditOrder};

/// The way to a shard.
pub type Port = orders::Port<AuditOrder, AuditAnswer>;

/// A shard that is audited.
#[derive(Debug)]
pub struct Audited {
    /// The way to it.
    pub port: Port,
    /// The watermark that it was told: (as_of µs, monotonic µs when it was taken).
    pub watermark: Arc<Latest>,
}

/// All of them, in the order of their indices.
pub struct Shards {
    shards: Vec<Audited>,
    clock: Clock,
    stop: Arc<AtomicBool>,
    status: Arc<AuditStatus>,
    spare: Copies,
}

/// What came of copying.
pub(super) enum Copied {
    /// What is served.
    All(Copies),
    /// Users who are new, and have to be copied, too.
    New(Vec<UserId>),
    /// More users are new than were noted.
    TooManyNew,
}

impl Shards {
    /// All of a node.
    pub fn new(
        shards: Vec<Audited>,
        clock: Clock,
        stop: Arc<AtomicBool>,
        status: Arc<AuditStatus>,
    ) -> Shards {
        Shards { shards, clock, stop, status, spare: Copies::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.shards.len()
    }

    /// The shard of a user.
    pub(super) fn of(&self, user: UserId) -> usize {
        usize::from(user.shard(self.shards.len() as u16).0)
    }

    pub(super) fn wall_us(&self) -> i64 {
        self.clock.now().wall_us
    }

    pub(super) fn monotonic_us(&self) -> u64 {
        self.clock.monotonic_us()
    }

    /// Waits until every shard holds everything that was committed before this (monotonic µs).
    pub(super) fn wait_until_complete(&self, taken_us: u64) -> Result<(), Ended> {
        let begun = Instant::now();
        let is_complete = |shard: &Audited| shard.watermark.load().1 >= taken_us;
        while !self.shards.iter().all(is_complete) {
            self.check_stop()?;
            if begun.elapsed() > AUDIT_WAIT_SAID {
                let reason = "the ledger is not followed at the moment; /readyz says why".to_owned();
                self.status.set_doing(Doing::Waiting(reason));
            }
            look_again();
        }
        Ok(())
    }

    fn check_stop(&self) -> Result<(), Ended> {
        if self.stop.load(Relaxed) { Err(Ended::Stopped) } else { Ok(()) }
    }

    pub(super) fn tell(&mut self, shard: usize, order: AuditOrder) -> Result<(), Ended> {
        self.push(shard, order, Port::tell)
    }

    /// Orders that have no answer may take all the room there is for a while.
    fn push(
        &mut self,
        shard: usize,
        order: AuditOrder,
        push: impl Fn(&mut Port, AuditOrder) -> Result<(), AuditOrder>,
    ) -> Result<(), Ended> {
        let mut left = push(&mut self.shards[shard].port, order).err();
        while let Some(order) = left {
            self.check_stop()?;
            look_again();
            left = push(&mut self.shards[shard].port, order).err();
        }
        Ok(())
    }

    /// Whether there was room for it.
    #[cfg(test)]
    pub(super) fn try_tell(&mut self, order: AuditOrder) -> bool {
        self.shards[0].port.tell(order).is_ok()
    }

    pub(super) fn tell_all(&mut self, order: impl Fn() -> AuditOrder) -> Result<(), Ended> {
        (0..self.shards.len()).try_for_each(|shard| self.tell(shard, order()))
    }

    /// Has all of them note who is new. They do once this returns, and not before.
    pub(super) fn watch(&mut self) -> Result<(), Ended> {
        for shard in 0..self.shards.len() {
            self.push(shard, AuditOrder::Watch, Port::try_order)?;
        }
        for shard in 0..self.shards.len() {
            let AuditAnswer::Watching = self.answer(shard)? else { unreachable!("they were to watch") };
        }
        Ok(())
    }

    fn ask(&mut self, shard: usize, order: AuditOrder) -> Result<AuditAnswer, Ended> {
        self.push(shard, order, Port::try_order)?;
        self.answer(shard)
    }

    fn answer(&mut self, shard: usize) -> Result<AuditAnswer, Ended> {
        loop {
            match self.shards[shard].port.answer() {
                Some(answer) => return Ok(answer),
                None => {
                    self.check_stop()?;
                    look_again();
                }
            }
        }
    }

    /// Copies what a shard serves for these users of it.
    pub(super) fn copy(
        &mut self,
        shard: usize,
        users: Vec<UserId>,
        below: Option<Below>,
    ) -> Result<Copied, Ended> {
        let copies = std::mem::take(&mut self.spare);
        match self.ask(shard, AuditOrder::Copy { users, below, copies })? {
            AuditAnswer::Copied { copies, .. } => Ok(Copied::All(copies)),
            AuditAnswer::NewUsers { copies, new, .. } => {
                self.spare = copies;
                Ok(new.map_or(Copied::TooManyNew, Copied::New))
            }
            other => unreachable!("copies were ordered, and {other:?} came"),
        }
    }

    /// Memory for the next copies.
    pub(super) fn recycle(&mut self, copies: Copies) {
        self.spare = copies;
    }

    /// Which rows the accounts of all shards had when the pass met them.
    pub(super) fn sums(&mut self) -> Result<Vec<Sum>, Ended> {
        let mut all = vec![Sum::default(); BUCKETS];
        for shard in 0..self.shards.len() {
            let AuditAnswer::Sums(own) = self.ask(shard, AuditOrder::Sums(Vec::with_capacity(BUCKETS)))?
            else {
                unreachable!("sums were ordered")
            };
            for (all, own) in all.iter_mut().zip(own) {
                all.rows = all.rows.plus(own.rows);
                all.is_unknown |= own.is_unknown;
            }
        }
        Ok(all)
    }

    /// The shards' sum of a bucket is more by so much, and known.
    pub(super) fn adopt(&mut self, bucket: usize, missing: Fingerprint) -> Result<(), Ended> {
        for shard in 0..self.shards.len() {
            let rows = if shard == 0 { missing } else { Fingerprint::default() };
            self.tell(shard, AuditOrder::Adopt { bucket, rows })?;
        }
        Ok(())
    }

    /// Quarantines an account. It is once this returns, and not before.
    pub(super) fn quarantine(&mut self, user: UserId) -> Result<(), Ended> {
        match self.ask(self.of(user), AuditOrder::Quarantine(user))? {
            AuditAnswer::Quarantined => Ok(()),
            other => unreachable!("an account was to be quarantined, and {other:?} came"),
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn damage(&mut self, user: UserId, damage: crate::shard::Damage) {
        // A node that ends has nothing to find.
        let _ = self.tell(self.of(user), AuditOrder::Damage(user, damage));
    }

    /// The users whose accounts a shard has in these buckets, some at a time, to `see`.
    pub(super) fn list(
        &mut self,
        shard: usize,
        buckets: &[bool],
        mut see: impl FnMut(&mut Shards, Vec<UserId>) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        let (mut from_start, mut wanted) = (true, buckets.to_vec());
        loop {
            let order = AuditOrder::List { wanted, from_start, users: Vec::new() };
            let AuditAnswer::Listed { wanted: same, users, is_last } = self.ask(shard, order)? else {
                unreachable!("users were to be listed")
            };
            (wanted, from_start) = (same, false);
            see(self, users)?;
            if is_last {
                return Ok(());
            }
        }
    }
}

/// What was copied, account by account, in the order asked.
pub(super) fn served(copies: &Copies) -> impl Iterator<Item = Served<'_>> {
    let header = size_of::<ReplyHeader>();
    copies.accounts.iter().scan(0, move |at, account| {
        let mut take = |bytes: usize| {
            let frame = &copies.bytes[*at..*at + bytes];
            *at += bytes;
            frame.get(header..).unwrap_or_default()
        };
        let (balance, statistics) = (take(account.balance_bytes), take(account.statistics_bytes));
        let (standing, version) = (account.standing, account.version);
        Some(Served { standing, version, balance, statistics, wall_us: copies.wall_us })
    })
}
