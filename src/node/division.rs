//! The way to a node's shards for whoever knows which partitions the node has.

use std::sync::Arc;

use super::Control;
use crate::{
    orders::Port,
    shard::{Holdings, HoldingsLink, ShardSetup, holdings_link},
};

/// The way to each shard. Until something is told, none of them answers about a user.
#[derive(Debug)]
pub struct Division {
    shards: Vec<Port<Arc<Holdings>, ()>>,
}

impl Division {
    /// Tells the shards what the node has from now on. Each answers by it from its next turn on: false where one stands still and has
    /// not taken over what it was told before, so that it is to be told again.
    pub fn tell(&mut self, holdings: Holdings) -> bool {
        let holdings = Arc::new(holdings);
        // Each is told, also behind one that stands still.
        let told = self.shards.iter_mut().map(|shard| shard.tell(Arc::clone(&holdings)).is_ok());
        told.fold(true, |all, is_told| all & is_told)
    }
}

/// Links the control plane to each shard, where the node divides users with others; in their order, the shards' sides.
pub(super) fn wire_up(
    divides: bool,
    setups: &[ShardSetup],
    control: &Control,
) -> (Option<Division>, Vec<Option<HoldingsLink>>) {
    if !divides {
        return (None, setups.iter().map(|_| None).collect());
    }
    let link = |setup: &ShardSetup| {
        let (port, link) = holdings_link();
        (Port::new(port, Arc::clone(&setup.parking), control.waking(setup.index)), Some(link))
    };
    let (shards, links) = setups.iter().map(link).unzip();
    (Some(Division { shards }), links)
}
