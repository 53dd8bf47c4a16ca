//! What the commands print. A reader who has gone, as `head` does, ends no measurement: the results' files are still written.

use std::io::{self, Write};

use florin_schema::printable_lines;

/// A result, to standard output.
pub(super) fn result(text: &str) {
    // Nobody is left to hear why it failed.
    let _ = writeln!(io::stdout().lock(), "{}", printable_lines(text));
}

/// A remark, to standard error.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable_lines(text));
}
