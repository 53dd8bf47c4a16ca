//! The suite on glommio.

use florin::drivers::DriverChoice;

const DRIVER: DriverChoice = DriverChoice::Glommio;
/// Idle connections that are tried.
const IDLE: usize = 5_000;
/// Of this process: the caller's end and the node's.
const FILES_PER_CONNECTION: u64 = 2;
/// What an idle connection may cost of the process's memory.
const IDLE_BYTES_MAX: u64 = 4_096;

#[path = "callers.rs"]
mod callers;
#[path = "cut.rs"]
mod cut;
#[path = "ending.rs"]
mod ending;
#[path = "exhaustion.rs"]
mod exhaustion;
#[path = "serving.rs"]
mod serving;
#[path = "support.rs"]
mod support;
