//! The built `florin` command, as a user runs it: what it prints, what it answers, and what it ends with.

mod admitted;
#[cfg(all(feature = "monoio", feature = "glommio"))]
mod audit;
mod blocks;
mod browser;
mod checkpoints;
mod console;
#[cfg(all(
    feature = "monoio",
    feature = "glommio",
    feature = "kafka",
    feature = "postgres",
    feature = "sqlite",
    debug_assertions
))]
mod deaths;
#[cfg(feature = "postgres")]
mod documented;
mod followed;
mod forbidden;
mod frozen;
mod history;
mod hostile;
#[cfg(feature = "kafka")]
mod kafka;
mod languages;
#[cfg(feature = "postgres")]
mod ledgers;
mod logs;
mod migrated;
mod named;
mod network;
#[cfg(feature = "kafka")]
mod nodes;
mod offline;
mod operated;
mod pages;
#[cfg(feature = "postgres")]
#[path = "../../sources/postgres/tests/live/server.rs"]
#[allow(dead_code)]
mod postgres;
mod principals;
mod profile;
mod reached;
mod rotated;
mod secrets;
mod secure;
mod secured;
mod serving;
mod support;
mod tls;
mod top;
mod vanished;
