//! `florin tune`: everything lies in the crate florin-tune, which knows nothing of the server.

use std::io;

use florin_tune::{TuneCommand, TuneError};

/// Runs `florin tune`. A reader that has seen enough (`florin tune show | head`) is no error.
pub(super) fn run(command: &TuneCommand) -> Result<(), TuneError> {
    match florin_tune::run(command, &mut io::stdout().lock()) {
        Err(TuneError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}
