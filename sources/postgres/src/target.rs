//! Which ledger is followed, and how a connection to it is made for replication, COPY and short questions.

use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use florin_record::LedgerError;

use crate::address::{Address, Host, TlsMode};
use crate::connect;
use crate::failure::Failure;
use crate::mapping::Mapping;
use crate::password;
use crate::sql::unavailable;
use crate::tls;
use crate::wire::{Login, Wire, WireError};

/// A ledger as flags and configuration name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PgConfig {
    /// Where it is.
    pub address: Address,
    /// What its table's columns and words are.
    pub mapping: Mapping,
}

impl PgConfig {
    /// Opens every file that it names, and asks nobody.
    ///
    /// # Errors
    /// Which cannot be used, and why.
    pub fn check_files(&self) -> Result<(), LedgerError> {
        if self.address.tls.mode != TlsMode::Disable {
            tls::client(&self.address.tls).map_err(|error| unavailable(error.to_string()))?;
        }
        for host in &self.address.hosts {
            password::find(&self.address, host).map_err(|error| unavailable(error.to_string()))?;
        }
        Ok(())
    }
}

/// What a source is made of.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where the ledger is, who reads it, and by which slot and publication.
    pub address: Address,
    /// What its columns are.
    pub mapping: Mapping,
    /// As `pg_stat_activity` shows this program. No other bears the name: what is left of its connections is told by it.
    pub application: String,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The replication protocol, and no SQL but its own commands.
    Replication,
    /// SQL.
    Questions,
}

impl Target {
    /// See the fields.
    pub fn new(address: Address, mapping: Mapping) -> Target {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let application = format!("{}-{}-{}", connect::APPLICATION, process::id(), since_1970.as_micros());
        Target { address, mapping, application }
    }

    /// The same of a configuration.
    pub fn of(config: &PgConfig) -> Target {
        Target::new(config.address.clone(), config.mapping.clone())
    }

    /// The table as SQL has it.
    pub fn table(&self) -> String {
        self.address.table.quoted()
    }

    /// Connects to the first of the hosts that answers and is no standby.
    ///
    /// # Errors
    /// What the last of them said.
    pub async fn connect(&self, purpose: Purpose) -> Result<Wire, Failure> {
        let mut last = Failure::Unavailable("no host is named".to_owned());
        for host in &self.address.hosts {
            match self.connect_to(host, purpose).await {
                Ok(wire) => return Ok(wire),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, host: &Host, purpose: Purpose) -> Result<Wire, Failure> {
        let unavailable = |error: &dyn std::fmt::Display| Failure::Unavailable(error.to_string());
        let failed = |error: WireError| Failure::Unavailable(format!("PostgreSQL at {host}: {error}"));
        let login = Login {
            user: self.address.user.clone(),
            database: self.address.database.clone(),
            password: password::find(&self.address, host).map_err(|error| unavailable(&error))?,
            application: self.application.clone(),
        };
        let stream = connect::stream(&self.address, host).await.map_err(|error| unavailable(&error))?;
        let is_replication = purpose == Purpose::Replication;
        let wire = Wire::log_in(stream, &login, is_replication);
        let mut wire = wire.await.map_err(failed)?;
        // The replication protocol answers SHOW, and no other question.
        let standby = wire.query("SHOW in_hot_standby").await.map_err(failed)?;
        if standby.first().and_then(|row| row.first()) == Some(&Some("on".to_owned())) {
            return Err(Failure::Unavailable(format!(
                "PostgreSQL at {host} is a standby: florin follows the primary; name it, or all of them"
            )));
        }
        Ok(wire)
    }
}
