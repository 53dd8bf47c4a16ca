//! How a ledger is written to. A node appends what its callers send, request by request; a command adds many rows at once.
//! Which database it is, and how that does it, is behind these traits.
//!
//! In both ways the ledger assigns an account's versions in the commit itself, and a transaction that it holds already
//! changes nothing and answers the version that it has.

use std::time::Instant;

use florin_schema::Version;

use crate::{NewTransaction, Rejection};

/// What became of an appended transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Its place in its account's history.
    pub version: Version,
    /// Whether the ledger held it already, so that nothing was written.
    pub duplicate: bool,
}

/// One transaction of a request may not enter; none of the request did.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("transaction {index}: {rejection}")]
pub struct Refused {
    /// Which of the request, from 0.
    pub index: usize,
    /// Why.
    pub rejection: Rejection,
}

/// What became of a request: of each transaction, in their order, or of none.
pub type Outcome = Result<Vec<Appended>, Refused>;

/// The way into a ledger for a node: few transactions at a time, each acknowledged.
pub trait Appender: Send {
    /// Appends each of `requests` wholly or not at all, in their order, with one commit for all that are let in, and answers when
    /// that is durable. Waits for other writers until `deadline`.
    ///
    /// The ledger's identity is checked before anything is written, and once more before it is acknowledged: what the node
    /// follows and what it writes to is the same ledger.
    ///
    /// # Errors
    /// Nothing of any request was appended, but for [`Trouble::Uncertain`].
    fn append(
        &mut self,
        requests: &[&[NewTransaction]],
        deadline: Instant,
    ) -> Result<Vec<Outcome>, LedgerError>;

    /// Leaves the ledger in order: nothing follows it any more, and nothing is appended after this.
    fn close(self: Box<Self>);
}

/// A row of a ledger, with all that it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entered {
    /// What happened.
    pub transaction: NewTransaction,
    /// Its place in its account's history.
    pub version: Version,
}

/// All of a ledger's rows, for whoever copies them elsewhere.
pub trait Export {
    /// Adds to `rows` what comes next, of each account in the order of versions; nothing = that is all there is now.
    ///
    /// # Errors
    /// Those of reading; that a row is no transaction.
    fn next(&mut self, rows: &mut Vec<Entered>) -> Result<(), LedgerError>;

    /// Whether what is committed later comes behind what was given out, so that it may be asked for again.
    fn goes_on(&self) -> bool;
}

/// The way into a ledger for a command: many rows, with one commit. The ledger is made where there is none.
pub trait BulkWriter {
    /// Whether it holds no transaction.
    ///
    /// # Errors
    /// Those of reading.
    fn is_empty(&mut self) -> Result<bool, LedgerError>;

    /// Begins; other writers may have to wait until it ends.
    ///
    /// # Errors
    /// Those of the ledger; [`Trouble::Unavailable`] where another writer kept it.
    fn begin(&mut self) -> Result<Box<dyn Bulk + '_>, LedgerError>;

    /// Leaves the ledger in order; one that was made and into which nothing was committed is removed.
    fn close(self: Box<Self>);
}

/// Rows that enter the ledger together, or not at all: dropped without [`Bulk::commit`], nothing is written.
pub trait Bulk {
    /// Adds a row. `number` is the caller's name for it, and grows from row to row.
    ///
    /// # Errors
    /// Those of the ledger: then nothing more can be added.
    fn add(&mut self, number: u64, row: &NewTransaction) -> Result<Added, LedgerError>;

    /// Judges all rows that [`Bulk::add`] left for later, and tells which of them do not enter, in their order. Afterwards no
    /// row is added.
    ///
    /// # Errors
    /// Those of the ledger.
    fn judge(
        &mut self,
        rejected: &mut dyn FnMut(u64, &NewTransaction, Rejection),
    ) -> Result<Judged, LedgerError>;

    /// Makes what was let in durable.
    ///
    /// # Errors
    /// Those of the ledger: then nothing was written.
    fn commit(self: Box<Self>) -> Result<(), LedgerError>;
}

/// What became of a row of a bulk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Added {
    /// It enters.
    New,
    /// The ledger holds it already.
    Duplicate,
    /// It does not enter; the others are not concerned.
    Rejected(Rejection),
    /// It is known when all rows are there: [`Bulk::judge`] says so.
    Later,
}

/// What became of the rows that [`Bulk::judge`] judged and does not reject.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    /// Those that enter.
    pub new: u64,
    /// Those that the ledger holds already.
    pub duplicates: u64,
}

/// What whoever asked the ledger can make of its refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// It may pass by itself, or was put right by somebody: to try again is sensible.
    Unavailable,
    /// What is there is not, or may not be, the ledger that is followed. Nothing was written.
    OtherLedger,
    /// The same, found only after the commit: whether that is in the followed ledger is not known.
    Uncertain,
    /// It takes a hand.
    Failed,
    /// It is no ledger that florin writes to: somebody else does. Nothing was written, and nothing is wrong.
    ReadOnly,
}

/// Why a ledger did not do what was asked, in the words of its kind: what was expected, what came, what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct LedgerError {
    /// What can be made of it.
    pub trouble: Trouble,
    /// For people.
    pub reason: String,
    /// What a process ends with that cannot go on without this ledger; `florin serve --help` lists them.
    pub exit_code: u8,
}

impl LedgerError {
    /// With the exit code of what has none of its own.
    pub fn new(trouble: Trouble, reason: impl Into<String>) -> LedgerError {
        LedgerError { trouble, reason: reason.into(), exit_code: 1 }
    }
}
