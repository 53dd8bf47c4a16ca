//! The ledger as the simulation writes it, and what schemas/domain.md says of any prefix of an account's rows: recomputed from
//! the rows each time, with no regard for speed and none of the shard's code.

use std::collections::{BTreeMap, BTreeSet};

use florin_core::ledger::{Kind, Transaction};
use florin_schema::records::{AssetBalance, AssetStatistics, Balance, Statistics, WindowStatistics};
use florin_schema::{Asset, UserId, Version, WindowMask};

use super::random::Random;

pub const HOUR_US: i64 = 3_600_000_000;
pub const DAY_US: i64 = 24 * HOUR_US;

/// One user's history.
#[derive(Default, Debug)]
pub struct History {
    /// By version, from 1; the writer has assigned it, and may not have committed it yet.
    pub rows: Vec<Transaction>,
    /// When each row was committed, on the clock that watermarks bear.
    committed_us: Vec<Option<i64>>,
    /// With which commit each row came; none where it came by itself.
    commits: Vec<Option<u64>>,
    sums: BTreeMap<Asset, Sums>,
    /// The first version that no view can hold: a sum leaves its range, or there are too many assets.
    pub defect: Option<u64>,
    /// Rows that no transaction can be made of.
    pub unreadable: BTreeSet<u64>,
    /// Rows that were committed where they had been passed already, and that no later row has shown to be missing yet.
    overlooked: BTreeSet<u64>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Sums {
    available: i128,
    held: i128,
    credits: i128,
    debits: i128,
}

/// What a row adds: to available, to held; and what it counts as.
fn effect(kind: Kind) -> (i128, i128, Counts) {
    match kind {
        Kind::Recharge | Kind::GiftReceived | Kind::Refund | Kind::AdjustmentCredit => (1, 0, Counts::Credit),
        Kind::GiftSent | Kind::Withdrawal | Kind::AdjustmentDebit => (-1, 0, Counts::Debit),
        Kind::Hold => (-1, 1, Counts::Neither),
        Kind::Release => (1, -1, Counts::Neither),
        Kind::Capture => (0, -1, Counts::Debit),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Credit,
    Debit,
    Neither,
}

impl Sums {
    fn add(&mut self, row: &Transaction) {
        let (available, held, counts) = effect(row.kind);
        let amount = i128::from(row.amount);
        self.available += available * amount;
        self.held += held * amount;
        match counts {
            Counts::Credit => self.credits += amount,
            Counts::Debit => self.debits += amount,
            Counts::Neither => {}
        }
    }

    fn fits(&self) -> bool {
        [self.available, self.held, self.credits, self.debits].iter().all(|&sum| i64::try_from(sum).is_ok())
    }
}

impl History {
    fn append(&mut self, row: Transaction) {
        self.rows.push(row);
        self.committed_us.push(None);
        self.commits.push(None);
        if self.defect.is_none() {
            let sums = self.sums.entry(row.asset).or_default();
            sums.add(&row);
            if !sums.fits() || self.sums.len() > 16 {
                self.defect = Some(row.version.0);
            }
        }
    }

    /// The version that the account must end at; `None` where that hangs on when an unreadable row came.
    pub fn whole(&self) -> Option<u64> {
        let whole = self.defect.map_or(self.rows.len() as u64, |defect| defect - 1);
        self.unreadable.is_empty().then_some(whole)
    }

    /// Rows committed strictly before `as_of_us`: what a view of then must hold.
    pub fn committed_before(&self, as_of_us: i64) -> u64 {
        self.committed_us.iter().filter(|at| at.is_some_and(|at| at < as_of_us)).count() as u64
    }

    /// Whether the first `version` rows are a part of what one commit made of the account, and not all of it.
    pub fn ends_within_commit(&self, version: u64) -> bool {
        let commit = |version: u64| self.commits.get(version.checked_sub(1)? as usize).copied().flatten();
        commit(version).is_some_and(|this| commit(version + 1) == Some(this))
    }

    /// The first rows.
    pub fn prefix(&self, version: u64) -> &[Transaction] {
        &self.rows[..version as usize]
    }

    /// The balance that the first `version` rows make.
    pub fn balance(&self, user_id: UserId, version: u64) -> Balance {
        let mut sums: BTreeMap<Asset, Sums> = BTreeMap::new();
        for row in self.prefix(version) {
            sums.entry(row.asset).or_default().add(row);
        }
        let row = |(asset, sums): (Asset, Sums)| AssetBalance {
            asset: asset.to_wire(),
            available: narrow(sums.available),
            held: narrow(sums.held),
        };
        Balance {
            user_id: user_id.get(),
            version,
            updated_at_us: self.prefix(version).iter().map(|row| row.occurred_at_us).max().unwrap_or(0),
            balances: sums.into_iter().map(row).collect(),
        }
    }

    /// The statistics that the first `version` rows make at `wall_us`.
    pub fn statistics(&self, user_id: UserId, version: u64, mask: WindowMask, wall_us: i64) -> Statistics {
        let rows = self.prefix(version);
        let mut assets: Vec<Asset> = rows.iter().map(|row| row.asset).collect();
        assets.sort();
        assets.dedup();
        let of_asset = |asset: Asset| AssetStatistics {
            asset: asset.to_wire(),
            windows: (0..4)
                .filter(|window| mask.bits() & 1 << window != 0)
                .map(|window| {
                    let joins =
                        |row: &&Transaction| row.asset == asset && joins(row.occurred_at_us, window, wall_us);
                    totals(rows.iter().filter(joins))
                })
                .collect(),
        };
        Statistics {
            user_id: user_id.get(),
            version,
            first_transaction_at_us: rows.iter().map(|row| row.occurred_at_us).min().unwrap_or(0),
            last_transaction_at_us: rows.iter().map(|row| row.occurred_at_us).max().unwrap_or(0),
            statistics: assets.into_iter().map(of_asset).collect(),
            windows: mask.bits(),
        }
    }
}

/// Whether window 0 to 3 (24h, 7d, 30d, lifetime) holds a row at `wall_us`: by how many buckets ago.
fn joins(at_us: i64, window: u8, wall_us: i64) -> bool {
    let (bucket_us, buckets) = match window {
        0 => (HOUR_US, 24),
        1 => (DAY_US, 7),
        2 => (DAY_US, 30),
        _ => return true,
    };
    (0..buckets).contains(&(wall_us.div_euclid(bucket_us) - at_us.div_euclid(bucket_us)))
}

fn totals<'a>(rows: impl Iterator<Item = &'a Transaction>) -> WindowStatistics {
    let mut totals = WindowStatistics::default();
    for row in rows {
        match effect(row.kind).2 {
            Counts::Credit => {
                totals.credit_count += 1;
                totals.credit_sum += row.amount;
            }
            Counts::Debit => {
                totals.debit_count += 1;
                totals.debit_sum += row.amount;
                totals.largest_debit = totals.largest_debit.max(row.amount);
            }
            Counts::Neither => {}
        }
    }
    totals
}

fn narrow(sum: i128) -> i64 {
    i64::try_from(sum).expect("rows before the defect stay in range")
}

/// All users' histories, and the rows in the order in which they were committed.
pub struct Ledger {
    pub users: Vec<UserId>,
    pub histories: BTreeMap<UserId, History>,
    /// In commit order: what a query by `seq` returns; and the commit of each.
    pub rows: Vec<(Transaction, u64)>,
    commits: u64,
    /// Assigned a version, and not committed yet: a careless writer's.
    withheld: Vec<Transaction>,
    assets: usize,
    /// Percent of amounts that are near the end of the range.
    giants: usize,
    unreadable_one_in: usize,
    /// Rows that were committed where followers have been already.
    pub overlooked: u64,
}

impl Ledger {
    pub fn new(random: &mut Random) -> Ledger {
        let count = random.between(2, 14);
        let users = (0..count).map(|_| any_user(random)).collect();
        Ledger {
            users,
            histories: BTreeMap::new(),
            rows: Vec::new(),
            commits: 0,
            withheld: Vec::new(),
            assets: if random.one_in(12) { 18 } else { random.between(1, 5) as usize },
            overlooked: 0,
            unreadable_one_in: random.pick(&[usize::MAX, 1_000, 60]),
            giants: if random.one_in(10) { 15 } else { 0 },
        }
    }

    /// Assigned versions of a user, committed or not.
    pub fn assigned(&self, user: UserId) -> u64 {
        self.histories.get(&user).map_or(0, |history| history.rows.len() as u64)
    }

    /// One database transaction of a few rows at `wall_us`, committed at `commit_us`. One in many writers is careless:
    /// it commits a row later than its successor.
    pub fn write(&mut self, random: &mut Random, wall_us: i64, commit_us: i64) {
        self.commits += 1;
        // Some users' rows come in crowds, as where an account is settled.
        let crowded = random.one_in(4).then(|| random.pick(&self.users));
        for _ in 0..random.pick(&[1, 1, 2, 2, 3, 8]) {
            let row = self.row(random, wall_us, crowded);
            let history = self.histories.entry(row.user_id).or_default();
            history.append(row);
            if random.one_in(self.unreadable_one_in) {
                history.unreadable.insert(row.version.0);
            }
            if random.one_in(40) {
                self.withheld.push(row);
            } else {
                self.commit(row, commit_us);
            }
        }
        if random.one_in(4) {
            self.commit_withheld(commit_us);
        }
    }

    /// Commits what careless writers have withheld.
    pub fn commit_withheld(&mut self, commit_us: i64) {
        for row in std::mem::take(&mut self.withheld) {
            self.commits += 1;
            self.commit(row, commit_us);
        }
    }

    /// Writes a row more for each account that has an overlooked one: that shows the gap.
    pub fn show_overlooked(&mut self, random: &mut Random, commit_us: i64) {
        let users: Vec<UserId> =
            self.histories.iter().filter(|(_, h)| !h.overlooked.is_empty()).map(|(&u, _)| u).collect();
        for user_id in users {
            let version = Version(self.assigned(user_id) + 1);
            self.commits += 1;
            let row = Transaction { user_id, version, ..self.row(random, commit_us, None) };
            self.histories.entry(user_id).or_default().append(row);
            self.commit(row, commit_us);
        }
    }

    /// The row was committed where followers have been already: what it is missing from shows with the account's next one.
    pub fn overlook(&mut self, row: &Transaction) {
        let history = self.histories.get_mut(&row.user_id).expect("the row was appended");
        history.committed_us[row.version.0 as usize - 1] = None;
        history.commits[row.version.0 as usize - 1] = None;
        history.overlooked.insert(row.version.0);
        self.overlooked += 1;
    }

    /// The row was committed in its turn: it shows whatever is missing before it.
    pub fn show(&mut self, row: &Transaction) {
        let history = self.histories.get_mut(&row.user_id).expect("the row was appended");
        let commit_us = history.committed_us[row.version.0 as usize - 1];
        while let Some(&version) = history.overlooked.first().filter(|&&version| version < row.version.0) {
            history.overlooked.remove(&version);
            history.committed_us[version as usize - 1] = commit_us;
        }
    }

    fn commit(&mut self, row: Transaction, commit_us: i64) {
        let history = self.histories.get_mut(&row.user_id).expect("the row was appended");
        history.committed_us[row.version.0 as usize - 1] = Some(commit_us);
        history.commits[row.version.0 as usize - 1] = Some(self.commits);
        self.rows.push((row, self.commits));
    }

    fn row(&mut self, random: &mut Random, wall_us: i64, user: Option<UserId>) -> Transaction {
        let user_id = user.unwrap_or_else(|| random.pick(&self.users));
        let amount = match random.percent(self.giants) {
            true => i64::MAX - random.between(0, 3),
            false => random.between(1, 5_000),
        };
        Transaction {
            user_id,
            version: Version(self.assigned(user_id) + 1),
            asset: asset(random.below(self.assets)),
            kind: random.pick(&Kind::ALL),
            amount,
            occurred_at_us: occurred_at(random, wall_us),
        }
    }
}

/// Mostly just now; late, ahead of the clock, and exactly on the edges of buckets too.
fn occurred_at(random: &mut Random, wall_us: i64) -> i64 {
    match random.below(8) {
        0 => wall_us - random.between(0, 3 * DAY_US),
        1 => wall_us - random.between(0, 40 * DAY_US),
        2 => wall_us + random.between(0, 2 * DAY_US),
        3 => (wall_us.div_euclid(HOUR_US) - random.between(-2, 26)) * HOUR_US - random.between(0, 1),
        4 => (wall_us.div_euclid(DAY_US) - random.between(-1, 31)) * DAY_US - random.between(0, 1),
        _ => wall_us - random.between(0, 5_000_000),
    }
}

fn asset(index: usize) -> Asset {
    let code = match index {
        0 => "COIN".to_owned(),
        1 => "DIAMOND".to_owned(),
        2 => "USD".to_owned(),
        _ => format!("A_{index}"),
    };
    Asset::parse(code.as_bytes()).expect("a legal code")
}

/// Any legal id: the ends of the range, small ones, large ones.
pub fn any_user(random: &mut Random) -> UserId {
    let id = match random.below(8) {
        0 => 0,
        1 => UserId::MAX.get(),
        2 | 3 => random.next() >> 1,
        _ => random.below(1_000) as u64,
    };
    UserId::new(id).expect("a legal id")
}
