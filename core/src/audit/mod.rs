//! What proves, while a node runs, that it holds what its ledger says. Pure: who reads the ledger, and when, is the server's.
//!
//! | module | holds |
//! | --- | --- |
//! | [`fingerprint`] | which rows were applied, in a few bytes a bucket of users |
//! | [`recompute`] | what an account must be answered with, from its rows alone and by none of the table's code |

pub mod fingerprint;
pub mod recompute;

pub use fingerprint::{BUCKETS, Fingerprint, bucket_of};
pub use recompute::Recomputed;
