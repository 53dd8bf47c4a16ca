//! The folder of checkpoints: who may write there, what is in it, and how a new one gets its name.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::checkpoint::{Manifest, ManifestError};
use crate::limits::MANIFEST_BYTES_MAX;

const PREFIX: &str = "checkpoint-";
const UNFINISHED: &str = ".making-";
/// Of what had one, and begins with [`UNFINISHED`] as well.
const NAMELESS: &str = ".making-to-be-removed-";
const LOCK: &str = "lock";
const MANIFEST: &str = "manifest";

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another node has it.
    #[error("another florin writes checkpoints to {}: give each node a folder of its own", .folder.display())]
    Taken {
        /// Which.
        folder: PathBuf,
    },
    /// The file system.
    #[error("cannot keep checkpoints in {}: {operation}: {source}", .folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its content.
    #[error("{}: {source}", .path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
}

/// A folder of checkpoints that this process may write to, as long as it is held.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// The greatest number that was seen, or given: as long as the folder is held, a name means one checkpoint, also where that was removed.
    newest: AtomicU64,
    /// Locked.
    _lock: File,
}

impl Store {
    /// Takes the folder, which is made where there is none, and clears away what was not finished.
    ///
    /// # Errors
    /// Where another process has it, or the file system refuses.
    pub fn open(folder: &Path) -> Result<Store, StoreError> {
        let failed = |operation| {
            let folder = folder.to_owned();
            move |source| StoreError::Folder { folder, operation, source }
        };
        fs::create_dir_all(folder).map_err(failed("making it"))?;
        let options = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK));
        let lock = options.map_err(failed("opening its lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StoreError::Taken { folder: folder.to_owned() }),
            Err(fs::TryLockError::Error(source)) => return Err(failed("locking it")(source)),
        }
        clear_away_all(folder, UNFINISHED).map_err(failed("listing it"))?;
        Ok(Store { folder: folder.to_owned(), newest: AtomicU64::new(0), _lock: lock })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is there, the newest first.
    ///
    /// # Errors
    /// The file system's.
    pub fn checkpoints(&self) -> io::Result<Vec<PathBuf>> {
        let found = checkpoints(&self.folder)?;
        self.newest.fetch_max(found.first().and_then(|path| sequence(path)).unwrap_or(0), Relaxed);
        Ok(found)
    }

    /// The number of the newest that there is, or was.
    pub fn newest(&self) -> u64 {
        // Others may have put one here.
        let _ = self.checkpoints();
        self.newest.load(Relaxed)
    }

    /// A new folder for a checkpoint in the making.
    ///
    /// # Errors
    /// The file system's.
    pub fn begin(&self) -> io::Result<Unfinished> {
        let sequence = self.newest() + 1;
        self.newest.store(sequence, Relaxed);
        let path = self.folder.join(format!("{UNFINISHED}{sequence:012}"));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir(&path)?;
        Ok(Unfinished {
            path,
            target: self.folder.join(format!("{PREFIX}{sequence:012}")),
            is_published: false,
        })
    }

    /// Removes all but so many of the newest.
    ///
    /// # Errors
    /// The file system's, where some are still there.
    pub fn retain(&self, kept: usize) -> io::Result<()> {
        let unnamed = self.unname(self.checkpoints()?.into_iter().skip(kept));
        self.clear();
        unnamed
    }

    /// Takes their names, for good, from those with this number and smaller ones. To clear them away may take long, and is left to
    /// [`Store::clear`].
    ///
    /// # Errors
    /// The file system's, where some are still there.
    pub fn unname_up_to(&self, newest: u64) -> io::Result<()> {
        let is_one = |path: &PathBuf| sequence(path).is_some_and(|sequence| sequence <= newest);
        self.unname(self.checkpoints()?.into_iter().filter(is_one))
    }

    /// Whenever this is interrupted: what has a name is whole, and what has none any more is cleared away, at the latest at the next start.
    fn unname(&self, paths: impl Iterator<Item = PathBuf>) -> io::Result<()> {
        let mut outcome = Ok(());
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            match fs::rename(&path, self.folder.join(format!("{NAMELESS}{name}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => outcome = outcome.and(Err(error)),
                // Or somebody else has been here first.
                _ => {}
            }
        }
        outcome.and(File::open(&self.folder).and_then(|folder| folder.sync_all()))
    }

    /// Clears away what has no name any more.
    pub fn clear(&self) {
        // Where it cannot be listed, that is left to the next time.
        let _ = clear_away_all(&self.folder, NAMELESS);
    }
}

/// Whatever has a name in the folder that begins so.
fn clear_away_all(folder: &Path, begin: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(begin) {
            clear_away(&entry.path());
        }
    }
    Ok(())
}

/// What has no name takes room, and is no checkpoint: nothing depends on it.
fn clear_away(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!("cannot clear away {}: {error}", path.display());
    }
}

/// A checkpoint in the making; cleared away unless it is published.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    target: PathBuf,
    is_published: bool,
}

impl Unfinished {
    /// Where its files belong.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, now that its sections are on the disk. When this returns, all of it is.
    ///
    /// # Errors
    /// The file system's.
    pub fn publish(mut self, manifest: &Manifest) -> io::Result<PathBuf> {
        let mut file = File::create_new(self.path.join(MANIFEST))?;
        file.write_all(&manifest.encode())?;
        file.sync_all()?;
        File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        self.is_published = true;
        if let Some(parent) = self.target.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(self.target.clone())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_published {
            // What is left is cleared away when the folder is next opened.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The checkpoints in a folder, the newest first; for whoever only looks.
///
/// # Errors
/// The file system's.
pub fn checkpoints(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        found.extend(sequence(&path).map(|sequence| (sequence, path)));
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn sequence(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

/// The file of a section.
pub fn section_path(checkpoint: &Path, section: usize) -> PathBuf {
    checkpoint.join(format!("section-{section}"))
}

/// Reads a checkpoint's manifest.
///
/// # Errors
/// Why it is none, or cannot be read.
pub fn manifest(checkpoint: &Path) -> Result<Manifest, ReadError> {
    let path = checkpoint.join(MANIFEST);
    let read = fs::metadata(&path).and_then(|found| {
        if found.len() > MANIFEST_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than any manifest"));
        }
        fs::read(&path)
    });
    match read {
        Ok(bytes) => Manifest::decode(&bytes).map_err(|source| ReadError::Manifest { path, source }),
        Err(source) => Err(ReadError::Io { path, source }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::audit::BUCKETS;
    use crate::limits::CHECKPOINTS_KEPT;

    /// One of an empty node.
    pub fn manifest() -> Manifest {
        Manifest {
            ledger: "test".to_owned(),
            begin: Vec::new(),
            end: Vec::new(),
            made_at_us: 0,
            incomplete: 0,
            sections: Vec::new(),
            fingerprints: vec![None; BUCKETS],
        }
    }

    #[test]
    fn what_was_not_finished_has_no_name_and_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!(matches!(Store::open(folder.path()), Err(StoreError::Taken { .. })));
        // Given up, and what a process that was killed in the middle leaves behind.
        drop(store.begin().unwrap());
        let killed = store.begin().unwrap();
        fs::write(section_path(killed.path(), 0), b"half").unwrap();
        std::mem::forget(killed);
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert!(store.checkpoints().unwrap().is_empty());
        let names = || fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names().collect::<Vec<_>>(), ["lock"]);
    }

    #[test]
    fn the_newest_two_are_kept_and_names_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for _ in 0..12 {
            store.begin().unwrap().publish(&manifest()).unwrap();
            store.retain(CHECKPOINTS_KEPT).unwrap();
        }
        let names: Vec<_> = store.checkpoints().unwrap().iter().map(|path| sequence(path)).collect();
        assert_eq!(names, [Some(12), Some(11)]);
        assert_eq!(super::manifest(&store.checkpoints().unwrap()[0]).unwrap(), manifest());
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        store.unname_up_to(11).unwrap();
        assert_eq!(
            store.checkpoints().unwrap().iter().map(|path| sequence(path)).collect::<Vec<_>>(),
            [Some(12)]
        );
        store.unname_up_to(12).unwrap();
        store.clear();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the lock");
        let next = store.begin().unwrap().publish(&manifest()).unwrap();
        assert_eq!(sequence(&next), Some(13), "a name means one checkpoint");
    }
}
