//! A connection to the server: TCP or a unix socket, TLS where that is wanted, and who logs in. Every wait has an end, and no
//! error holds a secret.

use std::io;
use std::sync::Arc;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::select;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Connection, NoTls};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::address::{Address, Host, TlsMode};
use crate::limits::{CONNECT_TIMEOUT, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES};
use crate::password::{self, PasswordError};
use crate::tls::{self, TlsError};

/// What PostgreSQL takes for a request for TLS: a length of 8, and a number that is no protocol's.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];
/// As `pg_stat_activity` shows us.
pub const APPLICATION: &str = "florin";

/// What every session of ours begins with: what is read, and how long it may take, must not depend on the settings of a role or a
/// database; and rows that a policy hides are an error, not left out.
pub const OPTIONS: &str = "-c datestyle=ISO -c timezone=UTC -c extra_float_digits=3 -c statement_timeout=0 \
    -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 -c default_transaction_isolation=read\\ committed \
    -c search_path= -c row_security=off";

/// What bytes go through: TCP, a unix socket, TLS on either.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there, or who does hangs up.
    #[error(
        "cannot reach PostgreSQL at {place}: {source}; does it run, and listen there (listen_addresses, port)?"
    )]
    Reach {
        /// Where it should be.
        place: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("PostgreSQL at {place} did not {what} within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout {
        /// Where it should be.
        place: String,
        /// What it did not do.
        what: &'static str,
    },
    /// The server speaks no TLS.
    #[error(
        "PostgreSQL at {place} offers no TLS: set ssl = on there, or say sslmode=disable where nobody can listen in"
    )]
    NoTls {
        /// Where it is.
        place: String,
    },
    /// The handshake failed: a certificate that is not trusted, for another name, or too old.
    #[error("no TLS with PostgreSQL at {place}: {source}")]
    Handshake {
        /// Where it is.
        place: String,
        /// What is wrong.
        #[source]
        source: io::Error,
    },
    /// Our own side of TLS cannot be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is a file of passwords, and it cannot be used.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// It is a standby: nothing can be written there, and what was committed may not be there yet.
    #[error(
        "PostgreSQL at {place} is a standby: name the primary, or all hosts that may be it, as HOST:PORT,HOST:PORT"
    )]
    Standby {
        /// Where it is.
        place: String,
    },
    /// The server refuses the login.
    #[error("PostgreSQL at {place} refuses {user}: {reason}")]
    LogIn {
        /// Where it is.
        place: String,
        /// The role.
        user: String,
        /// In its words.
        reason: String,
    },
}

/// Connects, as far as the protocol's first message. Who logs in on it needs [`password::find`].
///
/// # Errors
/// Why not, with what to do.
pub async fn stream(address: &Address, host: &Host) -> Result<Box<dyn Duplex>, ConnectError> {
    timeout(CONNECT_TIMEOUT, open(address, host))
        .await
        .map_err(|_| ConnectError::Timeout { place: host.to_string(), what: "take a connection" })?
}

async fn open(address: &Address, host: &Host) -> Result<Box<dyn Duplex>, ConnectError> {
    let reach = |source| ConnectError::Reach { place: host.to_string(), source };
    match host {
        Host::Unix(..) => Ok(Box::new(UnixStream::connect(host.to_string()).await.map_err(reach)?)),
        Host::Tcp(name, port) => {
            let stream = TcpStream::connect((name.as_str(), *port)).await.map_err(reach)?;
            prepare(&stream).map_err(reach)?;
            if address.tls.mode == TlsMode::Disable {
                return Ok(Box::new(stream));
            }
            encrypt(address, host, name, stream).await
        }
    }
}

/// Small messages go at once, and a server that vanished is noticed.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

async fn encrypt(
    address: &Address,
    host: &Host,
    name: &str,
    mut stream: TcpStream,
) -> Result<Box<dyn Duplex>, ConnectError> {
    let connector = TlsConnector::from(Arc::new(tls::client(&address.tls)?));
    let reach = |source| ConnectError::Reach { place: host.to_string(), source };
    stream.write_all(&TLS_REQUEST).await.map_err(reach)?;
    // One byte, and no more: what came behind it in the clear would be taken for encrypted.
    if stream.read_u8().await.map_err(reach)? != b'S' {
        return Err(ConnectError::NoTls { place: host.to_string() });
    }
    let handshake = |source| ConnectError::Handshake { place: host.to_string(), source };
    let name = ServerName::try_from(name.to_owned())
        .map_err(|error| handshake(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    Ok(Box::new(connector.connect(name, stream).await.map_err(handshake)?))
}

/// What drives a [`Client`]; it ends with the connection.
pub type Driven = Connection<Box<dyn Duplex>, NoTlsStream>;

/// A client for SQL at the primary: the first of the hosts that answers and is no standby.
///
/// # Errors
/// What the last of them said.
pub async fn client(address: &Address) -> Result<(Client, Driven), ConnectError> {
    let mut last = None;
    for host in &address.hosts {
        match client_at(address, host).await {
            Ok(connected) => return Ok(connected),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("an address has a host"))
}

async fn client_at(address: &Address, host: &Host) -> Result<(Client, Driven), ConnectError> {
    let mut config = tokio_postgres::Config::new();
    config
        .user(&address.user)
        .dbname(&address.database)
        .application_name(APPLICATION)
        .options(OPTIONS)
        .target_session_attrs(TargetSessionAttrs::Any)
        // The stream is encrypted already, where that was wanted.
        .ssl_mode(SslMode::Disable);
    if let Some(password) = password::find(address, host)? {
        config.password(password);
    }
    let stream = stream(address, host).await?;
    let log_in = async {
        let (client, mut driven) = config.connect_raw(stream, NoTls).await?;
        let asked =
            async { client.query_one("SELECT pg_is_in_recovery()", &[]).await?.try_get::<_, bool>(0) };
        let is_standby = select! {
            ended = &mut driven => return Err(ended.expect_err("nobody has ended it")),
            answer = asked => answer?,
        };
        Ok((client, driven, is_standby))
    };
    let log_in = timeout(CONNECT_TIMEOUT, log_in).await;
    let log_in =
        log_in.map_err(|_| ConnectError::Timeout { place: host.to_string(), what: "answer a login" })?;
    match log_in {
        Ok((client, driven, false)) => Ok((client, driven)),
        Ok((.., true)) => Err(ConnectError::Standby { place: host.to_string() }),
        Err(error) => Err(ConnectError::LogIn {
            place: host.to_string(),
            user: address.user.clone(),
            reason: reason(&error),
        }),
    }
}

/// What went wrong, in the server's words where it said any: its detail and hint too, for these say what to do.
pub fn reason(error: &tokio_postgres::Error) -> String {
    if let Some(refusal) = error.as_db_error() {
        let further = [refusal.detail(), refusal.hint()].into_iter().flatten();
        let mut text = refusal.message().to_owned();
        further.for_each(|more| text = format!("{text}; {more}"));
        return format!("{text} (SQLSTATE {})", refusal.code().code());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    if text.contains("password missing") {
        text.push_str(" (set PGPASSWORD or PGPASSFILE, or name a passfile=)");
    }
    text
}
