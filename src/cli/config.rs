//! `florin config`: whether a configuration file can be used, and what it says.

use std::path::PathBuf;

use clap::Subcommand;

use super::CliError;
use super::output::say;
use super::settings::Settings;
use crate::callers::Callers;

/// What can be done with a configuration file.
#[derive(Subcommand, Debug)]
pub enum ConfigCommand {
    /// Read a configuration file as `florin serve` would, and name every unknown key and bad value with its line
    Check {
        /// The file
        #[arg(long, value_name = "FILE", default_value = "florin.toml")]
        config: PathBuf,
    },
}

/// Runs `florin config`.
pub(super) fn run(command: &ConfigCommand) -> Result<(), CliError> {
    let ConfigCommand::Check { config } = command;
    let effective = Settings::read(config)?.effective()?;
    effective.principals.as_deref().map(Callers::open).transpose()?;
    say(&format!("{} can be used", config.display()));
    Ok(())
}
