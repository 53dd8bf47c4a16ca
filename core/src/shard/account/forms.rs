//! How wide an account's sums are kept: as long as no total of the lifetime needs more than 32 bits, no bucket does, and all are kept
//! so. That holds for all but a handful of accounts.

use florin_schema::layout::WindowTotals;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ledger::{Bucket, BucketKey};

/// How wide sums are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Form {
    /// In 32 bits.
    Narrow,
    /// In 64 bits.
    Wide,
}

impl Form {
    /// What these totals need.
    pub fn of<'a>(totals: impl IntoIterator<Item = &'a WindowTotals>) -> Form {
        let is_narrow = totals.into_iter().all(|totals| NarrowTotals::of(totals).is_some());
        if is_narrow { Form::Narrow } else { Form::Wide }
    }

    pub fn is_within(self, other: Form) -> bool {
        self <= other
    }

    pub const fn totals_bytes(self) -> usize {
        match self {
            Form::Narrow => size_of::<NarrowTotals>(),
            Form::Wide => size_of::<WindowTotals>(),
        }
    }

    pub const fn bucket_bytes(self) -> usize {
        match self {
            Form::Narrow => size_of::<NarrowBucket>(),
            Form::Wide => size_of::<Bucket>(),
        }
    }

    /// Bytes of so many totals and buckets.
    pub const fn bytes(self, assets: usize, buckets: usize) -> usize {
        self.totals_bytes() * assets + self.bucket_bytes() * buckets
    }
}

/// [`WindowTotals`] none of which needs more than 32 bits.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NarrowTotals {
    credit_count: U32,
    credit_sum: U32,
    debit_count: U32,
    debit_sum: U32,
    largest_debit: U32,
}

/// A [`Bucket`] of an account whose totals are narrow.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NarrowBucket {
    key: U32,
    count: U32,
    sum: U32,
    largest: U32,
}

const _: () = assert!(size_of::<NarrowTotals>() == 20 && size_of::<NarrowBucket>() == 16);

impl NarrowTotals {
    fn of(totals: &WindowTotals) -> Option<NarrowTotals> {
        Some(NarrowTotals {
            credit_count: U32::new(u32::try_from(totals.credit_count.get()).ok()?),
            credit_sum: U32::new(u32::try_from(totals.credit_sum.get()).ok()?),
            debit_count: U32::new(u32::try_from(totals.debit_count.get()).ok()?),
            debit_sum: U32::new(u32::try_from(totals.debit_sum.get()).ok()?),
            largest_debit: U32::new(u32::try_from(totals.largest_debit.get()).ok()?),
        })
    }
}

#[inline]
fn widened(narrow: U32) -> I64 {
    I64::new(i64::from(narrow.get()))
}

/// Why a narrow account's buckets are narrow, and why no sum of an account's buckets overflows.
pub const WITHIN_LIFETIME: &str = "a window's sums are at most its lifetime's";

/// What is kept of one asset's lifetime.
pub trait KeptTotals: Copy + FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned {
    fn wide(self) -> WindowTotals;
    /// Of totals that fit.
    fn kept(wide: &WindowTotals) -> Self;
}

impl KeptTotals for WindowTotals {
    #[inline]
    fn wide(self) -> WindowTotals {
        self
    }

    fn kept(wide: &WindowTotals) -> WindowTotals {
        *wide
    }
}

impl KeptTotals for NarrowTotals {
    #[inline]
    fn wide(self) -> WindowTotals {
        WindowTotals {
            credit_count: U64::new(u64::from(self.credit_count.get())),
            credit_sum: widened(self.credit_sum),
            debit_count: U64::new(u64::from(self.debit_count.get())),
            debit_sum: widened(self.debit_sum),
            largest_debit: widened(self.largest_debit),
        }
    }

    fn kept(wide: &WindowTotals) -> NarrowTotals {
        NarrowTotals::of(wide).expect("totals that need more are kept wide")
    }
}

/// What is kept of an hour or a day.
pub trait KeptBucket: Copy + FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned {
    fn key(&self) -> BucketKey;
    fn set_key(&mut self, key: BucketKey);
    fn wide(self) -> Bucket;
    /// Of a bucket that fits.
    fn kept(wide: &Bucket) -> Self;
}

impl KeptBucket for Bucket {
    #[inline]
    fn key(&self) -> BucketKey {
        BucketKey(self.key.get())
    }

    fn set_key(&mut self, key: BucketKey) {
        self.key.set(key.0);
    }

    #[inline]
    fn wide(self) -> Bucket {
        self
    }

    fn kept(wide: &Bucket) -> Bucket {
        *wide
    }
}

impl KeptBucket for NarrowBucket {
    #[inline]
    fn key(&self) -> BucketKey {
        BucketKey(self.key.get())
    }

    fn set_key(&mut self, key: BucketKey) {
        self.key.set(key.0);
    }

    #[inline]
    fn wide(self) -> Bucket {
        Bucket { key: self.key, count: self.count, sum: widened(self.sum), largest: widened(self.largest) }
    }

    fn kept(wide: &Bucket) -> NarrowBucket {
        let sum = |wide: I64| U32::new(u32::try_from(wide.get()).expect(WITHIN_LIFETIME));
        NarrowBucket { key: wide.key, count: wide.count, sum: sum(wide.sum), largest: sum(wide.largest) }
    }
}

/// Does the same with the structs of either form.
macro_rules! in_form {
    ($form:expr, $Totals:ident, $Bucket:ident, $body:expr) => {
        match $form {
            Form::Narrow => {
                type $Totals = NarrowTotals;
                type $Bucket = NarrowBucket;
                $body
            }
            Form::Wide => {
                type $Totals = WindowTotals;
                type $Bucket = Bucket;
                $body
            }
        }
    };
}

pub(super) use in_form;
