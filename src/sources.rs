//! The kinds of ledgers that this build knows: the one place that names them. Each kind is a crate below `sources/`, behind a
//! feature of its own.
//!
//! | what is asked | who answers |
//! | --- | --- |
//! | which ledger does this text name | [`LedgerAddress`] |
//! | open it, to follow it and to append to it | [`Ledger::open`] |
//! | fill it | [`bulk_writer`] |
//! | copy it | [`exporter`] |

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

#[cfg(feature = "kafka")]
use florin_kafka::KafkaLedger;
#[cfg(feature = "postgres")]
use florin_postgres::{
    PgAppender, PgBulkWriter, PgConfig, PgExport, PgLedger, PgScan, Target, address::Address,
    mapping::Mapping,
};
use florin_record::{Appender, BulkWriter, Export, LedgerError};
use florin_schema::LedgerId;
#[cfg(feature = "sqlite")]
use florin_sqlite::{LedgerFile, SqliteAppender, SqliteExport, SqliteScan, Writer};

use crate::follower::Scan;

#[cfg(not(any(feature = "sqlite", feature = "postgres", feature = "kafka")))]
compile_error!(
    "a node follows a ledger: build it with one kind of them at least (--features sqlite, postgres, kafka)"
);

/// The ledger of a command that names none: a file in the working directory.
const DEFAULT_PATH: &str = "florin.db";

/// Which ledger, as `--ledger` names it. It may be of a kind that this build does not know: who opens it is told so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LedgerAddress {
    /// An SQLite file: `sqlite:PATH`, or a path.
    Sqlite(PathBuf),
    /// A table in a PostgreSQL: `postgres://USER@HOST:PORT/DATABASE`.
    #[cfg(feature = "postgres")]
    Postgres(Box<PgConfig>),
    /// A topic in a Kafka: `kafka://HOST:PORT/TOPIC`.
    #[cfg(feature = "kafka")]
    Kafka(Box<florin_kafka::Address>),
    /// One with a password in it, which nothing keeps: who opens it is told where passwords go. (A parser's refusal would
    /// repeat it.)
    WithPassword,
}

/// Why a text names no ledger.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// Nothing that is known.
    #[error(
        "expected sqlite:PATH, for example sqlite:/var/lib/florin/ledger.db, or postgres://USER@HOST:PORT/DATABASE, or \
         kafka://HOST:PORT/TOPIC"
    )]
    Unknown,
    /// A PostgreSQL's.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Postgres(#[from] florin_postgres::address::AddressError),
    /// A Kafka's.
    #[cfg(feature = "kafka")]
    #[error(transparent)]
    Kafka(#[from] florin_kafka::AddressError),
    /// One of a kind that this build does not know.
    #[cfg(not(all(feature = "postgres", feature = "kafka")))]
    #[error("this florin was built without ledgers in {0}: use one that has them (cargo's feature {1})")]
    NotBuiltIn(&'static str, &'static str),
}

impl LedgerAddress {
    /// Whether `path` is one of the ledger's own files, by whatever name: nothing else may be written there.
    pub fn owns(&self, path: &Path) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            LedgerAddress::Sqlite(ledger) => florin_sqlite::owns(ledger, path),
            #[cfg(not(feature = "sqlite"))]
            LedgerAddress::Sqlite(ledger) => ledger == path,
            #[cfg(feature = "postgres")]
            LedgerAddress::Postgres(_) => false,
            #[cfg(feature = "kafka")]
            LedgerAddress::Kafka(_) => false,
            LedgerAddress::WithPassword => false,
        }
    }

    /// Whether several nodes can divide it among them.
    pub fn has_partitions(&self) -> bool {
        match self {
            #[cfg(feature = "kafka")]
            LedgerAddress::Kafka(_) => true,
            _ => false,
        }
    }

    /// Opens every file that the address names besides the ledger itself: certificates, keys, passwords. Nobody is asked.
    ///
    /// # Errors
    /// Which cannot be used, and why.
    pub fn check_files(&self) -> Result<(), LedgerError> {
        match self {
            LedgerAddress::Sqlite(_) => Ok(()),
            #[cfg(feature = "postgres")]
            LedgerAddress::Postgres(config) => config.check_files(),
            #[cfg(feature = "kafka")]
            LedgerAddress::Kafka(address) => KafkaLedger::check_files(address),
            LedgerAddress::WithPassword => Err(with_password()),
        }
    }
}

/// Names of a table's columns, of which a build without PostgreSQL reads none.
#[cfg(feature = "postgres")]
pub use florin_postgres::mapping::{Columns as LedgerColumns, Kinds as LedgerKinds};
#[cfg(not(feature = "postgres"))]
pub use unmapped::{Unmapped as LedgerColumns, Unmapped as LedgerKinds};

#[cfg(not(feature = "postgres"))]
mod unmapped {
    /// Nothing.
    #[derive(Clone, PartialEq, Eq, Debug, Default)]
    pub struct Unmapped {}

    impl std::str::FromStr for Unmapped {
        type Err = super::AddressError;

        fn from_str(_: &str) -> Result<Unmapped, super::AddressError> {
            Err(super::NO_POSTGRES)
        }
    }
}

impl LedgerAddress {
    /// The same with what its columns and words are.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn mapped(self, columns: &LedgerColumns, kinds: &LedgerKinds) -> Result<LedgerAddress, String> {
        let is_plain = *columns == LedgerColumns::default() && *kinds == LedgerKinds::default();
        match self {
            address if is_plain => Ok(address),
            #[cfg(feature = "postgres")]
            LedgerAddress::Postgres(mut config) => {
                config.mapping = Mapping::new(columns, kinds).map_err(|error| error.to_string())?;
                Ok(LedgerAddress::Postgres(config))
            }
            _ => Err(
                "expected a ledger in a PostgreSQL (--ledger postgres://…): others have florin's own table"
                    .to_owned(),
            ),
        }
    }
}

impl FromStr for LedgerAddress {
    type Err = AddressError;

    /// What looks like another kind's address is no path: a file's name with a colon in it needs `sqlite:` or a slash before.
    fn from_str(text: &str) -> Result<LedgerAddress, AddressError> {
        let path = match text.split_once(':') {
            Some(("sqlite", path)) => path,
            Some(("postgres" | "postgresql", _)) => return postgres(text),
            Some(("kafka", _)) => return kafka(text),
            Some((kind, _)) if !kind.contains('/') => return Err(AddressError::Unknown),
            _ => text,
        };
        if path.is_empty() {
            Err(AddressError::Unknown)
        } else {
            Ok(LedgerAddress::Sqlite(PathBuf::from(path)))
        }
    }
}

#[cfg(feature = "postgres")]
fn postgres(text: &str) -> Result<LedgerAddress, AddressError> {
    match text.parse::<Address>() {
        Ok(address) => {
            Ok(LedgerAddress::Postgres(Box::new(PgConfig { address, mapping: Mapping::default() })))
        }
        Err(error) if error.holds_password || has_password(text) => Ok(LedgerAddress::WithPassword),
        Err(error) => Err(error.into()),
    }
}

/// Whether something like a password stands in a text that is no address otherwise.
#[cfg(feature = "postgres")]
fn has_password(text: &str) -> bool {
    let rest = text.split_once(':').map_or(text, |(_, rest)| rest).trim_start_matches('/');
    rest.rsplit_once('@').is_some_and(|(login, _)| login.contains(':'))
}

#[cfg(not(feature = "postgres"))]
const NO_POSTGRES: AddressError = AddressError::NotBuiltIn("a PostgreSQL", "postgres");

#[cfg(not(feature = "postgres"))]
fn postgres(_: &str) -> Result<LedgerAddress, AddressError> {
    Err(NO_POSTGRES)
}

#[cfg(feature = "kafka")]
fn kafka(text: &str) -> Result<LedgerAddress, AddressError> {
    match text.parse() {
        Ok(address) => Ok(LedgerAddress::Kafka(Box::new(address))),
        Err(florin_kafka::AddressError::Password) => Ok(LedgerAddress::WithPassword),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(feature = "kafka"))]
fn kafka(_: &str) -> Result<LedgerAddress, AddressError> {
    Err(AddressError::NotBuiltIn("a Kafka topic", "kafka"))
}

impl fmt::Display for LedgerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerAddress::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            #[cfg(feature = "postgres")]
            LedgerAddress::Postgres(config) => config.address.fmt(f),
            #[cfg(feature = "kafka")]
            LedgerAddress::Kafka(address) => address.fmt(f),
            LedgerAddress::WithPassword => f.write_str("an address with a password"),
        }
    }
}

impl Default for LedgerAddress {
    fn default() -> LedgerAddress {
        LedgerAddress::Sqlite(PathBuf::from(DEFAULT_PATH))
    }
}

impl From<PathBuf> for LedgerAddress {
    fn from(path: PathBuf) -> LedgerAddress {
        LedgerAddress::Sqlite(path)
    }
}

/// A ledger that is open. Whoever follows it and whoever writes to it have the same, so that they agree on which it is.
#[derive(Clone, Debug)]
pub enum Ledger {
    /// An SQLite file.
    #[cfg(feature = "sqlite")]
    Sqlite(Arc<LedgerFile>),
    /// A table in a PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(Arc<PgLedger>),
    /// A topic in a Kafka.
    #[cfg(feature = "kafka")]
    Kafka(Arc<KafkaLedger>),
}

impl Ledger {
    /// Opens a ledger that exists.
    ///
    /// # Errors
    /// Why it cannot be followed, with an exit code for each reason.
    pub fn open(address: &LedgerAddress) -> Result<Ledger, LedgerError> {
        match address {
            #[cfg(feature = "sqlite")]
            LedgerAddress::Sqlite(path) => Ok(Ledger::Sqlite(LedgerFile::open(path)?)),
            #[cfg(not(feature = "sqlite"))]
            LedgerAddress::Sqlite(_) => Err(not_built_in("an SQLite file", "sqlite")),
            #[cfg(feature = "postgres")]
            LedgerAddress::Postgres(config) => {
                Ok(Ledger::Postgres(Arc::new(PgLedger::open(Target::of(config))?)))
            }
            #[cfg(feature = "kafka")]
            LedgerAddress::Kafka(address) => {
                Ok(Ledger::Kafka(Arc::new(KafkaLedger::open(address.as_ref().clone())?)))
            }
            LedgerAddress::WithPassword => Err(with_password()),
        }
    }

    /// Which ledger it is, for clients to compare; the default where that is not known.
    pub fn id(&self) -> LedgerId {
        match self {
            #[cfg(feature = "sqlite")]
            Ledger::Sqlite(file) => file.id(),
            #[cfg(feature = "postgres")]
            Ledger::Postgres(ledger) => ledger.id(),
            #[cfg(feature = "kafka")]
            Ledger::Kafka(ledger) => ledger.id(),
        }
    }

    /// The same, of which a node follows what it is told to, where it can be followed in parts: of a topic, whose partitions they are.
    #[must_use]
    pub fn divided(self) -> Ledger {
        match self {
            #[cfg(feature = "kafka")]
            Ledger::Kafka(ledger) => {
                let share = florin_kafka::Share::new(ledger.identity().partitions);
                Ledger::Kafka(Arc::new(KafkaLedger::clone(&ledger).divided(share)))
            }
            #[allow(unreachable_patterns, reason = "a build may know no other kind")]
            whole => whole,
        }
    }

    /// Whether a checkpoint can be told to be of it, and can be gone on with.
    pub fn keeps_checkpoints(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Ledger::Sqlite(_) => true,
            #[cfg(feature = "postgres")]
            // Without versions it is counted from its first row.
            Ledger::Postgres(ledger) => !ledger.target().mapping.is_derived(),
            #[cfg(feature = "kafka")]
            Ledger::Kafka(_) => true,
        }
    }

    /// The way to read it by users, on a connection of its own.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn scan(&self) -> Result<Box<dyn Scan>, String> {
        match self {
            #[cfg(feature = "sqlite")]
            Ledger::Sqlite(file) => Ok(Box::new(SqliteScan::new(file))),
            #[cfg(feature = "postgres")]
            Ledger::Postgres(ledger) => Ok(Box::new(PgScan::new(ledger)?)),
            #[cfg(feature = "kafka")]
            Ledger::Kafka(_) => Err(florin_kafka::NO_SCAN.to_owned()),
        }
    }

    /// The way into it.
    pub fn appender(&self) -> Box<dyn Appender> {
        match self {
            #[cfg(feature = "sqlite")]
            Ledger::Sqlite(file) => Box::new(SqliteAppender::new(Arc::clone(file))),
            #[cfg(feature = "postgres")]
            Ledger::Postgres(ledger) => Box::new(PgAppender::new(Arc::clone(ledger))),
            #[cfg(feature = "kafka")]
            Ledger::Kafka(_) => Box::new(florin_kafka::NoAppender),
        }
    }
}

/// Opens a ledger to put many rows into it; it is made where there is none.
///
/// # Errors
/// Why it cannot be written to.
pub fn bulk_writer(address: &LedgerAddress) -> Result<Box<dyn BulkWriter>, LedgerError> {
    match address {
        #[cfg(feature = "sqlite")]
        LedgerAddress::Sqlite(path) => Ok(Box::new(Writer::open_or_create(path)?)),
        #[cfg(not(feature = "sqlite"))]
        LedgerAddress::Sqlite(_) => Err(not_built_in("an SQLite file", "sqlite")),
        #[cfg(feature = "postgres")]
        LedgerAddress::Postgres(config) => Ok(Box::new(PgBulkWriter::open(&Target::of(config))?)),
        #[cfg(feature = "kafka")]
        LedgerAddress::Kafka(_) => Err(florin_kafka::only_read()),
        LedgerAddress::WithPassword => Err(with_password()),
    }
}

/// Opens a ledger to copy all of its rows elsewhere.
///
/// # Errors
/// Why it cannot be read.
pub fn exporter(address: &LedgerAddress) -> Result<Box<dyn Export>, LedgerError> {
    match address {
        #[cfg(feature = "sqlite")]
        LedgerAddress::Sqlite(path) => Ok(Box::new(SqliteExport::new(&LedgerFile::open(path)?)?)),
        #[cfg(not(feature = "sqlite"))]
        LedgerAddress::Sqlite(_) => Err(not_built_in("an SQLite file", "sqlite")),
        #[cfg(feature = "postgres")]
        LedgerAddress::Postgres(config) => Ok(Box::new(PgExport::new(&Target::of(config))?)),
        #[cfg(feature = "kafka")]
        LedgerAddress::Kafka(_) => Err(misconfigured(
            "a topic is published into, and not from: name the ledger that has the transactions, sqlite:PATH or postgres://…".to_owned(),
        )),
        LedgerAddress::WithPassword => Err(with_password()),
    }
}

/// What an address with a password is answered.
pub fn with_password() -> LedgerError {
    misconfigured(
        "the ledger's address holds a password, which all see who list processes: leave it out, and set PGPASSWORD or PGPASSFILE, of a \
         Kafka KAFKA_PASSWORD, or name a passfile="
            .to_owned(),
    )
}

fn misconfigured(reason: String) -> LedgerError {
    LedgerError { exit_code: 2, ..LedgerError::new(florin_record::Trouble::Failed, reason) }
}

/// A kind of ledger that can be named and is not in this build.
#[cfg(not(feature = "sqlite"))]
fn not_built_in(kind: &str, feature: &str) -> LedgerError {
    misconfigured(format!(
        "this florin was built without ledgers in {kind}: use one that has them (cargo's feature {feature})"
    ))
}

#[cfg(test)]
mod tests {
    use florin_record::Trouble;

    use super::*;

    #[test]
    fn a_ledger_is_named_by_its_kind_or_its_path() {
        for (text, path) in [
            ("sqlite:florin.db", "florin.db"),
            ("florin.db", "florin.db"),
            ("/var/lib/florin/ledger.db", "/var/lib/florin/ledger.db"),
            ("./a:b", "./a:b"),
            ("sqlite:a:b", "a:b"),
        ] {
            assert_eq!(text.parse(), Ok(LedgerAddress::Sqlite(path.into())), "{text}");
        }
        for text in ["", "sqlite:", "Postgres://localhost/ledger", "mysql:x", "Sqlite:x"] {
            assert_eq!(text.parse::<LedgerAddress>(), Err(AddressError::Unknown), "{text}");
        }
    }

    #[test]
    fn an_address_is_shown_as_it_can_be_given() {
        let address = LedgerAddress::default();
        assert_eq!(address.to_string(), "sqlite:florin.db");
        assert_eq!(address.to_string().parse(), Ok(address));
    }

    /// clap and the configuration's reader repeat what they refuse.
    #[cfg(feature = "postgres")]
    #[test]
    fn a_password_in_an_address_is_refused_and_nowhere_shown() {
        for mistyped in [
            "postgres:florin:geheim@db/payments",
            "postgresql:/florin:geheim@db",
            "postgres:florin:ge@heim@db",
        ] {
            assert_eq!(mistyped.parse(), Ok(LedgerAddress::WithPassword), "{mistyped}");
        }
        let address: LedgerAddress = "postgres://florin:geheim@db/payments".parse().unwrap();
        let error = Ledger::open(&address).unwrap_err();
        assert_eq!(error.exit_code, 2);
        for shown in [format!("{address} {address:?}"), error.to_string()] {
            assert!(!shown.contains("geheim"), "{shown}");
        }
        assert!(error.to_string().contains("PGPASSFILE"), "{error}");
        let plain: LedgerAddress = "postgres://florin@db/payments?slot=a".parse().unwrap();
        assert_eq!(plain.to_string().parse(), Ok(plain));
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn a_topic_is_named_by_its_brokers_and_never_with_a_password() {
        for text in ["kafka://127.0.0.1:9092/l?partitioner=crc32", "kafka://florin@broker:9093/l?sasl=PLAIN"]
        {
            assert_eq!(text.parse::<LedgerAddress>().unwrap().to_string(), text);
        }
        let address: LedgerAddress = "kafka://florin:geheim@broker/l".parse().unwrap();
        let error = Ledger::open(&address).unwrap_err();
        assert_eq!((address, error.exit_code), (LedgerAddress::WithPassword, 2));
        assert!(error.to_string().contains("KAFKA_PASSWORD"), "{error}");
    }

    /// A node found out at its start that the file with its password was not there, after `florin config check` had been content.
    #[cfg(all(feature = "kafka", feature = "postgres"))]
    #[test]
    fn the_files_that_an_address_names_are_looked_at_without_the_servers() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("nonsense"), "nonsense").unwrap();
        for (address, says) in [
            ("kafka://u@broker.invalid/l?passfile={missing}", "cannot read the password"),
            ("kafka://broker.invalid/l?sslrootcert={missing}", "missing"),
            ("kafka://broker.invalid/l?sslrootcert={nonsense}", "does not start"),
            ("postgres://u@db.invalid/d?passfile={missing}", "cannot read the passwords"),
            ("postgres://u@db.invalid/d?sslrootcert={nonsense}", "no certificate in it"),
        ] {
            let address =
                address.replace("{missing}", &path("missing")).replace("{nonsense}", &path("nonsense"));
            let error = address.parse::<LedgerAddress>().unwrap().check_files().unwrap_err().to_string();
            assert!(error.contains(says), "{address}: {error}");
        }
        let bare: LedgerAddress = "kafka://broker.invalid/l".parse().unwrap();
        assert_eq!(bare.check_files(), Ok(()));
    }

    #[test]
    fn a_ledger_that_is_not_there_has_an_exit_code() {
        let error = Ledger::open(&LedgerAddress::Sqlite("/no/such/ledger.db".into())).unwrap_err();
        assert_eq!((error.trouble, error.exit_code), (Trouble::Unavailable, 15), "{error}");
    }
}
