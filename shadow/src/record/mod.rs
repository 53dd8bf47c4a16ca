//! Traffic in files: written while it passes, and run again later.

mod format;
mod replay;
mod writer;

pub use format::{Entry, FormatError, export, read_file};
pub use replay::{ReplayError, ReplaySettings, Speed, SpeedError, replay};
pub use writer::{RecordSettings, Recorded, Recorder, RecorderError, Recording};
