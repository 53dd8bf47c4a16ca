//! Starts what keeps a node among others.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use florin_core::nodes::{Place, Topic};
use florin_kafka::group::Membership;
use florin_schema::MapNode;
use tokio::sync::mpsc;

use super::config;
use super::exchange::Exchange;
use super::keeper::{Keeper, Keeping};
use super::{GroupConfig, Nodes, NodesError, NodesStatus, group};
use crate::limits::NODES_QUEUED_MAX;
use crate::node::Node;
use crate::sources::Ledger;
use crate::threads::{Vital, spawn_vital};

/// See [`Nodes::join`].
#[allow(irrefutable_let_patterns, reason = "a build may know no other kind")]
pub(super) fn join(node: &mut Node, group_config: &GroupConfig) -> Result<Nodes, NodesError> {
    let Ledger::Kafka(ledger) = node.ledger() else { return Err(NodesError::NoPartitions) };
    let (address, identity) = (Arc::clone(ledger.address()), ledger.identity().clone());
    let following = ledger.share().cloned().ok_or(NodesError::NoPartitions)?;
    let place =
        config::place(group_config.advertise.as_ref(), node.addresses()).ok_or(NodesError::NoListener)?;
    let division = node.take_division().ok_or(NodesError::NoPartitions)?;
    let topic = Topic {
        partitioner: identity.partitioner,
        partitions: identity.partitions,
        standbys: group_config.standbys,
    };
    group_config.check_files()?;
    let membership = Membership::join(&address, &group_config.name, &place)?;
    let Place { host, port, tls_port } = place;
    let place = MapNode { id: node.identity().node, host, port, tls_port };
    let status = Arc::new(NodesStatus::new(group_config.name.clone(), group_config.standbys, place.id));
    let stop = Arc::new(AtomicBool::new(false));
    let (orders, ordered) = mpsc::unbounded_channel();
    let (told, heard) = mpsc::channel(NODES_QUEUED_MAX);
    let (letters, post) = mpsc::channel(NODES_QUEUED_MAX);
    let stopped = Arc::clone(&stop);
    // Not waited for at the end: brokers that are away may hold it up.
    spawn_vital(Vital::Group, move || group::run(&membership, ordered, &told, &stopped))?;
    let exchange = Exchange::new(group_config, letters);
    let (shards, keeper_status) = (node.shards().to_vec(), Arc::clone(&status));
    let keeping =
        Keeping { place, topic, following, division, shards, status: keeper_status, exchange, orders };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stopped = Arc::clone(&stop);
    let keeper = spawn_vital(Vital::Nodes, move || {
        runtime.block_on(Keeper::new(keeping).run(heard, post, stopped));
        // A name's look-up may hang on another thread: it is left to itself.
        runtime.shutdown_background();
    })?;
    Ok(Nodes { status, stop, keeper: Some(keeper) })
}
