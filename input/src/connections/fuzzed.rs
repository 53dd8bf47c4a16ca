//! What a peer may send an admin port, parted as a connection parts it: for `fuzz/`, and for no caller.

use super::turns::{Handed, Part};

/// Where the heads of requests without bodies end, in bytes from the first; the bytes come in these pieces.
pub fn head_ends<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<usize> {
    let (mut handed, mut ends, mut passed) = (Handed::default(), Vec::new(), 0);
    for mut piece in pieces {
        while !piece.is_empty() {
            let heads = handed.heads();
            let taken = handed.take(Part::Head, piece);
            passed += taken;
            piece = &piece[taken..];
            if handed.heads() > heads {
                ends.push(passed);
            }
        }
    }
    ends
}
