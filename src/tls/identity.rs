//! What a node shows its callers and whom of them it trusts: files, read when the node starts and again when it is told to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use florin_input::{read_secret, read_text, read_trusted};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};

use super::names::valid_s;
use crate::limits::{CERTIFICATES_BYTES_MAX, CONFIG_READ};

/// Where certificates and keys lie, all in PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The node's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose certificates callers must show; none = callers need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// Why a node cannot show who it is.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of it cannot be read.
    #[error("{setting} {}: expected {expected} in PEM, found: {reason}", path.display())]
    File {
        /// By which it was named.
        setting: &'static str,
        /// What should be in it.
        expected: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The parts do not fit together.
    #[error("--tls-cert {} and --tls-key {}: {source}", certificate.display(), key.display())]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// This build's cryptography does not do it.
    #[error("TLS cannot be set up: {0}")]
    Provider(#[source] rustls::Error),
}

/// One state of the files. Connections keep the one with which they began.
#[derive(Clone, Debug)]
pub struct Identity {
    /// For the shards' ports.
    pub callers: Arc<ServerConfig>,
    /// For the admin port.
    pub admin: Arc<ServerConfig>,
    /// When the node's certificate begins to be valid, seconds since 1970 UTC.
    pub certificate_begins_s: i64,
    /// When it ends.
    pub certificate_ends_s: i64,
    /// When the first of the callers' authorities ends.
    pub authorities_end_s: Option<i64>,
}

impl Identity {
    /// Days until the node's certificate ends, at `now_s`, seconds since 1970 UTC; below 0 where it has.
    pub fn days_left(&self, now_s: i64) -> f64 {
        days_between(now_s, self.certificate_ends_s)
    }

    /// Why callers refuse the node's certificate at `now_s`, whatever they trust.
    pub fn is_out_of_time(&self, now_s: i64) -> Option<OutOfTime> {
        if now_s < self.certificate_begins_s {
            return Some(OutOfTime::Early(days_between(now_s, self.certificate_begins_s)));
        }
        let days = self.days_left(now_s);
        (days < 0.0).then_some(OutOfTime::Late(-days))
    }

    /// The same of the first of the callers' authorities.
    pub fn authorities_days_left(&self, now_s: i64) -> Option<f64> {
        self.authorities_end_s.map(|end_s| days_between(now_s, end_s))
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// Whatever makes it unusable.
    pub fn read(files: &TlsFiles) -> Result<Identity, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates("--tls-cert", "certificates", &files.certificate, read_text)?;
        let ends =
            |chain: &[CertificateDer<'_>]| chain.iter().filter_map(valid_s).map(|(_, end_s)| end_s).min();
        let (certificate_begins_s, certificate_ends_s) = valid_s(&chain[0]).unwrap_or_default();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(TlsError::Provider)?;
        let (builder, authorities_end_s) = match &files.client_ca {
            None => (builder.with_no_client_auth(), None),
            Some(path) => {
                // Whoever may write there may make a certificate in anybody's name.
                let authorities =
                    certificates("--tls-client-ca", "certificates of authorities", path, read_trusted)?;
                let verifier = trust(path, &authorities, &provider)?;
                (builder.with_client_cert_verifier(verifier), ends(&authorities))
            }
        };
        let pair = |source| TlsError::Pair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        };
        let mut config = builder.with_single_cert(chain, key(&files.key)?).map_err(pair)?;
        config.alpn_protocols = vec![b"florin".to_vec(), b"http/1.1".to_vec()];
        // A ticket says all that a resumption takes, so that it does not matter which shard, or thread, has made it. It is sealed with
        // keys of this state of the files alone: what a caller has proved to another set of authorities is not believed by these.
        config.ticketer = ring::Ticketer::new().map_err(TlsError::Provider)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let mut admin = config.clone();
        admin.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Identity {
            callers: Arc::new(config),
            admin: Arc::new(admin),
            certificate_begins_s,
            certificate_ends_s,
            authorities_end_s,
        })
    }
}

/// A certificate's time is not now, and how many days away it is.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
pub enum OutOfTime {
    /// To come.
    #[error("the certificate of --tls-cert is valid in {0:.1} days only: until then callers refuse it")]
    Early(f64),
    /// Over.
    #[error("the certificate of --tls-cert ended {0:.1} days ago: callers refuse it")]
    Late(f64),
}

/// The identity of now, and where it is read from.
#[derive(Debug)]
pub struct Identities {
    files: TlsFiles,
    current: RwLock<Arc<Identity>>,
}

impl Identities {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// See [`Identity::read`].
    pub fn read(files: TlsFiles) -> Result<Identities, TlsError> {
        let current = Arc::new(Identity::read(&files)?);
        Ok(Identities { files, current: RwLock::new(current) })
    }

    /// The identity of now.
    pub fn current(&self) -> Arc<Identity> {
        Arc::clone(&self.current.read().expect("nothing panics while it is held"))
    }

    /// Reads the files again, for connections from now on. Where they cannot be used, everything stays as it is.
    ///
    /// # Errors
    /// See [`Identity::read`].
    pub fn reload(&self) -> Result<Arc<Identity>, TlsError> {
        let identity = Arc::new(Identity::read(&self.files)?);
        *self.current.write().expect("nothing panics while it is held") = Arc::clone(&identity);
        Ok(identity)
    }
}

#[allow(clippy::cast_precision_loss, reason = "no two moments of this planet's lie 2^52 seconds apart")]
fn days_between(now_s: i64, end_s: i64) -> f64 {
    end_s.saturating_sub(now_s) as f64 / 86_400.0
}

fn trust(
    path: &Path,
    authorities: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let refused = |reason: String| TlsError::File {
        setting: "--tls-client-ca",
        expected: "certificates of authorities",
        path: path.to_owned(),
        reason,
    };
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|error| refused(error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    verifier.map(|verifier| verifier as _).map_err(|error| refused(error.to_string()))
}

fn certificates(
    setting: &'static str,
    expected: &'static str,
    path: &Path,
    read: fn(&Path, usize, Duration) -> io::Result<String>,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refused = |reason: String| TlsError::File { setting, expected, path: path.to_owned(), reason };
    let text = read(path, CERTIFICATES_BYTES_MAX, CONFIG_READ).map_err(|error| refused(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(refused("no certificate".to_owned())),
        Err(error) => Err(refused(error.to_string())),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let refused = |reason: String| TlsError::File {
        setting: "--tls-key",
        expected: "a private key",
        path: path.to_owned(),
        reason,
    };
    let text = read_secret(path, CERTIFICATES_BYTES_MAX, CONFIG_READ);
    let text = text.map_err(|error| refused(error.to_string()))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| refused(error.to_string()))
}
