//! One line that says what is being measured, and how fast it is right now.

use indicatif::{ProgressBar, ProgressStyle};

use super::say;

pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A line for so many trials; of an unknown number, 0.
    pub(super) fn new(trials: u64) -> Progress {
        let template =
            if trials > 0 { "[{pos}/{len}] {elapsed}{prefix} {msg}" } else { "[{pos}] {elapsed} {msg}" };
        let bar = ProgressBar::new(trials);
        bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
        bar.enable_steady_tick(std::time::Duration::from_millis(500));
        Progress { bar }
    }

    pub(super) fn say(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// A line that stays.
    pub(super) fn print(&self, line: &str) {
        if self.bar.is_hidden() { say::note(line) } else { self.bar.println(line) }
    }

    /// A line where there is no terminal to show the progress on.
    pub(super) fn log(&self, line: &str) {
        if self.bar.is_hidden() {
            say::note(line);
        }
    }

    /// So many are done, of about so many.
    pub(super) fn at(&self, done: u64, of_about: u64) {
        self.bar.set_length(of_about);
        self.bar.set_position(done);
    }

    /// About how long the rest will take.
    pub(super) fn left(&self, left: std::time::Duration) {
        let seconds = left.as_secs();
        self.bar.set_prefix(format!(", about {}:{:02} left", seconds / 60, seconds % 60));
    }

    pub(super) fn advance(&self) {
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
