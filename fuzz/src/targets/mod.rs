//! What must hold of any input. `fuzz_targets` looks for counterexamples without end; `tests/decoders.rs` of the main
//! package tries some in every run of the tests.

mod encrypted;
mod feeds;
mod files;
mod nodes;
mod requests;

pub use encrypted::{handshake, sealed};
pub use feeds::{group, kafka, pgoutput, position};
pub use files::{checkpoint, config, csv, recording};
pub use nodes::{admin, client, nodes, shadow};
pub use requests::{cuts, frame, http, resp, session};
