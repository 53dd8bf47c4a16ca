//! TLS 1.3: whom a node must be, who the caller is, and what is missing where they do not come together.
//!
//! The flags that errors name beside the methods are those of florin's own commands.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore, version};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Address;
use crate::limits::PEM_BYTES_MAX;

/// Whom nodes reached by TLS must be, and who the caller is; see [`crate::Builder::tls`]. Files are in PEM, and are read when a
/// client connects first: for new certificates, make a new client, and drop the old one once its calls have ended.
///
/// ```
/// use florin_client::Tls;
///
/// let tls = Tls::new().authorities("ca.crt").identity("caller.crt", "caller.key");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tls {
    authorities: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    server_name: Option<String>,
}

impl Tls {
    /// Nodes of any authority that this host trusts, by the names in their addresses; the caller shows no certificate.
    pub fn new() -> Tls {
        Tls::default()
    }

    /// The file of the authorities that nodes' certificates may be of, instead of those that this host trusts.
    #[must_use]
    pub fn authorities(self, file: impl Into<PathBuf>) -> Tls {
        Tls { authorities: Some(file.into()), ..self }
    }

    /// The files of the caller's certificate and its private key, for a node that asks.
    #[must_use]
    pub fn identity(self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Tls {
        Tls { identity: Some((certificate.into(), key.into())), ..self }
    }

    /// The name that nodes' certificates must be for, instead of the one in the address.
    #[must_use]
    pub fn server_name(self, name: impl Into<String>) -> Tls {
        Tls { server_name: Some(name.into()), ..self }
    }

    /// Reads the files. Blocks for as long as that takes.
    ///
    /// # Errors
    /// Where one cannot be read, or they do not fit together.
    pub fn connector(&self) -> Result<Connector, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("certificate", certificate)?;
                let private = PrivateKeyDer::from_pem_slice(&read("private key", key)?);
                let private = private.map_err(|error| unreadable("private key", key, error))?;
                builder.with_client_auth_cert(chain, private)?
            }
        };
        config.alpn_protocols = vec![b"florin".to_vec(), b"http/1.1".to_vec()];
        let server_name = self.server_name.as_deref().map(name).transpose()?;
        Ok(Connector { connector: TlsConnector::from(Arc::new(config)), server_name })
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(file) => {
                for authority in certificates("authorities", file)? {
                    roots.add(authority)?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoAuthorities);
                }
            }
        }
        Ok(roots)
    }
}

/// A file that has no end, a device say, would take all memory.
fn read(what: &'static str, file: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|open| open.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(count) if count as u64 > PEM_BYTES_MAX => {
            Err(unreadable(what, file, format!("more than {PEM_BYTES_MAX} bytes")))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(unreadable(what, file, error)),
    }
}

fn certificates(what: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(what, file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(unreadable(what, file, "no certificate in it")),
        found => found.map_err(|error| unreadable(what, file, error)),
    }
}

fn unreadable(what: &'static str, file: &Path, reason: impl ToString) -> TlsError {
    TlsError::File { what, file: file.to_owned(), reason: reason.to_string() }
}

fn name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let parsed = ServerName::try_from(host.to_owned());
    parsed.map_err(|_| TlsError::Name(host.to_owned()))
}

/// Why TLS cannot even be tried.
#[derive(Clone, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{what} {}: expected PEM, found: {reason}", file.display())]
    File {
        /// What should be in it.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nobody is trusted.
    #[error(
        "this host trusts no authority: name those of the nodes (Tls::authorities, --tls-ca), or install ca-certificates"
    )]
    NoAuthorities,
    /// No certificate can be for it.
    #[error("server name: expected a DNS name or an IP address, got {0:?}")]
    Name(String),
    /// They do not fit together.
    #[error("these certificates and keys cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// What was to be kept from others would be said in plain.
    #[error("TLS: expected a node's address florins://HOST:PORT beside certificates, got {0}")]
    Plain(Address),
}

/// [`Tls`] whose files have been read. Keeps nodes' tickets, so that a connection that is made again takes no certificates.
#[derive(Clone)]
pub struct Connector {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl Connector {
    /// Shakes hands over `socket` with what was reached as `host`.
    ///
    /// # Errors
    /// What [`TlsFailure::of`] may explain.
    pub async fn secure(&self, socket: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let server_name = match &self.server_name {
            Some(name) => name.clone(),
            None => name(host).map_err(io::Error::other)?,
        };
        self.connector.connect(server_name, socket).await
    }
}

/// A connection by TLS that did not come about, or was refused after its handshake: a node looks at a caller's certificate last.
#[derive(Clone, Debug, Error)]
#[error("no connection by TLS: {problem}: {cause}")]
pub struct TlsFailure {
    /// What is missing, and where to give it.
    pub problem: &'static str,
    /// What it failed with.
    pub cause: rustls::Error,
}

impl TlsFailure {
    /// Explains a failure, where it is one of TLS.
    pub fn of(error: &io::Error) -> Option<TlsFailure> {
        use AlertDescription as Alert;
        use CertificateError as Certificate;
        let cause = error.get_ref()?.downcast_ref::<rustls::Error>()?.clone();
        let problem = match &cause {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                    "the node's certificate is for another name: correct the address, or give its name (Tls::server_name)"
                }
                // A signature is bad where an authority has been made anew under the same name.
                Certificate::UnknownIssuer | Certificate::BadSignature => {
                    "the node's certificate is of an authority that nobody here trusts: name it (Tls::authorities, --tls-ca)"
                }
                Certificate::Expired | Certificate::ExpiredContext { .. } => {
                    "the node's certificate has ended: whoever runs the node gives it a new one (--tls-cert), or this host's clock is wrong"
                }
                Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                    "the node's certificate is not valid yet: this host's clock is wrong, or the node needs another (--tls-cert)"
                }
                Certificate::InvalidPurpose | Certificate::InvalidPurposeContext { .. } => {
                    "the node's certificate is not for servers: it needs the extended key usage serverAuth (--tls-cert)"
                }
                _ => {
                    "the node's certificate is not valid: whoever runs the node gives it another (--tls-cert)"
                }
            },
            rustls::Error::InvalidMessage(_) => {
                "what answers there does not speak TLS: expected a port of --tls-listen, or of --tls-admin"
            }
            rustls::Error::AlertReceived(Alert::CertificateRequired) => {
                "the node asks for a certificate: give one (Tls::identity, --tls-cert)"
            }
            rustls::Error::AlertReceived(
                Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::DecryptError,
            ) => "the node does not take this certificate: expected one of its --tls-client-ca",
            // Which of both it is, RFC 8446 has no two alerts for.
            rustls::Error::AlertReceived(Alert::CertificateExpired) => {
                "by the node's clock the caller's certificate has ended, or is not valid yet: give another (Tls::identity, --tls-cert)"
            }
            rustls::Error::AlertReceived(Alert::UnsupportedCertificate) => {
                "the caller's certificate is not for callers: it needs the extended key usage clientAuth (Tls::identity, --tls-cert)"
            }
            _ => "the handshake failed",
        };
        Some(TlsFailure { problem, cause })
    }
}
