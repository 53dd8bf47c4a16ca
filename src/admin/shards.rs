//! `GET /v1/shards`: where each shard runs and how far it is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::threads::{self, Scheduled, Thread};
use super::view::View;
use crate::node::ShardHandle;
use crate::shard::metrics::{Part, Work};

/// The node's shard map, for operators and for tools.
#[derive(Serialize)]
pub(super) struct ShardMap {
    version: &'static str,
    driver: String,
    listen: Option<String>,
    unix: Option<String>,
    shards: Vec<Shard>,
    /// All threads of the process, shards' and others'.
    threads: Vec<Thread>,
}

#[derive(Serialize)]
struct Shard {
    index: usize,
    /// The CPU that it is pinned to.
    cpu: usize,
    /// The CPU that it ran on last: the same, unless somebody has moved it.
    runs_on: Option<usize>,
    thread_id: u32,
    listen: Option<String>,
    accounts: u64,
    /// Bytes of the table, by what they are taken up by.
    memory: BTreeMap<&'static str, u64>,
    /// The longest turns since the start, µs, by what they did besides answering.
    longest_turn_us: BTreeMap<&'static str, u64>,
    connections: u64,
    quarantined: u64,
    as_of: Option<String>,
    lag_ms: Option<f64>,
}

/// Reads it off the counters.
pub(super) fn map(view: &View) -> ShardMap {
    let shard = |(index, shard): (usize, &ShardHandle)| {
        let lag_us = shard.lag_us(&view.clock);
        Shard {
            index,
            cpu: shard.cpu,
            runs_on: Scheduled::of(shard.thread_id).runs_on,
            thread_id: shard.thread_id,
            listen: view.addresses.shard_listen.get(index).map(ToString::to_string),
            accounts: shard.metrics.accounts.get(),
            memory: Part::ALL
                .iter()
                .zip(&shard.metrics.table_parts)
                .map(|(part, bytes)| (part.name(), bytes.get()))
                .collect(),
            longest_turn_us: Work::ALL
                .iter()
                .zip(&shard.metrics.turns_with)
                .map(|(work, turns)| (work.name(), turns.max_us.get()))
                .collect(),
            connections: shard.metrics.connections.get(),
            quarantined: shard.metrics.quarantined.get(),
            as_of: lag_us.and_then(|_| rfc3339(shard.watermark.load().0)),
            lag_ms: lag_us.map(|us| us as f64 / 1_000.0),
        }
    };
    ShardMap {
        version: env!("CARGO_PKG_VERSION"),
        driver: view.driver.clone(),
        listen: view.addresses.listen.map(|address| address.to_string()),
        unix: view.addresses.unix.as_ref().map(|path| path.display().to_string()),
        shards: view.shards.iter().enumerate().map(shard).collect(),
        threads: threads::all(),
    }
}

fn rfc3339(us: i64) -> Option<String> {
    Some(format!("{:.6}", Timestamp::from_microsecond(us).ok()?))
}
