//! Traffic in files: written while it passes, to be run again later.

mod format;
mod writer;

pub use format::{Entry, FormatError, export, read_file};
pub use writer::{RecordSettings, Recorded, Recorder, RecorderError, Recording};
