//! The log: lines on standard error, chosen by a filter that can be changed while florin runs.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use florin_schema::printable_lines;
use serde::Serialize;
use tracing_subscriber::{EnvFilter, fmt};

use super::caller::in_flags;
use super::output::rfc3339;
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

/// Why the command ends, with the fields of the other lines in their order.
#[derive(Serialize)]
struct Complaint<'a> {
    timestamp: String,
    level: &'static str,
    message: &'a str,
    exit_code: u8,
    target: &'static str,
}

/// Says why the command ends, as all else that is said there, but whatever the filter is: it would end without a word.
pub(super) fn complain(error: &dyn std::fmt::Display, exit_code: u8) {
    let message = in_flags(&format!("florin: {error}"));
    let line = if IS_JSON.load(Ordering::Relaxed) {
        let timestamp = rfc3339(jiff::Timestamp::now().as_microsecond());
        let complaint =
            Complaint { timestamp, level: "ERROR", message: &message, exit_code, target: "florin::cli" };
        serde_json::to_string(&complaint).expect("texts and a number are JSON")
    } else {
        printable_lines(&message)
    };
    // A terminal that was closed hears nothing more, and that is no reason to panic.
    let _ = writeln!(io::stderr().lock(), "{line}");
}
