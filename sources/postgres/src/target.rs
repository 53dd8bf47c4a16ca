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

/// Why a text is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0}: expected postgres://USER@HOST:PORT/DATABASE, with slot=, publication=, table= or host= (a socket's folder) behind ?"
)]
pub struct AddressError(String);

impl std::str::FromStr for Target {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Target, AddressError> {
        let wrong = |what: &str| AddressError(what.to_owned());
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| wrong("no address of a PostgreSQL"))?;
        let (place, settings) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') {
            return Err(wrong("a password is not for command lines (PGPASSWORD has it)"));
        }
        let user = if user.is_empty() { "florin".to_owned() } else { decoded(user) };
        let mut target = Target {
            hosts: Vec::new(),
            login: Login {
                database: if database.is_empty() { user.clone() } else { decoded(database) },
                user,
                password: std::env::var("PGPASSWORD").ok().map(String::into_bytes),
                // Its own connections, and no other's, are what a program may end.
                application: format!("florin {} {}", std::process::id(), started_us()),
            },
            slot: "florin".to_owned(),
            publication: "florin".to_owned(),
            table: "public.transactions".to_owned(),
            mapping: Mapping::default(),
        };
        let mut folder = None;
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=') {
                Some(("slot", value)) => target.slot = decoded(value),
                Some(("publication", value)) => target.publication = decoded(value),
                Some(("table", value)) => target.table = decoded(value),
                Some(("host", value)) => folder = Some(decoded(value)),
                _ => return Err(AddressError(format!("{setting:?} is no setting"))),
            }
        }
        for host in hosts.split(',') {
            let (name, port) = host.rsplit_once(':').unwrap_or((host, "5432"));
            let port: u16 = port.parse().map_err(|_| AddressError(format!("{port:?} is no port")))?;
            target.hosts.push(match &folder {
                Some(folder) => Host::Unix(PathBuf::from(folder).join(format!(".s.PGSQL.{port}"))),
                None if name.is_empty() => Host::Tcp("localhost".to_owned(), port),
                None => Host::Tcp(name.trim_start_matches('[').trim_end_matches(']').to_owned(), port),
            });
        }
        Ok(target)
    }
}

fn started_us() -> u128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_micros()
}

/// A part of an address: `%2F` is a slash.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let coded = (byte == b'%').then(|| after.get(..2)).flatten();
        let coded = coded.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(coded.unwrap_or(byte));
        rest = if coded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
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
