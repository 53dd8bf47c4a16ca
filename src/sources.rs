//! The kinds of ledgers that this build knows: the one place that names them. Each kind is a crate below `sources/`, behind a
//! feature of its own.
//!
//! | what is asked | who answers |
//! | --- | --- |
//! | which ledger does this text name | [`LedgerAddress`] |
//! | open it, to follow it and to append to it | [`Ledger::open`] |
//! | fill it | [`bulk_writer`] |

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

#[cfg(feature = "postgres")]
use florin_postgres::mapping::Mapping;
#[cfg(feature = "postgres")]
use florin_postgres::{PgLedger, Target};
use florin_record::{Appender, BulkWriter, LedgerError};
use florin_schema::LedgerId;
#[cfg(feature = "sqlite")]
use florin_sqlite::{LedgerFile, Reader, SqliteAppender, Writer};

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!(
    "a node follows a ledger: build it with one kind of them at least (--features sqlite, postgres)"
);

/// The ledger of a command that names none: a file in the working directory.
const DEFAULT_PATH: &str = "florin.db";

/// Which ledger, as `--ledger` names it. It may be of a kind that this build does not know: who opens it is told so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LedgerAddress {
    /// An SQLite file: `sqlite:PATH`, or a path.
    Sqlite(PathBuf),
    /// A table in a PostgreSQL: `postgres://USER@HOST:PORT/DATABASE`.
    Postgres(String),
}

/// Why a text names no ledger.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "expected sqlite:PATH, for example sqlite:/var/lib/florin/ledger.db, or postgres://USER@HOST:PORT/DATABASE"
)]
pub struct AddressError;

impl LedgerAddress {
    /// Whether `path` is one of the ledger's own files, by whatever name: nothing else may be written there.
    pub fn owns(&self, path: &Path) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            LedgerAddress::Sqlite(ledger) => florin_sqlite::owns(ledger, path),
            #[cfg(not(feature = "sqlite"))]
            LedgerAddress::Sqlite(ledger) => ledger == path,
            LedgerAddress::Postgres(_) => false,
        }
    }
}

impl FromStr for LedgerAddress {
    type Err = AddressError;

    /// What looks like another kind's address is no path: a file's name with a colon in it needs `sqlite:` or a slash before.
    fn from_str(text: &str) -> Result<LedgerAddress, AddressError> {
        let path = match text.split_once(':') {
            Some(("sqlite", path)) => path,
            Some(("postgres" | "postgresql", _)) => return Ok(LedgerAddress::Postgres(text.to_owned())),
            Some((kind, _)) if !kind.contains('/') => return Err(AddressError),
            _ => text,
        };
        if path.is_empty() { Err(AddressError) } else { Ok(LedgerAddress::Sqlite(PathBuf::from(path))) }
    }
}

impl fmt::Display for LedgerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerAddress::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            LedgerAddress::Postgres(url) => f.write_str(url),
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
            LedgerAddress::Postgres(url) => {
                let address =
                    url.parse().map_err(|error: florin_postgres::address::AddressError| LedgerError {
                        exit_code: 2,
                        ..LedgerError::new(florin_record::Trouble::Failed, error.to_string())
                    })?;
                let target = Target::new(address, Mapping::default());
                Ok(Ledger::Postgres(Arc::new(PgLedger::open(target)?)))
            }
            #[cfg(not(feature = "postgres"))]
            LedgerAddress::Postgres(_) => Err(not_built_in("a PostgreSQL", "postgres")),
        }
    }

    /// Which ledger it is, for clients to compare; the default where that is not known.
    ///
    /// # Errors
    /// Those of reading.
    pub fn id(&self) -> Result<LedgerId, LedgerError> {
        match self {
            #[cfg(feature = "sqlite")]
            Ledger::Sqlite(file) => {
                // A first row that cannot be read is the feed's to judge; an identity that is not known is not checked.
                Ok(Reader::open(file.path())?.ledger_id().unwrap_or_default())
            }
            #[cfg(feature = "postgres")]
            Ledger::Postgres(ledger) => Ok(ledger.id()),
        }
    }

    /// Whether a checkpoint can be told to be of it, and can be gone on with.
    pub fn keeps_checkpoints(&self) -> bool {
        match self {
            #[cfg(feature = "sqlite")]
            Ledger::Sqlite(_) => true,
            #[cfg(feature = "postgres")]
            Ledger::Postgres(_) => false,
        }
    }

    /// The way into it.
    pub fn appender(&self) -> Box<dyn Appender> {
        match self {
            #[cfg(feature = "sqlite")]
            Ledger::Sqlite(file) => Box::new(SqliteAppender::new(Arc::clone(file))),
            #[cfg(feature = "postgres")]
            Ledger::Postgres(_) => Box::new(NoAppender),
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
        LedgerAddress::Postgres(_) => Err(only_read()),
    }
}

/// The way into a ledger that florin only reads.
#[cfg(feature = "postgres")]
struct NoAppender;

#[cfg(feature = "postgres")]
impl Appender for NoAppender {
    fn append(
        &mut self,
        _: &[&[florin_record::NewTransaction]],
        _: std::time::Instant,
    ) -> Result<Vec<florin_record::Outcome>, LedgerError> {
        Err(only_read())
    }

    fn close(self: Box<Self>) {}
}

fn only_read() -> LedgerError {
    let reason = "florin only reads a ledger in PostgreSQL: commit its rows there";
    LedgerError::new(florin_record::Trouble::Failed, reason)
}

/// A kind of ledger that can be named and is not in this build.
#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
fn not_built_in(kind: &str, feature: &str) -> LedgerError {
    let reason = format!(
        "this florin was built without ledgers in {kind}: use one that has them (cargo's feature {feature})"
    );
    LedgerError { exit_code: 2, ..LedgerError::new(florin_record::Trouble::Failed, reason) }
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
            assert_eq!(text.parse::<LedgerAddress>(), Err(AddressError), "{text}");
        }
    }

    #[test]
    fn an_address_is_shown_as_it_can_be_given() {
        let postgres = "postgres://florin@db/payments?slot=a".to_owned();
        assert_eq!(postgres.parse(), Ok(LedgerAddress::Postgres(postgres.clone())));
        assert_eq!(LedgerAddress::Postgres(postgres.clone()).to_string(), postgres);
        let address = LedgerAddress::default();
        assert_eq!(address.to_string(), "sqlite:florin.db");
        assert_eq!(address.to_string().parse(), Ok(address));
    }

    #[test]
    fn a_ledger_that_is_not_there_has_an_exit_code() {
        let error = Ledger::open(&LedgerAddress::Sqlite("/no/such/ledger.db".into())).unwrap_err();
        assert_eq!((error.trouble, error.exit_code), (Trouble::Unavailable, 15), "{error}");
    }
}
