//! A checkpoint into the shards, each of which gets its own accounts from a thread of its own. Nothing that is not verified
//! reaches a shard; and where anything is wrong, all of them forget all of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use florin_schema::ShardIndex;

use super::store::{ReadError, manifest, section_path};
use super::{CheckpointStatus, Cut, Made, Port, Store};
use crate::checkpoint::{self, Block, Manifest, RecordError, Records};
use crate::follower::{Position, Source, SourceError};
use crate::limits::{CHECKPOINT_LOAD_LOOK, CHECKPOINT_ORDERS};
use crate::shard::{CheckpointAnswer, CheckpointOrder};

/// Why a checkpoint is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its manifest.
    #[error(transparent)]
    Manifest(#[from] ReadError),
    /// It is another ledger's.
    #[error("it is of another ledger ({found}), and this is {expected}")]
    Ledger {
        /// In the manifest.
        found: String,
        /// Followed.
        expected: String,
    },
    /// The ledger is not the one that it was, or cannot be gone on with from there.
    #[error("the ledger cannot be gone on with from there: {0}")]
    Source(#[from] SourceError),
    /// Its positions are of another kind of source.
    #[error("its positions are none of this kind of ledger")]
    Positions,
    /// Accounts that nobody could repair.
    #[error(
        "{0} of its accounts are incomplete, and this ledger cannot read accounts again: a whole load repairs them"
    )]
    Incomplete(u64),
    /// A section cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A section has another length.
    #[error("{} has {found} bytes, and its manifest says {expected}", .path.display())]
    Length {
        /// Which file.
        path: PathBuf,
        /// There.
        found: u64,
        /// In the manifest.
        expected: u64,
    },
    /// A block's bytes are not those that were written.
    #[error("{} is damaged: the block at byte {at} does not have its checksum", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where the block begins.
        at: u64,
    },
    /// A block that is as it was written, and holds what no account can be.
    #[error("{}: {source}", .path.display())]
    Record {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong.
        source: RecordError,
    },
    /// Not all of it arrived.
    #[error("{found} accounts came of {expected}")]
    Accounts {
        /// Taken in by the shards, or found in the blocks.
        found: u64,
        /// In the manifest.
        expected: u64,
    },
    /// The node ends.
    #[error("the node ended meanwhile")]
    Stopped,
}

/// Everything that the feed's thread needs to load a checkpoint before it follows its ledger.
#[derive(Debug)]
pub struct Restoring {
    /// Where they lie.
    pub store: Arc<Store>,
    /// By shard.
    pub ports: Vec<Port>,
    /// What the feed and the maker tell each other.
    pub cut: Arc<Cut>,
    /// What there is to say.
    pub status: Arc<CheckpointStatus>,
    /// The ports go here afterwards.
    pub maker: mpsc::Sender<Vec<Port>>,
}

impl Restoring {
    /// Loads the newest checkpoint that can be, and says where the ledger is to be gone on with; `None` = from its start.
    /// `progress` is told how much has been loaded, in thousandths.
    pub fn restore<S: Source>(
        &mut self,
        source: &mut S,
        stop: &AtomicBool,
        progress: &(dyn Fn(u16) + Sync),
    ) -> Option<S::Position> {
        let found = self.store.checkpoints().unwrap_or_else(|error| {
            tracing::error!("cannot look for checkpoints: {error}; the ledger is loaded from its start");
            Vec::new()
        });
        for path in found {
            let begun = Instant::now();
            match self.restore_one(&path, source, stop, progress) {
                Ok((position, made)) => {
                    tracing::info!(
                        accounts = made.accounts,
                        seconds = begun.elapsed().as_secs_f64(),
                        "loaded {}; the ledger is read from there on",
                        path.display()
                    );
                    self.status.note_restored(made.accounts);
                    self.status.note_last(made);
                    return Some(position);
                }
                Err(Refusal::Stopped) => return None,
                Err(refusal) => {
                    tracing::error!("{} is not loaded: {refusal}", path.display());
                    self.status.note_refused(format!("{} was not loaded: {refusal}", path.display()));
                    self.forget(stop);
                }
            }
        }
        None
    }

    /// The shards forget all that they were given. They have when this returns: what the ledger brings next must stay.
    fn forget(&mut self, stop: &AtomicBool) {
        for port in &mut self.ports {
            port.order(CheckpointOrder::Reserve(0));
            while port.unanswered() > 0 && !stop.load(Relaxed) {
                if port.answer().is_none() {
                    thread::park_timeout(CHECKPOINT_LOAD_LOOK);
                }
            }
        }
    }

    fn restore_one<S: Source>(
        &mut self,
        path: &Path,
        source: &mut S,
        stop: &AtomicBool,
        progress: &(dyn Fn(u16) + Sync),
    ) -> Result<(S::Position, Made), Refusal> {
        let manifest = manifest(path)?;
        let expected = source.lasting_identity()?;
        if manifest.ledger != expected {
            return Err(Refusal::Ledger { found: manifest.ledger, expected });
        }
        let decode = |bytes: &[u8]| S::Position::decode(bytes).ok_or(Refusal::Positions);
        let (begin, end) = (decode(&manifest.begin)?, decode(&manifest.end)?);
        source.resume(&begin, &end)?;
        if manifest.incomplete > 0 && !source.can_reread() {
            return Err(Refusal::Incomplete(manifest.incomplete));
        }
        load(path, &manifest, &mut self.ports, stop, progress)?;
        // All go to one shard, for they are compared together.
        let told = self.ports[0].tell(CheckpointOrder::Applied(manifest.fingerprints.clone()));
        assert!(told.is_ok(), "everything that was ordered has been answered");
        Ok((begin, Made::loaded(path, &manifest)))
    }
}

/// Loads all of a checkpoint into the shards of these ports.
fn load(
    path: &Path,
    manifest: &Manifest,
    ports: &mut [Port],
    stop: &AtomicBool,
    progress: &(dyn Fn(u16) + Sync),
) -> Result<(), Refusal> {
    check_lengths(path, manifest)?;
    let shards = ports.len() as u16;
    let (is_over, loaded) = (&AtomicBool::new(false), &AtomicU64::new(0));
    let outcomes: Vec<Result<u64, Refusal>> = thread::scope(|scope| {
        let loaders: Vec<_> = (0..shards)
            .zip(&mut *ports)
            .map(|(shard, port)| {
                // An eighth more than its share, for shards are not exactly equal.
                let share = manifest.accounts() / u64::from(shards);
                port.order(CheckpointOrder::Reserve((share + share / 8) as usize));
                let loader = Loader { path, port, is_over, stop, loaded, taken: 0 };
                scope.spawn(move || {
                    let outcome = loader.load(manifest, |block| concerns(block, shard, shards));
                    if outcome.is_err() {
                        is_over.store(true, Relaxed);
                    }
                    outcome
                })
            })
            .collect();
        while !loaders.iter().all(|loader| loader.is_finished()) {
            progress((1_000 * loaded.load(Relaxed) / manifest.accounts().max(1)).min(1_000) as u16);
            thread::park_timeout(Duration::from_millis(10));
        }
        let join = |loader: thread::ScopedJoinHandle<'_, _>| match loader.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        loaders.into_iter().map(join).collect()
    });
    let mut found = 0;
    let mut stopped = None;
    for outcome in outcomes {
        match outcome {
            Ok(accounts) => found += accounts,
            // Others may have stopped because of the one that says why.
            Err(Refusal::Stopped) => stopped = Some(Refusal::Stopped),
            Err(refusal) => return Err(refusal),
        }
    }
    match stopped {
        Some(stopped) => Err(stopped),
        None if found == manifest.accounts() => Ok(()),
        None => Err(Refusal::Accounts { found, expected: manifest.accounts() }),
    }
}

/// Whether a block may hold accounts of a shard.
fn concerns(block: &Block, shard: u16, shards: u16) -> bool {
    let shard_of = |hash| ShardIndex::of_hash(hash, shards);
    let first = u64::from(block.bucket) << 56;
    (shard_of(first)..=shard_of(first | u64::MAX >> 8)).contains(&ShardIndex(shard))
}

struct Loader<'a> {
    path: &'a Path,
    port: &'a mut Port,
    is_over: &'a AtomicBool,
    stop: &'a AtomicBool,
    loaded: &'a AtomicU64,
    taken: u64,
}

impl Loader<'_> {
    /// Gives a shard all blocks that concern it, and waits until it has taken them in. How many accounts it has taken.
    fn load(mut self, manifest: &Manifest, concerns: impl Fn(&Block) -> bool) -> Result<u64, Refusal> {
        let outcome = self.give_all(manifest, concerns);
        // No order is left behind, whatever has happened.
        let rest = self.wait_until(|unanswered| unanswered == 0);
        outcome.and(rest).map(|()| self.taken)
    }

    fn give_all(&mut self, manifest: &Manifest, concerns: impl Fn(&Block) -> bool) -> Result<(), Refusal> {
        each_block(self.path, manifest, concerns, |path, block, bytes| {
            self.give(bytes, block.bucket).map_err(|source| match source {
                Some(source) => Refusal::Record { path: path.to_owned(), source },
                None => Refusal::Stopped,
            })
        })
    }

    /// Returns a buffer that is free, or why not to go on.
    fn give(&mut self, block: Vec<u8>, bucket: u8) -> Result<Vec<u8>, Option<RecordError>> {
        self.port.order(CheckpointOrder::Take { block, bucket });
        let mut free = Vec::new();
        loop {
            while let Some(answer) = self.port.answer() {
                free = self.note(answer).map_err(Some)?;
            }
            if self.is_over.load(Relaxed) || self.stop.load(Relaxed) {
                return Err(None);
            }
            if self.port.unanswered() < CHECKPOINT_ORDERS {
                return Ok(free);
            }
            thread::park_timeout(CHECKPOINT_LOAD_LOOK);
        }
    }

    fn note(&mut self, answer: CheckpointAnswer) -> Result<Vec<u8>, RecordError> {
        let (outcome, buffer) = match answer {
            CheckpointAnswer::Taken { outcome, buffer } => (outcome, buffer),
            CheckpointAnswer::Reserved => return Ok(Vec::new()),
            CheckpointAnswer::Filled { .. } | CheckpointAnswer::Fingerprints(_) => {
                unreachable!("nothing is copied out before all is loaded")
            }
        };
        let taken = u64::from(outcome?);
        self.taken += taken;
        self.loaded.fetch_add(taken, Relaxed);
        Ok(buffer)
    }

    fn wait_until(&mut self, is_enough: impl Fn(usize) -> bool) -> Result<(), Refusal> {
        let mut outcome = Ok(());
        while !is_enough(self.port.unanswered()) {
            if self.stop.load(Relaxed) {
                return Err(Refusal::Stopped);
            }
            match self.port.answer().map(|answer| self.note(answer)) {
                Some(Ok(_)) => {}
                Some(Err(source)) => {
                    outcome = Err(Refusal::Record { path: self.path.to_owned(), source });
                }
                None => thread::park_timeout(CHECKPOINT_LOAD_LOOK),
            }
        }
        outcome
    }
}

fn check_lengths(path: &Path, manifest: &Manifest) -> Result<(), Refusal> {
    for (index, section) in manifest.sections.iter().enumerate() {
        let path = section_path(path, index);
        let found = match std::fs::metadata(&path) {
            Ok(found) => found.len(),
            Err(source) => return Err(Refusal::Io { path, source }),
        };
        if found != section.bytes() {
            return Err(Refusal::Length { path, found, expected: section.bytes() });
        }
    }
    Ok(())
}

fn verify(block: &Block, bytes: &[u8], path: &Path, at: u64) -> Result<(), Refusal> {
    if checkpoint::checksum(bytes) == block.checksum {
        return Ok(());
    }
    Err(Refusal::Damaged { path: path.to_owned(), at })
}

/// Reads those blocks of a checkpoint that are `wanted`, and gives `see` each that is as it was written; gets back a buffer for the
/// next.
fn each_block(
    path: &Path,
    manifest: &Manifest,
    wanted: impl Fn(&Block) -> bool,
    mut see: impl FnMut(&Path, &Block, Vec<u8>) -> Result<Vec<u8>, Refusal>,
) -> Result<(), Refusal> {
    let mut bytes = Vec::new();
    for (index, section) in manifest.sections.iter().enumerate() {
        let path = section_path(path, index);
        let failed = |source| Refusal::Io { path: path.clone(), source };
        let file = File::open(&path).map_err(failed)?;
        let mut at = 0;
        for block in &section.blocks {
            if wanted(block) {
                bytes.resize(block.bytes as usize, 0);
                file.read_exact_at(&mut bytes, at).map_err(failed)?;
                verify(block, &bytes, &path, at)?;
                bytes = see(&path, block, bytes)?;
            }
            at += u64::from(block.bytes);
        }
    }
    Ok(())
}

/// Reads all of a checkpoint as loading would, without a node, and gives each account to `see`.
///
/// # Errors
/// The first thing that is wrong.
pub fn read(path: &Path, mut see: impl FnMut(&checkpoint::Record<'_>)) -> Result<Manifest, Refusal> {
    let manifest = manifest(path)?;
    check_lengths(path, &manifest)?;
    let mut found = 0;
    each_block(
        path,
        &manifest,
        |_| true,
        |path, block, bytes| {
            for record in Records::of(&bytes, block.bucket) {
                see(&record.map_err(|source| Refusal::Record { path: path.to_owned(), source })?);
                found += 1;
            }
            Ok(bytes)
        },
    )?;
    let expected = manifest.accounts();
    if found == expected { Ok(manifest) } else { Err(Refusal::Accounts { found, expected }) }
}
