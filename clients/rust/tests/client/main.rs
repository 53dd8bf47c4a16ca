//! The client against servers that say what they are told, one subject a file; [`fake`] is the server.

mod calls;
mod connections;
mod fake;
mod hedging;
mod hooks;
mod hostile;
mod opentelemetry;
mod partitions;
mod replicas;
mod tls;
mod trouble;
