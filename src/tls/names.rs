//! The names that a certificate gives its bearer. Only alternative names count; the common name has long been free text.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::limits::{CERTIFICATE_NAME_BYTES_MAX, CERTIFICATE_NAMES_MAX};

/// Who a caller has proved to be, by a certificate of an authority that this node trusts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct CertificateNames {
    /// URIs, among them SPIFFE ids, as they stand in the certificate.
    pub uris: Vec<String>,
    /// DNS names, in lower case.
    pub dns: Vec<String>,
    /// When the certificate ends, µs since 1970 UTC.
    pub until_us: i64,
}

/// Why a certificate that was verified names nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NamesError {
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// So many names that somebody means to cost something.
    #[error(
        "expected a certificate of at most {CERTIFICATE_NAMES_MAX} names of {CERTIFICATE_NAME_BYTES_MAX} bytes, found more"
    )]
    TooMany,
    /// It was valid when a ticket was made of it, and is no longer.
    #[error("the certificate is no longer valid")]
    Expired,
}

impl CertificateNames {
    /// Reads them. The certificate was verified when its handshake was; a ticket may be used long after, so its end is looked at again.
    ///
    /// # Errors
    /// See [`NamesError`].
    pub fn of(certificate: &CertificateDer<'_>) -> Result<CertificateNames, NamesError> {
        let (_, read) = X509Certificate::from_der(certificate).map_err(|_| NamesError::Unreadable)?;
        if !read.validity().is_valid() {
            return Err(NamesError::Expired);
        }
        // RFC 5280: the second named is the last that is of it.
        let until_s = read.validity().not_after.timestamp().saturating_add(1);
        let mut names =
            CertificateNames { until_us: until_s.saturating_mul(1_000_000), ..CertificateNames::default() };
        let alternative = read.subject_alternative_name().map_err(|_| NamesError::Unreadable)?;
        for name in alternative.map(|extension| &extension.value.general_names).into_iter().flatten() {
            let (list, name) = match name {
                GeneralName::URI(uri) => (&mut names.uris, (*uri).to_owned()),
                GeneralName::DNSName(dns) => (&mut names.dns, dns.to_ascii_lowercase()),
                _ => continue,
            };
            if list.len() >= CERTIFICATE_NAMES_MAX || name.len() > CERTIFICATE_NAME_BYTES_MAX {
                return Err(NamesError::TooMany);
            }
            list.push(name);
        }
        Ok(names)
    }
}

impl CertificateNames {
    /// All of them, each of which can be of one kind only: a DNS name has no colon, and a URI without one is left out.
    pub fn all(&self) -> Vec<&str> {
        let uris = self.uris.iter().filter(|uri| uri.contains(':'));
        uris.chain(self.dns.iter().filter(|name| !name.contains(':'))).map(String::as_str).collect()
    }
}

/// When a certificate begins to be valid, and when it ends, seconds since 1970 UTC; `None` where it cannot be read.
pub(super) fn valid_s(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, read) = X509Certificate::from_der(certificate).ok()?;
    let validity = read.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}
