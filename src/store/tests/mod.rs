//! Tests of the ledger as a whole, on files in temporary directories.

mod appending;
mod backup;
mod generating;
mod identity;
mod importing;
mod opening;
mod reading;
mod schema;
