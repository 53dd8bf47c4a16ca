//! Florin: balance and transaction-statistics reads from memory, one pinned shard per vCPU.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod admin;
pub mod cli;
pub mod clock;
pub mod drivers;
pub mod feed;
pub mod ledger;
pub mod limits;
pub mod mesh;
pub mod node;
pub mod shard;
pub mod store;
pub mod wire;
