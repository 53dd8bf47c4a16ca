//! Callers by TLS.

mod hostile;
mod identity;
mod serving;
mod support;
