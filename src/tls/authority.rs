//! A private authority: for trying TLS out, for tests, and for whoever has no other. Elliptic keys (P-256), which every library knows.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd, string::Ia5String,
};

/// Whoever has its certificate trusts all that it signs.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its private key, both in PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// Why there is no certificate: a name that none can have, or no randomness.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate: {0}")]
pub struct AuthorityError(#[from] rcgen::Error);

impl Authority {
    /// A new one of this name, for ten years.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn new(name: &str) -> Result<Authority, AuthorityError> {
        let mut params = lasting(10, Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Authority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// Its own certificate and key.
    pub fn pair(&self) -> Pair {
        Pair { certificate: self.issuer.pem(), key: self.issuer.key().serialize_pem() }
    }

    /// A certificate for a node that is reached by these names and addresses, for a year. Nodes that divide users ask each other, so it is a
    /// caller's as well.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn node(&self, names: &[String]) -> Result<Pair, AuthorityError> {
        let mut params = lasting(1, names.to_vec())?;
        params.distinguished_name.push(DnType::CommonName, "florin");
        self.sign(params, &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// A certificate for a caller whose name is this URI, for a year.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn caller(&self, uri: &str) -> Result<Pair, AuthorityError> {
        let mut params = lasting(1, Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "caller of florin");
        params.subject_alt_names.push(SanType::URI(Ia5String::try_from(uri)?));
        self.sign(params, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        usages: &[ExtendedKeyUsagePurpose],
    ) -> Result<Pair, AuthorityError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// From yesterday on, for clocks differ.
fn lasting(years: i16, names: Vec<String>) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(names)?;
    let yesterday = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().yesterday();
    let day = yesterday.unwrap_or(jiff::civil::Date::MIN);
    let at = |year: i16| {
        // No year is without a 28th of each month.
        date_time_ymd(i32::from(year), day.month().cast_unsigned(), day.day().min(28).cast_unsigned())
    };
    (params.not_before, params.not_after) = (at(day.year()), at(day.year() + years));
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params)
}
