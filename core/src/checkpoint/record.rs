//! One account as bytes, as the table holds it. A record is what the account *is*, not where it lies.
//!
//! | bytes | what |
//! | --- | --- |
//! | 48 | [`RecordHeader`] |
//! | 24 n | the balance's [`AssetRow`]s, ascending by code |
//! | 40 n | the lifetime's [`WindowTotals`], in the same order |
//! | 24 m | [`Bucket`]s, ascending by key |

use alloc::vec::Vec;

use florin_schema::frame::ASSETS_MAX;
use florin_schema::layout::{AssetRow, WindowTotals};
use florin_schema::{Asset, UserId, Version};
use zerocopy::little_endian::{I32, I64, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::bucket_of;
use crate::ledger::{Bucket, BucketKey, Clocks, Hour, Transaction};

/// Record flag: the account's history was known to be incomplete. Nothing but its name is in the record, and its history has
/// to be read again.
pub const INCOMPLETE: u8 = 1;

/// What stands before an account's rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RecordHeader {
    /// Whose.
    pub user_id: U64,
    /// Transactions applied.
    pub version: U64,
    /// The first `occurred_at`, µs; 0 where there is no transaction.
    pub first_us: I64,
    /// The last `occurred_at`, µs.
    pub last_us: I64,
    /// The hours of the clocks by which the buckets are exact.
    pub exact_first: I32,
    /// See `exact_first`.
    pub exact_last: I32,
    /// How many there are.
    pub buckets: U32,
    /// How many there are.
    pub assets: u8,
    /// [`INCOMPLETE`], or 0.
    pub flags: u8,
    /// Zeroes.
    pub padding: [u8; 2],
}

const _: () = assert!(size_of::<RecordHeader>() == 48);
/// What an account counts its hours and days with. It has room for one of each in either direction of 16 assets seven times.
const BUCKETS_MAX: usize = u16::MAX as usize;

/// One account.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What there is one of.
    pub header: &'a RecordHeader,
    /// By asset.
    pub rows: &'a [AssetRow],
    /// By asset.
    pub lifetimes: &'a [WindowTotals],
    /// By time.
    pub buckets: &'a [Bucket],
}

/// Why bytes are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// Fewer bytes than its header says.
    #[error("a record ends behind its block")]
    Short,
    /// A value that no account has.
    #[error("an account's {0} is none that an account can have")]
    Value(&'static str),
    /// An account that belongs elsewhere.
    #[error("an account lies in a block of other users")]
    Misplaced,
    /// An account that was read before.
    #[error("an account is in the checkpoint twice")]
    Twice,
}

impl<'a> Record<'a> {
    /// Appends one of which nothing is known but whose it is.
    pub fn write_incomplete(user_id: U64, out: &mut Vec<u8>) {
        let header = RecordHeader { user_id, flags: INCOMPLETE, ..RecordHeader::new_zeroed() };
        out.extend_from_slice(header.as_bytes());
    }

    /// Its length in bytes, by its header.
    fn length(header: &RecordHeader) -> usize {
        let assets = usize::from(header.assets);
        size_of::<RecordHeader>()
            + (size_of::<AssetRow>() + size_of::<WindowTotals>()) * assets
            + size_of::<Bucket>() * header.buckets.get() as usize
    }

    /// Takes a record off the front of `bytes`, and believes nothing that is in it.
    ///
    /// # Errors
    /// Why there is none.
    #[inline]
    pub fn take(bytes: &mut &'a [u8]) -> Result<Record<'a>, RecordError> {
        let (header, rest) = RecordHeader::ref_from_prefix(bytes).map_err(|_| RecordError::Short)?;
        let assets = usize::from(header.assets);
        if assets > ASSETS_MAX {
            return Err(RecordError::Value("number of assets"));
        }
        let buckets = header.buckets.get() as usize;
        if buckets > BUCKETS_MAX {
            return Err(RecordError::Value("number of hours"));
        }
        let (rows, rest) =
            <[AssetRow]>::ref_from_prefix_with_elems(rest, assets).map_err(|_| RecordError::Short)?;
        let (lifetimes, rest) =
            <[WindowTotals]>::ref_from_prefix_with_elems(rest, assets).map_err(|_| RecordError::Short)?;
        let (buckets, rest) =
            <[Bucket]>::ref_from_prefix_with_elems(rest, buckets).map_err(|_| RecordError::Short)?;
        let record = Record { header, rows, lifetimes, buckets };
        record.check()?;
        *bytes = rest;
        Ok(record)
    }

    /// Whose.
    #[inline]
    pub fn user(&self) -> UserId {
        UserId::new(self.header.user_id.get()).expect("a record's user was checked when it was read")
    }

    /// How many transactions it holds.
    #[inline]
    pub fn version(&self) -> Version {
        Version(self.header.version.get())
    }

    /// Whether its history has to be read again.
    #[inline]
    pub fn is_incomplete(&self) -> bool {
        self.header.flags & INCOMPLETE != 0
    }

    /// The clocks by which its buckets are exact.
    pub fn exact(&self) -> Clocks {
        Clocks { first: Hour(self.header.exact_first.get()), last: Hour(self.header.exact_last.get()) }
    }

    /// Whether an account can be so: what the table relies on, and what its sums rest on.
    fn check(&self) -> Result<(), RecordError> {
        let header = self.header;
        let value = |is_legal: bool, what| if is_legal { Ok(()) } else { Err(RecordError::Value(what)) };
        value(UserId::new(header.user_id.get()).is_some(), "user")?;
        let version = header.version.get();
        value(version <= i64::MAX as u64 && (version == 0) == self.rows.is_empty(), "version")?;
        value(
            header.flags == if version == 0 { INCOMPLETE } else { 0 } && header.padding == [0; 2],
            "flags",
        )?;
        let (first, last) = (header.first_us.get(), header.last_us.get());
        let is_time = |us: i64| Transaction::OCCURRED_AT_US.contains(&us);
        value(
            if version == 0 {
                (first, last) == (0, 0)
            } else {
                is_time(first) && is_time(last) && first <= last
            },
            "time",
        )?;
        let mut before = None;
        for row in self.rows {
            let asset = Asset::from_wire(row.asset.get()).map_err(|_| RecordError::Value("asset"))?;
            value(before.is_none_or(|before| before < asset), "order of assets")?;
            before = Some(asset);
        }
        self.check_totals()
    }

    /// No bucket holds more than the lifetime does, so no window's sum can overflow; and no lifetime holds more than there were
    /// transactions.
    fn check_totals(&self) -> Result<(), RecordError> {
        let wrong = RecordError::Value("totals");
        let mut rest = [[(0_u64, 0_i64); 2]; ASSETS_MAX];
        let mut transactions = 0_u64;
        for (left, lifetime) in rest.iter_mut().zip(self.lifetimes) {
            *left = [
                (lifetime.credit_count.get(), lifetime.credit_sum.get()),
                (lifetime.debit_count.get(), lifetime.debit_sum.get()),
            ];
            for &(count, sum) in left.iter() {
                transactions = transactions.checked_add(count).ok_or(wrong)?;
                // Each amount is 1 at least.
                if sum < 0 || sum.unsigned_abs() < count {
                    return Err(wrong);
                }
            }
            let largest = lifetime.largest_debit.get();
            if largest < 0 || largest > lifetime.debit_sum.get() {
                return Err(wrong);
            }
        }
        if transactions > self.header.version.get() {
            return Err(wrong);
        }
        let mut before = None;
        for bucket in self.buckets {
            let key = BucketKey(bucket.key.get());
            if before.is_some_and(|before| before >= key) || key.asset() >= self.lifetimes.len() {
                return Err(RecordError::Value("order of hours"));
            }
            before = Some(key);
            let (count, sum) = &mut rest[key.asset()][usize::from(key.is_debit())];
            let (in_bucket, sum_of_bucket) = (u64::from(bucket.count.get()), bucket.sum.get());
            let largest_max =
                if key.is_debit() { self.lifetimes[key.asset()].largest_debit.get() } else { 0 };
            let is_legal = in_bucket > 0
                && sum_of_bucket > 0
                && sum_of_bucket.unsigned_abs() >= in_bucket
                && (0..=largest_max).contains(&bucket.largest.get());
            *count = count.checked_sub(in_bucket).filter(|_| is_legal).ok_or(wrong)?;
            *sum = sum.checked_sub(sum_of_bucket).filter(|&left| left >= 0).ok_or(wrong)?;
        }
        Ok(())
    }
}

/// The records of a block, one after the other.
#[derive(Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    bucket: u8,
}

impl<'a> Records<'a> {
    /// Those of a block of `bucket`.
    pub fn of(block: &'a [u8], bucket: u8) -> Records<'a> {
        Records { rest: block, bucket }
    }

    /// Bytes that are still to be read.
    pub fn bytes_left(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    /// Ends after an error: nothing behind it can be trusted.
    #[inline]
    fn next(&mut self) -> Option<Result<Record<'a>, RecordError>> {
        if self.rest.is_empty() {
            return None;
        }
        let found = Record::take(&mut self.rest).and_then(|record| {
            let is_here = bucket_of(record.user().hashed()) == self.bucket;
            if is_here { Ok(record) } else { Err(RecordError::Misplaced) }
        });
        if found.is_err() {
            self.rest = &[];
        }
        Some(found)
    }
}

/// What the record at the front of some says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peeked {
    /// Whose it is.
    pub user: UserId,
    /// How long it is.
    pub bytes: usize,
    /// Whether nothing but the name is known.
    pub is_incomplete: bool,
}

/// Looks at the record at the front of `records`, as whoever sorts them needs to. They were written by this process.
///
/// # Panics
/// Where there is none.
pub fn peek(records: &[u8]) -> Peeked {
    let (header, _) = RecordHeader::ref_from_prefix(records).expect("a record begins with its header");
    Peeked {
        user: UserId::new(header.user_id.get()).expect("a record's user"),
        bytes: Record::length(header),
        is_incomplete: header.flags & INCOMPLETE != 0,
    }
}
