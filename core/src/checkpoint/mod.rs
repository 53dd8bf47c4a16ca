//! What a checkpoint is made of, as bytes. Pure: files, threads and disks are the server's.
//!
//! ```text
//!     shard ──records──▶ blocks, a bucket of users each ──▶ section file of that shard ─┐
//!     shard ──records──▶ …                                                             ├─▶ manifest: of what, whence,
//!                                                                                      ┘   which blocks, their checksums
//! ```
//!
//! A checkpoint is *fuzzy*: its accounts were copied one after the other while rows came. Each holds all of its rows up to the
//! begin position and none behind the end position. Rows after the begin are delivered again, and those that an account has
//! already are skipped by their versions; so once everything up to the end was delivered, the state is exact.
//!
//! | module | holds |
//! | --- | --- |
//! | [`record`] | one account: writing it, and reading it with distrust |
//! | [`manifest`] | what the checkpoint is of, and the checksums of all of it |

use twox_hash::xxhash3_128;

use florin_schema::HashedUser;

mod bytes;
pub mod manifest;
pub mod record;

pub use manifest::{Block, Manifest, ManifestError, Section};
pub use record::{Record, RecordError, Records};

/// The format that this build writes, and the only one that it reads. Format 1 had no fingerprints.
pub const FORMAT: u32 = 2;
/// Users are told apart by the first eight bits of their hash: a block holds the accounts of one bucket, so that each shard
/// of a node with another number of shards finds its own without reading all.
pub const BUCKETS: usize = 256;

/// The bucket of a user: the top bits of the hash by which shards are chosen, so that a shard's users are a run of buckets.
#[inline]
pub fn bucket_of(user: HashedUser) -> u8 {
    (user.hash() >> 56) as u8
}

/// XXH3-128 without a seed.
pub fn checksum(bytes: &[u8]) -> u128 {
    xxhash3_128::Hasher::oneshot(bytes)
}
