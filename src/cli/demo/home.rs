//! Where the demonstration's ledger is: it is made for the occasion, and goes with it.

use std::path::PathBuf;

use clap::ValueEnum;
#[cfg(feature = "postgres")]
use florin_postgres::server::{OwnServer, Programs, SUPERUSER};
use tempfile::TempDir;

use super::DemoError;
use crate::sources::LedgerAddress;

/// What the demonstration's ledger is kept in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LedgerKind {
    /// A file
    Sqlite,
    /// A PostgreSQL of its own, of the newest version that is installed
    #[cfg(feature = "postgres")]
    Postgres,
}

/// See the module. Dropped, it is gone.
pub(super) enum Home {
    /// A folder with a file.
    Folder(TempDir),
    /// A server, in a folder of its own; it ends with this process, whatever ends that.
    #[cfg(feature = "postgres")]
    Server(Box<OwnServer>),
}

impl Home {
    /// Makes it.
    pub(super) fn make(kind: LedgerKind) -> Result<Home, DemoError> {
        let place = std::env::temp_dir();
        match kind {
            LedgerKind::Sqlite => {
                let folder = tempfile::Builder::new().prefix("florin-demo-").tempdir();
                folder.map(Home::Folder).map_err(|source| DemoError::Folder { place, source })
            }
            #[cfg(feature = "postgres")]
            LedgerKind::Postgres => {
                let programs = Programs::find()?;
                Ok(Home::Server(Box::new(OwnServer::start_private(&programs, &[])?)))
            }
        }
    }

    /// The ledger in it.
    pub(super) fn ledger(&self) -> LedgerAddress {
        match self {
            Home::Folder(folder) => LedgerAddress::from(folder.path().join("ledger.db")),
            #[cfg(feature = "postgres")]
            Home::Server(server) => {
                server.url(SUPERUSER, SUPERUSER).parse().expect("a server's own address is one")
            }
        }
    }

    /// How somebody may look into it, and add to it.
    pub(super) fn command(&self) -> Option<String> {
        match self {
            Home::Folder(_) => None,
            #[cfg(feature = "postgres")]
            Home::Server(server) => Some(format!("psql '{}'", server.url(SUPERUSER, SUPERUSER))),
        }
    }

    /// Removes it: what is gone.
    pub(super) fn remove(self) -> Result<PathBuf, DemoError> {
        match self {
            Home::Folder(folder) => {
                let path = folder.path().to_owned();
                folder.close().map_err(DemoError::host("remove the temporary ledger"))?;
                Ok(path)
            }
            #[cfg(feature = "postgres")]
            Home::Server(server) => Ok(server.socket_folder().to_owned()),
        }
    }
}
