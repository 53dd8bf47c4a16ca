//! One account's two records, and how a transaction changes them in place.
//!
//! Its balance, as it goes over the wire:
//!
//! | offset | bytes | struct |
//! | --- | --- | --- |
//! | 0 | 8 | [`BalancePrefix`] |
//! | 8 | 24 n + 32 | the archived `Balance` ([`florin_schema::layout`]) |
//!
//! Its statistics are `statistics`.

use alloc::vec::Vec;

use florin_schema::frame::ASSETS_MAX;
use florin_schema::layout::{AssetRow, BalanceRoot, BalanceView, VectorPointer};
use florin_schema::{Asset, UserId, Version};
use zerocopy::little_endian::{I32, I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Defect;
use super::blocks::{Blocks, Family, Handle};
use crate::checkpoint::Record;
use crate::checkpoint::record::RecordHeader;
use crate::ledger::{BucketKey, Clocks, Counting, Holdings, Horizon, Overflow, Transaction};

mod flags;
mod forms;
mod statistics;

pub use flags::Flags;
use forms::Form;

/// Where an account's records lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Account {
    /// Its balance, which names its statistics.
    pub balance: Handle,
}

/// What stands before an archived balance.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct BalancePrefix {
    assets: u8,
    flags: Flags,
    padding: [u8; 2],
    statistics: Handle,
}

const PREFIX: usize = size_of::<BalancePrefix>();
const _: () = assert!(PREFIX == 8);

impl Account {
    /// An account without any transaction.
    pub fn create(blocks: &mut Blocks, user_id: UserId) -> Account {
        let root = BalanceRoot {
            user_id: U64::new(user_id.get()),
            version: U64::new(0),
            updated_at_us: I64::new(0),
            balances: pointer_to_rows(0),
        };
        let balance = blocks.allocate(Family::Balances, PREFIX + BalanceView::bytes_of(0));
        blocks.used.balances += PREFIX + BalanceView::bytes_of(0);
        blocks.block_mut(balance, PREFIX + BalanceView::bytes_of(0))[PREFIX..]
            .copy_from_slice(root.as_bytes());
        let account = Account { balance };
        account.create_statistics(blocks);
        account
    }

    /// An account as a checkpoint holds it.
    pub fn restore(blocks: &mut Blocks, record: &Record<'_>) -> Account {
        let assets = record.rows.len();
        let root = BalanceRoot {
            user_id: record.header.user_id,
            version: record.header.version,
            updated_at_us: record.header.last_us,
            balances: pointer_to_rows(assets),
        };
        let bytes = PREFIX + BalanceView::bytes_of(assets);
        let account = Account { balance: blocks.allocate(Family::Balances, bytes) };
        blocks.used.balances += bytes;
        let block = blocks.block_mut(account.balance, bytes);
        block[0] = assets as u8;
        let rows = PREFIX + size_of_val(record.rows);
        block[PREFIX..rows].copy_from_slice(record.rows.as_bytes());
        block[rows..].copy_from_slice(root.as_bytes());

        account.restore_statistics(blocks, record);
        account
    }

    /// Appends the account to `out` as a checkpoint holds it. Of one that is incomplete only its name: its history has to be
    /// read again, and nothing of it is trusted.
    pub fn save(self, blocks: &Blocks, out: &mut Vec<u8>) {
        let (balance, flags) = self.flagged_balance(blocks);
        if flags.has_any(Flags::QUARANTINED) {
            return Record::write_incomplete(balance.root.user_id, out);
        }
        let header = self.header(blocks);
        let header = RecordHeader {
            user_id: balance.root.user_id,
            version: balance.root.version,
            first_us: header.first_us,
            last_us: balance.root.updated_at_us,
            exact_first: header.exact_first,
            exact_last: header.exact_last,
            buckets: U32::new(u32::from(header.buckets.get())),
            assets: balance.rows.len() as u8,
            flags: 0,
            padding: [0; 2],
        };
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(balance.rows.as_bytes());
        self.save_statistics(blocks, out);
    }

    /// Another one that is the same.
    pub fn copy(self, blocks: &mut Blocks) -> Account {
        let bytes = PREFIX + BalanceView::bytes_of(self.assets(blocks));
        let balance = blocks.allocate(Family::Balances, bytes);
        blocks.copy(self.balance, balance, bytes);
        blocks.used.balances += bytes;
        let account = Account { balance };
        account.copy_statistics(blocks);
        account
    }

    /// Gives both records back.
    pub fn free(self, blocks: &mut Blocks) {
        self.free_statistics(blocks);
        let bytes = PREFIX + BalanceView::bytes_of(self.assets(blocks));
        blocks.free(self.balance, bytes);
        blocks.used.balances -= bytes;
    }

    #[inline]
    fn prefix(self, blocks: &Blocks) -> &BalancePrefix {
        BalancePrefix::ref_from_bytes(blocks.block(self.balance, PREFIX)).expect("a prefix's bytes")
    }

    #[inline]
    fn prefix_mut(self, blocks: &mut Blocks) -> &mut BalancePrefix {
        BalancePrefix::mut_from_bytes(blocks.block_mut(self.balance, PREFIX)).expect("a prefix's bytes")
    }

    #[inline]
    fn assets(self, blocks: &Blocks) -> usize {
        usize::from(self.prefix(blocks).assets)
    }

    /// Its flags.
    #[inline]
    pub fn flags(self, blocks: &Blocks) -> Flags {
        self.prefix(blocks).flags
    }

    /// Replaces the flags.
    pub fn set_flags(self, blocks: &mut Blocks, flags: Flags) {
        self.prefix_mut(blocks).flags = flags;
    }

    /// Where its statistics lie.
    #[inline]
    pub fn statistics(self, blocks: &Blocks) -> Handle {
        self.prefix(blocks).statistics
    }

    fn set_statistics(self, blocks: &mut Blocks, statistics: Handle) {
        self.prefix_mut(blocks).statistics = statistics;
    }

    /// The archived balance.
    #[inline]
    pub fn balance(self, blocks: &Blocks) -> BalanceView<'_> {
        self.flagged_balance(blocks).0
    }

    /// The archived balance and the flags.
    #[inline(always)]
    pub fn flagged_balance(self, blocks: &Blocks) -> (BalanceView<'_>, Flags) {
        let record = blocks.block_and_on(self.balance);
        let (prefix, rest) = BalancePrefix::ref_from_prefix(record).expect("a block holds its prefix");
        let bytes = BalanceView::bytes_of(usize::from(prefix.assets));
        (BalanceView::new(&rest[..bytes]).expect("a balance's bytes"), prefix.flags)
    }

    /// How many transactions the account holds.
    #[inline]
    pub fn version(self, blocks: &Blocks) -> Version {
        Version(self.balance(blocks).root.version.get())
    }

    /// First and last `occurred_at`, µs; 0 where the account has no transaction.
    pub fn span_us(self, blocks: &Blocks) -> (i64, i64) {
        (self.header(blocks).first_us.get(), self.balance(blocks).root.updated_at_us.get())
    }

    /// Applies `row`, whose version is the account's next, or leaves the account as it was.
    pub fn apply(&mut self, blocks: &mut Blocks, row: &Transaction, horizon: &Horizon) -> Result<(), Defect> {
        let rows = self.balance(blocks).rows;
        let index = match rows.binary_search_by(|held| held.asset().cmp(&row.asset)) {
            Ok(index) => index,
            Err(_) if rows.len() == ASSETS_MAX => return Err(Defect::TooManyAssets),
            // A new asset's first transaction cannot overflow, so nothing has to be undone.
            Err(index) => {
                self.insert_asset(blocks, index, row.asset);
                index
            }
        };
        let held = &self.balance(blocks).rows[index];
        let before = Holdings { available: held.available.get(), held: held.held.get() };
        let after = row.kind.apply(before, row.amount)?;
        let counting = row.kind.counting();
        let mut lifetime = self.lifetime(blocks, index);
        statistics::add(&mut lifetime, counting, row.amount)?;
        if !Form::of([&lifetime]).is_within(self.form(blocks)) {
            self.widen(blocks);
        }
        let mut exact = Clocks::ALL;
        if counting != Counting::Neither {
            let kept = horizon.keep(row.hour());
            exact = kept.exact;
            if let Some(hour) = kept.bucket {
                self.add_to_bucket(blocks, BucketKey::new(hour, index, counting), row.amount, horizon)?;
            }
        }
        // Nothing fails from here on.
        self.set_lifetime(blocks, index, &lifetime);
        let header = self.header_mut(blocks);
        header.set_exact(header.exact().and(exact));
        let first = row.version == Version(1);
        if first || row.occurred_at_us < header.first_us.get() {
            header.first_us.set(row.occurred_at_us);
        }
        let (rows, root) = self.balance_mut(blocks);
        let last_us =
            if first { row.occurred_at_us } else { row.occurred_at_us.max(root.updated_at_us.get()) };
        rows[index].available.set(after.available);
        rows[index].held.set(after.held);
        root.version.set(row.version.0);
        root.updated_at_us.set(last_us);
        Ok(())
    }

    pub(super) fn balance_mut(self, blocks: &mut Blocks) -> (&mut [AssetRow], &mut BalanceRoot) {
        let bytes = BalanceView::bytes_of(self.assets(blocks));
        let body = &mut blocks.block_mut(self.balance, PREFIX + bytes)[PREFIX..];
        let (rows, root) = BalanceRoot::mut_from_suffix(body).expect("a balance ends with its root");
        (<[AssetRow]>::mut_from_bytes(rows).expect("whole rows"), root)
    }

    /// Makes room for `asset` at `index` of both records.
    fn insert_asset(&mut self, blocks: &mut Blocks, index: usize, asset: Asset) {
        let assets = self.assets(blocks);
        let row = AssetRow { asset: U64::new(asset.to_wire()), available: I64::new(0), held: I64::new(0) };
        let (bytes, more) = (PREFIX + BalanceView::bytes_of(assets), size_of::<AssetRow>());
        let balance = blocks.allocate(Family::Balances, bytes + more);
        blocks.copy(self.balance, balance, bytes);
        blocks.free(self.balance, bytes);
        let block = blocks.block_mut(balance, bytes + more);
        let at = PREFIX + more * index;
        block.copy_within(at..bytes, at + more);
        block[at..at + more].copy_from_slice(row.as_bytes());
        block[0] = assets as u8 + 1;
        blocks.used.balances += size_of::<AssetRow>();
        self.balance = balance;
        self.balance_mut(blocks).1.balances = pointer_to_rows(assets + 1);

        self.insert_lifetime(blocks, index);
    }
}

fn pointer_to_rows(assets: usize) -> VectorPointer {
    let back = core::mem::offset_of!(BalanceRoot, balances) + size_of::<AssetRow>() * assets;
    VectorPointer { offset: I32::new(-(back as i32)), length: U32::new(assets as u32) }
}

impl From<Overflow> for Defect {
    fn from(Overflow: Overflow) -> Defect {
        Defect::Overflow
    }
}
