//! One account's two records, and how a transaction changes them in place.
//!
//! Its balance, as it goes over the wire:
//!
//! | offset | bytes | struct |
//! | --- | --- | --- |
//! | 0 | 8 | [`BalancePrefix`] |
//! | 8 | 24 n + 32 | the archived `Balance` ([`florin_schema::layout`]) |
//!
//! Its statistics, as they are needed to answer for any window at any time:
//!
//! | offset | bytes | struct |
//! | --- | --- | --- |
//! | 0 | 24 | [`StatisticsHeader`] |
//! | 24 | 40 n | [`WindowTotals`] of the lifetime, an asset each, in the balance's order |
//! | 24 + 40 n | 24 m | [`Bucket`] × m, ascending by key: one for each hour, or day, in which something happened |
//!
//! A dense ring of 24 hours and 30 days would take 2 KiB an asset; most accounts have a handful of buckets. Buckets
//! are made coarser, or dropped, only when room is needed; reading skips what no window holds any more. So a
//! boundary that passes costs nothing until the account changes. The header says by which clocks the buckets are exact;
//! by others the account's history has to be read again.

use alloc::vec::Vec;

use florin_schema::frame::ASSETS_MAX;
use florin_schema::layout::{AssetRow, BalanceRoot, BalanceView, VectorPointer, WindowTotals};
use florin_schema::{Asset, UserId, Version, Window};
use zerocopy::little_endian::{I32, I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Defect;
use super::blocks::{Blocks, Handle};
use crate::checkpoint::Record;
use crate::checkpoint::record::RecordHeader;
use crate::ledger::{
    Bucket, BucketKey, Clocks, Counting, Holdings, Horizon, Hour, Kept, Overflow, Transaction,
};
use crate::wire::AssetTotals;

/// Where an account's records lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Account {
    /// Its balance, which names its statistics.
    pub balance: Handle,
}

/// Account flag: its history is known to be incomplete; answers say so.
pub const QUARANTINED: u8 = 1;
/// Account flag: it cannot be repaired by reading its history again, and no longer follows the ledger.
pub const DEFECTIVE: u8 = 2;
/// Account flag: the feed has been asked to read its history again.
pub const REREAD_ASKED: u8 = 4;
/// Account flag: its history has been read again in vain, for the ledger itself lacks what is missing.
pub const LASTING: u8 = 8;

/// What stands before an archived balance.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct BalancePrefix {
    assets: u8,
    flags: u8,
    padding: [u8; 2],
    statistics: Handle,
}

/// What stands before an account's lifetime totals.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct StatisticsHeader {
    first_us: I64,
    /// Of the whole block, bytes.
    capacity: U32,
    buckets: U32,
    /// The hours of the clocks by which the buckets are exact.
    exact_first: I32,
    exact_last: I32,
}

impl StatisticsHeader {
    fn exact(&self) -> Clocks {
        Clocks { first: Hour(self.exact_first.get()), last: Hour(self.exact_last.get()) }
    }

    fn set_exact(&mut self, exact: Clocks) {
        self.exact_first.set(exact.first.0);
        self.exact_last.set(exact.last.0);
    }
}

/// Sums of one asset's buckets, credits before debits.
#[derive(Clone, Copy, Default)]
struct Flows {
    counts: [u64; 2],
    sums: [i64; 2],
    largest_debit: i64,
}

/// Why no sum of buckets overflows.
const WITHIN_LIFETIME: &str = "a window's sums are at most its lifetime's, which did not overflow";

impl Flows {
    #[inline]
    fn add(&mut self, key: BucketKey, bucket: &Bucket) {
        let direction = usize::from(key.is_debit());
        self.counts[direction] += u64::from(bucket.count.get());
        self.sums[direction] = self.sums[direction].checked_add(bucket.sum.get()).expect(WITHIN_LIFETIME);
        self.largest_debit = self.largest_debit.max(bucket.largest.get());
    }

    #[inline]
    fn with(&self, other: &Flows) -> Flows {
        let sum = |at: usize| self.sums[at].checked_add(other.sums[at]).expect(WITHIN_LIFETIME);
        Flows {
            counts: [self.counts[0] + other.counts[0], self.counts[1] + other.counts[1]],
            sums: [sum(0), sum(1)],
            largest_debit: self.largest_debit.max(other.largest_debit),
        }
    }

    #[inline]
    fn totals(&self) -> WindowTotals {
        let ([credit_count, debit_count], [credit_sum, debit_sum]) = (self.counts, self.sums);
        WindowTotals {
            credit_count: U64::new(credit_count),
            credit_sum: I64::new(credit_sum),
            debit_count: U64::new(debit_count),
            debit_sum: I64::new(debit_sum),
            largest_debit: I64::new(self.largest_debit),
        }
    }
}

const PREFIX: usize = size_of::<BalancePrefix>();
const HEADER: usize = size_of::<StatisticsHeader>();
const TOTALS: usize = size_of::<WindowTotals>();
const BUCKET: usize = size_of::<Bucket>();
const _: () = assert!(PREFIX == 8 && HEADER == 24 && TOTALS == 40 && BUCKET == 24);

impl Account {
    /// An account without any transaction.
    pub fn create(blocks: &mut Blocks, user_id: UserId) -> Account {
        let root = BalanceRoot {
            user_id: U64::new(user_id.get()),
            version: U64::new(0),
            updated_at_us: I64::new(0),
            balances: pointer_to_rows(0),
        };
        let balance = blocks.allocate(PREFIX + BalanceView::bytes_of(0));
        blocks.block_mut(balance, PREFIX + BalanceView::bytes_of(0))[PREFIX..]
            .copy_from_slice(root.as_bytes());
        let account = Account { balance };
        let statistics = allocate_statistics(blocks, HEADER + TOTALS + BUCKET);
        account.set_statistics(blocks, statistics);
        statistics_parts_mut(blocks, account).0.set_exact(Clocks::ALL);
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
        let account = Account { balance: blocks.allocate(bytes) };
        let block = blocks.block_mut(account.balance, bytes);
        block[0] = assets as u8;
        let rows = PREFIX + size_of_val(record.rows);
        block[PREFIX..rows].copy_from_slice(record.rows.as_bytes());
        block[rows..].copy_from_slice(root.as_bytes());

        let used = HEADER + TOTALS * assets + size_of_val(record.buckets);
        let statistics = allocate_statistics(blocks, used.max(HEADER + TOTALS + BUCKET));
        account.set_statistics(blocks, statistics);
        let block = blocks.block_mut(statistics, used);
        let header = StatisticsHeader::mut_from_bytes(&mut block[..HEADER]).expect("a header's bytes");
        header.first_us = record.header.first_us;
        header.buckets = record.header.buckets;
        header.set_exact(record.exact());
        let lifetimes = HEADER + TOTALS * assets;
        block[HEADER..lifetimes].copy_from_slice(record.lifetimes.as_bytes());
        block[lifetimes..].copy_from_slice(record.buckets.as_bytes());
        account
    }

    /// Appends the account to `out` as a checkpoint holds it. Of one that is incomplete only its name: its history has to be
    /// read again, and nothing of it is trusted.
    pub fn save(self, blocks: &Blocks, out: &mut Vec<u8>) {
        let (balance, flags) = self.flagged_balance(blocks);
        if flags & QUARANTINED != 0 {
            return Record::write_incomplete(balance.root.user_id, out);
        }
        let (header, lifetimes, buckets) = statistics_parts(blocks, self);
        let header = RecordHeader {
            user_id: balance.root.user_id,
            version: balance.root.version,
            first_us: header.first_us,
            last_us: balance.root.updated_at_us,
            exact_first: header.exact_first,
            exact_last: header.exact_last,
            buckets: header.buckets,
            assets: balance.rows.len() as u8,
            flags: 0,
            padding: [0; 2],
        };
        Record { header: &header, rows: balance.rows, lifetimes, buckets }.write(out);
    }

    /// Another one that is the same.
    pub fn copy(self, blocks: &mut Blocks) -> Account {
        let bytes = PREFIX + BalanceView::bytes_of(self.assets(blocks));
        let balance = blocks.allocate(bytes);
        blocks.copy(self.balance, balance, bytes);
        let (statistics, capacity) = (self.statistics(blocks), self.header(blocks).capacity.get() as usize);
        let copied = blocks.allocate(capacity);
        blocks.copy(statistics, copied, capacity);
        let account = Account { balance };
        account.set_statistics(blocks, copied);
        account
    }

    /// Gives both records back.
    pub fn free(self, blocks: &mut Blocks) {
        let capacity = self.header(blocks).capacity.get() as usize;
        blocks.free(self.statistics(blocks), capacity);
        let bytes = PREFIX + BalanceView::bytes_of(self.assets(blocks));
        blocks.free(self.balance, bytes);
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

    /// The flags above.
    #[inline]
    pub fn flags(self, blocks: &Blocks) -> u8 {
        self.prefix(blocks).flags
    }

    /// Replaces the flags.
    pub fn set_flags(self, blocks: &mut Blocks, flags: u8) {
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
    pub fn flagged_balance(self, blocks: &Blocks) -> (BalanceView<'_>, u8) {
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

    fn header(self, blocks: &Blocks) -> StatisticsHeader {
        StatisticsHeader::read_from_bytes(blocks.block(self.statistics(blocks), HEADER))
            .expect("a header's bytes")
    }

    /// First and last `occurred_at`, µs; 0 where the account has no transaction.
    pub fn span_us(self, blocks: &Blocks) -> (i64, i64) {
        (self.header(blocks).first_us.get(), self.balance(blocks).root.updated_at_us.get())
    }

    /// Bytes of its statistics.
    #[cfg(test)]
    pub fn statistics_bytes(self, blocks: &Blocks) -> usize {
        self.header(blocks).capacity.get() as usize
    }

    /// The clocks by which [`Account::totals`] are exact.
    #[inline]
    pub fn exact(self, blocks: &Blocks) -> Clocks {
        self.header(blocks).exact()
    }

    /// Every asset's totals in all four windows as of `horizon`, into `totals`. Each window holds the one before it and a
    /// ring around it; each bucket is added to its ring alone, and that without a branch on what cannot be guessed.
    pub fn totals(self, blocks: &Blocks, horizon: &Horizon, totals: &mut Vec<AssetTotals>) {
        let (_, lifetimes, buckets) = statistics_parts(blocks, self);
        let [hours24, days7, days30] =
            [Window::Hours24, Window::Days7, Window::Days30].map(|w| horizon.hours(w).expect("has edges"));
        let mut rings = [[Flows::default(); 3]; ASSETS_MAX];
        for bucket in buckets.iter().rev() {
            let key = BucketKey(bucket.key.get());
            let hour = key.hour();
            if hour < days30.0 {
                break;
            }
            // Those that lie ahead are few: see `CLOCK_AHEAD_HOURS`.
            if hour > days30.1 {
                continue;
            }
            let beyond_24h = (hour < hours24.0) | (hour > hours24.1);
            let ring = usize::from(beyond_24h) + usize::from(hour < days7.0);
            rings[key.asset()][ring].add(key, bucket);
        }
        totals.clear();
        for ((row, &lifetime), [hours24, to_days7, to_days30]) in
            self.balance(blocks).rows.iter().zip(lifetimes).zip(rings)
        {
            let days7 = hours24.with(&to_days7);
            let windows = [hours24.totals(), days7.totals(), days7.with(&to_days30).totals(), lifetime];
            totals.push(AssetTotals { asset: row.asset(), windows });
        }
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
        let mut lifetime = statistics_parts(blocks, *self).1[index];
        add(&mut lifetime, counting, 1, row.amount, row.amount)?;
        let mut exact = Clocks::ALL;
        if counting != Counting::Neither {
            let kept = horizon.keep(row.hour());
            exact = kept.exact;
            if let Some(hour) = kept.bucket {
                self.add_to_bucket(blocks, BucketKey::new(hour, index, counting), row.amount, horizon)?;
            }
        }
        // Nothing fails from here on.
        let (header, lifetimes) = statistics_parts_mut(blocks, *self);
        header.set_exact(header.exact().and(exact));
        lifetimes[index] = lifetime;
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

    fn balance_mut(self, blocks: &mut Blocks) -> (&mut [AssetRow], &mut BalanceRoot) {
        let bytes = BalanceView::bytes_of(self.assets(blocks));
        let body = &mut blocks.block_mut(self.balance, PREFIX + bytes)[PREFIX..];
        let (rows, root) = BalanceRoot::mut_from_suffix(body).expect("a balance ends with its root");
        (<[AssetRow]>::mut_from_bytes(rows).expect("whole rows"), root)
    }

    /// Makes room for `asset` at `index` of both records.
    fn insert_asset(&mut self, blocks: &mut Blocks, index: usize, asset: Asset) {
        let assets = self.assets(blocks);
        let old = blocks.block(self.balance, PREFIX + BalanceView::bytes_of(assets)).to_vec();
        let row = AssetRow { asset: U64::new(asset.to_wire()), available: I64::new(0), held: I64::new(0) };
        let at = PREFIX + size_of::<AssetRow>() * index;
        let balance = blocks.allocate(old.len() + size_of::<AssetRow>());
        let new = blocks.block_mut(balance, old.len() + size_of::<AssetRow>());
        new[..at].copy_from_slice(&old[..at]);
        new[at..at + size_of::<AssetRow>()].copy_from_slice(row.as_bytes());
        new[at + size_of::<AssetRow>()..].copy_from_slice(&old[at..]);
        new[0] = assets as u8 + 1;
        blocks.free(self.balance, old.len());
        self.balance = balance;
        self.balance_mut(blocks).1.balances = pointer_to_rows(assets + 1);

        let header = self.header(blocks);
        let buckets = header.buckets.get() as usize;
        let used = HEADER + TOTALS * assets + BUCKET * buckets;
        self.reserve(blocks, used, TOTALS);
        let block = blocks.block_mut(self.statistics(blocks), used + TOTALS);
        let at = HEADER + TOTALS * index;
        block.copy_within(at..used, at + TOTALS);
        block[at..at + TOTALS].fill(0);
        for bucket in buckets_mut(blocks, *self) {
            let key = BucketKey(bucket.key.get());
            if key.asset() >= index {
                bucket.key.set(key.with_asset(key.asset() + 1).0);
            }
        }
    }

    fn add_to_bucket(
        &mut self,
        blocks: &mut Blocks,
        key: BucketKey,
        amount: i64,
        horizon: &Horizon,
    ) -> Result<(), Overflow> {
        let largest = if key.is_debit() { amount } else { 0 };
        let new = Bucket {
            key: U32::new(key.0),
            count: U32::new(1),
            sum: I64::new(amount),
            largest: I64::new(largest),
        };
        let buckets = buckets_mut(blocks, *self);
        match buckets.binary_search_by_key(&key, |bucket| BucketKey(bucket.key.get())) {
            Ok(index) => buckets[index].merge(&new),
            Err(_) => {
                if self.room(blocks) < BUCKET {
                    self.roll(blocks, horizon)?;
                }
                let used = self.used(blocks);
                self.reserve(blocks, used, BUCKET);
                self.insert_bucket(blocks, new);
                Ok(())
            }
        }
    }

    fn insert_bucket(self, blocks: &mut Blocks, new: Bucket) {
        let at = buckets_mut(blocks, self).partition_point(|bucket| bucket.key.get() < new.key.get());
        statistics_parts_mut(blocks, self).0.buckets += 1;
        let buckets = buckets_mut(blocks, self);
        let last = buckets.len() - 1;
        buckets.copy_within(at..last, at + 1);
        buckets[at] = new;
    }

    /// Makes each bucket as coarse as `horizon` lets it be, and drops those that it does not keep.
    fn roll(self, blocks: &mut Blocks, horizon: &Horizon) -> Result<(), Overflow> {
        let mut exact = self.exact(blocks);
        let buckets = buckets_mut(blocks, self);
        let mut kept = 0;
        for index in 0..buckets.len() {
            let mut bucket = buckets[index];
            let key = BucketKey(bucket.key.get());
            let Kept { bucket: hour, exact: as_kept } = horizon.keep(key.hour());
            exact = exact.and(as_kept);
            if let Some(hour) = hour {
                bucket.key.set(key.at_hour(hour).0);
                buckets[kept] = bucket;
                kept += 1;
            }
        }
        buckets[..kept].sort_unstable_by_key(|bucket| bucket.key.get());
        let mut merged = 0;
        for index in 0..kept {
            let bucket = buckets[index];
            if merged > 0 && buckets[merged - 1].key == bucket.key {
                buckets[merged - 1].merge(&bucket)?;
            } else {
                buckets[merged] = bucket;
                merged += 1;
            }
        }
        let header = statistics_parts_mut(blocks, self).0;
        header.buckets.set(merged as u32);
        header.set_exact(exact);
        Ok(())
    }

    fn used(self, blocks: &Blocks) -> usize {
        HEADER + TOTALS * self.assets(blocks) + BUCKET * self.header(blocks).buckets.get() as usize
    }

    fn room(self, blocks: &Blocks) -> usize {
        self.header(blocks).capacity.get() as usize - self.used(blocks)
    }

    /// Moves the statistics, of which `used` bytes count, to a larger block unless `more` bytes fit into theirs.
    fn reserve(self, blocks: &mut Blocks, used: usize, more: usize) {
        let capacity = self.header(blocks).capacity.get() as usize;
        if used + more <= capacity {
            return;
        }
        let larger = allocate_statistics(blocks, used + more);
        let smaller = self.statistics(blocks);
        blocks.copy(smaller, larger, used);
        set_capacity(blocks, larger, blocks.capacity_for(used + more));
        blocks.free(smaller, capacity);
        self.set_statistics(blocks, larger);
    }
}

fn pointer_to_rows(assets: usize) -> VectorPointer {
    let back = core::mem::offset_of!(BalanceRoot, balances) + size_of::<AssetRow>() * assets;
    VectorPointer { offset: I32::new(-(back as i32)), length: U32::new(assets as u32) }
}

fn allocate_statistics(blocks: &mut Blocks, bytes: usize) -> Handle {
    let capacity = blocks.capacity_for(bytes);
    let handle = blocks.allocate(bytes);
    set_capacity(blocks, handle, capacity);
    handle
}

fn set_capacity(blocks: &mut Blocks, statistics: Handle, bytes: usize) {
    let header =
        StatisticsHeader::mut_from_bytes(blocks.block_mut(statistics, HEADER)).expect("a header's bytes");
    header.capacity.set(bytes as u32);
}

fn statistics_parts(blocks: &Blocks, account: Account) -> (&StatisticsHeader, &[WindowTotals], &[Bucket]) {
    let assets = account.assets(blocks);
    let block = blocks.block(account.statistics(blocks), account.used(blocks));
    let (header, rest) = StatisticsHeader::ref_from_prefix(block).expect("statistics begin with a header");
    let (lifetimes, rest) =
        <[WindowTotals]>::ref_from_prefix_with_elems(rest, assets).expect("totals an asset");
    (header, lifetimes, <[Bucket]>::ref_from_bytes(rest).expect("whole buckets"))
}

fn statistics_parts_mut(
    blocks: &mut Blocks,
    account: Account,
) -> (&mut StatisticsHeader, &mut [WindowTotals]) {
    let assets = account.assets(blocks);
    let block = blocks.block_mut(account.statistics(blocks), HEADER + TOTALS * assets);
    let (header, rest) = StatisticsHeader::mut_from_prefix(block).expect("statistics begin with a header");
    (header, <[WindowTotals]>::mut_from_bytes(rest).expect("totals an asset"))
}

fn buckets_mut(blocks: &mut Blocks, account: Account) -> &mut [Bucket] {
    let (from, to) = (HEADER + TOTALS * account.assets(blocks), account.used(blocks));
    <[Bucket]>::mut_from_bytes(&mut blocks.block_mut(account.statistics(blocks), to)[from..])
        .expect("whole buckets")
}

#[inline]
fn add(
    totals: &mut WindowTotals,
    counting: Counting,
    count: u64,
    sum: i64,
    largest: i64,
) -> Result<(), Overflow> {
    match counting {
        Counting::Credit => {
            totals.credit_sum.set(totals.credit_sum.get().checked_add(sum).ok_or(Overflow)?);
            totals.credit_count.set(totals.credit_count.get() + count);
        }
        Counting::Debit => {
            totals.debit_sum.set(totals.debit_sum.get().checked_add(sum).ok_or(Overflow)?);
            totals.debit_count.set(totals.debit_count.get() + count);
            totals.largest_debit.set(totals.largest_debit.get().max(largest));
        }
        Counting::Neither => {}
    }
    Ok(())
}

impl From<Overflow> for Defect {
    fn from(Overflow: Overflow) -> Defect {
        Defect::Overflow
    }
}
