//! The golden frames, for this crate's own tests.

use std::path::Path;

/// The bytes of `schemas/golden/{name}.bin`.
pub fn frame(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/golden");
    std::fs::read(folder.join(format!("{name}.bin"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}
