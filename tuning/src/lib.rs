//! `florin tune`: looks at a host, says what is wrong with it for florin, plans who runs where, sets it so, reads it
//! back, watches that it holds, and undoes it.
//!
//! | room | holds |
//! | --- | --- |
//! | [`numbers`](numbers()) | lists of CPUs and nodes |
//! | [`host`] | facts from sysfs and procfs below a root, live or recorded, and what they mean |
//! | [`knobs`] | the knobs and the files with one right value |
//! | [`checks`] | what holds on a host and what does not |
//! | [`plan`] | placement, a pure function of host and request; settings; the plan as text, shell, JSON, systemd |
//! | [`show`] | the picture, for a terminal and as SVG |
//! | [`apply`] | the journal, writing, reading back, verifying, undoing |
//! | [`cli`] | the subcommands |

pub mod apply;
pub mod checks;
pub mod cli;
pub mod host;
pub mod knobs;
mod limits;
mod numbers;
pub mod plan;
pub mod show;

pub use cli::{TuneCommand, TuneError, drifts, run};
pub use numbers::numbers;
