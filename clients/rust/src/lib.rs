#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! | module | holds |
//! | --- | --- |
//! | `client` | [`Client`]: the calls and their deadlines |
//! | `asking` | one call: whom it asks, one after the other, until there is an answer |
//! | `fleet` | the nodes, and which of them is asked for a user |
//! | `routes` | the order in which nodes are asked for a user, and what follows when one does not answer |
//! | `heard` | the latest map of partitions |
//! | `seen` | what has been shown of each user, so that no other node shows less |
//! | `builder` | [`Builder`]: the settings |
//! | `batch` | the split and the joining of `get_balances` |
//! | `hedge` | [`Hedge`]: when a second request is sent, and how many there may be |
//! | `hooks`, `counters` | [`Hooks`], [`Counters`], [`NodePool`]: what a client tells of itself |
//! | `topology` | which connection a request takes; the shard map |
//! | `connection` | one connection: callers' table, writer, reader, reconnecting |
//! | `tls` | [`Tls`]: whom a node must be, and who the caller is |
//! | `request`, `reply` | frames out, validated archives in |
//! | `fuzzed` | what a server may say, read for `fuzz/` |
//! | `error` | [`Error`], one variant for each way to fail |

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod address;
mod asking;
mod batch;
mod builder;
mod client;
mod connection;
mod counters;
mod error;
mod fleet;
#[doc(hidden)]
pub mod fuzzed;
#[cfg(test)]
mod golden;
mod heard;
mod hedge;
mod hooks;
mod limits;
mod reply;
mod request;
mod routes;
mod seen;
mod tls;
mod topology;

pub use address::{Address, AddressError, Addresses};
pub use batch::{BalancesReply, Entry};
pub use builder::{Backoff, Builder, Retry, Routing};
pub use client::Client;
pub use counters::{Counters, NodePool};
pub use error::{Disconnect, Error, ProtocolError, Refusal};
pub use florin_schema::records;
pub use florin_schema::{
    Asset, AssetError, LedgerId, NodeId, ShardIndex, Status, UserId, Version, Window, WindowMask, decimal,
};
pub use hedge::Hedge;
pub use hooks::{ConnectInfo, HedgeInfo, Hooks, Outcome, RequestHooks, RequestInfo, RetryInfo};
pub use reply::{Origin, Reply};
pub use request::Freshness;
pub use tls::{Connector, Tls, TlsError, TlsFailure};
