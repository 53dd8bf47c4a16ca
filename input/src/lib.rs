//! Rules for what comes from outside, which the server, the shadow and the tuner share.
//!
//! | module | holds |
//! | --- | --- |
//! | `names` | reads JSON and TOML: a struct only by the names of its fields |
//! | [`origin`] | who may give a command over HTTP: no web page |

#![forbid(unsafe_code)]

mod names;
pub mod origin;

pub use names::{by_names, json};
