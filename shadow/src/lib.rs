//! Florin's shadow: a proxy on the callers' path that asks a candidate everything that the primary is asked, compares
//! what they say, and, when it is the same, moves callers over.
//!
//! ```text
//!     callers ──▶ proxy ──▶ primary            the callers' path: bytes pass as they are, and nothing behind it is waited for
//!                  │ copies of requests and answers
//!                  ▼ bounded queue
//!                mirror ──▶ candidate          asks, asks the older side again, never a write
//!                  │ both answers
//!                  ▼
//!                judge                         pure: same version, same content?
//!                  │ verdicts
//!                  ▼
//!                evidence ──▶ admin port, metrics, report
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`address`] | who is asked, and how |
//! | [`request`], [`answer`], [`json`] | what is asked, and what is answered, in HTTP or native frames: one model of both |
//! | [`judge`] | pure: two answers in, a verdict out |
//! | [`proxy`] | the callers' path |
//! | [`mirror`] | the way to the candidate |
//! | [`evidence`] | counts, findings, reports |
//! | [`record`], [`replay`] | traffic in files, and replaying it |
//! | [`cutover`] | the share of callers that the candidate serves |
//! | [`config`], [`limits`] | rules and budgets; every bound and its reason |
//! | [`credentials`] | what of a request may prove who asks, and what of it is written down |
//! | `files` | files that only their owner may read |
//! | `budget` | the memory that all copies of what passes share |
//! | [`run`], [`admin`] | all of it, assembled |

#![forbid(unsafe_code)]

pub mod address;
pub mod admin;
pub mod answer;
mod budget;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod cutover;
pub mod evidence;
mod files;
pub mod json;
pub mod judge;
pub mod limits;
pub mod mirror;
pub mod proxy;
pub mod record;
pub mod replay;
pub mod request;
pub mod run;
