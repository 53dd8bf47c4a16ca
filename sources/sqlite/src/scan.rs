//! The file as a ledger to be compared with, on a connection of its own.

use std::sync::Arc;

use florin_core::follower::{Row, Scan, SourceError};
use florin_schema::{UserId, Version};

use crate::{LedgerFile, Reader, SqliteError};

/// See the module.
pub struct SqliteScan {
    ledger: Arc<LedgerFile>,
    /// None after a failure: a connection that has failed may not work again.
    reader: Option<Reader>,
}

impl SqliteScan {
    /// Of this ledger: no other is read.
    pub fn new(ledger: &Arc<LedgerFile>) -> SqliteScan {
        SqliteScan { ledger: Arc::clone(ledger), reader: None }
    }

    fn read(&mut self, read: impl FnOnce(&Reader) -> Result<(), SqliteError>) -> Result<(), SourceError> {
        let reader = match self.reader.take() {
            Some(reader) => Ok(reader),
            None => Reader::open(self.ledger.path()),
        };
        let done = reader.and_then(|reader| read(&reader).map(|()| reader));
        self.reader = Some(done.map_err(|error| SourceError::Unavailable(error.to_string()))?);
        // It was opened by its path: that must be the file that is followed.
        Ok(self.ledger.check()?)
    }
}

impl Scan for SqliteScan {
    fn users(&mut self, from: UserId, limit: usize, rows: &mut Vec<Row>) -> Result<(), SourceError> {
        self.read(|reader| reader.users(from, limit, rows))
    }

    fn account(
        &mut self,
        user: UserId,
        after: Option<Version>,
        limit: usize,
        rows: &mut Vec<Row>,
    ) -> Result<(), SourceError> {
        self.read(|reader| reader.account(user, after, limit, rows))
    }
}
