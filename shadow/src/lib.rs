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
//! | `address` | who is asked, and how |
//! | `request`, `answer`, `json` | what is asked, and what is answered, in HTTP or native frames: one model of both |
//! | `judge` | pure: two answers in, a verdict out |
//! | `proxy` | the callers' path |
//! | `targets` | a side that can be asked |
//! | `mirror` | the way to the candidate |
//! | `evidence` | counts, findings, reports |
//! | `record`, `replay` | traffic in files, and replaying it |
//! | `cutover` | the share of callers that the candidate serves |
//! | `config`, `limits` | rules and budgets; every bound and its reason |
//! | `credentials` | what of a request may prove who asks, and what of it is written down |
//! | `named` | enums whose variants reports know by names |
//! | `files` | files that only their owner may read |
//! | `generations` | a map that forgets whom nobody has spoken of for long |
//! | `budget` | the memory that all copies of what passes share |
//! | `run`, `admin` | all of it, assembled |

#![forbid(unsafe_code)]

#[macro_use]
mod named;

mod address;
mod admin;
mod answer;
mod budget;
mod clock;
mod config;
mod credentials;
mod cutover;
mod evidence;
mod files;
#[doc(hidden)]
pub mod fuzzed;
mod generations;
mod json;
mod judge;
mod limits;
mod mirror;
mod proxy;
mod record;
mod replay;
mod request;
mod run;
mod targets;

pub use address::TargetAddress;
pub use clock::begin_at;
pub use config::{Config, ConfigError};
pub use cutover::{CutoverError, Share, ShareError};
pub use evidence::{Redaction, Summary};
pub use judge::Verdict;
pub use limits::{RECORD_FILE_BYTES, RECORD_FILES};
/// For `fuzz/`.
#[doc(hidden)]
pub use record::read as read_recording;
pub use record::{Defect, FormatError, RecordSettings, RecorderError};
pub use replay::{ReplaySettings, Speed};
pub use run::{Outcome, Settings, Shadow, ShadowError, run_replay};
