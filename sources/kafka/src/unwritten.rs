//! What a node does not do with a topic: it writes nothing, and reads nothing by account.

use std::time::Instant;

use florin_record::{Appender, LedgerError, NewTransaction, Outcome, Trouble};

/// Why accounts cannot be compared with a topic.
pub const NO_SCAN: &str = "a topic's records lie in the order in which they came, so that for each account all of them would have to \
    be read: audit a node that follows the ledger from which the topic is written, or start this one from the topic's beginning";

/// Takes nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoAppender;

/// Why.
pub fn only_read() -> LedgerError {
    LedgerError::new(
        Trouble::ReadOnly,
        "nothing was appended: florin only reads a Kafka topic, into which its producers write; commit to the ledger that they publish, \
         or have florin publish one (florin publish)",
    )
}

impl Appender for NoAppender {
    fn append(&mut self, _: &[&[NewTransaction]], _: Instant) -> Result<Vec<Outcome>, LedgerError> {
        Err(only_read())
    }

    fn close(self: Box<Self>) {}
}
