//! What the admin port shows of a node: its parts that never change, and the shards' counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::neighbours::Neighbours;
use crate::clock::Clock;
use crate::feed::{FeedState, FeedStatus};
use crate::node::{Addresses, ShardHandle};

/// A running node, seen from outside.
pub struct View {
    /// In the shards' order.
    pub shards: Vec<ShardHandle>,
    /// The node's clock: the shards' watermarks are on it.
    pub clock: Clock,
    /// How the shards talk to the kernel, by name.
    pub driver: String,
    /// Why they do not do it in a faster way, where this host does not permit one.
    pub driver_note: Option<String>,
    /// Where it listens.
    pub addresses: Addresses,
    /// What the feed does; none in a test without a feed.
    pub feed: Option<Arc<FeedStatus>>,
    /// From where on answers are UNAVAILABLE.
    pub max_staleness_ms: u32,
    /// Whether something else runs on the shards' cores.
    pub neighbours: Neighbours,
    draining: AtomicBool,
}

/// Whether callers should be sent here, and why not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Readiness {
    /// Every shard has loaded the ledger and follows it.
    pub ready: bool,
    /// How the shards talk to the kernel.
    pub driver: String,
    /// Why not in a faster way; left out where nothing faster was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_note: Option<String>,
    /// Why not; empty when ready.
    pub reasons: Vec<String>,
}

impl View {
    /// A view of shards that serve.
    pub fn new(shards: Vec<ShardHandle>, clock: Clock, driver: String) -> View {
        View {
            neighbours: Neighbours::new(shards.len()),
            shards,
            clock,
            driver,
            driver_note: None,
            addresses: Addresses::default(),
            feed: None,
            max_staleness_ms: u32::MAX,
            draining: AtomicBool::new(false),
        }
    }

    /// From now on the node is not ready, for it is about to end.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether it was told to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Asks every shard.
    pub fn readiness(&self) -> Readiness {
        let mut reasons = Vec::new();
        if self.is_draining() {
            reasons.push("the node is draining: it was told to end".to_owned());
        }
        match self.feed.as_ref().map(|feed| feed.state()) {
            Some(FeedState::Loading { thousandths: 1_000, to_repair: 1.. }) => {
                reasons.push("accounts whose history came incomplete are being read again".to_owned());
            }
            Some(FeedState::Loading { thousandths, .. }) => {
                let rows = self.feed.as_ref().map_or(0, |feed| feed.rows());
                let percent = thousandths / 10;
                reasons.push(format!("the ledger is being loaded: {rows} transactions so far, {percent} %"));
            }
            Some(FeedState::Failing { reason, .. }) => {
                reasons.push(format!("the ledger cannot be read: {reason}"));
            }
            Some(FeedState::Following) | None => {}
        }
        for (index, shard) in self.shards.iter().enumerate() {
            match self.lag_us(shard) {
                None => reasons.push(format!("shard {index} does not have the whole ledger yet")),
                Some(lag_us) if lag_us > u64::from(self.max_staleness_ms) * 1_000 => reasons.push(format!(
                    "shard {index} has not heard from the ledger for {} ms: the log says why",
                    lag_us / 1_000
                )),
                Some(_) => {}
            }
        }
        Readiness {
            ready: reasons.is_empty(),
            driver: self.driver.clone(),
            driver_note: self.driver_note.clone(),
            reasons,
        }
    }

    /// How far the shard's view is behind the clock; `None` before the first watermark.
    pub fn lag_us(&self, shard: &ShardHandle) -> Option<u64> {
        let taken_us = shard.watermark.load().1;
        (taken_us > 0).then(|| self.clock.monotonic_us().saturating_sub(taken_us))
    }
}
