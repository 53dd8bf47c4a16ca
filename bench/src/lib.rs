//! Measures servers: how fast, at which latency, at what cost, and how far from what this host could do at all.
//!
//! ```text
//!  cli ──▶ campaign: targets × loads × rounds, interleaved (A B B A …)          ramp: the knee of one target
//!            │                                                                    │
//!            ▼                                                                    ▼
//!          trial: one target under one load ────────────────────────────────▶ Trial {rate, latencies, CPU, …}
//!            │            │                      │                                │
//!            ▼            ▼                      ▼                                ▼
//!          targets      generator              sample                          report
//!          starts the   a thread a CPU, each   the server's CPU, memory,       JSON, HTML, Markdown, .hlog
//!          server,      its own io_uring and   switches from /proc
//!          pins, loads  connections
//!                         │          │
//!                         ▼          ▼
//!                       protocol   work: what is asked (mix, keys, arrivals)
//! ```
//!
//! While it measures, a generator's thread makes no system call but `io_uring_enter`, draws no keys (they
//! are drawn before), and checks every reply. `unsafe` lives in [`generator::sockets`] and nowhere else.

#![deny(unsafe_code)]

pub mod affinity;
pub mod callgrind;
pub mod campaign;
pub mod cli;
pub mod climb;
pub mod compare;
pub mod cost;
pub mod environment;
pub mod generator;
pub mod isolation;
pub mod limits;
pub mod memory;
pub mod protocol;
pub mod ramp;
pub mod report;
pub mod sample;
pub mod scale;
pub mod targets;
pub mod trial;
pub mod truth;
pub mod work;
