//! The suite on the ring driver.

use florin::drivers::DriverChoice;

const DRIVER: DriverChoice = DriverChoice::Ring;
/// Idle connections that are tried.
const IDLE: usize = 10_000;
/// Of this process: the caller's end, for the node's is in the ring's own table.
const FILES_PER_CONNECTION: u64 = 1;
/// What an idle connection may cost of the process's memory.
const IDLE_BYTES_MAX: u64 = 2_048;

#[path = "callers.rs"]
mod callers;
#[path = "catching_up.rs"]
mod catching_up;
#[path = "cut.rs"]
mod cut;
#[path = "ending.rs"]
mod ending;
#[path = "exhaustion.rs"]
mod exhaustion;
#[path = "quiet.rs"]
mod quiet;
#[path = "refusals.rs"]
mod refusals;
#[path = "serving.rs"]
mod serving;
#[path = "short_ring.rs"]
mod short_ring;
#[path = "slices.rs"]
mod slices;
#[path = "spinning.rs"]
mod spinning;
#[path = "support.rs"]
pub mod support;
#[path = "tls/mod.rs"]
mod tls;
