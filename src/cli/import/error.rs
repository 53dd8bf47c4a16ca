//! Why an import ended early, and what is wrong with a row.

use std::io;
use std::path::PathBuf;

use florin_record::{Field, LedgerError, Rejection};

use super::csv_line::QuoteError;
use super::header;
use crate::limits::CSV_LINE_BYTES_MAX;

/// Why an import ended early: the ledger is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The input cannot be read.
    #[error("{input}: cannot read it: {source}")]
    Open {
        /// The file.
        input: String,
        /// Why.
        source: io::Error,
    },
    /// The input ends early or is damaged.
    #[error("{input}, after line {line}: cannot read on: {source}; the ledger is as it was")]
    Read {
        /// The file.
        input: String,
        /// The last line that was read.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// The first line is not the header.
    #[error("{input}, line 1: expected the header {expected:?}, found {found:?}; the ledger is as it was", expected = header())]
    Header {
        /// The file.
        input: String,
        /// The first line.
        found: String,
    },
    /// A bad row, and nowhere to put it.
    #[error(
        "{input}, line {line}, {defect}; the ledger is as it was (--skip-bad FILE writes bad rows aside and goes on)"
    )]
    Row {
        /// The file.
        input: String,
        /// The line that the row begins on, from 1.
        line: u64,
        /// What is wrong with it.
        defect: RowDefect,
    },
    /// The file for bad rows cannot be written.
    #[error("cannot write bad rows to {}: {source}; the ledger is as it was", .path.display())]
    Aside {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file for bad rows is there already.
    #[error("--skip-bad {} exists already, and nothing is overwritten: name a file that does not exist yet", .path.display())]
    AsideExists {
        /// The file.
        path: PathBuf,
    },
    /// The file for bad rows is the ledger's.
    #[error(
        "--skip-bad {} is one of the ledger's own files, which the ledger's database removes and overwrites: name another",
        .path.display()
    )]
    AsideIsLedgers {
        /// The file.
        path: PathBuf,
    },
    /// The ledger refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// What is wrong with a row.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RowDefect {
    /// Too few or too many fields.
    #[error("expected 6 fields, found {found}")]
    Fields {
        /// How many.
        found: usize,
    },
    /// Quotes that do not pair up within the line.
    #[error(transparent)]
    Quotes(#[from] QuoteError),
    /// A line that nobody's row needs.
    #[error("expected a line of at most {CSV_LINE_BYTES_MAX} bytes: this one is longer")]
    TooLong,
    /// A field that is not text.
    #[error("column {column}: {field}: expected UTF-8 text, found other bytes", column = column_of(*.field))]
    NotText {
        /// Which.
        field: Field,
    },
    /// A value that the ledger may not hold.
    #[error("column {column}: {0}", column = column_of(.0.field()))]
    Rejected(Rejection),
}

/// From 1, as spreadsheets count.
fn column_of(field: Field) -> usize {
    1 + Field::ALL.iter().position(|&one| one == field).expect("ALL holds every field")
}
