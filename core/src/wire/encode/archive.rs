//! rkyv bodies by hand: the same bytes as rkyv writes, in the layouts that `florin_schema::layout` describes.

use alloc::vec::Vec;

use florin_schema::layout::{
    AssetStatisticsRow, BalanceEntryRow, BalanceRoot, StatisticsRoot, VectorPointer,
};
use zerocopy::little_endian::{I32, I64, U32, U64};
use zerocopy::{FromZeros, IntoBytes};

use crate::wire::{BatchEntry, StatisticsAnswer};

/// Appends an archived [`florin_schema::records::Statistics`].
pub(super) fn statistics(out: &mut Vec<u8>, answer: &StatisticsAnswer<'_>) {
    let body = out.len();
    for asset in answer.assets {
        for window in answer.windows.iter() {
            out.extend_from_slice(asset.windows[window as usize].as_bytes());
        }
    }
    let rows = out.len();
    let windows = answer.windows.count();
    for (index, asset) in answer.assets.iter().enumerate() {
        let first = body + index * windows * size_of_val(&asset.windows[0]);
        let pointer = out.len() + core::mem::offset_of!(AssetStatisticsRow, windows);
        let row = AssetStatisticsRow {
            asset: U64::new(asset.asset.to_wire()),
            windows: VectorPointer { offset: offset(pointer, first), length: U32::new(windows as u32) },
        };
        out.extend_from_slice(row.as_bytes());
    }
    let pointer = out.len() + core::mem::offset_of!(StatisticsRoot, statistics);
    let root = StatisticsRoot {
        user_id: U64::new(answer.user_id.get()),
        version: U64::new(answer.version.0),
        first_transaction_at_us: I64::new(answer.first_transaction_at_us),
        last_transaction_at_us: I64::new(answer.last_transaction_at_us),
        statistics: VectorPointer {
            offset: offset(pointer, rows),
            length: U32::new(answer.assets.len() as u32),
        },
        windows: answer.windows.bits(),
        padding: [0; 7],
    };
    out.extend_from_slice(root.as_bytes());
}

/// Appends an archived [`florin_schema::records::Balances`].
pub(super) fn balances(out: &mut Vec<u8>, entries: &[BatchEntry<'_>]) {
    let mut rows = out.len();
    for balance in entries.iter().filter_map(|entry| entry.balance) {
        out.extend_from_slice(balance.rows.as_bytes());
    }
    let first_entry = out.len();
    for entry in entries {
        let mut row = BalanceEntryRow {
            user_id: U64::new(entry.user_id.get()),
            status: entry.status as u8,
            quarantined: u8::from(entry.quarantined),
            padding: [0; 6],
            present: 0,
            present_padding: [0; 7],
            balance: BalanceRoot::new_zeroed(),
        };
        if let Some(balance) = entry.balance {
            let pointer = out.len()
                + core::mem::offset_of!(BalanceEntryRow, balance)
                + core::mem::offset_of!(BalanceRoot, balances);
            row.present = 1;
            row.balance = *balance.root;
            row.balance.balances.offset = offset(pointer, rows);
            rows += size_of_val(balance.rows);
        }
        out.extend_from_slice(row.as_bytes());
    }
    let root =
        VectorPointer { offset: offset(out.len(), first_entry), length: U32::new(entries.len() as u32) };
    out.extend_from_slice(root.as_bytes());
}

/// A relative pointer that lies at `pointer` and reaches back to `target`.
fn offset(pointer: usize, target: usize) -> I32 {
    I32::new(-i32::try_from(pointer - target).expect("the largest batch's reply has less than 1 MiB"))
}
