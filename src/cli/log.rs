//! The log: lines on standard error, chosen by a filter that can be changed while florin runs.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

/// Changes what is logged.
pub(super) struct LogControl(Box<dyn Fn(&str) + Send>);

impl LogControl {
    /// Logs what passes `filter` from now on.
    pub(super) fn set(&self, filter: &str) {
        (self.0)(filter);
    }
}

/// Sends the log to standard error. A second call changes nothing.
pub(super) fn log_to_stderr(filter: &str) -> LogControl {
    let subscriber = fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    let _ = subscriber.try_init();
    // It fails only where the subscriber is gone, and then nothing is logged anyway.
    LogControl(Box::new(move |filter| drop(handle.reload(EnvFilter::new(filter)))))
}
