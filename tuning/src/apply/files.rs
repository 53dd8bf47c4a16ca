//! Reading and writing one value below the root, and what the kernel's refusals mean.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::knobs::chosen_word;
use crate::limits::VALUE_BYTES_MAX;
use crate::plan::is_same;

/// Why a value was not read or not written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such file.
    #[error("{0}")]
    Absent(String),
    /// This process may not, or the kernel does not take this value.
    #[error("{0}")]
    Denied(String),
    /// Nothing that could be done here would change it.
    #[error("{0}")]
    Impossible(String),
}

/// The trimmed value.
pub(super) fn read(root: &Path, path: &str) -> Result<String, Refusal> {
    let mut text = String::new();
    let file = OpenOptions::new().read(true).open(below(root, path));
    let read = file.and_then(|file| file.take(VALUE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| explain(path, error))?;
    Ok(text.trim_end().to_owned())
}

/// Writes the value in one go, and reads it back.
pub(super) fn write(root: &Path, path: &str, value: &str) -> Result<(), Refusal> {
    // A file that offers several words takes one of them.
    let written = chosen_word(value);
    let file = OpenOptions::new().write(true).truncate(true).open(below(root, path));
    let put = file.and_then(|mut file| file.write_all(format!("{written}\n").as_bytes()));
    put.map_err(|error| explain(path, error))?;
    let found = read(root, path)?;
    if is_same(path, &found, value) {
        Ok(())
    } else {
        Err(Refusal::Denied(format!("the kernel took {written} and holds {found}")))
    }
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn explain(path: &str, error: io::Error) -> Refusal {
    use io::ErrorKind::{InvalidInput, NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    // Of an interrupt that the kernel spreads itself (NVMe, virtio-blk) it says so to root as well, older ones with EIO.
    let is_managed =
        [Errno::PERM, Errno::IO].map(Errno::raw_os_error).map(Some).contains(&error.raw_os_error());
    if is_managed && path.ends_with("/smp_affinity_list") {
        return Refusal::Impossible("the kernel places this interrupt itself".to_owned());
    }
    match error.kind() {
        NotFound => Refusal::Absent("this host has no such file".to_owned()),
        InvalidInput => Refusal::Denied("the kernel does not take this value".to_owned()),
        StorageFull => Refusal::Denied(format!("the kernel has no room for it there ({error})")),
        PermissionDenied => Refusal::Denied(format!("{error}; run it as root")),
        ReadOnlyFilesystem => Refusal::Impossible(format!("{error}, as in containers: set it on the host")),
        _ => Refusal::Impossible(format!("the kernel says: {error}")),
    }
}
