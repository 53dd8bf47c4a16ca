//! Callers: who may ask what, read from one file; how each proves that it is who it says; and what is written down of those who were
//! refused.
//!
//! | module | holds |
//! | --- | --- |
//! | `file` | `principals.toml` → entries, or everything that is wrong with it |
//! | `directory` | entries → whose proof this is, asked by shards and by the admin port |
//! | `token` | tokens: random ones, known by their hash, and signed ones, which say when they end |
//! | `secret` | where secrets come from: files, the environment, systemd's credentials |
//! | `audit_log` | who was refused, and who did what only few may do, as JSON lines |
//! | `keeper` | the directory that holds, for all shards; SIGHUP brings another |
//!
//! A token's check takes the same time whoever's it is and however much of it is right. No secret is in any message of this module.

mod audit_log;
mod directory;
mod file;
mod keeper;
mod secret;
mod token;

pub use audit_log::{AuditLog, Deed, Refusals};
pub use directory::Directory;
pub use file::{Entry, FileError, Principals};
pub use keeper::{Callers, CallersError};
pub use secret::{Secret, SecretError, SecretSource};
pub use token::{SigningKey, Token, TokenHash, sign};
