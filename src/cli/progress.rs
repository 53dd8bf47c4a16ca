//! How a long command says how far it is.

use std::fmt::Write;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::numbers::grouped;

/// Told how far a command is, in the unit that it began with.
pub trait Progress {
    /// It begins; `total` where that is known.
    fn begin(&mut self, unit: Unit, total: Option<u64>);
    /// So much is done.
    fn reach(&mut self, done: u64);
    /// It is over, well or not.
    fn end(&mut self);
    /// Whether whoever is told wants no more of it: what can be taken back is.
    fn is_enough(&mut self) -> bool {
        false
    }
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
            (Unit::Bytes, Some(_)) => "{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {left}",
            (Unit::Bytes, None) => "{spinner} {bytes}  {bytes_per_sec}",
            (Unit::Rows, Some(_)) => "{bar:40} {human_pos}/{human_len} rows  {rate}  {left}",
            (Unit::Rows, None) => "{spinner} {human_pos} rows  {rate}",
        };
        let style = ProgressStyle::with_template(template).expect("the templates above are well formed");
        // Who looks cannot write an error down anywhere.
        let style = style
            .with_key("rate", |state: &ProgressState, to: &mut dyn Write| {
                let _ = to.write_str(&rate(state.per_sec()));
            })
            .with_key("left", |state: &ProgressState, to: &mut dyn Write| {
                let _ = to.write_str(&left(state.eta().as_secs()));
            });
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

fn rate(rows_per_s: f64) -> String {
    format!("{} rows/s", grouped(rows_per_s.round() as u64))
}

fn left(seconds: u64) -> String {
    match seconds {
        ..120 => format!("{seconds} s left"),
        _ => format!("{} min left", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `9,035.8291/s 17s`: of which nobody knew what the 17 seconds were.
    #[test]
    fn rate_and_time_are_whole_and_say_what_they_are() {
        assert_eq!(
            (rate(9_035.829_1), left(17), left(7_201)),
            ("9,036 rows/s".to_owned(), "17 s left".to_owned(), "121 min left".to_owned())
        );
    }
}
