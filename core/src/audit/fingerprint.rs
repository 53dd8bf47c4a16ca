//! Which rows were applied, as a count and a sum of their hashes. A sum does not depend on the order of the rows, and takes one
//! away as well as it adds one: so rows that came while others were compared can be left out of the comparison.

use florin_schema::HashedUser;
use twox_hash::xxhash3_128;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ledger::Transaction;

/// Users are told apart by the first ten bits of their hash: 24 bytes each make 24 KiB a shard, and a difference is narrowed
/// down to a thousandth of the accounts.
pub const BUCKETS: usize = 1_024;

/// The bucket of a user: the top bits of the hash by which shards are chosen, so that a shard's users are a run of buckets.
#[inline]
pub fn bucket_of(user: HashedUser) -> usize {
    (user.hash() >> 54) as usize
}

/// A count of rows and the sum of their XXH3-128, both modulo their range.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Fingerprint {
    /// How many rows.
    pub rows: u64,
    /// Low and high half: a sum of 16 aligned bytes would make 32 of these 24.
    sum: [u64; 2],
}

impl Fingerprint {
    /// Bytes of [`Fingerprint::encode`].
    pub const BYTES: usize = 24;

    /// That of one row: of everything that answers are made of.
    ///
    /// | bytes | little-endian |
    /// | --- | --- |
    /// | 8 | user |
    /// | 8 | version |
    /// | 8 | asset, as it goes over the wire |
    /// | 8 | amount |
    /// | 8 | `occurred_at`, µs |
    /// | 1 | kind |
    #[inline]
    pub fn of(row: &Transaction) -> Fingerprint {
        let mut bytes = [0; 41];
        let numbers = [
            row.user_id.get(),
            row.version.0,
            row.asset.to_wire(),
            row.amount.cast_unsigned(),
            row.occurred_at_us.cast_unsigned(),
        ];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[40] = row.kind as u8;
        Fingerprint { rows: 1, ..Fingerprint::default() }.with_sum(xxhash3_128::Hasher::oneshot(&bytes))
    }

    /// The sum.
    pub fn sum(&self) -> u128 {
        u128::from(self.sum[1]) << 64 | u128::from(self.sum[0])
    }

    fn with_sum(self, sum: u128) -> Fingerprint {
        Fingerprint { sum: [sum as u64, (sum >> 64) as u64], ..self }
    }

    /// That of these rows and those.
    #[inline]
    #[must_use]
    pub fn plus(self, other: Fingerprint) -> Fingerprint {
        let rows = self.rows.wrapping_add(other.rows);
        Fingerprint { rows, ..self }.with_sum(self.sum().wrapping_add(other.sum()))
    }

    /// That of these rows without those.
    #[inline]
    #[must_use]
    pub fn minus(self, other: Fingerprint) -> Fingerprint {
        let rows = self.rows.wrapping_sub(other.rows);
        Fingerprint { rows, ..self }.with_sum(self.sum().wrapping_sub(other.sum()))
    }

    /// As a checkpoint holds it: rows, then the sum, little-endian.
    pub fn encode(&self) -> [u8; Fingerprint::BYTES] {
        let mut bytes = [0; Fingerprint::BYTES];
        bytes[..8].copy_from_slice(&self.rows.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sum().to_le_bytes());
        bytes
    }

    /// What [`Fingerprint::encode`] has written.
    pub fn decode(bytes: &[u8; Fingerprint::BYTES]) -> Fingerprint {
        let (rows, sum) = bytes.split_first_chunk().expect("24 bytes begin with 8");
        let sum = u128::from_le_bytes(sum.try_into().expect("16 bytes are left"));
        Fingerprint { rows: u64::from_le_bytes(*rows), ..Fingerprint::default() }.with_sum(sum)
    }
}

const _: () = assert!(size_of::<Fingerprint>() == Fingerprint::BYTES);

#[cfg(test)]
mod tests {
    use florin_schema::{Asset, UserId, Version};

    use super::*;
    use crate::ledger::Kind;

    const ROW: Transaction = Transaction {
        user_id: UserId::new(42).unwrap(),
        version: Version(7),
        asset: match Asset::parse(b"COIN") {
            Ok(asset) => asset,
            Err(_) => panic!("an asset"),
        },
        kind: Kind::Recharge,
        amount: 500,
        occurred_at_us: -1,
    };

    #[test]
    fn whatever_changes_in_a_row_changes_its_fingerprint() {
        let of = Fingerprint::of;
        let others = [
            Transaction { user_id: UserId::new(43).unwrap(), ..ROW },
            Transaction { version: Version(8), ..ROW },
            Transaction { asset: Asset::parse(b"USD").unwrap(), ..ROW },
            Transaction { kind: Kind::GiftReceived, ..ROW },
            Transaction { amount: 501, ..ROW },
            Transaction { occurred_at_us: 0, ..ROW },
        ];
        for other in others {
            assert_ne!(of(&ROW), of(&other), "{other:?}");
            assert_eq!(of(&ROW).plus(of(&other)), of(&other).plus(of(&ROW)));
            assert_eq!(of(&ROW).plus(of(&other)).minus(of(&ROW)), of(&other));
        }
        assert_eq!(Fingerprint::default().minus(of(&ROW)).plus(of(&ROW)), Fingerprint::default());
    }

    /// Checkpoints hold it, so it is the same in every build.
    #[test]
    fn it_is_pinned() {
        assert_eq!(Fingerprint::of(&ROW).sum(), 81_720_344_959_821_396_650_338_337_769_826_617_857);
        let fingerprint = Fingerprint::of(&ROW);
        assert_eq!(Fingerprint::decode(&fingerprint.encode()), fingerprint);
    }
}
