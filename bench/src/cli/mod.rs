//! The `florin-bench` command.

mod args;
mod commands;
mod compare;
mod cost;
mod progress;
mod say;

pub use args::Cli;
pub use commands::{CliError, run};
