//! What ledgers of every kind share, whichever database they lie in. Each kind is a crate of its own beside this one.
//!
//! | module | holds |
//! | --- | --- |
//! | [`transaction`](NewTransaction) | a transaction from texts, field by field, and why one is not let in |
//! | [`figures`](Figure) | numbers that a ledger's server is watched by |
//! | [`findings`](Finding) | what a look at a ledger has found |
//! | [`json`](json_text) | a field of a JSON object, wherever such objects come from |
//! | [`time`] | RFC 3339, to the microsecond |
//! | [`ledger`](Appender) | how a ledger is written to: by a node, by a command, and what it answers |
//! | [`threads`] | threads whose panic ends the process |
//!
//! How a ledger is followed says `florin_core::follower`.

mod figures;
mod findings;
mod json;
mod ledger;
pub mod threads;
pub mod time;
mod transaction;

pub use figures::Figure;
pub use findings::{Finding, Findings, Weight};
pub use json::json_text;
pub use ledger::{
    Added, Appended, Appender, Bulk, BulkWriter, Entered, Export, Judged, LedgerError, Outcome, Refused,
    Trouble,
};
pub use transaction::{Field, FieldError, NewTransaction, Rejection, TransactionId, TransactionText};
