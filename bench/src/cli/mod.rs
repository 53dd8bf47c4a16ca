//! The `florin-bench` command.

mod args;
mod commands;
mod progress;

pub use args::Cli;
pub use commands::{CliError, run};
