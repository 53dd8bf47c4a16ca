//! The `florin` command. Everything that it does lies in the library, in [`florin::cli`].

use std::process::ExitCode;

use clap::Parser;
use florin::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("florin: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
