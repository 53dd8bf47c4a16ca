//! Which file the ledger is, and whether its path still leads there. The feed and the writer ask the same owner, so that
//! neither serves nor writes what the other has found to be another ledger.
//!
//! | what happens to a ledger that is in use | how it shows |
//! | --- | --- |
//! | it is moved, removed, or another is put in its place | device and inode behind the path |
//! | its -wal or -shm is removed or replaced | their inodes: a connection of this holds them, so nobody removes them in passing |
//! | something else than SQLite writes to it (`cp other.db ledger.db`) | it was modified, and the WAL's index knows of no checkpoint |
//! | another ledger or an older one is restored into it | its first row, and the last one that was seen |
//! | it gets a second name, below which SQLite keeps another WAL | the number of its links |

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use florin_core::follower::SourceError;
use florin_schema::LedgerId;

use super::file::second_name;
use super::own::beside;
use super::reader::{Followed, Place, Reader};
use super::{Seq, SqliteError};

/// Why nothing may be read from or written to the ledger now.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IdentityError {
    /// What is there is not what was opened, and never will be again for this process.
    #[error("{0}")]
    Replaced(String),
    /// It cannot be told at the moment: that makes it no other ledger.
    #[error("{0}")]
    Unknown(String),
}

/// The file that was opened, and no other: [`LedgerFile`] never says so of two.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SameFile;

impl fmt::Display for SameFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the file that was opened")
    }
}

impl From<IdentityError> for SourceError {
    fn from(error: IdentityError) -> SourceError {
        match error {
            IdentityError::Replaced(reason) => SourceError::Replaced(reason),
            IdentityError::Unknown(reason) => SourceError::Unavailable(reason),
        }
    }
}

/// The ledger's file as it was opened: see the module.
#[derive(Debug)]
pub struct LedgerFile {
    /// As it was given, but absolute.
    path: PathBuf,
    /// With all links followed: SQLite keeps its other files beside this one.
    real: PathBuf,
    file: FileId,
    seen: Mutex<Seen>,
}

/// What was found when it was looked at last.
struct Seen {
    /// Is open for as long as this is, so that the last of all others leaves -wal and -shm where they are.
    holder: Reader,
    modified: Modified,
    wal: Option<FileId>,
    shm: Option<(FileId, &'static File)>,
    checkpoints: Option<Checkpoints>,
    first: Option<Place>,
    last: Option<Place>,
    /// Why it is no longer the ledger, once it is not.
    replaced: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct FileId {
    device: u64,
    inode: u64,
}

/// Size and time of the last write: whoever writes changes one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Modified {
    bytes: u64,
    seconds: i64,
    nanoseconds: i64,
}

/// How far the WAL has been copied into the file; from the WAL's index, whose layout SQLite documents
/// (<https://sqlite.org/walformat.html>, "WAL-Index").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Checkpoints {
    salts: [u8; 8],
    frames: [u8; 4],
    frames_attempted: [u8; 4],
}

impl LedgerFile {
    /// Opens a ledger that exists, checks that it is one, and remembers which.
    pub fn open(path: &Path) -> Result<Arc<LedgerFile>, SqliteError> {
        let holder = Reader::open(path)?;
        let path = holder.path().to_owned();
        let opened = || -> io::Result<(PathBuf, FileId, Modified)> {
            let (real, found) = (path.canonicalize()?, fs::metadata(&path)?);
            Ok((real, FileId::of(&found), Modified::of(&found)))
        };
        let (real, file, modified) =
            opened().map_err(|source| SqliteError::Open { path: path.clone(), source })?;
        let (first, last) = ends(&holder)?;
        let seen =
            Seen { holder, modified, wal: None, shm: None, checkpoints: None, first, last, replaced: None };
        let ledger = LedgerFile { path, real, file, seen: Mutex::new(seen) };
        let adopted = ledger.adopt(&mut ledger.lock());
        adopted.map_err(|source| SqliteError::Open { path: ledger.path.clone(), source })?;
        Ok(Arc::new(ledger))
    }

    /// Where the ledger is, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which ledger it is, for clients to compare. A first row that cannot be read is the feed's to judge: an identity that is not
    /// known is not checked.
    pub fn id(&self) -> LedgerId {
        self.lock().holder.ledger_id().unwrap_or_default()
    }

    /// Whether the path leads to the file that was opened, and nobody but SQLite has written to it. Some four system
    /// calls, and a look at the ledger's ends after each checkpoint.
    pub fn check(&self) -> Result<(), IdentityError> {
        let mut seen = self.lock();
        if let Some(reason) = &seen.replaced {
            return Err(IdentityError::Replaced(reason.clone()));
        }
        let checked = self.look(&mut seen);
        if let Err(IdentityError::Replaced(reason)) = &checked {
            seen.replaced = Some(reason.clone());
        }
        checked
    }

    /// Somebody found that it is no longer the ledger that was opened: nobody reads or writes it from now on.
    pub fn condemn(&self, reason: &str) {
        self.lock().replaced.get_or_insert_with(|| reason.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, seen: &mut Seen) -> Result<(), IdentityError> {
        // Before and after the file: no checkpoint in between, none while the file was written.
        let before = seen.read_checkpoints();
        let found = fs::metadata(&self.path).map_err(|error| self.gone(&error))?;
        let after = seen.read_checkpoints();
        if FileId::of(&found) != self.file {
            return Err(self.replaced("another file is where it was"));
        }
        if found.nlink() > 1 {
            return Err(IdentityError::Unknown(second_name(&self.path, found.nlink())));
        }
        if found.nlink() == 0 {
            return Err(self.replaced("it was removed"));
        }
        self.check_siblings(seen)?;
        let modified = Modified::of(&found);
        if modified != seen.modified {
            if seen.checkpoints.is_some() && seen.checkpoints == after && after.is_some_and(Checkpoints::rest)
            {
                return Err(self
                    .replaced("something else than SQLite has written to it (cp, rsync, an editor, touch)"));
            }
            self.check_content(seen)?;
            seen.modified = modified;
        }
        seen.checkpoints = before;
        Ok(())
    }

    /// The files that SQLite keeps beside it. New ones are there once somebody has turned the WAL on.
    fn check_siblings(&self, seen: &mut Seen) -> Result<(), IdentityError> {
        let unknown = |error: io::Error| self.unknown(&error);
        let wal = FileId::at(&beside(&self.real, "-wal")).map_err(unknown)?;
        let shm = FileId::at(&beside(&self.real, "-shm")).map_err(unknown)?;
        let held = seen.shm.map(|(id, _)| id);
        if (seen.wal, held) == (wal, shm) {
            return Ok(());
        }
        if (seen.wal.is_some() && seen.wal != wal) || (held.is_some() && held != shm) {
            return Err(self.replaced("its -wal or -shm file was removed or replaced"));
        }
        // Reading makes the holder open them too.
        seen.holder.last().map_err(|error| self.unknown(&error))?;
        self.adopt(seen).map_err(|error| self.unknown(&error))
    }

    fn adopt(&self, seen: &mut Seen) -> io::Result<()> {
        seen.wal = FileId::at(&beside(&self.real, "-wal"))?;
        let shm = beside(&self.real, "-shm");
        seen.shm = match FileId::at(&shm)? {
            Some(id) => Some((id, kept_open(&shm, id)?)),
            None => None,
        };
        // Read by the next look, before the file: what is read after it would not cover the time in between.
        seen.checkpoints = None;
        Ok(())
    }

    /// The file was written to: by a new connection, for one that was open may not have noticed.
    fn check_content(&self, seen: &mut Seen) -> Result<(), IdentityError> {
        let reader = Reader::open(&self.path).map_err(|error| match error {
            SqliteError::NotALedger { .. } => {
                self.replaced(&format!("it can no longer be read as one ({error})"))
            }
            // A change of schema can be undone. Until then nothing is known; the rows are compared once the table is back.
            SqliteError::OtherSchema { .. } => IdentityError::Unknown(error.to_string()),
            _ => self.unknown(&error),
        })?;
        let is_lost = |place: &Option<Place>| match place {
            Some(_) => Ok(reader.follow(place.as_ref(), 0, &mut Vec::new())? == Followed::Lost),
            None => Ok(false),
        };
        let looked = || -> Result<_, SqliteError> {
            Ok((is_lost(&seen.first)? || is_lost(&seen.last)?, ends(&reader)?))
        };
        let (lost, (first, last)) = looked().map_err(|error| self.unknown(&error))?;
        if lost {
            return Err(self.replaced("it lost rows that it had"));
        }
        (seen.first, seen.last) = (first, last);
        Ok(())
    }

    fn gone(&self, error: &io::Error) -> IdentityError {
        match error.kind() {
            io::ErrorKind::NotFound => self.replaced("it was removed"),
            _ => self.unknown(error),
        }
    }

    fn unknown(&self, error: &dyn fmt::Display) -> IdentityError {
        IdentityError::Unknown(format!("cannot look at the ledger {}: {error}", self.path.display()))
    }

    fn replaced(&self, what: &str) -> IdentityError {
        IdentityError::Replaced(format!(
            "the ledger {} is no longer the one that was opened: {what}. Stop florin, put the right file there without \
             another's -wal and -shm beside it, and restart florin",
            self.path.display()
        ))
    }
}

impl Seen {
    fn read_checkpoints(&self) -> Option<Checkpoints> {
        let (_, shm) = self.shm?;
        let mut bytes = [0; 132];
        shm.read_exact_at(&mut bytes, 0).ok()?;
        let part = |from: usize| bytes[from..from + 4].try_into().expect("four bytes");
        let salts = bytes[32..40].try_into().expect("eight bytes");
        Some(Checkpoints { salts, frames: part(96), frames_attempted: part(128) })
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("last", &self.last).field("replaced", &self.replaced).finish()
    }
}

impl FileId {
    fn of(found: &fs::Metadata) -> FileId {
        FileId { device: found.dev(), inode: found.ino() }
    }

    /// `None` where there is none.
    fn at(path: &Path) -> io::Result<Option<FileId>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(FileId::of(&found))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Modified {
    fn of(found: &fs::Metadata) -> Modified {
        Modified { bytes: found.size(), seconds: found.mtime(), nanoseconds: found.mtime_nsec() }
    }
}

impl Checkpoints {
    /// Whether none is under way, so that SQLite does not write to the file.
    fn rest(self) -> bool {
        self.frames == self.frames_attempted
    }
}

fn ends(reader: &Reader) -> Result<(Option<Place>, Option<Place>), SqliteError> {
    let place = |seq: Option<Seq>| seq.map_or(Ok(None), |seq| reader.place(seq));
    Ok((place(reader.first()?)?, place(reader.last()?)?))
}

/// Closing any descriptor of a file drops all locks that this process has on it, SQLite's among them (fcntl(2)): so one is
/// opened for each file, and never closed.
fn kept_open(path: &Path, id: FileId) -> io::Result<&'static File> {
    static KEPT: Mutex<BTreeMap<FileId, &'static File>> = Mutex::new(BTreeMap::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(file) = kept.get(&id) {
        return Ok(file);
    }
    let file: &'static File = Box::leak(Box::new(File::open(path)?));
    kept.insert(FileId::of(&file.metadata()?), file);
    Ok(file)
}
