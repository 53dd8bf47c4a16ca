//! The `florin-bench` command. Arrows go one way: `commands` → `guarded`, `isolation`, `scale` → `measuring` → `args` → `compare`, `cost` →
//! `setup` → `flags`, `error`, `say`.

mod args;
mod commands;
mod compare;
mod cost;
mod error;
mod flags;
mod guarded;
mod isolation;
mod measuring;
#[cfg(test)]
mod pages;
mod progress;
mod say;
mod scale;
mod setup;

pub use args::Cli;
pub use commands::run;
pub use error::CliError;
pub use say::note;
