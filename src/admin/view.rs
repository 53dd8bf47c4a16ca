//! What the admin port shows of a node: its parts that never change, and the shards' counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::looks::Looks;
use super::neighbours::Neighbours;
use crate::auditor::AuditHandle;
use crate::callers::Callers;
use crate::checkpoints::MakerHandle;
use crate::clock::Clock;
use crate::feed::FeedStatus;
use crate::node::{Addresses, Obstacle, ShardHandle, TlsHandle, readiness};
use crate::nodes::NodesStatus;

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
    /// Who makes checkpoints, where any are made.
    pub checkpoints: Option<MakerHandle>,
    /// Who may ask what; none = everybody everything.
    pub callers: Option<Callers>,
    /// Callers by TLS, where there may be any.
    pub tls: Option<TlsHandle>,
    /// What compares the node with its ledger, where that is done.
    pub audit: Option<AuditHandle>,
    /// Those that the users are divided with, where they are.
    pub nodes: Option<Arc<NodesStatus>>,
    /// From where on answers are UNAVAILABLE.
    pub max_staleness_ms: u32,
    /// Whether something else runs on the shards' cores.
    pub neighbours: Neighbours,
    /// The ways to each shard's users; none in a test without shards.
    pub looks: Looks,
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
    /// Why a checkpoint that was there was not loaded; left out where none was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_note: Option<String>,
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
            checkpoints: None,
            callers: None,
            tls: None,
            audit: None,
            nodes: None,
            max_staleness_ms: u32::MAX,
            looks: Looks::default(),
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

    /// Asks every shard why the node is not to be sent requests; nothing where it is ready.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let (is_draining, feed) = (self.is_draining(), self.feed.as_deref());
        let mut found =
            readiness::obstacles(is_draining, feed, &self.shards, &self.clock, self.max_staleness_ms);
        found.extend(self.nodes.iter().flat_map(|nodes| nodes.obstacles()));
        found
    }

    /// The same in sentences, and what else a caller should know.
    pub fn readiness(&self) -> Readiness {
        let reasons: Vec<String> = self.obstacles().iter().map(Obstacle::to_string).collect();
        Readiness {
            ready: reasons.is_empty(),
            driver: self.driver.clone(),
            driver_note: self.driver_note.clone(),
            checkpoint_note: self.checkpoints.as_ref().and_then(|maker| maker.status().refused()),
            reasons,
        }
    }
}
