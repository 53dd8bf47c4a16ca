//! Where the ledger is, and how a connection to it is made for replication, COPY and short questions.

use std::path::PathBuf;

use postgres_protocol::authentication::sasl::ChannelBinding;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::mapping::Mapping;
use crate::wire::{CONNECT_TIMEOUT, Duplex, Login, Wire, WireError};

/// What a source is made of.
#[derive(Clone, Debug)]
pub struct Target {
    /// Hosts that are tried in their order: the primary is among them.
    pub hosts: Vec<Host>,
    /// Who connects.
    pub login: Login,
    /// The replication slot of this node.
    pub slot: String,
    /// What publishes the table.
    pub publication: String,
    /// The table, as SQL would name it, with its schema.
    pub table: String,
    /// What its columns are.
    pub mapping: Mapping,
}

/// One place where a server may be.
#[derive(Clone, Debug)]
pub enum Host {
    /// A name or an address, and a port.
    Tcp(String, u16),
    /// A unix socket.
    Unix(PathBuf),
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
    /// Connects to the first of the hosts that answers and is no standby.
    ///
    /// # Errors
    /// What the last of them said.
    pub async fn connect(&self, purpose: Purpose) -> Result<Wire, Failure> {
        let mut last = Failure::Unavailable("no host is named".to_owned());
        for host in &self.hosts {
            match self.connect_to(host, purpose).await {
                Ok(wire) => return Ok(wire),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, host: &Host, purpose: Purpose) -> Result<Wire, Failure> {
        let failed = |error: WireError| Failure::Unavailable(format!("PostgreSQL at {host}: {error}"));
        let stream = timeout(CONNECT_TIMEOUT, host.dial())
            .await
            .map_err(|_| failed(WireError::Timeout(CONNECT_TIMEOUT)))?
            .map_err(|error| failed(error.into()))?;
        let is_replication = purpose == Purpose::Replication;
        let wire = Wire::log_in(stream, &self.login, is_replication, ChannelBinding::unsupported());
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

impl Host {
    async fn dial(&self) -> std::io::Result<Box<dyn Duplex>> {
        match self {
            Host::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Host::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Host::Tcp(host, port) => write!(f, "{host}:{port}"),
            Host::Unix(path) => path.display().fmt(f),
        }
    }
}
