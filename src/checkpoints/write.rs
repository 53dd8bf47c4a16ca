//! Accounts into a section's file: sorted by bucket, cut into blocks, each with its checksum.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::store::section_path;
use crate::audit;
use crate::checkpoint::{self, BUCKETS, Block, Section, record};
use crate::limits::{CHECKPOINT_BLOCK_BYTES, CHECKPOINT_SYNC_BYTES};

/// A section in the making.
pub(super) struct SectionWriter {
    file: File,
    /// By bucket: what has not been written, and how many accounts that is.
    open: Vec<(Vec<u8>, u32)>,
    section: Section,
    unsynced: usize,
    /// Accounts of which only the name is known.
    incomplete: u64,
    /// By bucket of fingerprints: whether such an account is in it.
    unknown: Vec<bool>,
}

/// A section that is on the disk.
pub(super) struct Written {
    pub section: Section,
    /// Accounts of which only the name is known.
    pub incomplete: u64,
    /// By bucket of fingerprints: whether rows of some account are missing in it.
    pub unknown: Vec<bool>,
}

impl SectionWriter {
    pub(super) fn create(checkpoint: &Path, index: usize) -> io::Result<SectionWriter> {
        Ok(SectionWriter {
            file: File::create_new(section_path(checkpoint, index))?,
            open: vec![(Vec::new(), 0); BUCKETS],
            section: Section::default(),
            unsynced: 0,
            incomplete: 0,
            unknown: vec![false; audit::BUCKETS],
        })
    }

    /// Takes what a shard has copied.
    pub(super) fn add(&mut self, mut records: &[u8]) -> io::Result<()> {
        while !records.is_empty() {
            let found = record::peek(records);
            let (own, rest) = records.split_at(found.bytes);
            records = rest;
            if found.is_incomplete {
                self.incomplete += 1;
                self.unknown[audit::bucket_of(found.user.hashed())] = true;
            }
            let bucket = checkpoint::bucket_of(found.user.hashed());
            let (open, accounts) = &mut self.open[usize::from(bucket)];
            open.extend_from_slice(own);
            *accounts += 1;
            if open.len() >= CHECKPOINT_BLOCK_BYTES {
                self.write(bucket)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, bucket: u8) -> io::Result<()> {
        let (open, accounts) = &mut self.open[usize::from(bucket)];
        self.file.write_all(open)?;
        self.section.blocks.push(Block {
            bytes: u32::try_from(open.len()).expect("a block is little longer than a block may be"),
            accounts: std::mem::take(accounts),
            bucket,
            checksum: checkpoint::checksum(open),
        });
        self.unsynced += open.len();
        open.clear();
        if self.unsynced >= CHECKPOINT_SYNC_BYTES {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Writes what is left. When this returns, all of it is on the disk.
    pub(super) fn finish(mut self) -> io::Result<Written> {
        for bucket in 0..=u8::MAX {
            if !self.open[usize::from(bucket)].0.is_empty() {
                self.write(bucket)?;
            }
        }
        self.file.sync_all()?;
        Ok(Written { section: self.section, incomplete: self.incomplete, unknown: self.unknown })
    }
}
