//! The `florin-bench` command.

use std::process::ExitCode;

use clap::Parser;
use florin_bench::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::note(&format!("florin-bench: {error}"));
            ExitCode::FAILURE
        }
    }
}
