//! The `florin-bench` command.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use florin_bench::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever has closed this has nothing to read.
            let _ = writeln!(io::stderr(), "florin-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
