//! Florin: balance and transaction-statistics reads from memory, one pinned shard per vCPU.
//!
//! ```text
//!     ledger ──▶ feed ──┬─ rows, watermarks (SPSC rings) ─┬────────────────┐      admin: health, metrics, writes
//!                       ▼                                 ▼                ▼
//!     callers ──▶ shard 0 ◀────────── mesh ─────────▶ shard 1 ◀── … ──▶ shard N       one pinned thread each
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`limits`], [`clock`] | every bound and its reason; the time |
//! | [`ledger`], [`wire`], [`shard`] | pure: money and windows; bytes and requests; the table and what a turn does |
//! | [`mesh`] | rings between threads |
//! | [`sources`], [`feed`] | the kinds of ledgers; the thread that loads and follows one |
//! | [`tls`] | transport by TLS, as far as it knows no socket |
//! | [`checkpoints`], [`auditor`] | what the shards hold, on the disk; and compared with the ledger, again and again |
//! | [`drivers`] | sockets and completions: the io_uring loop |
//! | [`callers`] | who may ask what, and how each proves who it is |
//! | [`node`] | all of it, assembled |
//! | [`nodes`] | the others, where several divide the users among them |
//! | [`profiler`] | where this process spends its CPU time, seen from outside its threads |
//! | [`admin`], [`cli`] | the control plane; the `florin` command |
//!
//! ARCHITECTURE.md says what each of them never does, and `tests/layering.rs` holds them to it.
#![deny(unsafe_op_in_unsafe_fn)]

pub use florin_core::{audit, checkpoint, follower, ledger, limits, mesh, shard, wire};

pub mod admin;
pub mod auditor;
pub mod callers;
pub mod checkpoints;
pub mod cli;
pub mod clock;
pub mod drivers;
pub mod feed;
pub mod node;
pub mod nodes;
mod numbers;
pub mod orders;
pub mod profiler;
pub mod sources;
pub mod threads;
pub mod tls;
