//! Archives written from the plain structs of `layout`, in the order that its documentation gives, are byte for byte
//! what rkyv writes: so the server may write them without a serialiser.

use std::mem::offset_of;

use florin_schema::layout::{
    AssetRow, AssetStatisticsRow, BalanceEntryRow, BalanceRoot, LAYOUT, StatisticsRoot, VectorPointer,
    WindowTotals,
};
use florin_schema::records::{
    AssetBalance, AssetStatistics, Balance, BalanceEntry, Balances, Statistics, WindowStatistics,
};
use florin_schema::{Status, WindowMask};
use proptest::prelude::*;
use rkyv::Archived;
use zerocopy::IntoBytes;

/// A pointer that stands `at` bytes into the archive, to `length` elements that begin at byte `to`.
fn pointer(at: usize, to: usize, length: usize) -> VectorPointer {
    VectorPointer { offset: (to as i32 - at as i32).into(), length: (length as u32).into() }
}

fn write_rows(out: &mut Vec<u8>, balance: &Balance) {
    for row in &balance.balances {
        let row =
            AssetRow { asset: row.asset.into(), available: row.available.into(), held: row.held.into() };
        out.extend_from_slice(row.as_bytes());
    }
}

/// The root that stands `at` bytes into the archive, of a balance whose rows begin at byte `rows_at`.
fn balance_root(balance: &Balance, at: usize, rows_at: usize) -> BalanceRoot {
    BalanceRoot {
        user_id: balance.user_id.into(),
        version: balance.version.into(),
        updated_at_us: balance.updated_at_us.into(),
        balances: pointer(at + offset_of!(BalanceRoot, balances), rows_at, balance.balances.len()),
    }
}

fn balance_by_hand(balance: &Balance) -> Vec<u8> {
    let mut out = Vec::new();
    write_rows(&mut out, balance);
    let root = balance_root(balance, out.len(), 0);
    out.extend_from_slice(root.as_bytes());
    out
}

fn statistics_by_hand(statistics: &Statistics) -> Vec<u8> {
    let mut out = Vec::new();
    let mut windows_at = Vec::new();
    for asset in &statistics.statistics {
        windows_at.push(out.len());
        for window in &asset.windows {
            let totals = WindowTotals {
                credit_count: window.credit_count.into(),
                credit_sum: window.credit_sum.into(),
                debit_count: window.debit_count.into(),
                debit_sum: window.debit_sum.into(),
                largest_debit: window.largest_debit.into(),
            };
            out.extend_from_slice(totals.as_bytes());
        }
    }
    let assets_at = out.len();
    for (asset, to) in statistics.statistics.iter().zip(windows_at) {
        let windows = pointer(out.len() + offset_of!(AssetStatisticsRow, windows), to, asset.windows.len());
        out.extend_from_slice(AssetStatisticsRow { asset: asset.asset.into(), windows }.as_bytes());
    }
    let at = out.len() + offset_of!(StatisticsRoot, statistics);
    let root = StatisticsRoot {
        user_id: statistics.user_id.into(),
        version: statistics.version.into(),
        first_transaction_at_us: statistics.first_transaction_at_us.into(),
        last_transaction_at_us: statistics.last_transaction_at_us.into(),
        statistics: pointer(at, assets_at, statistics.statistics.len()),
        windows: statistics.windows,
        padding: [0; 7],
    };
    out.extend_from_slice(root.as_bytes());
    out
}

fn balances_by_hand(balances: &Balances) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rows_at = Vec::new();
    for entry in &balances.entries {
        rows_at.push(out.len());
        if let Some(balance) = &entry.balance {
            write_rows(&mut out, balance);
        }
    }
    let entries_at = out.len();
    for (entry, rows_at) in balances.entries.iter().zip(rows_at) {
        let at = out.len() + offset_of!(BalanceEntryRow, balance);
        let absent = || BalanceRoot {
            user_id: 0.into(),
            version: 0.into(),
            updated_at_us: 0.into(),
            balances: VectorPointer { offset: 0.into(), length: 0.into() },
        };
        let row = BalanceEntryRow {
            user_id: entry.user_id.into(),
            status: entry.status,
            quarantined: u8::from(entry.quarantined),
            padding: [0; 6],
            present: u8::from(entry.balance.is_some()),
            present_padding: [0; 7],
            balance: entry.balance.as_ref().map_or_else(absent, |balance| balance_root(balance, at, rows_at)),
        };
        out.extend_from_slice(row.as_bytes());
    }
    let root = pointer(out.len(), entries_at, balances.entries.len());
    out.extend_from_slice(root.as_bytes());
    out
}

fn any_balance() -> impl Strategy<Value = Balance> {
    let row = (any::<u64>(), any::<i64>(), any::<i64>()).prop_map(|(asset, available, held)| AssetBalance {
        asset,
        available,
        held,
    });
    (any::<u64>(), any::<u64>(), any::<i64>(), prop::collection::vec(row, 0..=16)).prop_map(
        |(user_id, version, updated_at_us, balances)| Balance { user_id, version, updated_at_us, balances },
    )
}

fn any_window() -> impl Strategy<Value = WindowStatistics> {
    (any::<u64>(), any::<i64>(), any::<u64>(), any::<i64>(), any::<i64>()).prop_map(
        |(credit_count, credit_sum, debit_count, debit_sum, largest_debit)| WindowStatistics {
            credit_count,
            credit_sum,
            debit_count,
            debit_sum,
            largest_debit,
        },
    )
}

fn any_statistics() -> impl Strategy<Value = Statistics> {
    (1u8..=15).prop_flat_map(|mask| {
        let count = WindowMask::new(mask).unwrap().count();
        let asset = (any::<u64>(), prop::collection::vec(any_window(), count))
            .prop_map(|(asset, windows)| AssetStatistics { asset, windows });
        let times = (any::<i64>(), any::<i64>());
        (any::<u64>(), any::<u64>(), times, prop::collection::vec(asset, 0..=16)).prop_map(
            move |(user_id, version, times, statistics)| Statistics {
                user_id,
                version,
                first_transaction_at_us: times.0,
                last_transaction_at_us: times.1,
                statistics,
                windows: mask,
            },
        )
    })
}

fn any_entry() -> impl Strategy<Value = BalanceEntry> {
    (any::<u64>(), any::<bool>(), prop::option::of(any_balance())).prop_map(
        |(user_id, quarantined, balance)| {
            let status = if balance.is_some() { Status::Ok } else { Status::NotFound };
            BalanceEntry { user_id, status: status as u8, quarantined, balance }
        },
    )
}

/// `Record size field:type@offset …`, with the offsets that the compiler gave.
macro_rules! line {
    ($record:ident $($field:ident: $kind:literal),*) => {{
        let mut line = format!("{} {}", stringify!($record), size_of::<Archived<$record>>());
        $(line += &format!(" {}:{}@{}", stringify!($field), $kind, offset_of!(Archived<$record>, $field));)*
        line + "\n"
    }};
}

#[test]
fn the_text_that_the_fingerprint_stands_for_is_true() {
    let lines = [
        "rkyv 0.8 little-endian aligned pointer32\n".to_owned(),
        line!(AssetBalance asset: "u64", available: "i64", held: "i64"),
        line!(Balance user_id: "u64", version: "u64", updated_at_us: "i64", balances: "[AssetBalance]"),
        line!(WindowStatistics credit_count: "u64", credit_sum: "i64", debit_count: "u64", debit_sum: "i64",
            largest_debit: "i64"),
        line!(AssetStatistics asset: "u64", windows: "[WindowStatistics]"),
        line!(Statistics user_id: "u64", version: "u64", first_transaction_at_us: "i64",
            last_transaction_at_us: "i64", statistics: "[AssetStatistics]", windows: "u8"),
        line!(BalanceEntry user_id: "u64", status: "u8", balance: "Balance?"),
        line!(Balances entries: "[BalanceEntry]"),
    ];
    assert_eq!(LAYOUT, lines.concat());
}

proptest! {
    #[test]
    fn a_balance(balance in any_balance()) {
        let archived = rkyv::to_bytes::<rkyv::rancor::Error>(&balance).unwrap();
        prop_assert_eq!(balance_by_hand(&balance), archived.as_slice());
    }

    #[test]
    fn statistics(statistics in any_statistics()) {
        let archived = rkyv::to_bytes::<rkyv::rancor::Error>(&statistics).unwrap();
        prop_assert_eq!(statistics_by_hand(&statistics), archived.as_slice());
    }

    #[test]
    fn balances(entries in prop::collection::vec(any_entry(), 0..40)) {
        let balances = Balances { entries };
        let archived = rkyv::to_bytes::<rkyv::rancor::Error>(&balances).unwrap();
        prop_assert_eq!(balances_by_hand(&balances), archived.as_slice());
    }
}

/// The records as they were before an entry told whether its account is quarantined.
mod older {
    use florin_schema::records::Balance;

    #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, PartialEq, Eq, Debug)]
    pub struct BalanceEntry {
        pub user_id: u64,
        pub status: u8,
        pub balance: Option<Balance>,
    }

    #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone, PartialEq, Eq, Debug)]
    pub struct Balances {
        pub entries: Vec<BalanceEntry>,
    }
}

proptest! {
    /// The flag came later, without another fingerprint: so callers of older builds must read on as before, and their servers' answers
    /// must read as without flags.
    #[test]
    fn the_entries_flag_is_read_past_by_older_builds(entries in prop::collection::vec(any_entry(), 0..40)) {
        let unflagged = |entry: &BalanceEntry| BalanceEntry { quarantined: false, ..entry.clone() };
        let before = |entry: &BalanceEntry| older::BalanceEntry {
            user_id: entry.user_id,
            status: entry.status,
            balance: entry.balance.clone(),
        };
        let now = Balances { entries };
        let then = older::Balances { entries: now.entries.iter().map(before).collect() };
        let archived = rkyv::to_bytes::<rkyv::rancor::Error>(&now).unwrap();
        let read = rkyv::from_bytes::<older::Balances, rkyv::rancor::Error>(&archived).unwrap();
        prop_assert_eq!(&read, &then);

        let archived = rkyv::to_bytes::<rkyv::rancor::Error>(&then).unwrap();
        let read = rkyv::from_bytes::<Balances, rkyv::rancor::Error>(&archived).unwrap();
        prop_assert_eq!(read.entries, now.entries.iter().map(unflagged).collect::<Vec<_>>());
    }
}
