//! What a checkpoint says of itself. It is written last, and whoever reads it believes nothing of which a checksum is not right.
//!
//! | bytes | what, little-endian |
//! | --- | --- |
//! | 8 | `FLORINCP` |
//! | 4 | [`FORMAT`] |
//! | 4 + n | which ledger, in the source's words |
//! | 4 + n | the begin position, in the source's bytes |
//! | 4 + n | the end position |
//! | 8 | when it was made, µs since 1970 UTC |
//! | 8 | incomplete accounts |
//! | 4 | sections |
//! | 4 a section | how many blocks it has |
//! | 25 a block | length in bytes (4), accounts (4), bucket (1), XXH3-128 of its bytes (16) |
//! | 4 | buckets of [fingerprints](crate::audit::fingerprint): 1,024 |
//! | 25 a bucket | 1 and the rows of its accounts, as count (8) and sum (16); or zeroes, where they are not known |
//! | 16 | XXH3-128 of everything before |
//!
//! A section's blocks lie one behind the other in its file. Which accounts a block may hold says [`super::bucket_of`].

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::bytes::{Taking, put_text};
use super::{FORMAT, checksum};
use crate::audit::{BUCKETS, Fingerprint};
use crate::limits::{CHECKPOINT_BLOCK_BYTES_MAX, SHARDS_MAX};

const MAGIC: &[u8; 8] = b"FLORINCP";
const CHECKSUM_BYTES: usize = 16;

/// A run of records in a section's file, with one checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Its length.
    pub bytes: u32,
    /// Records in it.
    pub accounts: u32,
    /// Whose they are.
    pub bucket: u8,
    /// [`checksum`] of its bytes.
    pub checksum: u128,
}

/// One file: what one shard held.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Section {
    /// In the order in which they lie.
    pub blocks: Vec<Block>,
}

impl Section {
    /// Length of the file.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.bytes)).sum()
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Which ledger, in the source's words.
    pub ledger: String,
    /// Every account holds all of its rows up to here.
    pub begin: Vec<u8>,
    /// And none behind this.
    pub end: Vec<u8>,
    /// µs since 1970 UTC.
    pub made_at_us: i64,
    /// Accounts of which only the names are known.
    pub incomplete: u64,
    /// One for each shard of the node that made it.
    pub sections: Vec<Section>,
    /// By [bucket](crate::audit::bucket_of): the rows of all accounts; `None` where they are not known.
    pub fingerprints: Vec<Option<Fingerprint>>,
}

/// Why bytes are no manifest.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ManifestError {
    /// Something else.
    #[error("this is no checkpoint's manifest: it does not begin as one")]
    Foreign,
    /// Another build's.
    #[error(
        "the checkpoint has format {found}, and this florin reads format {FORMAT}: it was made by another version"
    )]
    Format {
        /// Which.
        found: u32,
    },
    /// Cut short, or changed.
    #[error("the manifest is damaged: its checksum is not that of its {bytes} bytes")]
    Damaged {
        /// How many there are.
        bytes: usize,
    },
    /// Its checksum is right and its content is none: a defect of whoever wrote it.
    #[error("the manifest contradicts itself: {0}")]
    Contradiction(&'static str),
}

impl Manifest {
    /// Accounts in all of it.
    pub fn accounts(&self) -> u64 {
        self.blocks().map(|block| u64::from(block.accounts)).sum()
    }

    /// Bytes of all sections.
    pub fn bytes(&self) -> u64 {
        self.sections.iter().map(Section::bytes).sum()
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.sections.iter().flat_map(|section| &section.blocks)
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        put_text(&mut out, self.ledger.as_bytes());
        put_text(&mut out, &self.begin);
        put_text(&mut out, &self.end);
        out.extend_from_slice(&self.made_at_us.to_le_bytes());
        out.extend_from_slice(&self.incomplete.to_le_bytes());
        out.extend_from_slice(&(self.sections.len() as u32).to_le_bytes());
        for section in &self.sections {
            out.extend_from_slice(&(section.blocks.len() as u32).to_le_bytes());
        }
        for block in self.blocks() {
            out.extend_from_slice(&block.bytes.to_le_bytes());
            out.extend_from_slice(&block.accounts.to_le_bytes());
            out.push(block.bucket);
            out.extend_from_slice(&block.checksum.to_le_bytes());
        }
        out.extend_from_slice(&(self.fingerprints.len() as u32).to_le_bytes());
        for fingerprint in &self.fingerprints {
            out.push(u8::from(fingerprint.is_some()));
            out.extend_from_slice(&fingerprint.unwrap_or_default().encode());
        }
        let checksum = checksum(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads what [`Manifest::encode`] has written, and nothing else.
    ///
    /// # Errors
    /// Why it is not that.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let damaged = ManifestError::Damaged { bytes: bytes.len() };
        let magic = bytes.get(..MAGIC.len()).ok_or(ManifestError::Foreign)?;
        if magic != MAGIC {
            return Err(ManifestError::Foreign);
        }
        let mut taking = Taking(&bytes[MAGIC.len()..]);
        // Before the checksum, which another format may have elsewhere.
        let format = taking.u32().ok_or_else(|| damaged.clone())?;
        if format != FORMAT {
            return Err(ManifestError::Format { found: format });
        }
        let content = bytes.len().checked_sub(CHECKSUM_BYTES).filter(|&content| content >= MAGIC.len() + 4);
        let (content, sum) = bytes.split_at(content.ok_or_else(|| damaged.clone())?);
        if Taking(sum).u128() != Some(checksum(content)) {
            return Err(damaged);
        }
        let mut taking = Taking(&content[MAGIC.len() + 4..]);
        let manifest = Manifest::take(&mut taking)?;
        if taking.0.is_empty() {
            Ok(manifest)
        } else {
            Err(ManifestError::Contradiction("it goes on behind its end"))
        }
    }

    fn take(taking: &mut Taking<'_>) -> Result<Manifest, ManifestError> {
        let short = ManifestError::Contradiction("it ends too soon");
        let ledger = taking.text().and_then(|text| core::str::from_utf8(text).ok());
        let ledger = ledger.ok_or(ManifestError::Contradiction("its ledger's name is no text"))?.to_string();
        let begin = taking.text().ok_or_else(|| short.clone())?.to_vec();
        let end = taking.text().ok_or_else(|| short.clone())?.to_vec();
        let made_at_us = taking.i64().ok_or_else(|| short.clone())?;
        let incomplete = taking.u64().ok_or_else(|| short.clone())?;
        let sections = taking.u32().ok_or_else(|| short.clone())?;
        if sections > u32::from(SHARDS_MAX) {
            return Err(ManifestError::Contradiction("it has more sections than a node has shards"));
        }
        let counts: Option<Vec<u32>> = (0..sections).map(|_| taking.u32()).collect();
        let mut read = Vec::new();
        for count in counts.ok_or_else(|| short.clone())? {
            let mut section = Section::default();
            for _ in 0..count {
                section.blocks.push(take_block(taking).ok_or_else(|| short.clone())?);
            }
            read.push(section);
        }
        let fingerprints = take_fingerprints(taking)?;
        let is_legal = |block: &Block| (1..=CHECKPOINT_BLOCK_BYTES_MAX).contains(&(block.bytes as usize));
        let manifest = Manifest { ledger, begin, end, made_at_us, incomplete, sections: read, fingerprints };
        if !manifest.blocks().all(is_legal) {
            return Err(ManifestError::Contradiction("a block is longer than one may be, or empty"));
        }
        Ok(manifest)
    }
}

fn take_fingerprints(taking: &mut Taking<'_>) -> Result<Vec<Option<Fingerprint>>, ManifestError> {
    let wrong = ManifestError::Contradiction("its fingerprints are none of the buckets that there are");
    if taking.u32() != Some(BUCKETS as u32) {
        return Err(wrong);
    }
    let take = |_| {
        let is_known = taking.u8()?;
        let fingerprint = Fingerprint::decode(taking.bytes(Fingerprint::BYTES)?.try_into().ok()?);
        match is_known {
            0 if fingerprint == Fingerprint::default() => Some(None),
            1 => Some(Some(fingerprint)),
            _ => None,
        }
    };
    (0..BUCKETS).map(take).collect::<Option<_>>().ok_or(wrong)
}

fn take_block(taking: &mut Taking<'_>) -> Option<Block> {
    Some(Block {
        bytes: taking.u32()?,
        accounts: taking.u32()?,
        bucket: taking.u8()?,
        checksum: taking.u128()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let block =
            |bucket| Block { bytes: 100, accounts: 2, bucket, checksum: u128::MAX - u128::from(bucket) };
        Manifest {
            ledger: "sqlite 00c0ffee".to_string(),
            begin: vec![1, 2, 3],
            end: vec![4],
            made_at_us: -5,
            incomplete: 1,
            sections: vec![
                Section { blocks: vec![block(0), block(7)] },
                Section::default(),
                Section { blocks: vec![block(255)] },
            ],
            fingerprints: (0..BUCKETS)
                .map(|bucket| {
                    (bucket % 7 > 0).then(|| Fingerprint::decode(&[bucket as u8; Fingerprint::BYTES]))
                })
                .collect(),
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let manifest = manifest();
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
        assert_eq!((manifest.accounts(), manifest.bytes(), manifest.sections[0].bytes()), (6, 300, 200));
    }

    #[test]
    fn what_was_cut_or_changed_anywhere_is_refused() {
        let bytes = manifest().encode();
        // All of what there is one of, and some of the many fingerprints.
        let all = bytes.len();
        let places = || (0..300).chain((300..all - 300).step_by(97)).chain(all - 300..all);
        for cut in places() {
            assert!(Manifest::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in places() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(Manifest::decode(&flipped).is_err(), "byte {at}");
        }
        assert!(Manifest::decode(&[&bytes[..], &[0]].concat()).is_err(), "something behind it");
    }

    #[test]
    fn another_format_is_named() {
        let mut bytes = manifest().encode();
        bytes[8] = FORMAT as u8 + 1;
        assert_eq!(Manifest::decode(&bytes), Err(ManifestError::Format { found: FORMAT + 1 }));
        assert_eq!(Manifest::decode(b"SQLite format 3\0"), Err(ManifestError::Foreign));
    }
}
