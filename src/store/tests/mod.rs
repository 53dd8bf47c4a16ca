//! Tests of the ledger as a whole, on files in temporary directories.

mod appending;
mod generating;
mod importing;
mod opening;
mod reading;
