//! Transport by TLS 1.3, as far as it knows no socket: what a node shows and whom it trusts ([`identity`]), the names in a caller's
//! certificate ([`names`]), a private authority ([`authority`]), a connection's encryption between bytes and bytes ([`session`]), and what is counted ([`tally`]).
//!
//! Handshakes happen on threads of the control plane (`drivers::handshakes`); a shard gets connections that are done with theirs.

pub mod authority;
pub mod identity;
pub mod names;
pub mod session;
pub mod tally;

pub use identity::{Identities, Identity, TlsError, TlsFiles};
pub use names::CertificateNames;
pub use session::{Heard, Session, SessionError};
pub use tally::TlsTally;
