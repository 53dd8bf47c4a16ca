//! Callers by TLS.

mod callers;
mod hostile;
mod identity;
mod serving;
mod support;
