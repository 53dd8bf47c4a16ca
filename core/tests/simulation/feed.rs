//! The production follower between a ledger that misbehaves and shards whose past is known: what it publishes is checked
//! when it publishes it.

use florin_core::clock::Now;
use florin_core::follower::{Doing, Follower, Note, Wait};
use florin_schema::UserId;

use super::Fault;
use super::auditor::{Seen, Verdict};
use super::ledger::Ledger;
use super::node::Node;
use super::random::Random;
use super::source::FakeSource;
use super::tap::Tap;

/// See the module.
pub struct Feed {
    pub follower: Follower<FakeSource, Tap>,
    wait: Wait,
    /// Rows of the ledger that the source has.
    handed_over: usize,
    /// By shard: the last watermark.
    published: Vec<Option<(i64, u64)>>,
    /// Re-read rows that it may send in a round, calls of the source so far, and re-read rows sent before the last of them.
    reread_rows: usize,
    rounds: u64,
    sent_before: usize,
}

impl Feed {
    pub fn new(taps: Vec<Tap>, random: &mut Random, fault: Fault) -> Result<Feed, String> {
        let shards = taps.len();
        let mut source = FakeSource::new(random);
        source.is_calm = true;
        let reread_rows = random.pick(&[1, 3, 1_000]);
        let mut follower = Follower::new(source, taps).map_err(|error| error.to_string())?;
        follower = follower.with_reread_rows(reread_rows);
        follower.source().is_calm = false;
        if let Fault::Planted(planted) = fault {
            follower.plant(planted);
        }
        let published = vec![None; shards];
        Ok(Feed {
            follower,
            wait: Wait::No,
            handed_over: 0,
            published,
            reread_rows,
            rounds: 0,
            sent_before: 0,
        })
    }

    pub fn source(&mut self) -> &mut FakeSource {
        self.follower.source()
    }

    pub fn calm_down(&mut self) {
        self.source().is_calm = true;
        self.source().is_replaced = false;
    }

    /// Gives the source what was committed meanwhile.
    pub fn hand_over(&mut self, ledger: &mut Ledger) {
        while let Some(&(row, commit)) = ledger.rows.get(self.handed_over) {
            self.handed_over += 1;
            let is_readable = !ledger.histories[&row.user_id].unreadable.contains(&row.version.0);
            match self.source().commit(row, commit, is_readable) {
                true => ledger.show(&row),
                false => ledger.overlook(&row),
            }
        }
    }

    /// Watermarks that are under way arrive: all, or those of some shards. Whether any did.
    pub fn deliver(&mut self, all: bool, random: &mut Random) -> bool {
        let mut any = false;
        for tap in self.follower.outlets() {
            if tap.under_way.is_some() && (all || random.percent(50)) {
                tap.deliver();
                any = true;
            }
        }
        any
    }

    pub fn is_due(&mut self, now_us: u64) -> bool {
        let wakes = self.source().wakes();
        match self.wait {
            Wait::No | Wait::Shard => true,
            Wait::Until(us) => us <= now_us || wakes,
        }
    }

    pub fn next_us(&self) -> Option<u64> {
        if let Wait::Until(us) = self.wait { Some(us) } else { None }
    }

    pub fn step(
        &mut self,
        now: Now,
        node: &Node,
        ledger: &Ledger,
        tells_time: bool,
        seen: &mut Seen,
    ) -> Verdict {
        self.follower.outlets().iter_mut().for_each(|tap| tap.now_us = now.monotonic_us);
        let answered = self.is_answering();
        self.wait = self.follower.step(now);
        while let Some(note) = self.follower.next_note() {
            match note {
                Note::Failing(reason) if reason.contains("not the ledger") => seen.note("another ledger", 1),
                Note::Failing(_) | Note::RereadFailed(_) => seen.note("failures of the source", 1),
                Note::Unreadable(_) => seen.note("unreadable rows", 1),
                Note::Incomplete { .. } => seen.note("holes in the ledger", 1),
                _ => {}
            }
        }
        if let Some(violation) = self.follower.outlets().iter_mut().find_map(|tap| tap.violation.take()) {
            return Err(violation);
        }
        self.check_budget(answered)?;
        for shard in 0..self.published.len() {
            self.check_watermark(shard, node, ledger, tells_time)?;
        }
        Ok(())
    }

    fn is_answering(&self) -> bool {
        !matches!(self.follower.doing(), Doing::Loading { .. }) && self.published[0].is_some()
    }

    fn check_budget(&mut self, answered: bool) -> Verdict {
        let sent = self.follower.outlets().iter().map(|tap| tap.reread_rows).sum();
        let rounds = self.source().rounds;
        if std::mem::replace(&mut self.rounds, rounds) != rounds || !answered {
            self.sent_before = sent;
        }
        if sent - self.sent_before > self.reread_rows {
            return Err(format!(
                "{} re-read rows in a round of {}",
                sent - self.sent_before,
                self.reread_rows
            ));
        }
        Ok(())
    }

    /// What was published since the last look is true, and newer than what was before.
    fn check_watermark(&mut self, shard: usize, node: &Node, ledger: &Ledger, tells_time: bool) -> Verdict {
        let Some((as_of_us, taken_us)) = self.follower.outlets()[shard].under_way else { return Ok(()) };
        let Some(before) = self.published[shard].replace((as_of_us, taken_us)) else {
            let unrepaired = node.seats[shard].mirror.unrepaired();
            return match unrepaired {
                Some(user) => Err(format!("shard {shard} may answer, and {user} was never read again")),
                None => Ok(()),
            };
        };
        if before.0 > as_of_us || before.1 > taken_us {
            return Err(format!("the watermark went back from {before:?} to {:?}", (as_of_us, taken_us)));
        }
        let own = |user: &UserId| usize::from(user.shard(node.shards()).0) == shard;
        for (&user, history) in ledger.histories.iter().filter(|(user, _)| tells_time && own(user)) {
            let view = node.seats[shard].mirror.latest(user);
            let due = history.committed_before(as_of_us);
            if view.version < due && !view.quarantined {
                return Err(format!(
                    "as_of is not true: {user} had {due} rows by then, and {view:?} is held"
                ));
            }
        }
        Ok(())
    }

    pub fn woken(&mut self) -> Vec<usize> {
        let taps = self.follower.outlets().iter().enumerate();
        taps.filter(|(_, tap)| tap.has_woken()).map(|(shard, _)| shard).collect()
    }

    /// When the watermark that every shard has by now was taken.
    pub fn published_us(&mut self) -> u64 {
        self.follower.outlets().iter().map(|tap| tap.watermark.load().1).min().unwrap_or(0)
    }

    /// Whether it has delivered all of `ledger`, and read again what had to be.
    pub fn is_done(&mut self, ledger: &Ledger) -> bool {
        self.handed_over == ledger.rows.len()
            && self.source().is_read()
            && matches!(self.wait, Wait::Until(_))
            && self.follower.doing() == Doing::Following
            && self.follower.to_repair() == 0
            && self.follower.outlets().iter().all(|tap| tap.under_way.is_none())
    }
}
