//! Accounts in memory: what each transaction does to one, and what is answered from it.

use std::collections::BTreeMap;

use serde::Serialize;

const HOUR_US: i64 = 3_600_000_000;
const HOURS_PER_DAY: i64 = 24;

/// A row of the ledger.
#[derive(Clone, Debug)]
pub struct Row {
    /// Whose.
    pub user_id: u64,
    /// Of the account, after this row.
    pub version: u64,
    /// Its code.
    pub asset: String,
    /// 1 to 10, as in ledger.sql.
    pub kind: u8,
    /// Minor units.
    pub amount: i64,
    /// µs since 1970 UTC.
    pub occurred_at_us: i64,
}

/// A row that cannot be applied: the ledger has been written to by somebody who does not keep its rules.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// Not the next one.
    #[error("user {user_id}: expected version {expected}, got {found}: the ledger lacks a row")]
    Gap {
        /// Whose.
        user_id: u64,
        /// The next one.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// Outside of 1 to 10.
    #[error("user {user_id}: {kind} is no kind of transaction: expected 1 to 10")]
    Kind {
        /// Whose.
        user_id: u64,
        /// What came.
        kind: u8,
    },
    /// A sum that 64 bits do not hold.
    #[error("user {user_id}: the sums of {asset} exceed 64 bits")]
    Overflow {
        /// Whose.
        user_id: u64,
        /// Of what.
        asset: String,
    },
}

/// What happened in a stretch of time.
#[derive(Clone, Copy, Default, Debug)]
struct Totals {
    credit_count: u64,
    credit_sum: i64,
    debit_count: u64,
    debit_sum: i64,
    largest_debit: i64,
}

impl Totals {
    fn add(&mut self, other: &Totals) -> Option<()> {
        self.credit_count += other.credit_count;
        self.credit_sum = self.credit_sum.checked_add(other.credit_sum)?;
        self.debit_count += other.debit_count;
        self.debit_sum = self.debit_sum.checked_add(other.debit_sum)?;
        self.largest_debit = self.largest_debit.max(other.largest_debit);
        Some(())
    }
}

/// An asset of an account. Hours and days are counted since 1970, and in order.
#[derive(Clone, Default, Debug)]
struct Holding {
    available: i64,
    held: i64,
    hours: Vec<(i64, Totals)>,
    days: Vec<(i64, Totals)>,
    lifetime: Totals,
}

/// A user's account.
#[derive(Clone, Default, Debug)]
pub struct Account {
    version: u64,
    first_us: i64,
    last_us: i64,
    assets: BTreeMap<String, Holding>,
}

impl Account {
    /// Transactions applied.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Applies a row; where that fails, the account is as it was.
    pub fn apply(&mut self, row: &Row) -> Result<(), RowError> {
        let (user_id, expected) = (row.user_id, self.version + 1);
        if row.version != expected {
            return Err(RowError::Gap { user_id, expected, found: row.version });
        }
        let overflow = || RowError::Overflow { user_id, asset: row.asset.clone() };
        let mut holding = self.assets.get(&row.asset).cloned().unwrap_or_default();
        let (available, held) = match row.kind {
            1..=4 => (row.amount, 0),
            5..=7 => (-row.amount, 0),
            8 => (-row.amount, row.amount),
            9 => (row.amount, -row.amount),
            10 => (0, -row.amount),
            kind => return Err(RowError::Kind { user_id, kind }),
        };
        holding.available = holding.available.checked_add(available).ok_or_else(overflow)?;
        holding.held = holding.held.checked_add(held).ok_or_else(overflow)?;
        let totals = match row.kind {
            1..=4 => Totals { credit_count: 1, credit_sum: row.amount, ..Totals::default() },
            5..=7 | 10 => Totals {
                debit_count: 1,
                debit_sum: row.amount,
                largest_debit: row.amount,
                ..Totals::default()
            },
            _ => Totals::default(),
        };
        let hour = row.occurred_at_us.div_euclid(HOUR_US);
        let buckets = [(&mut holding.hours, hour), (&mut holding.days, hour.div_euclid(HOURS_PER_DAY))];
        for (buckets, at) in buckets {
            let place = buckets.binary_search_by_key(&at, |(at, _)| *at).unwrap_or_else(|place| {
                buckets.insert(place, (at, Totals::default()));
                place
            });
            buckets[place].1.add(&totals).ok_or_else(overflow)?;
        }
        holding.lifetime.add(&totals).ok_or_else(overflow)?;
        self.assets.insert(row.asset.clone(), holding);
        let is_first = self.version == 0;
        self.first_us = if is_first { row.occurred_at_us } else { self.first_us.min(row.occurred_at_us) };
        self.last_us = if is_first { row.occurred_at_us } else { self.last_us.max(row.occurred_at_us) };
        self.version = row.version;
        Ok(())
    }

    /// Its balance.
    pub fn balance(&self, user_id: u64) -> Balance<'_> {
        let balances = self.assets.iter().map(|(asset, holding)| AssetBalance {
            asset,
            available: Text(holding.available),
            held: Text(holding.held),
        });
        Balance {
            user_id: Text(user_id),
            version: Text(self.version),
            updated_at: moment(self.last_us),
            balances: balances.collect(),
        }
    }

    /// Its statistics as of `now_us`; none where a window's sums exceed 64 bits.
    pub fn statistics(&self, user_id: u64, now_us: i64) -> Option<Statistics<'_>> {
        let hour = now_us.div_euclid(HOUR_US);
        let day = hour.div_euclid(HOURS_PER_DAY);
        let (first, last) = (moment(self.first_us), moment(self.last_us));
        let statistics = self.assets.iter().map(|(asset, holding)| {
            Some(AssetStatistics {
                asset,
                windows: Windows {
                    hours_24: sum(&holding.hours, hour - 23, hour)?,
                    days_7: sum(&holding.days, day - 6, day)?,
                    days_30: sum(&holding.days, day - 29, day)?,
                    lifetime: holding.lifetime.into(),
                },
                first_transaction_at: first.clone(),
                last_transaction_at: last.clone(),
            })
        });
        let statistics = statistics.collect::<Option<Vec<_>>>()?;
        Some(Statistics { user_id: Text(user_id), version: Text(self.version), statistics })
    }
}

fn sum(buckets: &[(i64, Totals)], from: i64, to: i64) -> Option<Window> {
    let begin = buckets.partition_point(|(at, _)| *at < from);
    let mut all = Totals::default();
    buckets[begin..].iter().take_while(|(at, _)| *at <= to).try_for_each(|(_, totals)| all.add(totals))?;
    Some(all.into())
}

/// A moment as wire.md writes it: RFC 3339 with six digits.
pub fn moment(at_us: i64) -> String {
    jiff::Timestamp::from_microsecond(at_us).map_or_else(|_| String::new(), |at| format!("{at:.6}"))
}

/// 64-bit numbers are texts in JSON.
#[derive(Clone, Copy, Debug)]
pub struct Text<T>(T);

impl<T> Text<T> {
    /// As a text.
    pub fn of(number: T) -> Text<T> {
        Text(number)
    }
}

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The body of a balance.
#[derive(Serialize, Debug)]
pub struct Balance<'a> {
    user_id: Text<u64>,
    version: Text<u64>,
    updated_at: String,
    balances: Vec<AssetBalance<'a>>,
}

#[derive(Serialize, Debug)]
struct AssetBalance<'a> {
    asset: &'a str,
    available: Text<i64>,
    held: Text<i64>,
}

/// The body of statistics.
#[derive(Serialize, Debug)]
pub struct Statistics<'a> {
    user_id: Text<u64>,
    version: Text<u64>,
    statistics: Vec<AssetStatistics<'a>>,
}

#[derive(Serialize, Debug)]
struct AssetStatistics<'a> {
    asset: &'a str,
    windows: Windows,
    first_transaction_at: String,
    last_transaction_at: String,
}

#[derive(Serialize, Debug)]
struct Windows {
    #[serde(rename = "24h")]
    hours_24: Window,
    #[serde(rename = "7d")]
    days_7: Window,
    #[serde(rename = "30d")]
    days_30: Window,
    lifetime: Window,
}

#[derive(Serialize, Debug)]
struct Window {
    credit_count: Text<u64>,
    credit_sum: Text<i64>,
    debit_count: Text<u64>,
    debit_sum: Text<i64>,
    largest_debit: Text<i64>,
}

impl From<Totals> for Window {
    fn from(totals: Totals) -> Window {
        Window {
            credit_count: Text(totals.credit_count),
            credit_sum: Text(totals.credit_sum),
            debit_count: Text(totals.debit_count),
            debit_sum: Text(totals.debit_sum),
            largest_debit: Text(totals.largest_debit),
        }
    }
}
