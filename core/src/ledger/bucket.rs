//! What an account remembers of its past: a sum for each hour or day in which something happened.

use florin_schema::frame::ASSETS_MAX;
use zerocopy::little_endian::{I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Counting, Hour, Overflow, Transaction};

/// What happened to one asset in one direction during one hour or day.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Bucket {
    /// See [`BucketKey`].
    pub key: U32,
    /// Transactions.
    pub count: U32,
    /// Minor units.
    pub sum: I64,
    /// The largest debit; 0 for credits.
    pub largest: I64,
}

impl Bucket {
    /// Adds what `other` holds, or leaves this one as it is.
    pub fn merge(&mut self, other: &Bucket) -> Result<(), Overflow> {
        let count = self.count.get().checked_add(other.count.get()).ok_or(Overflow)?;
        let sum = self.sum.get().checked_add(other.sum.get()).ok_or(Overflow)?;
        self.count.set(count);
        self.sum.set(sum);
        self.largest.set(self.largest.get().max(other.largest.get()));
        Ok(())
    }
}

/// Which bucket: the hour in the upper 27 bits (so that buckets sort by time), then the asset's index, then 1 for
/// debits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BucketKey(pub u32);

impl BucketKey {
    /// The year 1 is hour -17,259,888; the year 9999 ends before hour 70,389,528.
    const HOUR_BIAS: i32 = 20_000_000;

    /// The bucket of what happened to an asset in an hour.
    ///
    /// # Panics
    /// Where the hour is no transaction's.
    pub fn new(hour: Hour, asset: usize, counting: Counting) -> BucketKey {
        let hour =
            u32::try_from(hour.0 + BucketKey::HOUR_BIAS).expect("a transaction's hour is after the year 1");
        BucketKey(hour << 5 | (asset as u32) << 1 | u32::from(counting == Counting::Debit))
    }

    /// Its hour, or the first of its day.
    #[inline]
    pub fn hour(self) -> Hour {
        Hour((self.0 >> 5) as i32 - BucketKey::HOUR_BIAS)
    }

    /// The asset's index in its account.
    #[inline]
    pub fn asset(self) -> usize {
        (self.0 >> 1) as usize % ASSETS_MAX
    }

    /// Whether it holds debits; else credits.
    #[inline]
    pub fn is_debit(self) -> bool {
        self.0 & 1 == 1
    }

    /// The same in another hour.
    pub fn at_hour(self, hour: Hour) -> BucketKey {
        let hour = (hour.0 + BucketKey::HOUR_BIAS) as u32;
        BucketKey(hour << 5 | self.0 & 31)
    }

    /// The same of another asset.
    pub fn with_asset(self, asset: usize) -> BucketKey {
        BucketKey(self.0 & !30 | (asset as u32) << 1)
    }
}

const _: () = {
    assert!((*Transaction::OCCURRED_AT_US.start()).div_euclid(3_600_000_000) > -BucketKey::HOUR_BIAS as i64);
    let last = Transaction::OCCURRED_AT_US.end().div_euclid(3_600_000_000) + BucketKey::HOUR_BIAS as i64;
    assert!(last < 1 << 27 && ASSETS_MAX == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_it_was_made_of_and_sorts_by_time() {
        for counting in [Counting::Credit, Counting::Debit] {
            for (hour, asset) in [(-17_259_888, 0), (-1, 15), (0, 7), (498_700, 15), (70_389_527, 1)] {
                let key = BucketKey::new(Hour(hour), asset, counting);
                let told = (key.hour(), key.asset(), key.is_debit());
                assert_eq!(told, (Hour(hour), asset, counting == Counting::Debit));
                let moved = key.at_hour(Hour(hour - 5));
                assert_eq!(moved, BucketKey::new(Hour(hour - 5), asset, counting));
                assert!(moved < key);
                assert_eq!(key.with_asset(9), BucketKey::new(Hour(hour), 9, counting));
            }
        }
    }
}
