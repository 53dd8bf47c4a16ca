//! The file's rows with their ids, for whoever copies them elsewhere.

use std::sync::Arc;

use florin_record::{Entered, Export, LedgerError};

use crate::limits::EXPORT_ROWS;
use crate::reader::Seq;
use crate::{LedgerFile, Reader};

/// See the module.
pub struct SqliteExport {
    ledger: Arc<LedgerFile>,
    reader: Reader,
    /// The last row that was given out.
    after: Option<Seq>,
}

impl SqliteExport {
    /// Begins with the first row.
    ///
    /// # Errors
    /// Why the file cannot be read.
    pub fn new(ledger: &Arc<LedgerFile>) -> Result<SqliteExport, LedgerError> {
        let reader = Reader::open(ledger.path())?;
        Ok(SqliteExport { ledger: Arc::clone(ledger), reader, after: None })
    }
}

impl Export for SqliteExport {
    fn next(&mut self, rows: &mut Vec<Entered>) -> Result<(), LedgerError> {
        self.after = self.reader.export(self.after, EXPORT_ROWS, rows)?.or(self.after);
        // It was opened by its path: that must be the file that was.
        self.ledger
            .check()
            .map_err(|error| LedgerError::new(florin_record::Trouble::OtherLedger, error.to_string()))
    }

    fn goes_on(&self) -> bool {
        true
    }
}
