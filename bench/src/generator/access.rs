//! How callers are let in: by TLS, with a token, or as they come.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
};

use florin::callers::{SecretError, SecretSource};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::TLS13,
};

use super::{Endpoint, Speech, sealing::Sealing};
use crate::{
    limits::{AUTHORITIES_BYTES_MAX, PROBE_TIME, TLS_RECORD_BYTES},
    protocol::{hello, http},
};

/// What a caller is let in by, beside an address.
#[derive(Clone, Default)]
pub struct Access {
    tls: Option<Arc<ClientConfig>>,
    token: Option<Arc<str>>,
}

impl fmt::Debug for Access {
    /// A token is shown nowhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access(tls: {}, token: {})", self.tls.is_some(), self.token.is_some())
    }
}

/// Why a server cannot be asked as it should be.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The authorities' file.
    #[error("{}: expected certificates of authorities in PEM, found: {reason}", path.display())]
    Authorities {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The token's.
    #[error(transparent)]
    Token(#[from] SecretError),
    /// It is no text.
    #[error("{}: expected a token, which is text", .0.display())]
    NoText(PathBuf),
    /// This build's cryptography does not do it.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What one asks over, and reads.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection for the generator, with its encryption where it has one.
pub(super) struct Opened {
    pub(super) file: OwnedFd,
    pub(super) sealing: Option<Sealing>,
}

impl Access {
    /// By TLS, to servers whose certificates are of the authorities in this PEM.
    ///
    /// # Errors
    /// Where it holds none.
    pub fn by_tls(self, authorities: &Path) -> Result<Access, AccessError> {
        let refused = |reason: String| AccessError::Authorities { path: authorities.to_owned(), reason };
        let mut roots = RootCertStore::empty();
        let text = florin_input::read_text(authorities, AUTHORITIES_BYTES_MAX, PROBE_TIME)
            .map_err(|error| refused(error.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let certificate = certificate.map_err(|error| refused(error.to_string()))?;
            roots.add(certificate).map_err(|error| refused(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(refused("no certificate".to_owned()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Access { tls: Some(Arc::new(config)), ..self })
    }

    /// With the token in this file.
    ///
    /// # Errors
    /// Where it cannot be read, or others may read it.
    pub fn with_token_of(self, file: &Path) -> Result<Access, AccessError> {
        let secret = SecretSource::File(file.to_owned()).read()?;
        let token = secret.reveal_text().ok_or_else(|| AccessError::NoText(file.to_owned()))?;
        Ok(self.with_token(token))
    }

    /// With this token.
    #[must_use]
    pub fn with_token(self, token: &str) -> Access {
        Access { token: Some(token.into()), ..self }
    }

    /// Without TLS.
    #[must_use]
    pub fn in_plain(&self) -> Access {
        Access { tls: None, ..self.clone() }
    }

    /// What is shown.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// What is trusted, by TLS.
    pub(crate) fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref()
    }

    /// By how much a question gets longer at most, bytes.
    pub(super) fn more_bytes(&self, speech: Speech) -> usize {
        let record = if self.tls.is_some() { TLS_RECORD_BYTES } else { 0 };
        let header =
            self.token().filter(|_| speech == Speech::Http).map_or(0, |token| http::bearer(token).len());
        record + header
    }

    /// A blocking connection, with patience.
    ///
    /// # Errors
    /// Where there is nobody, or the handshake fails.
    pub fn connect(&self, endpoint: &Endpoint) -> io::Result<Box<dyn Stream>> {
        let address = match endpoint {
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PROBE_TIME))?;
                return Ok(Box::new(stream));
            }
            Endpoint::Tcp(address) => address,
        };
        let mut stream = TcpStream::connect_timeout(address, PROBE_TIME)?;
        stream.set_read_timeout(Some(PROBE_TIME))?;
        let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
        let mut connection = client(config, *address)?;
        connection.complete_io(&mut stream)?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
    }

    /// Shows the token, where connections do so once.
    ///
    /// # Errors
    /// The connection's, and a refusal.
    pub fn introduce(&self, stream: &mut dyn Stream, speech: Speech) -> io::Result<()> {
        let Some(token) = self.token() else { return Ok(()) };
        match speech {
            Speech::Native(_) => {
                stream.write_all(&hello::request(Some(token)))?;
                hello::reply(stream).map(drop)
            }
            Speech::Resp(..) => {
                write!(stream, "*2\r\n$4\r\nAUTH\r\n${}\r\n{token}\r\n", token.len())?;
                let mut answer = [0; b"+OK\r\n".len()];
                stream.read_exact(&mut answer)?;
                let is_taken = answer == *b"+OK\r\n";
                is_taken
                    .then_some(())
                    .ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, "AUTH: refused"))
            }
            // Each request shows it.
            Speech::Http | Speech::Memcached => Ok(()),
        }
    }

    /// Connects, shakes hands and shows the token: what is measured begins behind that.
    pub(super) fn open(&self, endpoint: &Endpoint, speech: Speech) -> io::Result<Opened> {
        match endpoint {
            Endpoint::Unix(path) => {
                let mut stream = UnixStream::connect(path)?;
                self.introduce(&mut stream, speech)?;
                Ok(Opened { file: stream.into(), sealing: None })
            }
            Endpoint::Tcp(address) => {
                let mut stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                let Some(config) = &self.tls else {
                    self.introduce(&mut stream, speech)?;
                    return Ok(Opened { file: stream.into(), sealing: None });
                };
                let mut connection = client(config, *address)?;
                connection.complete_io(&mut stream)?;
                self.introduce(&mut rustls::Stream::new(&mut connection, &mut stream), speech)?;
                Ok(Opened { file: stream.into(), sealing: Some(Sealing::new(connection)) })
            }
        }
    }
}

/// A connection's side that has said nothing yet.
pub(crate) fn client(config: &Arc<ClientConfig>, address: SocketAddr) -> io::Result<ClientConnection> {
    let name = ServerName::IpAddress(address.ip().into());
    ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)
}
