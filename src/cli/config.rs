//! `florin config`: whether a configuration file can be used, with the files that it names, and what it says.

use std::path::PathBuf;

use clap::Subcommand;

use super::CliError;
use super::log::log_to_stderr;
use super::output::say;
use super::service::ServiceError;
use super::settings::{LogFormat, Settings};
use crate::callers::Callers;
use crate::nodes::{GroupConfig, NodesError};
use crate::tls::Identity;

/// What can be done with a configuration file.
#[derive(Subcommand, Debug)]
pub enum ConfigCommand {
    /// Read a configuration file as `florin serve` would, with the principals, certificates, keys, passwords and tokens that it names, and say all that
    /// is wrong with it: every unknown key and bad value with its line
    Check {
        /// The file
        #[arg(long, value_name = "FILE", default_value = "florin.toml")]
        config: PathBuf,
    },
}

/// Runs `florin config`.
pub(super) fn run(command: &ConfigCommand) -> Result<(), CliError> {
    let ConfigCommand::Check { config } = command;
    // What a node would warn of is said here too.
    log_to_stderr("warn", LogFormat::Text);
    let effective = Settings::read(config)?.effective()?;
    effective.principals.as_deref().map(Callers::open).transpose()?;
    effective.node.ledger.check_files().map_err(CliError::LedgerFiles)?;
    if let Some(group) = &effective.group {
        group.check_files().map_err(|error| ServiceError::from(NodesError::from(error)))?;
    }
    let identity = effective.node.tls.as_ref().map(|tls| Identity::read(&tls.files)).transpose()?;
    if effective.node.tls.as_ref().is_some_and(|tls| tls.listen.is_some()) {
        let asking = effective.group.as_ref().and_then(GroupConfig::asking);
        asking.map(|tls| tls.connector()).transpose().map_err(CliError::Peers)?;
    }
    let lasts = identity.map(|identity| lasting(identity.days_left(jiff::Timestamp::now().as_second())));
    say(&format!("{} can be used{}", config.display(), lasts.unwrap_or_default()));
    Ok(())
}

fn lasting(days: f64) -> String {
    if days < 0.0 {
        return format!(", but the certificate of --tls-cert ended {:.1} days ago: callers refuse it", -days);
    }
    format!("; the certificate of --tls-cert ends in {days:.1} days")
}

#[cfg(test)]
mod tests {
    use super::lasting;

    #[test]
    fn a_certificate_that_has_ended_is_told() {
        assert!(lasting(13.96).ends_with("ends in 14.0 days"));
        assert!(lasting(-3.0).contains("ended 3.0 days ago"));
    }
}
