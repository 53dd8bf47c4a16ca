//! Traffic in files: written while it passes, to be run again later.

mod format;
mod read;
mod writer;

pub use format::{Defect, Entry, FormatError, export};
pub use read::{read, read_file};
pub use writer::{RecordSettings, Recorded, Recorder, RecorderError, Recording};
