//! What an account must be answered with, recomputed from its rows. It shares no code with the table on purpose: what the table
//! does wrong, this does not do wrong with it. schemas/domain.md says what the numbers mean.

use alloc::collections::BTreeMap;

use florin_schema::frame::ASSETS_MAX;
use florin_schema::records::{AssetBalance, AssetStatistics, Balance, Statistics, WindowStatistics};
use florin_schema::{Asset, UserId, Version};

use crate::ledger::{Kind, Transaction};

const HOUR_US: i64 = 3_600_000_000;
const DAY_HOURS: i64 = 24;
/// Hours before the latest clock that no window reaches any more, and two days of room for clocks that are set back meanwhile.
const FORGOTTEN_HOURS: i64 = 32 * DAY_HOURS;

/// The rows of one account, added up. Its memory is bounded by hours and assets, not by rows.
#[derive(Clone, Debug)]
pub struct Recomputed {
    user: UserId,
    version: Version,
    first_us: i64,
    last_us: i64,
    assets: BTreeMap<Asset, Sums>,
    /// By asset and hour: what windows may hold.
    hours: BTreeMap<(Asset, i64), Totals>,
    /// The earliest hour that is kept.
    kept_from: i64,
    /// Why no account can be so.
    impossible: bool,
}

#[derive(Clone, Copy, Default, Debug)]
struct Sums {
    available: i128,
    held: i128,
    lifetime: Totals,
}

#[derive(Clone, Copy, Default, Debug)]
struct Totals {
    credits: (u64, i128),
    debits: (u64, i128),
    largest_debit: i64,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.credits = (self.credits.0 + other.credits.0, self.credits.1 + other.credits.1);
        self.debits = (self.debits.0 + other.debits.0, self.debits.1 + other.debits.1);
        self.largest_debit = self.largest_debit.max(other.largest_debit);
    }

    fn shown(&self) -> WindowStatistics {
        WindowStatistics {
            credit_count: self.credits.0,
            credit_sum: narrow(self.credits.1),
            debit_count: self.debits.0,
            debit_sum: narrow(self.debits.1),
            largest_debit: self.largest_debit,
        }
    }
}

/// What a row does: to what is available, to what is held, and to which sums it is added.
fn meaning(row: &Transaction) -> (i128, i128, Totals) {
    let amount = i128::from(row.amount);
    let credit = Totals { credits: (1, amount), ..Totals::default() };
    let debit = Totals { debits: (1, amount), largest_debit: row.amount, ..Totals::default() };
    match row.kind {
        Kind::Recharge | Kind::GiftReceived | Kind::Refund | Kind::AdjustmentCredit => (amount, 0, credit),
        Kind::GiftSent | Kind::Withdrawal | Kind::AdjustmentDebit => (-amount, 0, debit),
        Kind::Hold => (-amount, amount, Totals::default()),
        Kind::Release => (amount, -amount, Totals::default()),
        Kind::Capture => (0, -amount, debit),
    }
}

fn fits(sum: i128) -> bool {
    i64::try_from(sum).is_ok()
}

fn narrow(sum: i128) -> i64 {
    i64::try_from(sum).expect("rows whose sums leave the range are not added")
}

impl Recomputed {
    /// An account without rows, of which windows may be asked at `wall_us` and later.
    pub fn new(user: UserId, wall_us: i64) -> Recomputed {
        Recomputed {
            user,
            version: Version(0),
            first_us: 0,
            last_us: 0,
            assets: BTreeMap::new(),
            hours: BTreeMap::new(),
            kept_from: wall_us.div_euclid(HOUR_US) - FORGOTTEN_HOURS,
            impossible: false,
        }
    }

    /// Whose.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// How many rows were added.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether a further row led to what no account can be: a sum beyond 64 bits, or too many assets. It ends before that row.
    pub fn is_impossible(&self) -> bool {
        self.impossible
    }

    /// Whether windows can be told at `wall_us`: its clock was not set back too far since this began.
    pub fn reaches(&self, wall_us: i64) -> bool {
        let today = wall_us.div_euclid(HOUR_US).div_euclid(DAY_HOURS);
        DAY_HOURS * (today - 29) >= self.kept_from
    }

    /// Adds the account's next row; `false` where this is not the next, or cannot be added, and then nothing has changed.
    pub fn add(&mut self, row: &Transaction) -> bool {
        if row.user_id != self.user || row.version != self.version.next() || self.impossible {
            return false;
        }
        let (available, held, counted) = meaning(row);
        let mut sums = self.assets.get(&row.asset).copied().unwrap_or_default();
        sums.available += available;
        sums.held += held;
        sums.lifetime.add(&counted);
        let is_new = !self.assets.contains_key(&row.asset);
        let all = [sums.available, sums.held, sums.lifetime.credits.1, sums.lifetime.debits.1];
        self.impossible = !all.into_iter().all(fits) || is_new && self.assets.len() == ASSETS_MAX;
        if self.impossible {
            return false;
        }
        self.assets.insert(row.asset, sums);
        let hour = row.occurred_at_us.div_euclid(HOUR_US);
        if hour >= self.kept_from {
            self.hours.entry((row.asset, hour)).or_default().add(&counted);
        }
        let is_first = self.version == Version(0);
        let at_us = row.occurred_at_us;
        self.first_us = if is_first { at_us } else { self.first_us.min(at_us) };
        self.last_us = if is_first { at_us } else { self.last_us.max(at_us) };
        self.version = row.version;
        true
    }

    /// What GetBalance must answer.
    pub fn balance(&self) -> Balance {
        let of = |(asset, sums): (&Asset, &Sums)| AssetBalance {
            asset: asset.to_wire(),
            available: narrow(sums.available),
            held: narrow(sums.held),
        };
        Balance {
            user_id: self.user.get(),
            version: self.version.0,
            updated_at_us: self.last_us,
            balances: self.assets.iter().map(of).collect(),
        }
    }

    /// What GetStatistics must answer for all windows at `wall_us`.
    pub fn statistics(&self, wall_us: i64) -> Statistics {
        let now = wall_us.div_euclid(HOUR_US);
        let today = now.div_euclid(DAY_HOURS);
        let of = |(&asset, sums): (&Asset, &Sums)| {
            let days = |days| (DAY_HOURS * (today + 1 - days), DAY_HOURS * (today + 1) - 1);
            let within = |(first, last): (i64, i64)| {
                let mut totals = Totals::default();
                self.hours.range((asset, first)..=(asset, last)).for_each(|(_, hour)| totals.add(hour));
                totals.shown()
            };
            let windows = [within((now - 23, now)), within(days(7)), within(days(30)), sums.lifetime.shown()];
            AssetStatistics { asset: asset.to_wire(), windows: windows.into() }
        };
        Statistics {
            user_id: self.user.get(),
            version: self.version.0,
            first_transaction_at_us: self.first_us,
            last_transaction_at_us: self.last_us,
            statistics: self.assets.iter().map(of).collect(),
            windows: 0b1111,
        }
    }
}
