//! Which PostgreSQL ledger, as `--ledger postgres://…` names it. A password never stands in it: what starts a program is
//! seen by all who list processes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use postgres_protocol::escape::escape_identifier;
use tokio_postgres::config::{Config, Host as Named};

use crate::limits::NAME_BYTES_MAX;

/// The table of `florin ledger init`.
const TABLE: &str = "public.transactions";
/// The publication of `florin ledger init`.
const PUBLICATION: &str = "florin";
/// PostgreSQL's port.
const PORT: u16 = 5432;
/// The slot of a node that names none: two nodes on one ledger need one each.
const SLOT: &str = "florin";
/// What stands in an address as it is; all else is escaped.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/').remove(b':').remove(b',');

/// A place where the server may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    /// A host name or an IP address, and a port.
    Tcp(String, u16),
    /// The folder of its unix socket, and the number in its name.
    Unix(PathBuf, u16),
}

impl Host {
    /// Its port.
    pub fn port(&self) -> u16 {
        let (Host::Tcp(_, port) | Host::Unix(_, port)) = self;
        *port
    }

    /// Whether it is on this machine, so that nobody can listen in.
    fn is_here(&self) -> bool {
        match self {
            Host::Unix(..) => true,
            Host::Tcp(host, _) => {
                host == "localhost"
                    || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

/// For people; of a unix socket its path.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Host::Tcp(host, port) => write!(f, "{host}:{port}"),
            Host::Unix(folder, port) => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
        }
    }
}

/// How the connection is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsMode {
    /// Not at all.
    Disable,
    /// Encrypted, to whoever answers.
    Require,
    /// Encrypted, to a server whose certificate a trusted authority has signed.
    VerifyCa,
    /// The same, and the certificate is for the host that was named.
    VerifyFull,
}

impl TlsMode {
    const ALL: [TlsMode; 4] = [TlsMode::Disable, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull];

    fn name(self) -> &'static str {
        match self {
            TlsMode::Disable => "disable",
            TlsMode::Require => "require",
            TlsMode::VerifyCa => "verify-ca",
            TlsMode::VerifyFull => "verify-full",
        }
    }
}

/// TLS and its files, all PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// How the connection is protected.
    pub mode: TlsMode,
    /// The authorities that are trusted; none = the system's.
    pub root_certificates: Option<PathBuf>,
    /// The client's certificate, with those between it and its authority, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A table, by its schema and its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table in it.
    pub table: String,
}

impl TableName {
    /// As SQL has it.
    pub fn quoted(&self) -> String {
        format!("{}.{}", escape_identifier(&self.schema), escape_identifier(&self.table))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// See the module. Displayed as it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// Where the server may be, at least one: tried in their order, and the first that is a primary is taken.
    pub hosts: Vec<Host>,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The table that is the ledger.
    pub table: TableName,
    /// The publication that names it.
    pub publication: String,
    /// The replication slot, one for each node.
    pub slot: String,
    /// How the connection is protected.
    pub tls: Tls,
    /// A file of passwords like `~/.pgpass`, to be used before PGPASSFILE.
    pub password_file: Option<PathBuf>,
}

/// Why a text names no PostgreSQL ledger.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{reason}; expected postgres://USER@HOST:PORT/DATABASE (several HOST:PORT with commas between them where standbys may be promoted), behind it ?NAME=VALUE&… with sslmode, sslrootcert, sslcert, sslkey, \
    passfile, table, publication, slot, or host=/FOLDER for a unix socket"
)]
pub struct AddressError {
    reason: String,
    /// Whether it holds a password, so that the text is not to be shown.
    pub holds_password: bool,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, AddressError> {
    Err(AddressError { reason: reason.into(), holds_password: false })
}

/// What stands behind the question mark.
#[derive(Default)]
struct Parameters {
    tls_mode: Option<TlsMode>,
    root_certificates: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    password_file: Option<PathBuf>,
    table: Option<TableName>,
    publication: Option<String>,
    slot: Option<String>,
    /// Those that say where the server is.
    connection: Vec<String>,
    seen: Vec<String>,
}

impl Parameters {
    fn read(query: &str) -> Result<Parameters, AddressError> {
        let mut parameters = Parameters::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return refuse(format!("{pair}: a name without a value"));
            };
            parameters.set(pair, name, &decode(value)?)?;
        }
        Ok(parameters)
    }

    fn set(&mut self, pair: &str, name: &str, value: &str) -> Result<(), AddressError> {
        if value.is_empty() {
            return refuse(format!("{name}: no value"));
        }
        if self.seen.iter().any(|seen| seen == name) {
            return refuse(format!("{name}: named twice"));
        }
        self.seen.push(name.to_owned());
        let path = || Some(PathBuf::from(value));
        match name {
            "host" | "port" | "user" | "dbname" => self.connection.push(pair.to_owned()),
            "sslmode" => self.tls_mode = Some(tls_mode(value)?),
            "sslrootcert" => self.root_certificates = path(),
            "sslcert" => self.certificate = path(),
            "sslkey" => self.key = path(),
            "passfile" => self.password_file = path(),
            "table" => self.table = Some(table_name(value)?),
            "publication" => self.publication = Some(checked_name(name, value)?),
            "slot" => self.slot = Some(slot_name(value)?),
            "password" => return refuse_password(),
            _ => return refuse(format!("{name}: no such parameter")),
        }
        Ok(())
    }

    fn tls(&self, hosts: &[Host]) -> Result<Tls, AddressError> {
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => return refuse("sslcert and sslkey belong together, and one of them is missing"),
        };
        let is_here = hosts.iter().all(Host::is_here);
        let mode = self.tls_mode.unwrap_or(if is_here { TlsMode::Disable } else { TlsMode::VerifyFull });
        if mode == TlsMode::Disable && (identity.is_some() || self.root_certificates.is_some()) {
            return refuse(
                "certificates are named, and the connection is not to be encrypted: say sslmode=verify-full",
            );
        }
        if mode != TlsMode::Disable && hosts.iter().any(|host| matches!(host, Host::Unix(..))) {
            return refuse("PostgreSQL does not encrypt a unix socket: leave sslmode out");
        }
        if mode == TlsMode::Require && self.root_certificates.is_some() {
            return refuse(
                "sslmode=require looks at no certificate, and sslrootcert is named: say sslmode=verify-full",
            );
        }
        Ok(Tls { mode, root_certificates: self.root_certificates.clone(), identity })
    }
}

fn refuse_password<T>() -> Result<T, AddressError> {
    let reason = "a password in an address is seen by all who list processes: set PGPASSWORD or PGPASSFILE, or name a passfile=";
    Err(AddressError { reason: reason.to_owned(), holds_password: true })
}

fn tls_mode(value: &str) -> Result<TlsMode, AddressError> {
    let found = TlsMode::ALL.into_iter().find(|mode| mode.name() == value);
    match found {
        Some(mode) => Ok(mode),
        None if matches!(value, "prefer" | "allow") => refuse(format!(
            "sslmode={value} protects from nobody, for whoever listens in can also refuse TLS: say disable, require, verify-ca or \
            verify-full"
        )),
        None => refuse(format!("sslmode={value}: expected disable, require, verify-ca or verify-full")),
    }
}

/// SCHEMA.TABLE, or TABLE in the schema public.
fn table_name(value: &str) -> Result<TableName, AddressError> {
    let (schema, table) = value.split_once('.').unwrap_or(("public", value));
    Ok(TableName { schema: checked_name("table", schema)?, table: checked_name("table", table)? })
}

fn checked_name(what: &str, value: &str) -> Result<String, AddressError> {
    if value.is_empty() || value.len() > NAME_BYTES_MAX || value.contains('\0') {
        return refuse(format!("{what}: expected a name of 1 to {NAME_BYTES_MAX} bytes, found {value:?}"));
    }
    Ok(value.to_owned())
}

fn slot_name(value: &str) -> Result<String, AddressError> {
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if value.len() > NAME_BYTES_MAX || !value.bytes().all(is_legal) {
        return refuse(format!("slot: expected at most {NAME_BYTES_MAX} of a-z, 0-9 and _, found {value:?}"));
    }
    Ok(value.to_owned())
}

fn decode(text: &str) -> Result<String, AddressError> {
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => refuse(format!("{text}: not UTF-8 once its escapes are read")),
    }
}

/// With a percent sign before its interface, where an address of IPv6 is of the link alone.
fn checked_host(host: &str) -> Result<String, AddressError> {
    let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_of_host) {
        return refuse(format!("host: expected a name or an IP address, found {host:?}"));
    }
    Ok(host.to_owned())
}

fn hosts(config: &Config) -> Result<Vec<Host>, AddressError> {
    let ports = config.get_ports();
    let port = |place: usize| ports.get(place).or(ports.last()).copied().unwrap_or(PORT);
    let named = config.get_hosts().iter().enumerate();
    let hosts: Vec<Host> = named
        .map(|(place, host)| match host {
            Named::Tcp(host) => Ok(Host::Tcp(checked_host(host)?, port(place))),
            Named::Unix(folder) if folder.to_string_lossy().contains(',') => {
                refuse(format!("{}: a comma ends a host: name another folder", folder.display()))
            }
            Named::Unix(folder) => Ok(Host::Unix(folder.clone(), port(place))),
        })
        .collect::<Result<_, _>>()?;
    if hosts.is_empty() { refuse("no host") } else { Ok(hosts) }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let Some(rest) = rest else { return refuse("no address of a PostgreSQL database") };
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let parameters = Parameters::read(query)?;
        if authority.rsplit_once('@').is_some_and(|(login, _)| login.contains(':')) {
            return refuse_password();
        }
        let location = format!("postgres://{authority}?{}", parameters.connection.join("&"));
        let Ok(config) = location.parse::<Config>() else {
            return refuse("no address of a PostgreSQL database");
        };
        let hosts = hosts(&config)?;
        let Some(user) = config.get_user() else { return refuse("no user") };
        let Some(database) = config.get_dbname() else { return refuse("no database") };
        Ok(Address {
            tls: parameters.tls(&hosts)?,
            hosts,
            user: checked_name("user", user)?,
            database: checked_name("database", database)?,
            table: parameters.table.map_or_else(|| table_name(TABLE), Ok)?,
            publication: parameters.publication.unwrap_or_else(|| PUBLICATION.to_owned()),
            slot: parameters.slot.unwrap_or_else(|| SLOT.to_owned()),
            password_file: parameters.password_file,
        })
    }
}

impl fmt::Display for Address {
    /// As [`Address::from_str`] reads it: what is as by default is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
        let escape_path = |path: &Path| escape(&path.to_string_lossy());
        let mut query = Vec::new();
        write!(f, "postgres://{}@", utf8_percent_encode(&self.user, NON_ALPHANUMERIC))?;
        let sockets = self.hosts.iter().any(|host| matches!(host, Host::Unix(..)));
        if sockets {
            let of = |say: fn(&Host) -> String| self.hosts.iter().map(say).collect::<Vec<_>>().join(",");
            let name = |host: &Host| match host {
                Host::Tcp(host, _) => host.clone(),
                Host::Unix(folder, _) => folder.to_string_lossy().into_owned(),
            };
            query.push(format!("host={}", escape(&of(name))));
            query.push(format!("port={}", escape(&of(|host| host.port().to_string()))));
        } else {
            let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
            f.write_str(&hosts.join(",").replace('%', "%25"))?;
        }
        write!(f, "/{}", utf8_percent_encode(&self.database, NON_ALPHANUMERIC))?;
        let by_default = Parameters::default().tls(&self.hosts).expect("nothing contradicts itself");
        if self.tls.mode != by_default.mode {
            query.push(format!("sslmode={}", self.tls.mode.name()));
        }
        let mut file = |name: &str, path: Option<&PathBuf>| {
            query.extend(path.map(|path| format!("{name}={}", escape_path(path))));
        };
        file("sslrootcert", self.tls.root_certificates.as_ref());
        file("sslcert", self.tls.identity.as_ref().map(|(certificate, _)| certificate));
        file("sslkey", self.tls.identity.as_ref().map(|(_, key)| key));
        file("passfile", self.password_file.as_ref());
        for (name, value, default) in [
            ("table", self.table.to_string(), TABLE),
            ("publication", self.publication.clone(), PUBLICATION),
            ("slot", self.slot.clone(), SLOT),
        ] {
            if value != default {
                query.push(format!("{name}={}", escape(&value)));
            }
        }
        if query.is_empty() { Ok(()) } else { write!(f, "?{}", query.join("&")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<Address>().expect_err(text).to_string()
    }

    #[test]
    fn what_is_left_out_is_as_ledger_init_makes_it() {
        let address: Address = "postgres://florin@10.0.0.7/money".parse().unwrap();
        assert_eq!(address.hosts, [Host::Tcp("10.0.0.7".to_owned(), 5432)]);
        assert_eq!((address.user.as_str(), address.database.as_str()), ("florin", "money"));
        assert_eq!(address.table.quoted(), "\"public\".\"transactions\"");
        assert_eq!((address.publication.as_str(), address.slot.as_str()), ("florin", "florin"));
        assert_eq!(address.tls, Tls { mode: TlsMode::VerifyFull, root_certificates: None, identity: None });
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in [
            "postgres://florin@db.example.org:5433/money",
            "postgres://florin@db.example.org:5432/money?sslrootcert=/etc/ca.pem&sslcert=/c.pem&sslkey=/k.pem",
            "postgres://florin@[::1]:5432/money",
            "postgres://florin@[fe80::1%25eth0]:5432/money",
            "postgres://florin@db-1:5432,db-2:5433/money",
            "postgres://a%40b%3Ac@127.0.0.1:5432/m%2Fn?sslmode=require&passfile=/run/p%20w",
            "postgres://florin@/money?host=/run/postgresql&port=5432&table=pay.Trans%26act&publication=p&slot=node_2",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let other: Address = "postgresql:///money?host=/run/postgresql&user=florin".parse().unwrap();
        assert_eq!(other.to_string(), "postgres://florin@/money?host=/run/postgresql&port=5432");
    }

    /// On this machine nobody listens in; elsewhere a connection is protected unless that is refused aloud.
    #[test]
    fn a_connection_is_protected_wherever_it_leaves_the_machine() {
        for (text, mode) in [
            ("postgres://u@127.0.0.1/d", TlsMode::Disable),
            ("postgres://u@localhost/d", TlsMode::Disable),
            ("postgres://u@/d?host=/run/postgresql", TlsMode::Disable),
            ("postgres://u@db/d", TlsMode::VerifyFull),
            ("postgres://u@localhost,db/d", TlsMode::VerifyFull),
            ("postgres://u@localhost.example.org/d", TlsMode::VerifyFull),
            ("postgres://u@db/d?sslmode=disable", TlsMode::Disable),
            ("postgres://u@db/d?sslmode=verify-ca", TlsMode::VerifyCa),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().tls.mode, mode, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("mysql://u@h/d", "no address"),
            ("postgres://u:secret@h/d", "a password in an address"),
            ("postgres://u@h/d?password=secret", "a password in an address"),
            ("postgres://h/d", "no user"),
            ("postgres://u@h", "no database"),
            ("postgres://u@/d", "no host"),
            ("postgres://u@h%40x/d", "host: expected a name or an IP address"),
            ("postgres://u@h%2Cx/d", "host: expected a name or an IP address"),
            ("postgres://u@%2Fa%2Cb/d", "a comma ends a host"),
            ("postgres://u@h/d?sslmode=prefer", "protects from nobody"),
            ("postgres://u@h/d?sslmode=on", "sslmode=on: expected"),
            ("postgres://u@h/d?sslcert=/c", "belong together"),
            ("postgres://u@localhost/d?sslrootcert=/c", "not to be encrypted"),
            ("postgres://u@/d?host=/run&sslmode=require", "does not encrypt a unix socket"),
            ("postgres://u@h/d?sslmode=require&sslrootcert=/c", "looks at no certificate"),
            ("postgres://u@h/d?slot=Node-1", "slot: expected"),
            ("postgres://u@h/d?slot=a&slot=b", "slot: named twice"),
            ("postgres://u@h/d?table=", "table: no value"),
            ("postgres://u@h/d?table=a.", "table: expected a name"),
            ("postgres://u@h/d?speed=fast", "speed: no such parameter"),
            ("postgres://u@h/d?slot", "a name without a value"),
        ] {
            assert!(refusal(text).contains(says), "{text}: {}", refusal(text));
            assert!(!refusal(text).contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_name_is_quoted_whatever_is_in_it() {
        let name = TableName { schema: "public".to_owned(), table: "a\"; DROP TABLE x; --".to_owned() };
        assert_eq!(name.quoted(), "\"public\".\"a\"\"; DROP TABLE x; --\"");
    }
}
