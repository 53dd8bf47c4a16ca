//! A ledger in an SQLite file: written by whoever appends, imports or generates, and followed by nodes.
//!
//! | module | holds |
//! | --- | --- |
//! | [`file`](SqliteError) | opening a ledger, and saying why it cannot be opened |
//! | [`identity`](LedgerFile) | which file the ledger is, for all who read and write it |
//! | [`writer`](Writer) | writing: versions, duplicates, conflicts; many rows at once |
//! | [`appender`](SqliteAppender) | what a node appends, and to the followed file alone |
//! | [`reader`](Reader) | rows in order, decoded without trust |
//! | [`source`](SqliteSource) | the file as a ledger to be followed |
//! | [`export`](SqliteExport) | its rows with their ids, to be copied elsewhere |
//! | [`scan`](SqliteScan) | the file as a ledger to be compared with |
//! | [`own`](owns()) | which files are a ledger's own |
//! | `stripes` | reading in parallel |
//! | `pages` | reading an account again |
//! | `scratch` | ledgers for tests |

mod appender;
mod export;
mod file;
mod identity;
mod limits;
mod own;
mod pages;
mod reader;
mod scan;
#[cfg(any(test, feature = "scratch"))]
pub mod scratch;
mod source;
mod stripes;
#[cfg(test)]
mod tests;
mod writer;

pub use appender::SqliteAppender;
pub use export::SqliteExport;
pub use file::SqliteError;
pub use identity::{IdentityError, LedgerFile, SameFile};
pub use own::owns;
pub use reader::{Followed, Place, Reader, Seq};
pub use scan::SqliteScan;
pub use source::SqliteSource;
pub use writer::{Batch, Writer};
