//! Between threads: bounded rings with one producer and one consumer each, the parking flag that says whether a
//! consumer must be woken, and a cell that holds the latest of two words. It never knows what the messages mean.
//!
//! ```text
//!     producer                                   consumer
//!     push ──▶ ring ──────────────────────────▶  pop … until it is empty
//!     Parking::notify ── true? wake it          Parking::announce, look once more, sleep, Parking::cancel
//! ```
//!
//! This module imports nothing of the crate, so that `tests/loom` can compile the same sources against loom and
//! try every interleaving: `cargo test --workspace` runs that too, in seconds.

mod latest;
mod parking;
mod ring;
mod sync;

pub use latest::Latest;
pub use parking::Parking;
pub use ring::{Receiver, Sender, ring};
