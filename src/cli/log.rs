//! The log: lines on standard error, chosen by a filter that can be changed while florin runs.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};

use florin_schema::printable_lines;
use serde_json::json;
use tracing_subscriber::{EnvFilter, fmt};

use super::settings::LogFormat;

/// Whoever reads the log expects nothing but JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Changes what is logged.
pub(super) struct LogControl(Box<dyn Fn(&str) + Send>);

impl LogControl {
    /// Logs what passes `filter` from now on.
    pub(super) fn set(&self, filter: &str) {
        (self.0)(filter);
    }
}

/// Sends the log to standard error. A second call changes nothing.
pub(super) fn log_to_stderr(filter: &str, format: LogFormat) -> LogControl {
    let subscriber = fmt().with_env_filter(EnvFilter::new(filter)).with_writer(io::stderr);
    // Changing the filter fails only where the subscriber is gone, and then nothing is logged anyway.
    match format {
        LogFormat::Text => {
            let subscriber = subscriber.with_ansi(io::stderr().is_terminal()).with_filter_reloading();
            let handle = subscriber.reload_handle();
            let _ = subscriber.try_init();
            LogControl(Box::new(move |filter| drop(handle.reload(EnvFilter::new(filter)))))
        }
        LogFormat::Json => {
            let subscriber = subscriber.json().flatten_event(true).with_current_span(false);
            let subscriber = subscriber.with_span_list(false).with_filter_reloading();
            let handle = subscriber.reload_handle();
            let _ = subscriber.try_init();
            IS_JSON.store(true, Ordering::Relaxed);
            LogControl(Box::new(move |filter| drop(handle.reload(EnvFilter::new(filter)))))
        }
    }
}

/// Says why the command ends, as all else that is said there, but whatever the filter is: it would end without a word.
pub(super) fn complain(error: &dyn std::fmt::Display, exit_code: u8) {
    let message = format!("florin: {error}");
    if IS_JSON.load(Ordering::Relaxed) {
        let timestamp = jiff::Timestamp::now().to_string();
        eprintln!(
            "{}",
            json!({"timestamp": timestamp, "level": "ERROR", "message": message, "exit_code": exit_code})
        );
    } else {
        eprintln!("{}", printable_lines(&message));
    }
}
