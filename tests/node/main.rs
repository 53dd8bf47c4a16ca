//! Whole nodes on real sockets: what the driver and the assembly promise, whatever the requests mean. One suite, on every
//! driver.
#![allow(clippy::duplicate_mod, reason = "the suite's files are loaded once for each driver")]

mod on_epoll;
mod on_glommio;
mod on_monoio;
mod on_ring;
