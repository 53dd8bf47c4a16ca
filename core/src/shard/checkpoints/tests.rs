//! Accounts copied out while rows come and the index grows, taken in by another number of shards: what is answered is what a
//! recomputation from the rows would answer.

use std::collections::BTreeMap;

use florin_schema::{Asset, UserId, Version};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::checkpoint::{self, record};
use crate::ledger::{Horizon, Kind, Transaction};
use crate::shard::table::Outcome;

const HOUR_US: i64 = 3_600_000_000;
/// 2026-11-22T04:05:06Z.
const NOW_US: i64 = 1_795_320_306_000_000;

fn row(user: u64, version: u64, pick: u64) -> Transaction {
    Transaction {
        user_id: UserId::new(user).unwrap(),
        version: Version(version),
        asset: Asset::parse([&b"USD"[..], b"COIN", b"A"][pick as usize % 3]).unwrap(),
        kind: Kind::ALL[pick as usize / 3 % Kind::ALL.len()],
        // Some do not fit into 32 bits.
        amount: if pick.is_multiple_of(101) { 1 << 40 } else { 1 + (pick % 1_000) as i64 },
        occurred_at_us: NOW_US - (pick % 900) as i64 * HOUR_US,
    }
}

/// All that a table would answer, account by account.
fn content(table: &Table, users: impl Iterator<Item = UserId>) -> BTreeMap<UserId, String> {
    let horizon = Horizon::at(NOW_US);
    users
        .filter_map(|user| {
            let found = table.find(user.hashed())?;
            let mut totals = Vec::new();
            let span = table.statistics(found, &horizon, &mut totals);
            let windows: Vec<_> = totals.iter().map(|totals| (totals.asset, totals.windows)).collect();
            let rows = found.balance.rows;
            Some((
                user,
                format!(
                    "{:?} {rows:?} {windows:?} {span:?} {:?}",
                    found.balance.root.version,
                    table.exact(found)
                ),
            ))
        })
        .collect()
}

/// The accounts of a walk, sorted into blocks by bucket.
fn blocks(records: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut blocks: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let mut rest = records;
    while !rest.is_empty() {
        let record::Peeked { user, bytes: length, .. } = record::peek(rest);
        let (record, after) = rest.split_at(length);
        blocks.entry(checkpoint::bucket_of(user.hashed())).or_default().extend_from_slice(record);
        rest = after;
    }
    blocks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_copied_while_rows_come_is_exact_once_they_came_again(
        before in prop::collection::vec((0_u64..3_000, any::<u32>()), 1..6_000),
        during in prop::collection::vec((0_u64..9_000, any::<u32>()), 0..9_000),
        accounts in 1_usize..300,
        shards in 1_u16..5,
    ) {
        let horizon = Horizon::at(NOW_US);
        let mut versions: BTreeMap<u64, u64> = BTreeMap::new();
        let mut next = |(user, pick): (u64, u32)| {
            let version = versions.entry(user).or_default();
            *version += 1;
            row(user, *version, u64::from(pick))
        };
        let mut table = Table::new();
        for row in before.into_iter().map(&mut next) {
            prop_assert_eq!(table.apply(&row, &horizon), Outcome::Applied);
        }
        // The begin position is here. The walk goes on between rows, which make the index grow under it.
        let after: Vec<Transaction> = during.into_iter().map(&mut next).collect();
        let (mut walk, mut records) = (Walk::new(), Vec::new());
        let mut coming = after.iter();
        while !walk.is_over() {
            let mut piece = Vec::new();
            table.walk(&mut walk, accounts, &mut piece);
            records.append(&mut piece);
            for row in coming.by_ref().take(40) {
                table.apply(row, &horizon);
            }
        }
        coming.for_each(|row| {
            table.apply(row, &horizon);
        });

        // Another number of shards takes it in, and everything after the begin comes again.
        let blocks = blocks(&records);
        let mut tables: Vec<Table> = (0..shards).map(|_| Table::new()).collect();
        for (&bucket, block) in &blocks {
            for record in Records::of(block, bucket) {
                let record = record.unwrap();
                tables[usize::from(record.user().shard(shards).0)].restore(&record).unwrap();
            }
        }
        for row in &after {
            let outcome = tables[usize::from(row.user_id.shard(shards).0)].apply(row, &horizon);
            prop_assert!(matches!(outcome, Outcome::Applied | Outcome::Duplicate), "{:?}", outcome);
        }
        let users = || versions.keys().map(|&user| UserId::new(user).unwrap());
        let mut restored = BTreeMap::new();
        tables.iter().for_each(|table| restored.append(&mut content(table, users())));
        prop_assert_eq!(restored, content(&table, users()));
    }

}

/// What happens next to a node of several shards.
#[derive(Clone, Debug)]
enum Step {
    /// Rows of these users are committed.
    Commit(Vec<(u64, u32)>),
    /// So many of them arrive.
    Follow(usize),
    /// A checkpoint is begun, unless one is in the making.
    Begin,
    /// A shard copies out so many accounts of it.
    Walk(usize, usize),
    /// So many lines of a shard's index move, if they do.
    Grow(usize, usize),
    /// The node ends, and begins again with so many shards; so many of its checkpoints are damaged.
    Crash(u16, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let rows = prop::collection::vec((0_u64..160, any::<u32>()), 1..80);
    prop_oneof![
        4 => rows.prop_map(Step::Commit),
        4 => (1..150_usize).prop_map(Step::Follow),
        2 => Just(Step::Begin),
        8 => (any::<usize>(), 1..90_usize).prop_map(|(shard, accounts)| Step::Walk(shard, accounts)),
        2 => (any::<usize>(), 1..6_usize).prop_map(|(shard, lines)| Step::Grow(shard, lines)),
        1 => (1..4_u16, 0..3_usize).prop_map(|(shards, damaged)| Step::Crash(shards, damaged)),
    ]
}

/// What may be wrong with whoever makes a checkpoint, to see that it is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    Nothing,
    /// It says that it begins where it ended.
    BeginsLate,
    /// It serves what it has loaded before it has followed up to where it ended.
    ServesEarly,
    /// It leaves out what one shard copied last.
    LosesPiece,
    /// It goes on with a walk of before the crash.
    MixesWalks,
}

#[derive(Clone, Default)]
struct Made {
    begin: usize,
    end: usize,
    records: Vec<u8>,
}

struct Making {
    begin: usize,
    walks: Vec<Walk>,
    records: Vec<u8>,
}

/// A node, its ledger and its checkpoints, newest last.
struct World {
    wrong: Wrong,
    ledger: Vec<Transaction>,
    versions: BTreeMap<u64, u64>,
    tables: Vec<Table>,
    followed: usize,
    /// Nothing is answered before all up to here was followed.
    serves_from: usize,
    making: Option<Making>,
    made: Vec<Made>,
    restored: usize,
}

impl World {
    fn new(wrong: Wrong) -> World {
        World {
            wrong,
            ledger: Vec::new(),
            versions: BTreeMap::new(),
            tables: vec![Table::new(), Table::new()],
            followed: 0,
            serves_from: 0,
            making: None,
            made: Vec::new(),
            restored: 0,
        }
    }

    fn step(&mut self, step: Step) {
        let shards = self.tables.len();
        match step {
            Step::Commit(rows) => {
                for (user, pick) in rows {
                    let version = self.versions.entry(user).or_default();
                    *version += 1;
                    self.ledger.push(row(user, *version, u64::from(pick)));
                }
            }
            Step::Follow(rows) => self.follow(rows),
            Step::Begin if self.making.is_none() && self.followed >= self.serves_from => {
                let walks = (0..shards).map(|_| Walk::new()).collect();
                self.making = Some(Making { begin: self.followed, walks, records: Vec::new() });
            }
            Step::Begin => {}
            Step::Walk(shard, accounts) => self.walk(shard % shards, accounts),
            Step::Grow(shard, lines) => {
                (0..lines).for_each(|_| self.tables[shard % shards].go_on_growing());
            }
            Step::Crash(shards, damaged) => self.crash(shards, damaged),
        }
    }

    fn follow(&mut self, rows: usize) {
        let horizon = Horizon::at(NOW_US);
        let shards = self.tables.len() as u16;
        for row in &self.ledger[self.followed..(self.followed + rows).min(self.ledger.len())] {
            let outcome = self.tables[usize::from(row.user_id.shard(shards).0)].apply(row, &horizon);
            assert!(matches!(outcome, Outcome::Applied | Outcome::Duplicate), "{outcome:?}");
            self.followed += 1;
        }
    }

    fn walk(&mut self, shard: usize, accounts: usize) {
        let Some(making) = &mut self.making else { return };
        let mut piece = Vec::new();
        self.tables[shard].walk(&mut making.walks[shard], accounts, &mut piece);
        let is_last = making.walks[shard].is_over();
        if !(is_last && self.wrong == Wrong::LosesPiece) {
            making.records.append(&mut piece);
        }
        if making.walks.iter().all(Walk::is_over) {
            let Making { begin, records, .. } = self.making.take().unwrap();
            let begin = if self.wrong == Wrong::BeginsLate { self.followed } else { begin };
            self.made.push(Made { begin, end: self.followed, records });
        }
    }

    fn crash(&mut self, shards: u16, damaged: usize) {
        if self.wrong != Wrong::MixesWalks || usize::from(shards) != self.tables.len() {
            self.making = None;
        }
        // The newest two are kept.
        self.made.drain(..self.made.len().saturating_sub(2));
        self.made.truncate(self.made.len().saturating_sub(damaged));
        let Made { begin, end, records } = self.made.last().cloned().unwrap_or_default();
        self.restored += usize::from(!records.is_empty());
        self.tables = (0..shards).map(|_| Table::new()).collect();
        for (&bucket, block) in &blocks(&records) {
            for record in Records::of(block, bucket) {
                let record = record.unwrap();
                self.tables[usize::from(record.user().shard(shards).0)].restore(&record).unwrap();
            }
        }
        self.followed = begin;
        self.serves_from = if self.wrong == Wrong::ServesEarly { 0 } else { end };
    }

    /// What is answered is what a recomputation from the rows that were followed would answer.
    fn check(&self) {
        if self.followed < self.serves_from {
            return;
        }
        let horizon = Horizon::at(NOW_US);
        let mut recomputed = Table::new();
        for row in &self.ledger[..self.followed] {
            assert_eq!(recomputed.apply(row, &horizon), Outcome::Applied);
        }
        let users = || self.versions.keys().map(|&user| UserId::new(user).unwrap());
        let mut served = BTreeMap::new();
        self.tables.iter().for_each(|table| served.append(&mut content(table, users())));
        assert_eq!(served, content(&recomputed, users()), "after {} rows", self.followed);
    }
}

fn live(steps: &[Step], wrong: Wrong) -> usize {
    let mut world = World::new(wrong);
    for (n, step) in steps.iter().enumerate() {
        world.step(step.clone());
        if n % 8 == 0 || matches!(step, Step::Crash(..)) {
            world.check();
        }
    }
    world.follow(usize::MAX >> 1);
    world.check();
    world.restored
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_node_that_ends_between_any_two_steps_goes_on_exactly(steps in prop::collection::vec(step(), 1..120)) {
        live(&steps, Wrong::Nothing);
    }
}

/// A simulation that finds nothing proves little.
#[test]
fn whatever_is_wrong_with_a_checkpoint_is_found() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let lives: Vec<Vec<Step>> = (0..120)
        .map(|_| prop::collection::vec(step(), 60..120).new_tree(&mut runner).unwrap().current())
        .collect();
    assert!(lives.iter().map(|steps| live(steps, Wrong::Nothing)).sum::<usize>() > 50, "some are loaded");
    for wrong in [Wrong::BeginsLate, Wrong::ServesEarly, Wrong::LosesPiece, Wrong::MixesWalks] {
        let find = |steps: &Vec<Step>| std::panic::catch_unwind(|| live(steps, wrong)).is_err();
        assert!(lives.iter().any(find), "{wrong:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever a bit does to a record, it is refused or is an account that can be served.
    #[test]
    fn a_changed_record_is_refused_or_served(flips in prop::collection::vec((any::<u16>(), 0_u8..8), 1..4)) {
        let mut table = Table::new();
        let horizon = Horizon::at(NOW_US);
        for version in 1..40 {
            table.apply(&row(7, version, version * 37), &horizon);
        }
        let mut bytes = Vec::new();
        table.walk(&mut Walk::new(), 10, &mut bytes);
        for (at, bit) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        let mut rest = &bytes[..];
        if let Ok(record) = checkpoint::Record::take(&mut rest) {
            let mut other = Table::new();
            other.restore(&record).unwrap();
            content(&other, [record.user()].into_iter());
            let version = record.version().0 + 1;
            other.apply(&row(record.user().get(), version, 5), &horizon);
        }
    }
}

#[test]
fn an_incomplete_account_is_named_and_asked_for_again() {
    let mut table = Table::new();
    let horizon = Horizon::at(NOW_US);
    table.apply(&row(1, 1, 0), &horizon);
    table.apply(&row(2, 5, 0), &horizon);
    let mut bytes = Vec::new();
    table.walk(&mut Walk::new(), 10, &mut bytes);
    let mut other = Table::new();
    for (&bucket, block) in &blocks(&bytes) {
        Records::of(block, bucket).for_each(|record| other.restore(&record.unwrap()).unwrap());
        // The same block a second time.
        let twice = Records::of(block, bucket).map(|record| other.restore(&record.unwrap()));
        assert!(twice.into_iter().all(|outcome| outcome == Err(RecordError::Twice)));
        assert!(Records::of(block, bucket ^ 1).next().unwrap().is_err(), "a block of others");
    }
    assert_eq!((other.accounts(), other.quarantined()), (2, 1));
    let gap = other.apply(&row(2, 6, 0), &horizon);
    assert_eq!(gap, Outcome::Gap { ask: false }, "it has been asked for");
}

/// A shard without callers copies 256 accounts a turn; one that answers is held to its share of the time.
#[test]
fn callers_come_first() {
    let mut shards = crate::shard::tests::node(1, 8);
    let alone = shards.remove(0);
    let (mut port, link) = checkpoint_link();
    let mut shard = alone.shard.with_checkpoints(link);
    for user in 0..5_000 {
        shard.responder.table.apply(&row(user, 1, 0), &Horizon::at(NOW_US));
    }
    assert!(port.orders.push(CheckpointOrder::Begin).is_ok());
    assert!(port.orders.push(CheckpointOrder::Fill(Vec::with_capacity(2 << 20))).is_ok());
    let mut turns = 0;
    let (records, is_last) = loop {
        shard.begin_turn(crate::clock::Now { wall_us: NOW_US, monotonic_us: 100 * (turns + 1) });
        shard.work();
        shard.end_turn(100 * (turns + 1) + 7);
        turns += 1;
        match port.answers.pop() {
            Some(CheckpointAnswer::Filled { records, is_last }) => break (records, is_last),
            Some(other) => panic!("{other:?}"),
            None => assert!(turns < 100, "it gets on"),
        }
    };
    assert!(is_last && turns >= 5_000 / 300, "{turns} turns");
    assert_eq!(
        blocks(&records).iter().map(|(&bucket, block)| Records::of(block, bucket).count()).sum::<usize>(),
        5_000
    );
    assert_eq!(shard.responder.metrics.checkpoint_turn_max_us.get(), 7);
    assert!(!shard.checkpoints.has_work());
}
