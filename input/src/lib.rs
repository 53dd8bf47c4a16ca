//! Rules for what comes from outside, which the server, the shadow and the tuner share.
//!
//! | module | holds |
//! | --- | --- |
//! | `names` | reads JSON and TOML: a struct only by the names of its fields |
//! | `file` | reads a file that somebody has named: bounded in bytes and in time, and a secret only where nobody else can |
//! | [`origin`] | who may give a command over HTTP: no web page |
//! | [`kernel`] | which kernel a host has, from what its release says |
//! | `connections` | of an admin port: bounded in number and in silence (feature `port`) |
//! | `limits` | what of that is the same everywhere |

#![forbid(unsafe_code)]

#[cfg(feature = "port")]
pub mod connections;
mod file;
pub mod kernel;
#[cfg(feature = "port")]
mod limits;
mod names;
pub mod origin;

pub use file::{is_own_alone, is_secret_kept, open, read_secret, read_secret_text, read_text, read_trusted};
pub use names::{by_names, json};
