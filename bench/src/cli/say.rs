//! What the commands print. A reader who has gone, as `head` does, ends no measurement: the results' files are still written.

use std::io::{self, Write};

/// A result, to standard output.
pub(super) fn result(text: &str) {
    // Nobody is left to hear why it failed.
    let _ = writeln!(io::stdout().lock(), "{}", shown(text));
}

/// A remark, to standard error.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", shown(text));
}

/// A text as a terminal is given it: parts of it may be the words of whatever was measured.
fn shown(text: &str) -> String {
    let keeps_layout = |character| matches!(character, '\n' | '\t');
    text.chars().map(|c| if keeps_layout(c) { c } else { florin_schema::printable(c) }).collect()
}
