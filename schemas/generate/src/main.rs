//! Writes the FlatBuffers code that is committed, with one version of `flatc` for every language that speaks to florin:
//!
//!     cargo run --manifest-path schemas/generate/Cargo.toml      # flatc is compiled: wants cmake and a C++ compiler
//!
//! And, into `schemas/generated.sha256`, what it was made of and what was made, as `sha256sum -c` reads it: a test holds both against it,
//! so that neither the schema nor the code changes alone.

mod digests;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use digests::{RUST, SCHEMA};

/// Where flatc makes the package `florin/v1`.
const GO: &str = "../clients/go/internal/generated";

fn main() -> ExitCode {
    let schemas = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let made = [("--rust", RUST), ("--go", GO)]
        .into_iter()
        .try_for_each(|(flag, folder)| generate(schemas, flag, folder))
        .and_then(|()| {
            let written =
                digests::of(schemas).and_then(|text| fs::write(schemas.join("generated.sha256"), text));
            written.map_err(|error| format!("cannot write generated.sha256: {error}"))
        });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn generate(schemas: &Path, flag: &str, folder: &str) -> Result<(), String> {
    let mut flatc = Command::new(flatc::flatc());
    let status = flatc.current_dir(schemas).args([flag, "-o", folder, SCHEMA]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("flatc {flag} ended with {status}")),
        Err(error) => Err(format!("cannot run {}: {error}", flatc::flatc().display())),
    }
}
