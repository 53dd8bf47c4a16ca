//! The rkyv records: what a Rust caller reads without decoding. rkyv 0.8, little-endian, aligned, 32-bit relative
//! pointers, root at the end.

use rkyv::{Archive, Deserialize, Serialize};

/// One asset's balance, in minor units.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[rkyv(derive(Debug))]
pub struct AssetBalance {
    /// [`crate::Asset::to_wire`].
    pub asset: u64,
    /// What the user can spend.
    pub available: i64,
    /// Reserved by holds, not spendable.
    pub held: i64,
}

/// A user's balances: the answer of GetBalance.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[rkyv(derive(Debug))]
pub struct Balance {
    /// Whose.
    pub user_id: u64,
    /// Count of the user's transactions applied.
    pub version: u64,
    /// The latest `occurred_at` among them, µs since 1970 UTC.
    pub updated_at_us: i64,
    /// In ascending byte order of the assets' codes.
    pub balances: Vec<AssetBalance>,
}

/// Counts and sums of one asset in one window; sums in minor units, debits positive.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[rkyv(derive(Debug))]
pub struct WindowStatistics {
    /// How many credits.
    pub credit_count: u64,
    /// Their sum.
    pub credit_sum: i64,
    /// How many debits.
    pub debit_count: u64,
    /// Their sum.
    pub debit_sum: i64,
    /// The largest of them; 0 where there is none.
    pub largest_debit: i64,
}

/// One asset's statistics.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[rkyv(derive(Debug))]
pub struct AssetStatistics {
    /// [`crate::Asset::to_wire`].
    pub asset: u64,
    /// One for each bit set in [`Statistics::windows`], lowest bit first.
    pub windows: Vec<WindowStatistics>,
}

/// A user's statistics: the answer of GetStatistics.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[rkyv(derive(Debug))]
pub struct Statistics {
    /// Whose.
    pub user_id: u64,
    /// Count of the user's transactions applied.
    pub version: u64,
    /// The earliest `occurred_at` among them, µs since 1970 UTC.
    pub first_transaction_at_us: i64,
    /// The latest.
    pub last_transaction_at_us: i64,
    /// In ascending byte order of the assets' codes.
    pub statistics: Vec<AssetStatistics>,
    /// [`crate::WindowMask::bits`].
    pub windows: u8,
}

/// One user's part of a [`Balances`].
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[rkyv(derive(Debug))]
pub struct BalanceEntry {
    /// As asked.
    pub user_id: u64,
    /// A [`crate::Status`].
    pub status: u8,
    /// Whether this account's history is known to be incomplete. It lies where older builds have a zero of padding.
    pub quarantined: bool,
    /// Present where the status is OK.
    pub balance: Option<Balance>,
}

/// The answer of GetBalances: one entry for each id asked, in the order asked.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[rkyv(derive(Debug))]
pub struct Balances {
    /// See [`BalanceEntry`].
    pub entries: Vec<BalanceEntry>,
}
