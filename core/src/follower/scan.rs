//! What a ledger must be able to do for the audit.

use alloc::vec::Vec;

use florin_schema::{UserId, Version};

use super::{Row, SourceError};

/// Reads a ledger by users, on a connection that nobody who follows it waits for. Each call is one short read, and tells what is
/// committed and visible at its moment. It reads the ledger that is followed, or fails.
pub trait Scan: Send {
    /// Adds to `rows` those of users from `from` on, in the order of users and then of versions, at most `limit`. Rows that name no user
    /// are nobody's, and left out.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn users(&mut self, from: UserId, limit: usize, rows: &mut Vec<Row>) -> Result<(), SourceError>;

    /// Adds to `rows` an account's, in the order of their versions, at most `limit`: those after version `after`, or from the first.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn account(
        &mut self,
        user: UserId,
        after: Option<Version>,
        limit: usize,
        rows: &mut Vec<Row>,
    ) -> Result<(), SourceError>;
}
