//! Writes what this crate commits but nobody types: the FlatBuffers code.
//!
//!     cargo run -p florin-schema --example generate             # everything under schemas/
//!     cargo run -p florin-schema --example generate -- go DIR   # the Go package florin/v1 under DIR

mod code;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = match arguments[..] {
        [] => code::generate(code::Language::Rust, &here.join("src/generated")),
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
