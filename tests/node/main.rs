//! Whole nodes on real sockets: what the driver and the assembly promise, whatever the requests mean. One suite, on every
//! driver.
#![allow(clippy::duplicate_mod, reason = "the suite's files are loaded once for each driver")]

#[cfg(feature = "monoio")]
mod handed_over;
#[cfg(feature = "monoio")]
mod on_epoll;
#[cfg(feature = "glommio")]
mod on_glommio;
#[cfg(feature = "monoio")]
mod on_monoio;
mod on_ring;
