//! Accounts, transactions, windows: pure arithmetic, as schemas/domain.md says. Knows neither I/O, nor the time of day, nor
//! threads.
//!
//! | module | holds |
//! | --- | --- |
//! | [`bucket`] | what an account remembers of an hour or a day |
//! | [`kind`] | the ten kinds: what each does to a balance, and what it counts as |
//! | [`transaction`] | one row of the ledger, and where it stands in its account's history |
//! | [`windows`] | hours, days, and which of them each window holds at a given time |

pub mod bucket;
pub mod kind;
pub mod transaction;
pub mod windows;

pub use bucket::{Bucket, BucketKey};
pub use kind::{Counting, Holdings, Kind, Overflow, UnknownKind};
pub use transaction::{Arrival, Transaction};
pub use windows::{Clocks, Horizon, Hour, Kept};
