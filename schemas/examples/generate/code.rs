//! Runs the vendored `flatc`: one version for every language that speaks to florin.

use std::path::Path;
use std::process::Command;

/// A language that `flatc` writes.
#[derive(Clone, Copy)]
pub enum Language {
    /// One file, `florin_generated.rs`.
    Rust,
    /// A package, `florin/v1/`.
    Go,
}

/// Writes `language`'s code for `florin.fbs` under `folder`.
pub fn generate(language: Language, folder: &Path) -> Result<(), String> {
    let flag = match language {
        Language::Rust => "--rust",
        Language::Go => "--go",
    };
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("florin.fbs");
    let status = Command::new(flatc::flatc())
        .arg(flag)
        .arg("-o")
        .arg(folder)
        .arg(schema)
        .status()
        .map_err(|error| format!("cannot run {}: {error}", flatc::flatc().display()))?;
    if status.success() { Ok(()) } else { Err(format!("flatc {flag} ended with {status}")) }
}
