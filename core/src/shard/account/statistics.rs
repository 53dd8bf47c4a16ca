//! An account's statistics, as they are needed to answer for any window at any time:
//!
//! | offset | bytes | struct |
//! | --- | --- | --- |
//! | 0 | 24 | [`Header`] |
//! | 24 | t n | totals of the lifetime, an asset each, in the balance's order |
//! | 24 + t n | b m | buckets, ascending by key: one for each hour, or day, in which something happened |
//!
//! As long as no total of the lifetime needs more than 32 bits, no bucket does, and all are kept so: t is 20 and b 16 instead of
//! 40 and 24 ([`Form`]).
//!
//! A dense ring of 24 hours and 30 days would take 2 KiB an asset; most accounts have a handful of buckets. Buckets
//! are made coarser, or dropped, only when room is needed; reading skips what no window holds any more. So a
//! boundary that passes costs nothing until the account changes. The header says by which clocks the buckets are exact;
//! by others the account's history has to be read again.

use alloc::vec::Vec;

use florin_schema::Window;
use florin_schema::frame::ASSETS_MAX;
use florin_schema::layout::WindowTotals;
use zerocopy::little_endian::{I32, I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Account;
use super::forms::{Form, KeptBucket, KeptTotals, NarrowBucket, NarrowTotals, WITHIN_LIFETIME, in_form};
use crate::checkpoint::Record;
use crate::ledger::{Bucket, BucketKey, Clocks, Counting, Horizon, Hour, Kept, Overflow};
use crate::shard::blocks::{Blocks, Family};
use crate::wire::AssetTotals;

/// What stands before an account's lifetime totals.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub first_us: I64,
    /// Of the whole block, bytes.
    pub capacity: U32,
    pub buckets: U16,
    /// Whether it is [`Form::Wide`].
    is_wide: u8,
    padding: u8,
    /// The hours of the clocks by which the buckets are exact.
    pub exact_first: I32,
    pub exact_last: I32,
}

const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == 24);

impl Header {
    pub fn exact(&self) -> Clocks {
        Clocks { first: Hour(self.exact_first.get()), last: Hour(self.exact_last.get()) }
    }

    pub fn set_exact(&mut self, exact: Clocks) {
        self.exact_first.set(exact.first.0);
        self.exact_last.set(exact.last.0);
    }

    fn form(&self) -> Form {
        if self.is_wide == 0 { Form::Narrow } else { Form::Wide }
    }
}

/// Sums of one asset's buckets, credits before debits.
#[derive(Clone, Copy, Default)]
struct Flows {
    counts: [u64; 2],
    sums: [i64; 2],
    largest_debit: i64,
}

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

/// Of the three windows with edges, each without the one before it.
type Rings = [[Flows; 3]; ASSETS_MAX];

/// Each window holds the one before it and a ring around it; each bucket is added to its ring alone, and that without a branch on
/// what cannot be guessed.
#[inline]
fn rings<B: KeptBucket>(buckets: &[B], horizon: &Horizon) -> Rings {
    let [hours24, days7, days30] =
        [Window::Hours24, Window::Days7, Window::Days30].map(|w| horizon.hours(w).expect("has edges"));
    let mut rings = Rings::default();
    for kept in buckets.iter().rev() {
        let key = kept.key();
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
        rings[key.asset()][ring].add(key, &kept.wide());
    }
    rings
}

/// Of an account's bytes, header and all: totals and buckets.
fn parts<T: KeptTotals, B: KeptBucket>(bytes: &[u8], assets: usize) -> (&[T], &[B]) {
    let (totals, buckets) =
        <[T]>::ref_from_prefix_with_elems(&bytes[HEADER..], assets).expect("totals an asset");
    (totals, <[B]>::ref_from_bytes(buckets).expect("whole buckets"))
}

fn parts_mut<T: KeptTotals, B: KeptBucket>(bytes: &mut [u8], assets: usize) -> (&mut [T], &mut [B]) {
    let (totals, buckets) =
        <[T]>::mut_from_prefix_with_elems(&mut bytes[HEADER..], assets).expect("totals an asset");
    (totals, <[B]>::mut_from_bytes(buckets).expect("whole buckets"))
}

impl Account {
    /// Statistics of an account without any transaction.
    pub(super) fn create_statistics(self, blocks: &mut Blocks) {
        self.allocate_statistics(blocks, HEADER + Form::Narrow.bytes(1, 1));
        count(blocks, Form::Narrow, 0, 0);
        self.header_mut(blocks).set_exact(Clocks::ALL);
    }

    /// Statistics as a checkpoint holds them.
    pub(super) fn restore_statistics(self, blocks: &mut Blocks, record: &Record<'_>) {
        let form = Form::of(record.lifetimes);
        self.lay_down(blocks, form, record.lifetimes, record.buckets);
        let header = self.header_mut(blocks);
        header.first_us = record.header.first_us;
        header.set_exact(record.exact());
    }

    /// Appends totals and buckets as a checkpoint holds them.
    pub(super) fn save_statistics(self, blocks: &Blocks, out: &mut Vec<u8>) {
        in_form!(self.form(blocks), T, B, {
            let (totals, buckets) = parts::<T, B>(self.bytes(blocks), self.assets(blocks));
            totals.iter().for_each(|totals| out.extend_from_slice(totals.wide().as_bytes()));
            buckets.iter().for_each(|bucket| out.extend_from_slice(bucket.wide().as_bytes()));
        });
    }

    #[inline]
    pub(super) fn header(self, blocks: &Blocks) -> Header {
        Header::read_from_bytes(blocks.block(self.statistics(blocks), HEADER)).expect("a header's bytes")
    }

    pub(super) fn header_mut(self, blocks: &mut Blocks) -> &mut Header {
        Header::mut_from_bytes(blocks.block_mut(self.statistics(blocks), HEADER)).expect("a header's bytes")
    }

    /// The clocks by which [`Account::totals`] are exact.
    #[inline]
    pub fn exact(self, blocks: &Blocks) -> Clocks {
        self.header(blocks).exact()
    }

    /// Bytes of its statistics.
    #[cfg(test)]
    pub fn statistics_bytes(self, blocks: &Blocks) -> usize {
        self.header(blocks).capacity.get() as usize
    }

    #[inline]
    pub(super) fn form(self, blocks: &Blocks) -> Form {
        self.header(blocks).form()
    }

    fn used(self, blocks: &Blocks) -> usize {
        let header = self.header(blocks);
        HEADER + header.form().bytes(self.assets(blocks), usize::from(header.buckets.get()))
    }

    #[inline]
    fn bytes(self, blocks: &Blocks) -> &[u8] {
        blocks.block(self.statistics(blocks), self.used(blocks))
    }

    fn bytes_mut(self, blocks: &mut Blocks) -> &mut [u8] {
        let used = self.used(blocks);
        blocks.block_mut(self.statistics(blocks), used)
    }

    /// Every asset's totals in all four windows as of `horizon`, into `totals`.
    pub fn totals(self, blocks: &Blocks, horizon: &Horizon, totals: &mut Vec<AssetTotals>) {
        totals.clear();
        let rows = self.balance(blocks).rows;
        in_form!(self.form(blocks), T, B, {
            let (lifetimes, buckets) = parts::<T, B>(self.bytes(blocks), rows.len());
            let rings = rings(buckets, horizon);
            for ((row, lifetime), [hours24, to_days7, to_days30]) in rows.iter().zip(lifetimes).zip(rings) {
                let days7 = hours24.with(&to_days7);
                let days30 = days7.with(&to_days30).totals();
                let windows = [hours24.totals(), days7.totals(), days30, lifetime.wide()];
                totals.push(AssetTotals { asset: row.asset(), windows });
            }
        });
    }

    pub(super) fn lifetime(self, blocks: &Blocks, index: usize) -> WindowTotals {
        in_form!(self.form(blocks), T, B, {
            parts::<T, B>(self.bytes(blocks), self.assets(blocks)).0[index].wide()
        })
    }

    /// Replaces an asset's totals. What they need is within the account's form.
    pub(super) fn set_lifetime(self, blocks: &mut Blocks, index: usize, lifetime: &WindowTotals) {
        let assets = self.assets(blocks);
        in_form!(self.form(blocks), T, B, {
            parts_mut::<T, B>(self.bytes_mut(blocks), assets).0[index] = T::kept(lifetime);
        });
    }

    /// Makes room for the totals of an asset at `index`, which the balance has already.
    pub(super) fn insert_lifetime(self, blocks: &mut Blocks, index: usize) {
        let header = self.header(blocks);
        let (form, assets) = (header.form(), self.assets(blocks));
        let used = HEADER + form.bytes(assets - 1, usize::from(header.buckets.get()));
        self.reserve(blocks, used, form.totals_bytes());
        blocks.used.lifetimes += form.totals_bytes();
        let block = blocks.block_mut(self.statistics(blocks), used + form.totals_bytes());
        let at = HEADER + form.totals_bytes() * index;
        block.copy_within(at..used, at + form.totals_bytes());
        block[at..at + form.totals_bytes()].fill(0);
        in_form!(form, T, B, {
            for bucket in parts_mut::<T, B>(block, assets).1 {
                let key = bucket.key();
                if key.asset() >= index {
                    bucket.set_key(key.with_asset(key.asset() + 1));
                }
            }
        });
    }

    /// Counts a transaction in its hour's or day's bucket. What it needs is within the account's form.
    pub(super) fn add_to_bucket(
        self,
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
        let (form, assets) = (self.form(blocks), self.assets(blocks));
        in_form!(form, T, B, {
            let buckets = parts_mut::<T, B>(self.bytes_mut(blocks), assets).1;
            if let Ok(index) = buckets.binary_search_by_key(&key, KeptBucket::key) {
                let mut merged = buckets[index].wide();
                merged.merge(&new)?;
                buckets[index] = B::kept(&merged);
                return Ok(());
            }
            if self.room(blocks) < form.bucket_bytes() {
                self.roll(blocks, horizon)?;
            }
            let used = self.used(blocks);
            self.reserve(blocks, used, form.bucket_bytes());
            self.header_mut(blocks).buckets += 1;
            blocks.used.buckets += form.bucket_bytes();
            let buckets = parts_mut::<T, B>(self.bytes_mut(blocks), assets).1;
            let last = buckets.len() - 1;
            let at = buckets[..last].partition_point(|bucket| bucket.key() < key);
            buckets.copy_within(at..last, at + 1);
            buckets[at] = B::kept(&new);
        });
        Ok(())
    }

    /// Makes each bucket as coarse as `horizon` lets it be, and drops those that it does not keep.
    fn roll(self, blocks: &mut Blocks, horizon: &Horizon) -> Result<(), Overflow> {
        let mut exact = self.exact(blocks);
        let assets = self.assets(blocks);
        let left = in_form!(self.form(blocks), T, B, {
            let buckets = parts_mut::<T, B>(self.bytes_mut(blocks), assets).1;
            let mut kept = 0;
            for index in 0..buckets.len() {
                let mut bucket = buckets[index];
                let key = bucket.key();
                let Kept { bucket: hour, exact: as_kept } = horizon.keep(key.hour());
                exact = exact.and(as_kept);
                if let Some(hour) = hour {
                    bucket.set_key(key.at_hour(hour));
                    buckets[kept] = bucket;
                    kept += 1;
                }
            }
            merge_alike(&mut buckets[..kept])?
        });
        let before = self.header(blocks);
        blocks.used.buckets -= before.form().bucket_bytes() * (usize::from(before.buckets.get()) - left);
        let header = self.header_mut(blocks);
        header.buckets.set(left as u16);
        header.set_exact(exact);
        Ok(())
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
        let smaller = self.statistics(blocks);
        let larger = blocks.allocate(Family::Statistics, used + more);
        blocks.copy(smaller, larger, used);
        blocks.free(smaller, capacity);
        self.set_statistics(blocks, larger);
        let capacity = blocks.capacity_for(used + more);
        self.header_mut(blocks).capacity.set(capacity as u32);
    }

    /// From now on in 64 bits. What was in 32 is rare enough to be written down twice.
    #[cold]
    pub(super) fn widen(self, blocks: &mut Blocks) {
        let before = self.header(blocks);
        let (totals, buckets) = parts::<NarrowTotals, NarrowBucket>(self.bytes(blocks), self.assets(blocks));
        let totals: Vec<_> = totals.iter().map(|totals| totals.wide()).collect();
        let buckets: Vec<_> = buckets.iter().map(|bucket| bucket.wide()).collect();
        self.free_statistics(blocks);
        self.lay_down(blocks, Form::Wide, &totals, &buckets);
        let header = self.header_mut(blocks);
        header.first_us = before.first_us;
        header.set_exact(before.exact());
    }

    /// Puts a copy into a block of its own, of an account whose balance is a copy that names another's.
    pub(super) fn copy_statistics(self, blocks: &mut Blocks) {
        let (other, header) = (self.statistics(blocks), self.header(blocks));
        let capacity = header.capacity.get() as usize;
        let statistics = blocks.allocate(Family::Statistics, capacity);
        blocks.copy(other, statistics, capacity);
        self.set_statistics(blocks, statistics);
        count(blocks, header.form(), self.assets(blocks), usize::from(header.buckets.get()));
    }

    /// Gives the block back.
    pub(super) fn free_statistics(self, blocks: &mut Blocks) {
        let header = self.header(blocks);
        blocks.free(self.statistics(blocks), header.capacity.get() as usize);
        blocks.used.headers -= HEADER;
        blocks.used.lifetimes -= header.form().totals_bytes() * self.assets(blocks);
        blocks.used.buckets -= header.form().bucket_bytes() * usize::from(header.buckets.get());
    }

    fn allocate_statistics(self, blocks: &mut Blocks, bytes: usize) {
        let statistics = blocks.allocate(Family::Statistics, bytes);
        self.set_statistics(blocks, statistics);
        let capacity = blocks.capacity_for(bytes);
        self.header_mut(blocks).capacity.set(capacity as u32);
    }

    /// Puts totals and buckets into a new block. The rest of its header is zero.
    fn lay_down(self, blocks: &mut Blocks, form: Form, totals: &[WindowTotals], buckets: &[Bucket]) {
        let used = HEADER + form.bytes(totals.len(), buckets.len());
        self.allocate_statistics(blocks, used.max(HEADER + form.bytes(1, 1)));
        count(blocks, form, totals.len(), buckets.len());
        let header = self.header_mut(blocks);
        header.buckets.set(u16::try_from(buckets.len()).expect("a record's buckets were counted"));
        header.is_wide = u8::from(form == Form::Wide);
        let block = blocks.block_mut(self.statistics(blocks), used);
        in_form!(form, T, B, {
            let (all, each) = parts_mut::<T, B>(block, totals.len());
            all.iter_mut().zip(totals).for_each(|(kept, totals)| *kept = T::kept(totals));
            each.iter_mut().zip(buckets).for_each(|(kept, bucket)| *kept = B::kept(bucket));
        });
    }
}

/// Counts what new statistics hold.
fn count(blocks: &mut Blocks, form: Form, assets: usize, buckets: usize) {
    blocks.used.headers += HEADER;
    blocks.used.lifetimes += form.totals_bytes() * assets;
    blocks.used.buckets += form.bucket_bytes() * buckets;
}

/// Sorts buckets, and merges those of one key. How many are left, at the front.
fn merge_alike<B: KeptBucket>(buckets: &mut [B]) -> Result<usize, Overflow> {
    buckets.sort_unstable_by_key(KeptBucket::key);
    let mut merged = 0;
    for index in 0..buckets.len() {
        let bucket = buckets[index];
        if merged > 0 && buckets[merged - 1].key() == bucket.key() {
            let mut both = buckets[merged - 1].wide();
            both.merge(&bucket.wide())?;
            buckets[merged - 1] = B::kept(&both);
        } else {
            buckets[merged] = bucket;
            merged += 1;
        }
    }
    Ok(merged)
}

/// Counts a transaction in `totals`.
#[inline]
pub(super) fn add(totals: &mut WindowTotals, counting: Counting, amount: i64) -> Result<(), Overflow> {
    match counting {
        Counting::Credit => {
            totals.credit_sum.set(totals.credit_sum.get().checked_add(amount).ok_or(Overflow)?);
            totals.credit_count.set(totals.credit_count.get() + 1);
        }
        Counting::Debit => {
            totals.debit_sum.set(totals.debit_sum.get().checked_add(amount).ok_or(Overflow)?);
            totals.debit_count.set(totals.debit_count.get() + 1);
            totals.largest_debit.set(totals.largest_debit.get().max(amount));
        }
        Counting::Neither => {}
    }
    Ok(())
}
