//! Whole nodes on real sockets: what the driver and the assembly promise, whatever the requests mean.

mod ending;
mod exhaustion;
mod quiet;
mod refusals;
mod serving;
mod support;
