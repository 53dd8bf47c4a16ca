//! Writes what is committed but nobody types: the FlatBuffers code and the golden frames.
//!
//!     cargo run -p florin-schema --example generate             # everything, for Rust and for Go
//!     cargo run -p florin-schema --example generate -- go DIR   # the Go package florin/v1 under DIR

mod code;
mod golden;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = match arguments[..] {
        [] => code::generate(code::Language::Rust, &here.join("src/generated"))
            .and_then(|()| code::generate(code::Language::Go, &here.join("../clients/go/internal/generated")))
            .and_then(|()| write_golden(&here.join("golden"))),
        ["go", folder] => code::generate(code::Language::Go, Path::new(folder)),
        _ => Err("usage: generate [go DIR]".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Replaces the folder, so that no frame stays whose case is gone.
fn write_golden(folder: &Path) -> Result<(), String> {
    let written = || -> std::io::Result<()> {
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        std::fs::create_dir(folder)?;
        golden::files().iter().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
    };
    written().map_err(|error| format!("cannot write {}: {error}", folder.display()))
}
