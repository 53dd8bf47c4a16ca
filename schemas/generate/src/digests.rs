//! What the FlatBuffers code is made of and what is made of it, as digests. The crate's test reads it as well.

use std::path::Path;
use std::{fs, io};

use ring::digest::{SHA256, digest};

/// The schema. All paths are from `schemas/`.
pub const SCHEMA: &str = "florin.fbs";
/// The code for Rust.
pub const RUST: &str = "src/generated";
/// The code for Go.
const GO: &str = "../clients/go/internal/generated/florin/v1";

/// A line for each file that is there, as `sha256sum` writes them.
pub fn of(schemas: &Path) -> io::Result<String> {
    let mut names = vec![SCHEMA.to_owned()];
    for folder in [RUST, GO] {
        for entry in fs::read_dir(schemas.join(folder))? {
            names.push(format!("{folder}/{}", entry?.file_name().display()));
        }
    }
    names.sort();
    let line = |name: &String| {
        let digest = digest(&SHA256, &fs::read(schemas.join(name))?);
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("{hex}  {name}\n"))
    };
    names.iter().map(line).collect()
}
