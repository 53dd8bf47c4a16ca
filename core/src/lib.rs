//! What florin answers and how, without anything that could make an answer depend on the machine: no sockets, files, threads
//! or clocks. The crate is `no_std`, so the compiler holds that wall, and one seed runs a whole node in a simulator.
//!
//! ```text
//!     wire: bytes ─▶ request ─▶ shard: table, freshness, forwarding ─▶ reply ─▶ wire: bytes
//!                                 ▲  rows, watermarks   ▲  other shards' questions and answers
//!                                 └──────── mesh: rings between threads ────────┘
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`limits`] | every bound and its reason |
//! | [`clock`] | the time, as it is handed down |
//! | [`ledger`] | money and windows |
//! | [`audit`] | which rows were applied, and what they must amount to |
//! | [`checkpoint`] | the state of all accounts as bytes |
//! | [`wire`] | bytes and requests |
//! | [`mesh`] | rings between threads |
//! | [`shard`] | the table, and what a turn does |
//! | [`nodes`] | which node has which partition, where several divide a ledger's users among them |
//! | [`follower`] | what a ledger's rows become: routed, settled, published |
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_op_in_unsafe_fn)]

extern crate alloc;

pub mod audit;
pub mod checkpoint;
pub mod clock;
pub mod follower;
pub mod ledger;
pub mod limits;
pub mod mesh;
pub mod nodes;
pub mod shard;
pub mod wire;
