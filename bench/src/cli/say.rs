//! What the commands print. A reader who has gone, as `head` does, ends no measurement: the results' files are still written.

use std::io::{self, Write};

/// A result, to standard output.
pub(super) fn result(text: &str) {
    // Nobody is left to hear why it failed.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// A remark, to standard error.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
