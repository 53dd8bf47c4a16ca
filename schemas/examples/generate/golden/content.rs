//! The accounts that the golden replies tell of: ordinary, extreme and empty.

use florin_schema::records::{
    AssetBalance, AssetStatistics, Balance, BalanceEntry, Balances, Statistics, WindowStatistics,
};
use florin_schema::{Asset, MapNode, NodeId, NodeMap, Partitioner, Status, WindowMask};

/// 2026-11-22T04:05:06.000007Z.
pub const AS_OF_US: i64 = 1_795_320_306_000_007;

/// Three partitions of two nodes, one with all that it may have, one without an owner, one without a standby.
pub fn map() -> NodeMap {
    let node =
        |id, host: &str, tls_port| MapNode { id: NodeId(id), host: host.to_owned(), port: 7400, tls_port };
    let nodes = vec![node(0x1122_3344_5566_7788, "2001:db8::1", 0), node(u64::MAX, "node-b.example", 7500)];
    let mut map = NodeMap::new(1_795_320_306_001, Partitioner::Crc32, nodes, 2);
    map.push(Some(1), [0]);
    map.push(None, [1]);
    map.push(Some(0), []);
    map
}

fn asset(code: &str) -> u64 {
    Asset::parse(code.as_bytes()).expect("a legal code").to_wire()
}

fn row(code: &str, available: i64, held: i64) -> AssetBalance {
    AssetBalance { asset: asset(code), available, held }
}

/// One asset: wire.md's example.
pub fn balance() -> Balance {
    Balance { user_id: 42, version: 7, updated_at_us: AS_OF_US, balances: vec![row("COIN", 1200, 0)] }
}

/// The ends of every range: 16 assets, the longest codes, the largest and smallest integers, a time before 1970.
pub fn extreme_balance() -> Balance {
    let mut balances: Vec<AssetBalance> =
        (0..14).map(|n| row(&format!("ASSET_{}", char::from(b'A' + n)), i64::from(n) - 7, 1)).collect();
    balances.push(row("DIAMOND", i64::MAX, i64::MIN));
    balances.push(row("_", i64::MIN, i64::MAX));
    Balance { user_id: i64::MAX as u64, version: i64::MAX as u64, updated_at_us: -1, balances }
}

fn window(scale: i64) -> WindowStatistics {
    WindowStatistics {
        credit_count: scale as u64,
        credit_sum: 500 * scale,
        debit_count: 2 * scale as u64,
        debit_sum: 300 * scale,
        largest_debit: 200,
    }
}

/// Two assets with the windows of `mask`; the first window of the second asset is empty.
pub fn statistics(mask: WindowMask) -> Statistics {
    let windows = |empty_first: i64| {
        mask.iter()
            .enumerate()
            .map(|(place, window_kind)| match place as i64 - empty_first {
                -1 => WindowStatistics::default(),
                _ => window(1 + window_kind as i64),
            })
            .collect()
    };
    Statistics {
        user_id: 42,
        version: 7,
        first_transaction_at_us: AS_OF_US - 86_400_000_000,
        last_transaction_at_us: AS_OF_US,
        statistics: vec![
            AssetStatistics { asset: asset("COIN"), windows: windows(0) },
            AssetStatistics { asset: asset("DIAMOND"), windows: windows(1) },
        ],
        windows: mask.bits(),
    }
}

/// An entry of each sort, in an order that is no order, one user twice.
pub fn balances() -> Balances {
    let entry = |user_id, status: Status, balance| BalanceEntry {
        user_id,
        status: status as u8,
        quarantined: false,
        balance,
    };
    Balances {
        entries: vec![
            entry(42, Status::Ok, Some(balance())),
            entry(9, Status::NotFound, None),
            entry(i64::MAX as u64, Status::Ok, Some(extreme_balance())),
            entry(43, Status::Stale, None),
            entry(42, Status::Ok, Some(balance())),
        ],
    }
}

/// Two accounts whose histories are incomplete, one of which has nothing to show yet, beside a whole one.
pub fn quarantined_balances() -> Balances {
    let entry = |user_id, status: Status, quarantined, balance| BalanceEntry {
        user_id,
        status: status as u8,
        quarantined,
        balance,
    };
    Balances {
        entries: vec![
            entry(42, Status::Ok, true, Some(balance())),
            entry(i64::MAX as u64, Status::Ok, false, Some(extreme_balance())),
            entry(43, Status::Unavailable, true, None),
        ],
    }
}
