//! The archived records as plain bytes: what the server keeps in its tables and writes without a serialiser.
//!
//! An archived [`crate::records::Balance`] of n assets is n rows and then the root:
//!
//! | offset | bytes | struct |
//! | --- | --- | --- |
//! | 0 | 24 n | [`AssetRow`] × n, ascending by code |
//! | 24 n | 32 | [`BalanceRoot`], whose pointer reaches back to offset 0 |
//!
//! An archived [`crate::records::Statistics`] of n assets and w windows:
//!
//! | offset | bytes | struct |
//! | --- | --- | --- |
//! | 0 | 40 n w | [`WindowTotals`], window by window within asset by asset |
//! | 40 n w | 16 n | [`AssetStatisticsRow`] × n |
//! | (40 w + 16) n | 48 | [`StatisticsRoot`] |
//!
//! An archived [`crate::records::Balances`]: the rows of each OK entry, in order; [`BalanceEntryRow`] × entries; a
//! [`VectorPointer`]. Tests hold each against what rkyv itself writes.

use std::mem::offset_of;

use rkyv::Archived;
use zerocopy::little_endian::{I32, I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Asset;
use crate::records;

/// An archived `Vec`: where its elements begin, counted from this struct's own place, and how many there are.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VectorPointer {
    /// Bytes from here to the first element; negative.
    pub offset: I32,
    /// Elements.
    pub length: U32,
}

/// [`records::AssetBalance`], archived; also the FlatBuffers struct.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AssetRow {
    /// [`Asset::to_wire`].
    pub asset: U64,
    /// Minor units.
    pub available: I64,
    /// Minor units.
    pub held: I64,
}

impl AssetRow {
    /// The row's asset.
    ///
    /// # Panics
    /// Where the row was not written from an [`Asset`].
    #[inline]
    pub fn asset(&self) -> Asset {
        Asset::from_wire(self.asset.get()).expect("a row's asset was checked when it was written")
    }
}

/// [`records::Balance`], archived, without its rows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BalanceRoot {
    /// Whose.
    pub user_id: U64,
    /// Transactions applied.
    pub version: U64,
    /// µs since 1970 UTC.
    pub updated_at_us: I64,
    /// To the rows.
    pub balances: VectorPointer,
}

/// [`records::WindowStatistics`], archived; also the FlatBuffers struct.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct WindowTotals {
    /// How many credits.
    pub credit_count: U64,
    /// Their sum, minor units.
    pub credit_sum: I64,
    /// How many debits.
    pub debit_count: U64,
    /// Their sum, minor units.
    pub debit_sum: I64,
    /// The largest of them, or 0.
    pub largest_debit: I64,
}

/// [`records::AssetStatistics`], archived, without its windows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AssetStatisticsRow {
    /// [`Asset::to_wire`].
    pub asset: U64,
    /// To the windows.
    pub windows: VectorPointer,
}

/// [`records::Statistics`], archived, without its rows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct StatisticsRoot {
    /// Whose.
    pub user_id: U64,
    /// Transactions applied.
    pub version: U64,
    /// µs since 1970 UTC.
    pub first_transaction_at_us: I64,
    /// µs since 1970 UTC.
    pub last_transaction_at_us: I64,
    /// To the [`AssetStatisticsRow`]s.
    pub statistics: VectorPointer,
    /// [`crate::WindowMask::bits`].
    pub windows: u8,
    /// Zeroes.
    pub padding: [u8; 7],
}

/// [`records::BalanceEntry`], archived.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BalanceEntryRow {
    /// As asked.
    pub user_id: U64,
    /// A [`crate::Status`].
    pub status: u8,
    /// 1 where the account's history is known to be incomplete.
    pub quarantined: u8,
    /// Zeroes.
    pub padding: [u8; 6],
    /// 1 where `balance` is present.
    pub present: u8,
    /// Zeroes.
    pub present_padding: [u8; 7],
    /// Zeroes where it is not present.
    pub balance: BalanceRoot,
}

const _: () = {
    assert!(size_of::<AssetRow>() == size_of::<Archived<records::AssetBalance>>());
    assert!(offset_of!(Archived<records::AssetBalance>, available) == offset_of!(AssetRow, available));
    assert!(offset_of!(Archived<records::AssetBalance>, held) == offset_of!(AssetRow, held));

    assert!(
        size_of::<BalanceRoot>() == 32 && size_of::<BalanceRoot>() == size_of::<Archived<records::Balance>>()
    );
    assert!(offset_of!(Archived<records::Balance>, version) == offset_of!(BalanceRoot, version));
    assert!(offset_of!(Archived<records::Balance>, updated_at_us) == offset_of!(BalanceRoot, updated_at_us));
    assert!(offset_of!(Archived<records::Balance>, balances) == offset_of!(BalanceRoot, balances));

    assert!(size_of::<WindowTotals>() == size_of::<Archived<records::WindowStatistics>>());
    assert!(
        offset_of!(Archived<records::WindowStatistics>, debit_sum) == offset_of!(WindowTotals, debit_sum)
    );
    assert!(size_of::<AssetStatisticsRow>() == size_of::<Archived<records::AssetStatistics>>());
    assert!(size_of::<StatisticsRoot>() == size_of::<Archived<records::Statistics>>());
    assert!(offset_of!(Archived<records::Statistics>, statistics) == offset_of!(StatisticsRoot, statistics));
    assert!(offset_of!(Archived<records::Statistics>, windows) == offset_of!(StatisticsRoot, windows));

    assert!(size_of::<BalanceEntryRow>() == size_of::<Archived<records::BalanceEntry>>());
    assert!(
        offset_of!(Archived<records::BalanceEntry>, quarantined) == offset_of!(BalanceEntryRow, quarantined)
    );
    assert!(offset_of!(Archived<records::BalanceEntry>, balance) == offset_of!(BalanceEntryRow, present));
    assert!(size_of::<VectorPointer>() == size_of::<Archived<records::Balances>>());
};

/// The fingerprint of the archived layouts: FNV-1a over the bytes of `layout.rs`'s own description, [`LAYOUT`]. Its
/// low 32 bits stand in every reply header, so that a Rust caller never reads a layout that it does not know.
pub const SCHEMA_FINGERPRINT: u64 = fnv1a(LAYOUT.as_bytes());

/// The layouts in one canonical line a record: name, size, and each field's name, type and offset. A field that came later, into bytes
/// that all earlier builds write as zeroes and never read, is not named: neither side misreads the other, so none is refused
/// (`BalanceEntry`'s `quarantined:bool@9`).
pub const LAYOUT: &str = "rkyv 0.8 little-endian aligned pointer32\n\
AssetBalance 24 asset:u64@0 available:i64@8 held:i64@16\n\
Balance 32 user_id:u64@0 version:u64@8 updated_at_us:i64@16 balances:[AssetBalance]@24\n\
WindowStatistics 40 credit_count:u64@0 credit_sum:i64@8 debit_count:u64@16 debit_sum:i64@24 largest_debit:i64@32\n\
AssetStatistics 16 asset:u64@0 windows:[WindowStatistics]@8\n\
Statistics 48 user_id:u64@0 version:u64@8 first_transaction_at_us:i64@16 last_transaction_at_us:i64@24 \
statistics:[AssetStatistics]@32 windows:u8@40\n\
BalanceEntry 56 user_id:u64@0 status:u8@8 balance:Balance?@16\n\
Balances 8 entries:[BalanceEntry]@0\n";

const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01B3);
        at += 1;
    }
    hash
}

/// An archived [`records::Balance`], seen without copying.
#[derive(Clone, Copy, Debug)]
pub struct BalanceView<'a> {
    /// Ascending by code.
    pub rows: &'a [AssetRow],
    /// The rest.
    pub root: &'a BalanceRoot,
    /// Both, as they lie: the rkyv body.
    pub bytes: &'a [u8],
}

impl<'a> BalanceView<'a> {
    /// Bytes of an archived balance of `assets` assets.
    pub const fn bytes_of(assets: usize) -> usize {
        size_of::<AssetRow>() * assets + size_of::<BalanceRoot>()
    }

    /// Splits `bytes` into rows and root; `None` where their number fits no balance. Reads no pointer: for bytes that
    /// this process wrote itself.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Option<BalanceView<'a>> {
        let (rows, root) = BalanceRoot::ref_from_suffix(bytes).ok()?;
        Some(BalanceView { rows: <[AssetRow]>::ref_from_bytes(rows).ok()?, root, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_lies_as_rkyv_writes_it() {
        for assets in 0..=crate::frame::ASSETS_MAX {
            let balance = records::Balance {
                user_id: 42,
                version: 7,
                updated_at_us: -5,
                balances: (0..assets as i64)
                    .map(|i| records::AssetBalance { asset: 65 + i as u64, available: i * 100, held: -i })
                    .collect(),
            };
            let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&balance).unwrap();
            assert_eq!(bytes.len(), BalanceView::bytes_of(assets));
            let view = BalanceView::new(&bytes).unwrap();
            assert_eq!(view.rows.len(), assets);
            assert_eq!(view.root.balances.length.get() as usize, assets);
            let from_pointer = offset_of!(BalanceRoot, balances) as i32 + 24 * assets as i32;
            assert_eq!(view.root.balances.offset.get(), -from_pointer);
            assert_eq!(view.root.updated_at_us.get(), -5);
            for (row, asset) in view.rows.iter().zip(&balance.balances) {
                assert_eq!((row.available.get(), row.held.get()), (asset.available, asset.held));
            }
        }
    }

    #[test]
    fn the_fingerprint_is_pinned() {
        // Changing it refuses every rkyv caller of an older build: only with a changed layout.
        assert_eq!(SCHEMA_FINGERPRINT, 0xA2B7_8E80_F0E5_C10B);
    }
}
