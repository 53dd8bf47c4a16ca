//! The embedded ledger: one SQLite file, written by whoever appends, imports or generates, and read by the feed.
//!
//! | module | holds |
//! | --- | --- |
//! | [`file`](StoreError) | opening a ledger, and saying why it cannot be opened |
//! | [`identity`](LedgerFile) | which file the ledger is, for all who read and write it |
//! | [`writer`](Writer) | appending: versions, duplicates, conflicts |
//! | [`reader`](Reader) | rows in order, decoded without trust |
//! | [`transaction`](NewTransaction) | a transaction from texts, field by field |
//! | [`time`] | RFC 3339, to the microsecond |
//! | [`lines`](Lines) | the lines of files that people made |
//! | `csv_line` | one line of CSV, without forgiveness |
//! | [`import`](import()) | `florin import` |
//! | [`platform`](Platform) | the made-up platform behind `florin generate` and `florin demo` |
//! | [`generate`](generate()) | `florin generate` |
//! | [`progress`](Progress) | how the long commands say how far they are |

mod csv_line;
mod file;
mod generate;
mod identity;
mod import;
mod lines;
mod platform;
mod progress;
mod reader;
#[cfg(test)]
pub(crate) mod scratch;
pub mod time;
mod transaction;
mod writer;

#[cfg(test)]
mod tests;

pub use csv_line::QuoteError;
pub use file::StoreError;
pub use generate::{GenerateOptions, generate};
pub use identity::{IdentityError, LedgerFile};
pub use import::{ImportError, ImportOptions, ImportReport, RowDefect, Source, import};
pub use lines::{Line, Lines};
pub use platform::{Event, Platform};
pub use progress::{Bar, Progress, Silent, Unit};
pub use reader::{Followed, Place, Reader, Seq};
pub use transaction::{Field, FieldError, NewTransaction, Rejection, TransactionId, TransactionText};
pub use writer::{Appended, Batch, Writer};
