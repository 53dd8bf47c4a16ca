//! Identifiers, and the function that says which shard owns a user.

use std::fmt;
use std::hash::Hasher;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A user, and so an account: 0 to 2^63-1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UserId(u64);

impl UserId {
    /// The largest legal id, 2^63-1: what a signed 64-bit column of a ledger can hold.
    pub const MAX: UserId = UserId(i64::MAX as u64);

    /// `None` above [`UserId::MAX`].
    #[inline]
    pub const fn new(id: u64) -> Option<UserId> {
        if id <= UserId::MAX.0 { Some(UserId(id)) } else { None }
    }

    /// The id as the wire carries it.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The shard of `shards` that owns this user (wire.md, "Routing").
    ///
    /// # Panics
    /// Where `shards` is 0: there is no such node.
    #[inline]
    pub const fn shard(self, shards: u16) -> ShardIndex {
        self.hashed().shard(shards)
    }

    /// Hashes the id.
    #[inline]
    pub const fn hashed(self) -> HashedUser {
        HashedUser { id: self, hash: mix(self.0) }
    }
}

/// One life of one node: drawn at random when it starts, so that a caller notices that an address leads to another node
/// than the one that named it. 0 is no node's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeId(pub u64);

/// Which ledger a node answers from: all that follow one have the same. 0 where it is not known, as of a ledger that was
/// empty when the node started.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct LedgerId(pub u64);

impl LedgerId {
    /// The id of the ledger whose first transaction this is: its UUID's two halves, mixed.
    pub const fn of_first(transaction_id: u128) -> LedgerId {
        let (high, low) = ((transaction_id >> 64) as u64, transaction_id as u64);
        let id = mix(high ^ mix(low));
        // 0 says that it is not known.
        LedgerId(if id == 0 { 1 } else { id })
    }
}

/// What a node says of itself in a Hello.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeIdentity {
    /// Which node.
    pub node: NodeId,
    /// Whose answers.
    pub ledger: LedgerId,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A user and the hash of its id, for those who need the hash more than once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashedUser {
    /// Who.
    pub id: UserId,
    hash: u64,
}

impl HashedUser {
    /// [`mix`] of the id.
    #[inline]
    pub const fn hash(self) -> u64 {
        self.hash
    }

    /// As [`UserId::shard`].
    ///
    /// # Panics
    /// Where `shards` is 0: there is no such node.
    #[inline]
    pub const fn shard(self, shards: u16) -> ShardIndex {
        ShardIndex::of_hash(self.hash, shards)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A shard's place in the node, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ShardIndex(pub u16);

impl ShardIndex {
    /// The shard that users with this hash belong to; it does not fall as the hash grows.
    ///
    /// # Panics
    /// Where `shards` is 0: there is no such node.
    #[inline]
    pub const fn of_hash(hash: u64, shards: u16) -> ShardIndex {
        assert!(shards > 0);
        ShardIndex(((hash as u128 * shards as u128) >> 64) as u16)
    }
}

impl fmt::Display for ShardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many of an account's transactions a view holds: dense, from 1; 0 is an account without any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version(pub u64);

impl Version {
    /// The version that the next transaction must have.
    #[inline]
    pub const fn next(self) -> Version {
        Version(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The splitmix64 finaliser: the first step of routing, and the hash of the shards' tables.
#[inline]
pub const fn mix(user_id: u64) -> u64 {
    let mut z = user_id.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Hashes what is made of ids, which are numbers already and only to be spread, by [`mix`]: for maps whose keys nobody chooses in
/// order to make them slow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mixed(u64);

impl Hasher for Mixed {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }
}

// wire.md's test vectors.
const _: () = assert!(mix(0) == 0xE220_A839_7B1D_CDAF && mix(1) == 0x910A_2DEC_8902_5CC1);

/// An asset's code: 1 to 8 characters of `A-Z`, `0-9`, `_`, the first in the lowest byte, zero padded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Asset(u64);

/// Why a text is no asset code.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an asset is 1 to 8 characters of A-Z, 0-9 and _, for example COIN")]
pub struct AssetError;

impl Asset {
    /// Reads a code's text.
    pub const fn parse(code: &[u8]) -> Result<Asset, AssetError> {
        if code.is_empty() || code.len() > 8 || code[code.len() - 1] == 0 {
            return Err(AssetError);
        }
        let mut bytes = [0; 8];
        bytes.split_at_mut(code.len()).0.copy_from_slice(code);
        Asset::from_wire(u64::from_le_bytes(bytes))
    }

    /// Reads the wire's integer. All characters are looked at at once: a row's asset is read for each answer that is written as text.
    #[inline]
    pub const fn from_wire(code: u64) -> Result<Asset, AssetError> {
        const EACH: u64 = u64::MAX / 255;
        const HIGH: u64 = 0x80 * EACH;
        /// The high bit of each byte below 0x80 that is `least` or more.
        const fn from(bytes: u64, least: u8) -> u64 {
            bytes + (0x80 - least as u64) * EACH
        }
        let low = code & !HIGH;
        let letters = from(low, b'A') & !from(low, b'Z' + 1);
        let digits = from(low, b'0') & !from(low, b'9' + 1);
        let lines = !from(low ^ (b'_' as u64 * EACH), 1);
        let good = (letters | digits | lines) & HIGH;
        // All bytes up to the last that is none of the padding.
        let used = if code == 0 { HIGH } else { HIGH >> (code.leading_zeros() & !7) };
        if good == used && code & HIGH == 0 { Ok(Asset(code)) } else { Err(AssetError) }
    }

    /// The code as the wire carries it.
    #[inline]
    pub const fn to_wire(self) -> u64 {
        self.0
    }

    /// The code's text, without its padding, in `buffer`.
    #[inline]
    pub fn text(self, buffer: &mut [u8; 8]) -> &str {
        *buffer = self.0.to_le_bytes();
        let length = buffer.iter().position(|&byte| byte == 0).unwrap_or(8);
        std::str::from_utf8(&buffer[..length]).expect("an asset's code is ASCII")
    }
}

/// Ascending byte order of the codes, as answers list them.
impl Ord for Asset {
    #[inline]
    fn cmp(&self, other: &Asset) -> std::cmp::Ordering {
        self.0.swap_bytes().cmp(&other.0.swap_bytes())
    }
}

impl PartialOrd for Asset {
    #[inline]
    fn partial_cmp(&self, other: &Asset) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text(&mut [0; 8]).fmt(f)
    }
}

impl fmt::Debug for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_sort_by_the_bytes_of_their_codes() {
        let mut codes =
            ["USD", "COIN", "A", "AB", "B", "COIN2", "0", "_"].map(|c| Asset::parse(c.as_bytes()).unwrap());
        codes.sort();
        assert_eq!(codes.map(|c| c.to_string()), ["0", "A", "AB", "B", "COIN", "COIN2", "USD", "_"]);
    }

    #[test]
    fn every_character_in_every_place_is_looked_at() {
        for length in 1..=8 {
            for at in 0..length {
                for byte in 0..=255 {
                    let mut code = vec![b'A' + at as u8; length];
                    code[at] = byte;
                    let is_good = matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_');
                    assert_eq!(Asset::parse(&code).is_ok(), is_good, "{code:?}");
                    let mut wire = [0; 8];
                    wire[..length].copy_from_slice(&code);
                    // Padding is no part of a code, and a code is never empty.
                    let is_padding = byte == 0 && at == length - 1 && length > 1;
                    let read = Asset::from_wire(u64::from_le_bytes(wire));
                    assert_eq!(read.is_ok(), is_good || is_padding, "{wire:?}");
                }
            }
        }
        assert!(Asset::from_wire(0).is_err());
        assert!(Asset::parse(b"").is_err() && Asset::parse(b"ABCDEFGHI").is_err());
    }

    #[test]
    fn an_asset_survives_the_wire_and_nonsense_does_not() {
        for code in ["A", "COIN", "DIAMOND", "ABCDEFGH"] {
            let asset = Asset::parse(code.as_bytes()).unwrap();
            assert_eq!(Asset::from_wire(asset.to_wire()), Ok(asset));
            assert_eq!(asset.to_string(), code);
        }
        for wrong in ["", "coin", "TOOLONGXX", "A B", "Ä"] {
            assert_eq!(Asset::parse(wrong.as_bytes()), Err(AssetError), "{wrong:?}");
        }
        assert_eq!(Asset::from_wire(0), Err(AssetError));
        assert_eq!(Asset::from_wire(u64::from_le_bytes(*b"A\0B\0\0\0\0\0")), Err(AssetError));
    }

    #[test]
    fn every_shard_owns_its_share() {
        for shards in [1, 2, 3, 8, 64] {
            let mut owned = vec![0u32; usize::from(shards)];
            for id in 0..10_000 {
                owned[usize::from(UserId::new(id).unwrap().shard(shards).0)] += 1;
            }
            let fair = 10_000 / u32::from(shards);
            assert!(owned.iter().all(|&n| n > fair / 2 && n < fair * 2), "{shards} shards: {owned:?}");
        }
    }

    #[test]
    fn ids_end_where_a_signed_column_does() {
        assert_eq!(UserId::new(i64::MAX as u64), Some(UserId::MAX));
        assert_eq!(UserId::new(1 << 63), None);
    }
}
