//! Reading and writing one value below the root, and what the kernel's refusals mean.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::knobs::chosen_word;
use crate::plan::is_same;

/// The longest value: a mask of 8,192 CPUs has 2.3 KiB.
const VALUE_BYTES_MAX: u64 = 64 * 1_024;

/// Why a value was not read or not written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such file.
    #[error("{0}")]
    Absent(String),
    /// This process may not, or the kernel kept another value.
    #[error("{0}")]
    Denied(String),
    /// The kernel takes no value there, or not this one.
    #[error("{0}")]
    Impossible(String),
}

/// The trimmed value.
pub(super) fn read(root: &Path, path: &str) -> Result<String, Refusal> {
    let mut text = String::new();
    let file = OpenOptions::new().read(true).open(below(root, path));
    file.and_then(|file| file.take(VALUE_BYTES_MAX).read_to_string(&mut text)).map_err(explain)?;
    Ok(text.trim_end().to_owned())
}

/// Writes the value in one go, and reads it back.
pub(super) fn write(root: &Path, path: &str, value: &str) -> Result<(), Refusal> {
    // A file that offers several words takes one of them.
    let written = chosen_word(value);
    let file = OpenOptions::new().write(true).truncate(true).open(below(root, path));
    file.and_then(|mut file| file.write_all(format!("{written}\n").as_bytes())).map_err(explain)?;
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

fn explain(error: io::Error) -> Refusal {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    match error.kind() {
        NotFound => Refusal::Absent("this host has no such file".to_owned()),
        PermissionDenied => Refusal::Denied(format!("{error}; run it as root")),
        ReadOnlyFilesystem => Refusal::Impossible(format!("{error}, as in containers: set it on the host")),
        _ => Refusal::Impossible(format!("the kernel says: {error}")),
    }
}
