//! What a node appends. Whatever is acknowledged is in the file that the ledger's path leads to: that is looked at before
//! anything is written, and once more after the commit.

use std::sync::Arc;
use std::time::Instant;

use florin_record::{Appender, LedgerError, NewTransaction, Outcome, Refused, Trouble};

use crate::{IdentityError, LedgerFile, SqliteError, Writer};

/// Appends to a ledger's file as long as it is the one that was opened.
pub struct SqliteAppender {
    ledger: Arc<LedgerFile>,
    /// Opened with the first request, so that a node can serve a ledger that it may not write to.
    writer: Option<Writer>,
}

/// Why nothing is acknowledged.
enum Failure {
    Identity(IdentityError),
    Uncertain(IdentityError),
    Sqlite(SqliteError),
}

impl SqliteAppender {
    /// `ledger` is the one that is followed.
    pub fn new(ledger: Arc<LedgerFile>) -> SqliteAppender {
        SqliteAppender { ledger, writer: None }
    }

    /// A request that the ledger refuses takes no other with it. All wait together for another writer.
    fn append(&mut self, requests: &[&[NewTransaction]], deadline: Instant) -> Result<Vec<Outcome>, Failure> {
        let ledger = &self.ledger;
        ledger.check().map_err(Failure::Identity)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(Writer::open(ledger.path())?),
        };
        let mut batch = writer.begin_until(deadline)?;
        ledger.check().map_err(Failure::Identity)?;
        let mut outcomes = Vec::with_capacity(requests.len());
        for transactions in requests {
            let outcome = batch.append_all(transactions)?;
            outcomes.push(outcome.map_err(|(index, rejection)| Refused { index, rejection }));
        }
        ledger.check().map_err(Failure::Identity)?;
        batch.commit()?;
        ledger.check().map_err(Failure::Uncertain)?;
        Ok(outcomes)
    }
}

impl Appender for SqliteAppender {
    fn append(
        &mut self,
        requests: &[&[NewTransaction]],
        deadline: Instant,
    ) -> Result<Vec<Outcome>, LedgerError> {
        let outcome = SqliteAppender::append(self, requests, deadline);
        if let Err(Failure::Identity(_) | Failure::Uncertain(_)) = &outcome
            && let Some(writer) = self.writer.take()
        {
            writer.abandon();
        }
        outcome.map_err(LedgerError::from)
    }

    /// Brings the log into the file and closes as the last one, so that the file alone is the whole ledger. Where that
    /// cannot be done (another program has it open, this one may not write) nothing is wrong: the log stays beside the file.
    fn close(self: Box<Self>) {
        let SqliteAppender { ledger, writer } = *self;
        if ledger.check().is_err() {
            if let Some(writer) = writer {
                writer.abandon();
            }
            return;
        }
        let writer = writer.map_or_else(|| Writer::open(ledger.path()), Ok);
        if let Ok(writer) = &writer {
            writer.checkpoint();
        }
        // It holds a connection too, and the writer's must be the last.
        drop(ledger);
        drop(writer);
    }
}

impl From<SqliteError> for Failure {
    fn from(error: SqliteError) -> Failure {
        Failure::Sqlite(error)
    }
}

impl From<Failure> for LedgerError {
    fn from(failure: Failure) -> LedgerError {
        match failure {
            Failure::Sqlite(error) => error.into(),
            Failure::Identity(error) => {
                LedgerError::new(Trouble::OtherLedger, format!("nothing was appended: {error}"))
            }
            Failure::Uncertain(error) => LedgerError::new(
                Trouble::Uncertain,
                format!(
                    "it is not known whether it was appended: {error}; send the same again, with the same ids, when the \
                     ledger is back"
                ),
            ),
        }
    }
}
