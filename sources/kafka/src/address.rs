//! Which Kafka ledger, as `--ledger kafka://…` names it. A password never stands in it: what starts a program is seen by all who list
//! processes.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use florin_schema::{Partitioner, UnknownPartitioner};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Kafka's port.
const PORT: u16 = 9092;
/// The longest name of a topic that Kafka takes.
const TOPIC_BYTES_MAX: usize = 249;
/// What stands in an address as it is; all else is escaped.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/');
/// The same in a user's name, behind which a slash would end the brokers.
const PLAIN_OF_USER: &AsciiSet = &PLAIN.add(b'/');

/// See the module. Displayed as it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// Brokers, at least one, as `HOST:PORT`: whichever answers knows the others.
    pub brokers: Vec<String>,
    /// The topic that is the ledger.
    pub topic: String,
    /// By which keys find their partitions.
    pub partitioner: Partitioner,
    /// How connections are protected.
    pub tls: Tls,
    /// Who logs in; none = nobody does, or a certificate says who it is.
    pub login: Option<Login>,
}

/// How connections are protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsMode {
    /// Not at all.
    Disable,
    /// Encrypted, to brokers whose certificates a trusted authority has signed.
    VerifyCa,
    /// The same, and each certificate is for the host that is connected to.
    VerifyFull,
}

impl TlsMode {
    const ALL: [TlsMode; 3] = [TlsMode::Disable, TlsMode::VerifyCa, TlsMode::VerifyFull];

    fn name(self) -> &'static str {
        match self {
            TlsMode::Disable => "disable",
            TlsMode::VerifyCa => "verify-ca",
            TlsMode::VerifyFull => "verify-full",
        }
    }
}

/// TLS and its files, all PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// How connections are protected.
    pub mode: TlsMode,
    /// The authorities that are trusted; none = the system's.
    pub root_certificates: Option<PathBuf>,
    /// The client's certificate, with those between it and its authority, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How a password is proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// By sending it.
    Plain,
    /// Without: RFC 7677 with SHA-256.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
}

impl Mechanism {
    const ALL: [Mechanism; 3] = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];

    /// As SASL names it.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Who logs in by SASL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// The name.
    pub user: String,
    /// How the password is proved.
    pub mechanism: Mechanism,
    /// A file that has the password; none = the environment has.
    pub password_file: Option<PathBuf>,
}

/// Why a text names no Kafka ledger. The text is not repeated: somebody may have put a password into it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// Another form.
    #[error(
        "expected kafka://HOST:PORT/TOPIC or kafka://USER@HOST:PORT/TOPIC, with commas between several HOST:PORT, behind it ?NAME=VALUE&… \
         with partitioner, sslmode, sslrootcert, sslcert, sslkey, sasl, passfile; found another form"
    )]
    Form,
    /// A password.
    #[error(
        "a password in an address is seen by all who list processes: set KAFKA_PASSWORD, or name a passfile="
    )]
    Password,
    /// A broker's place.
    #[error("expected HOST:PORT for each broker, with a port from 1 to 65535, found another form")]
    Broker,
    /// The topic's name.
    #[error("expected a topic's name: 1 to 249 letters, digits, dots, underscores and hyphens, found others")]
    Topic,
    /// A parameter that there is not, that is there twice, or that has no value.
    #[error(
        "expected each of partitioner, sslmode, sslrootcert, sslcert, sslkey, sasl, passfile once at most and with a value, found \
         another parameter"
    )]
    Parameter,
    /// The partitioner.
    #[error(transparent)]
    Partitioner(#[from] UnknownPartitioner),
    /// How connections are protected.
    #[error("sslmode: expected disable, verify-ca or verify-full, found another one")]
    TlsMode,
    /// How a password is proved.
    #[error("sasl: expected PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, found another one")]
    Mechanism,
    /// Half an identity.
    #[error("sslcert and sslkey belong together, and one of them is missing")]
    Identity,
    /// Files for nothing.
    #[error("certificates are named, and connections are not to be encrypted: say sslmode=verify-full")]
    NotEncrypted,
    /// Nobody to log in.
    #[error("sasl and passfile are for a user: name it, as in kafka://USER@HOST:PORT/TOPIC")]
    NoUser,
    /// A password that all could read who listen in.
    #[error("sasl=PLAIN sends the password as it is: leave sslmode=disable out, or say sasl=SCRAM-SHA-512")]
    InTheClear,
}

/// What stands behind the question mark.
#[derive(Default)]
struct Parameters {
    partitioner: Option<Partitioner>,
    tls_mode: Option<TlsMode>,
    root_certificates: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    mechanism: Option<Mechanism>,
    password_file: Option<PathBuf>,
}

impl Parameters {
    fn read(query: &str) -> Result<Parameters, AddressError> {
        let mut parameters = Parameters::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(AddressError::Parameter)?;
            parameters.set(name, &decoded(value)?)?;
        }
        Ok(parameters)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), AddressError> {
        if value.is_empty() {
            return Err(AddressError::Parameter);
        }
        let path = || PathBuf::from(value);
        let is_again = match name {
            "partitioner" => self.partitioner.replace(value.parse()?).is_some(),
            "sslmode" => {
                let mode = TlsMode::ALL.into_iter().find(|mode| mode.name() == value);
                self.tls_mode.replace(mode.ok_or(AddressError::TlsMode)?).is_some()
            }
            "sasl" => {
                let mechanism = Mechanism::ALL.into_iter().find(|mechanism| mechanism.name() == value);
                self.mechanism.replace(mechanism.ok_or(AddressError::Mechanism)?).is_some()
            }
            "sslrootcert" => self.root_certificates.replace(path()).is_some(),
            "sslcert" => self.certificate.replace(path()).is_some(),
            "sslkey" => self.key.replace(path()).is_some(),
            "passfile" => self.password_file.replace(path()).is_some(),
            "password" => return Err(AddressError::Password),
            _ => true,
        };
        if is_again { Err(AddressError::Parameter) } else { Ok(()) }
    }

    /// On this machine nobody listens in; elsewhere connections are protected unless that is refused aloud.
    fn tls(&self, brokers: &[String]) -> Result<Tls, AddressError> {
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(AddressError::Identity),
        };
        let is_here = brokers.iter().all(|broker| is_here(broker));
        let mode = self.tls_mode.unwrap_or(if is_here { TlsMode::Disable } else { TlsMode::VerifyFull });
        if mode == TlsMode::Disable && (identity.is_some() || self.root_certificates.is_some()) {
            return Err(AddressError::NotEncrypted);
        }
        Ok(Tls { mode, root_certificates: self.root_certificates.clone(), identity })
    }

    fn login(
        &self,
        user: Option<&str>,
        tls: &Tls,
        brokers: &[String],
    ) -> Result<Option<Login>, AddressError> {
        let Some(user) = user else {
            let is_nobody = self.mechanism.is_none() && self.password_file.is_none();
            return if is_nobody { Ok(None) } else { Err(AddressError::NoUser) };
        };
        if user.contains(':') {
            return Err(AddressError::Password);
        }
        let user = decoded(user)?;
        if user.is_empty() {
            return Err(AddressError::NoUser);
        }
        let mechanism = self.mechanism.unwrap_or(Mechanism::ScramSha512);
        let is_seen = tls.mode == TlsMode::Disable && !brokers.iter().all(|broker| is_here(broker));
        if mechanism == Mechanism::Plain && is_seen {
            return Err(AddressError::InTheClear);
        }
        Ok(Some(Login { user, mechanism, password_file: self.password_file.clone() }))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let rest = text.strip_prefix("kafka://").ok_or(AddressError::Form)?;
        // Before anything else: a password may have any sign in it.
        if rest.rsplit_once('@').is_some_and(|(login, _)| login.contains(':')) {
            return Err(AddressError::Password);
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, topic) = place.split_once('/').ok_or(AddressError::Form)?;
        let (user, brokers) =
            place.rsplit_once('@').map_or((None, place), |(user, brokers)| (Some(user), brokers));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_topic = (1..=TOPIC_BYTES_MAX).contains(&topic.len()) && topic.bytes().all(is_plain);
        if !is_topic || [".", ".."].contains(&topic) {
            return Err(AddressError::Topic);
        }
        let parameters = Parameters::read(query)?;
        let brokers: Vec<String> = brokers.split(',').map(broker).collect::<Result<_, _>>()?;
        let tls = parameters.tls(&brokers)?;
        let login = parameters.login(user, &tls, &brokers)?;
        let partitioner = parameters.partitioner.unwrap_or_default();
        Ok(Address { brokers, topic: topic.to_owned(), partitioner, tls, login })
    }
}

fn decoded(text: &str) -> Result<String, AddressError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| AddressError::Form)?;
    if decoded.contains('\0') { Err(AddressError::Form) } else { Ok(decoded.into_owned()) }
}

fn broker(text: &str) -> Result<String, AddressError> {
    let is_bare = text.ends_with(']') || !text.contains(':');
    let (host, port) = if is_bare {
        (text, PORT)
    } else {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::Broker)?;
        (host, port.parse().ok().filter(|&port| port > 0).ok_or(AddressError::Broker)?)
    };
    let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match name {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        }
    };
    is_host.then(|| format!("{host}:{port}")).ok_or(AddressError::Broker)
}

/// Whether a broker is on this machine.
fn is_here(broker: &str) -> bool {
    let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Address {
    /// As [`Address::from_str`] reads it: what is as by default is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
        f.write_str("kafka://")?;
        if let Some(login) = &self.login {
            write!(f, "{}@", utf8_percent_encode(&login.user, PLAIN_OF_USER))?;
        }
        write!(f, "{}/{}", self.brokers.join(","), self.topic)?;
        let mut query = Vec::new();
        if self.partitioner != Partitioner::default() {
            query.push(format!("partitioner={}", self.partitioner));
        }
        let by_default = Parameters::default().tls(&self.brokers).expect("nothing contradicts itself");
        if self.tls.mode != by_default.mode {
            query.push(format!("sslmode={}", self.tls.mode.name()));
        }
        let login = self.login.as_ref();
        if let Some(login) = login.filter(|login| login.mechanism != Mechanism::ScramSha512) {
            query.push(format!("sasl={}", login.mechanism.name()));
        }
        for (name, path) in [
            ("sslrootcert", self.tls.root_certificates.as_ref()),
            ("sslcert", self.tls.identity.as_ref().map(|(certificate, _)| certificate)),
            ("sslkey", self.tls.identity.as_ref().map(|(_, key)| key)),
            ("passfile", login.and_then(|login| login.password_file.as_ref())),
        ] {
            query.extend(path.map(|path| format!("{name}={}", escape(&path.to_string_lossy()))));
        }
        if query.is_empty() { Ok(()) } else { write!(f, "?{}", query.join("&")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in [
            "kafka://localhost:9092/ledger",
            "kafka://a:1,b.example:65535,[::1]:9092/payments.ledger_v1?partitioner=crc32",
            "kafka://florin@a:9093/l?sslrootcert=/etc/ca.pem&sslcert=/c.pem&sslkey=/k%20y.pem&passfile=/run/p",
            "kafka://%24a%2Fb%40c%3A@127.0.0.1:9093/l?sslmode=verify-ca&sasl=PLAIN",
            "kafka://a:9092/l?sslmode=disable",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let short: Address =
            "kafka://broker,[::1]/l?partitioner=murmur2&sslmode=verify-full".parse().unwrap();
        assert_eq!(short.to_string(), "kafka://broker:9092,[::1]:9092/l");
    }

    #[test]
    fn a_connection_is_protected_wherever_it_leaves_the_machine() {
        for (text, mode) in [
            ("kafka://127.0.0.1/l", TlsMode::Disable),
            ("kafka://localhost,[::1]:9093/l", TlsMode::Disable),
            ("kafka://broker/l", TlsMode::VerifyFull),
            ("kafka://localhost,broker/l", TlsMode::VerifyFull),
            ("kafka://broker/l?sslmode=disable", TlsMode::Disable),
            ("kafka://u@broker/l?sslmode=disable", TlsMode::Disable),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().tls.mode, mode, "{text}");
        }
        assert_eq!(
            "kafka://u@broker/l?sslmode=disable&sasl=PLAIN".parse::<Address>(),
            Err(AddressError::InTheClear)
        );
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for text in [
            "kafka:broker/l",
            "kafka://broker",
            "kafka:///l",
            "kafka://broker/",
            "kafka://broker/a/b",
            "kafka://broker/..",
            "kafka://broker:0/l",
            "kafka://broker:x/l",
            "kafka://a,,b/l",
            "kafka://[::g]/l",
            "kafka://broker/l?partitioner=geheim",
            "kafka://broker/l?geheim=1",
            "kafka://broker/l?password=geheim",
            "kafka://broker/l?sslmode=require",
            "kafka://broker/l?sslmode=verify-ca&sslmode=verify-ca",
            "kafka://broker/l?sslcert=/c",
            "kafka://127.0.0.1/l?sslrootcert=/c",
            "kafka://broker/l?passfile=/p",
            "kafka://broker/l?passfile",
            "kafka://u@broker/l?sasl=GSSAPI",
            "kafka://@broker/l",
            "kafka://florin:geheim@broker/l",
            "kafka://florin:ge/he?im@broker/l",
            "kafka://::1/l",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(text.contains("partitioner=") || !error.contains("geheim"), "{error}");
        }
    }
}
