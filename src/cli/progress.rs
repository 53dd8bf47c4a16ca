//! How a long command says how far it is.

use indicatif::{ProgressBar, ProgressStyle};

/// Told how far a command is, in the unit that it began with.
pub trait Progress {
    /// It begins; `total` where that is known.
    fn begin(&mut self, unit: Unit, total: Option<u64>);
    /// So much is done.
    fn reach(&mut self, done: u64);
    /// It is over, well or not.
    fn end(&mut self);
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Rows.
    Rows,
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: Unit, _: Option<u64>) {}
    fn reach(&mut self, _: u64) {}
    fn end(&mut self) {}
}

/// A bar on standard error; nothing where that is no terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that is not drawn yet.
    pub fn new() -> Bar {
        Bar(ProgressBar::hidden())
    }
}

impl Default for Bar {
    fn default() -> Bar {
        Bar::new()
    }
}

impl Progress for Bar {
    fn begin(&mut self, unit: Unit, total: Option<u64>) {
        let template = match (unit, total) {
            (Unit::Bytes, Some(_)) => "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            (Unit::Bytes, None) => "{spinner} {bytes} {bytes_per_sec}",
            (Unit::Rows, Some(_)) => "{bar:40} {human_pos}/{human_len} rows {per_sec} {eta}",
            (Unit::Rows, None) => "{spinner} {human_pos} rows {per_sec}",
        };
        let style = ProgressStyle::with_template(template).expect("the templates above are well formed");
        self.0 = ProgressBar::no_length().with_style(style);
        if let Some(total) = total {
            self.0.set_length(total);
        }
    }

    fn reach(&mut self, done: u64) {
        self.0.set_position(done);
    }

    fn end(&mut self) {
        self.0.finish_and_clear();
    }
}
