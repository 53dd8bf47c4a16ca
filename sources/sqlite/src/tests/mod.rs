//! The ledger as a whole, on files in folders that go away.

mod appending;
mod backup;
mod identity;
mod opening;
mod reading;
mod schema;
