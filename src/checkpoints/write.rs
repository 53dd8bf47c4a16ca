//! Accounts into a section's file: sorted by bucket, cut into blocks, each with its checksum.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::thread;

use super::store::section_path;
use crate::audit;
use crate::checkpoint::{self, BUCKETS, Block, Section, record};
use crate::limits::{CHECKPOINT_BLOCK_BYTES, CHECKPOINT_SYNC_BYTES, CHECKPOINT_YIELD_BYTES};

/// Blocks that are not full yet, by bucket. Their memory is kept from one checkpoint to the next: to take it from the system and give
/// it back holds up whoever else of the process asks the system for memory, a growing table above all.
pub(super) struct OpenBlocks(Vec<OpenBlock>);

#[derive(Clone, Default)]
struct OpenBlock {
    records: Vec<u8>,
    accounts: u32,
}

impl OpenBlocks {
    pub(super) fn new() -> OpenBlocks {
        OpenBlocks(vec![OpenBlock::default(); BUCKETS])
    }
}

/// A section in the making.
pub(super) struct SectionWriter<'a> {
    file: File,
    open: &'a mut [OpenBlock],
    section: Section,
    unsynced: usize,
    /// Bytes written since others on this CPU were let before.
    unyielded: usize,
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

impl<'a> SectionWriter<'a> {
    pub(super) fn create(
        checkpoint: &Path,
        index: usize,
        OpenBlocks(open): &'a mut OpenBlocks,
    ) -> io::Result<SectionWriter<'a>> {
        // Of one that could not be written something may be left.
        for OpenBlock { records, accounts } in open.iter_mut() {
            records.clear();
            *accounts = 0;
        }
        Ok(SectionWriter {
            file: File::create_new(section_path(checkpoint, index))?,
            open,
            section: Section::default(),
            unsynced: 0,
            unyielded: 0,
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
            let open = &mut self.open[usize::from(bucket)];
            open.records.extend_from_slice(own);
            open.accounts += 1;
            if open.records.len() >= CHECKPOINT_BLOCK_BYTES {
                self.write(bucket)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, bucket: u8) -> io::Result<()> {
        let OpenBlock { records, accounts } = &mut self.open[usize::from(bucket)];
        self.file.write_all(records)?;
        self.section.blocks.push(Block {
            bytes: u32::try_from(records.len()).expect("a block is little longer than a block may be"),
            accounts: std::mem::take(accounts),
            bucket,
            checksum: checkpoint::checksum(records),
        });
        self.unsynced += records.len();
        self.unyielded += records.len();
        records.clear();
        if self.unyielded >= CHECKPOINT_YIELD_BYTES {
            self.unyielded = 0;
            thread::yield_now();
        }
        if self.unsynced >= CHECKPOINT_SYNC_BYTES {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Writes what is left. When this returns, all of it is on the disk.
    pub(super) fn finish(mut self) -> io::Result<Written> {
        for bucket in 0..=u8::MAX {
            if !self.open[usize::from(bucket)].records.is_empty() {
                self.write(bucket)?;
            }
        }
        self.file.sync_all()?;
        Ok(Written { section: self.section, incomplete: self.incomplete, unknown: self.unknown })
    }
}
