//! Our side of TLS: whom we trust, and who we are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::address::{Tls, TlsMode};
use crate::limits::{KEY_BYTES_MAX, PASSWORD_FILE_READ};

/// Why our side of TLS cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of it cannot be read.
    #[error("cannot read {what} in {}: {reason}; expected PEM", path.display())]
    File {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The system trusts nobody.
    #[error(
        "this system has no certificates of authorities: install ca-certificates, or name a sslrootcert="
    )]
    NoRoots,
    /// The parts do not fit together.
    #[error("these certificates and keys cannot be used: {0}")]
    Unusable(#[from] Error),
}

/// # Errors
/// Why it cannot be made.
pub fn client(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let lenient = |chain| Arc::new(Lenient { chain, provider: Arc::clone(&provider) });
    let verifier: Arc<dyn ServerCertVerifier> = match tls.mode {
        TlsMode::Disable | TlsMode::Require => lenient(None),
        TlsMode::VerifyCa => lenient(Some(trusted(tls, &provider)?)),
        TlsMode::VerifyFull => trusted(tls, &provider)?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match &tls.identity {
        None => Ok(config.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain = certificates(certificate, "the client's certificate")?;
            let unreadable = |reason: String| unreadable("the client's key", key, reason);
            let text = florin_input::read_secret(key, KEY_BYTES_MAX, PASSWORD_FILE_READ);
            let text = text.map_err(|reason| unreadable(reason.to_string()))?;
            let key =
                PrivateKeyDer::from_pem_slice(&text).map_err(|reason| unreadable(reason.to_string()))?;
            Ok(config.with_client_auth_cert(chain, key)?)
        }
    }
}

fn trusted(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    match &tls.root_certificates {
        Some(path) => {
            for certificate in certificates(path, "the trusted authorities")? {
                roots.add(certificate)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TlsError::NoRoots);
            }
        }
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    verifier.map_err(|error| TlsError::Unusable(Error::General(error.to_string())))
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => {
            Err(unreadable(what, path, io::Error::new(io::ErrorKind::InvalidData, "no certificate in it")))
        }
        Err(reason) => Err(unreadable(what, path, reason)),
    }
}

fn unreadable(what: &'static str, path: &Path, reason: impl ToString) -> TlsError {
    TlsError::File { what, path: path.to_owned(), reason: reason.to_string() }
}

/// Looks at less of a certificate than the whole, as `sslmode` says aloud: never at its name, and at who has signed it only
/// where there is a `chain` to go by. Whoever bears it proves all the same that it is its own.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        // The name is looked at last: whoever fails there alone has passed everything else.
        match chain.verify_server_cert(certificate, between, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
