//! `florin config`: whether a configuration file can be used, with the files that it names, and what it says.

use std::path::PathBuf;

use clap::Subcommand;

use super::CliError;
use super::log::log_to_stderr;
use super::output::say;
use super::service::ServiceError;
use super::settings::{LogFormat, Settings};
use crate::callers::Callers;
use crate::nodes::GroupConfig;
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
        group.check_files().map_err(ServiceError::from)?;
    }
    let identity = effective.node.tls.as_ref().map(|tls| Identity::read(&tls.files)).transpose()?;
    if effective.node.tls.as_ref().is_some_and(|tls| tls.listen.is_some()) {
        let asking = effective.group.as_ref().and_then(GroupConfig::asking);
        asking.map(|tls| tls.connector()).transpose().map_err(CliError::Peers)?;
    }
    let lasts = identity.map(|identity| lasting(&identity, jiff::Timestamp::now().as_second()));
    say(&format!("{} can be used{}", config.display(), lasts.unwrap_or_default()));
    Ok(())
}

fn lasting(identity: &Identity, now_s: i64) -> String {
    match identity.is_out_of_time(now_s) {
        Some(out_of_time) => format!(", but {out_of_time}"),
        None => format!("; the certificate of --tls-cert ends in {:.1} days", identity.days_left(now_s)),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::tls::made;

    use super::*;

    /// Of one whose time was to come it said how long it would last, and a node told of neither.
    #[test]
    fn a_certificate_whose_time_is_not_now_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::read(&made(folder.path())).unwrap();
        let day_s = 86_400;
        let said = |now_s| lasting(&identity, now_s);
        assert!(said(identity.certificate_ends_s - 14 * day_s).ends_with("ends in 14.0 days"));
        assert!(said(identity.certificate_ends_s + 3 * day_s).contains("ended 3.0 days ago"));
        assert!(said(identity.certificate_begins_s - 2 * day_s).contains("valid in 2.0 days only"));
    }
}
