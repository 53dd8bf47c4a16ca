//! The table as a ledger to be compared with, on a connection of its own, from code that waits.

use florin_core::follower::{Row, Scan, SourceError};
use florin_schema::{UserId, Version};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::PgLedger;
use crate::failure::Failure;
use crate::instance::Followed;
use crate::limits::SCAN_PATIENCE;
use crate::reading::Reading;
use crate::target::Target;

/// See the module.
pub struct PgScan {
    target: Target,
    followed: Followed,
    runtime: Option<Runtime>,
    /// None after a failure: a connection that has failed may not work again.
    reading: Option<Reading>,
}

impl PgScan {
    /// Of this ledger: no other server than the one that is followed is read.
    ///
    /// # Errors
    /// That the rows have no versions, by which accounts are compared.
    pub fn new(ledger: &PgLedger) -> Result<PgScan, String> {
        if ledger.target().mapping.is_derived() {
            return Err(
                "its rows have no versions, so that nobody can tell which of them an answer holds".to_owned()
            );
        }
        let (target, followed) = (ledger.target().clone(), ledger.followed().clone());
        Ok(PgScan { target, followed, runtime: None, reading: None })
    }

    fn read(
        &mut self,
        which: impl FnOnce(&str, &str) -> String,
        limit: usize,
        rows: &mut Vec<Row>,
    ) -> Result<(), SourceError> {
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Builder::new_current_thread().enable_all().build().map_err(|error| {
                SourceError::Unavailable(format!("the system gives no event loop: {error}"))
            })?,
        };
        let reading = self.reading.take();
        let (target, followed) = (&self.target, &self.followed);
        let read = async {
            let mut reading = match reading {
                Some(reading) => reading,
                None => Reading::begin(target).await?,
            };
            reading.check(followed)?;
            reading.rows(target, which, limit, rows).await?;
            Ok::<Reading, Failure>(reading)
        };
        let silent = || Failure::Unavailable(format!("no answer within {} s", SCAN_PATIENCE.as_secs()));
        let outcome = runtime.block_on(async { timeout(SCAN_PATIENCE, read).await });
        self.runtime = Some(runtime);
        let outcome = outcome.unwrap_or_else(|_| Err(silent()));
        self.reading = Some(outcome.map_err(|failure| SourceError::from(&failure))?);
        Ok(())
    }
}

impl Scan for PgScan {
    fn users(&mut self, from: UserId, limit: usize, rows: &mut Vec<Row>) -> Result<(), SourceError> {
        self.read(|user, _| format!("{user} >= {from}"), limit, rows)
    }

    fn account(
        &mut self,
        user_id: UserId,
        after: Option<Version>,
        limit: usize,
        rows: &mut Vec<Row>,
    ) -> Result<(), SourceError> {
        let which = |user: &str, version: &str| {
            let after = after.map_or_else(String::new, |after| format!(" AND {version} > {after}"));
            format!("{user} = {user_id}{after}")
        };
        self.read(which, limit, rows)
    }
}
