//! Which files are a ledger's own. Whatever else is written to one of them damages the ledger, or goes with it: SQLite takes a
//! `-journal`, `-wal` or `-shm` for its own, and removes or overwrites it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::limits::LINKS_MAX;

/// What the names of the files that SQLite keeps beside a ledger end with.
pub(crate) const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Whether `path` is one of the ledger's files, there or yet to be made: by name, however that is spelled, or, where it is there
/// under another name, by identity.
pub fn owns(ledger: &Path, path: &Path) -> bool {
    let ledger = resolve(ledger);
    let own = || std::iter::once(ledger.clone()).chain(BESIDE.map(|suffix| beside(&ledger, suffix)));
    let path = resolve(path);
    let id = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let found = id(&path);
    own().any(|one| one == path || (found.is_some() && id(&one) == found))
}

/// One of the files that SQLite keeps beside a ledger.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether a file of this name would be taken for one of another ledger's.
pub(crate) fn is_beside(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    BESIDE.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix.as_bytes()))
}

/// The path without links, `.` and `..`, also where the file itself is not there.
fn resolve(path: &Path) -> PathBuf {
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..LINKS_MAX {
        if let Ok(whole) = path.canonicalize() {
            return whole;
        }
        // A link that leads to nothing yet names what it leads to.
        let (Some(folder), Some(name)) = (path.parent(), path.file_name().map(OsString::from)) else { break };
        path = match fs::read_link(&path) {
            Ok(target) => folder.join(target),
            Err(_) => return folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).join(name),
        };
    }
    path
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::scratch::Scratch;

    /// `--skip-bad LEDGER-journal` was taken, and SQLite removed that file with its rows at the next opening.
    #[test]
    fn each_of_a_ledgers_files_is_its_own_by_every_name() {
        let scratch = Scratch::new();
        let _open = scratch.writer();
        fs::create_dir(scratch.file("sub")).unwrap();
        symlink(scratch.file(""), scratch.file("here")).unwrap();
        symlink("ledger.db-journal", scratch.file("dangling")).unwrap();
        symlink(scratch.ledger(), scratch.file("alias.db")).unwrap();
        fs::hard_link(scratch.file("ledger.db-wal"), scratch.file("second")).unwrap();
        for own in [
            "ledger.db",
            "ledger.db-wal",
            "ledger.db-shm",
            "ledger.db-journal",
            "sub/../ledger.db-journal",
            "here/ledger.db-journal",
            "./ledger.db-journal",
            "dangling",
            "second",
        ] {
            for ledger in ["ledger.db", "here/ledger.db", "alias.db"] {
                assert!(owns(&scratch.file(ledger), &scratch.file(own)), "{own} of {ledger}");
            }
        }
        for other in ["bad.csv", "ledger.db-wal2", "sub/ledger.db-wal", "ledger.db.lock"] {
            assert!(!owns(&scratch.ledger(), &scratch.file(other)), "{other}");
        }
        // Also of a ledger that is yet to be made.
        assert!(owns(&scratch.file("new.db"), &scratch.file("sub/../new.db-wal")));
    }
}
