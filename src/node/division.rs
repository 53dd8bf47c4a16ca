//! The way to a node's shards for whoever knows which partitions the node has.

use std::sync::Arc;

use super::Control;
use crate::{
    limits::HOLDINGS_QUEUED_MAX,
    orders::Port,
    shard::{Holdings, HoldingsLink, NodesNews, NodesText, ShardSetup, holdings_link},
};

/// The way to each shard. Until something is told, none of them answers about a user.
#[derive(Debug)]
pub struct Division {
    shards: Vec<Port<NodesNews, ()>>,
}

impl Division {
    /// Tells the shards what the node has from now on. Each answers by it from its next turn on: false where one stands still and has
    /// not taken over what it was told before, so that it is to be told again.
    pub fn tell(&mut self, holdings: Holdings) -> bool {
        self.tell_all(&NodesNews::Holdings(Arc::new(holdings)))
    }

    /// Gives the shards what whoever asks for the nodes is answered from now on; see [`Division::tell`].
    pub fn show(&mut self, nodes: Arc<NodesText>) -> bool {
        self.tell_all(&NodesNews::Told(nodes))
    }

    /// Whether each shard answers by what it was told last.
    pub fn is_taken_over(&mut self) -> bool {
        self.hear();
        self.shards.iter().all(|shard| shard.unanswered() == 0)
    }

    fn tell_all(&mut self, news: &NodesNews) -> bool {
        self.hear();
        // Each is told, also behind one that stands still.
        let told = self
            .shards
            .iter_mut()
            .map(|shard| shard.unanswered() < HOLDINGS_QUEUED_MAX && shard.try_order(news.clone()).is_ok());
        told.fold(true, |all, is_told| all & is_told)
    }

    fn hear(&mut self) {
        for shard in &mut self.shards {
            while shard.answer().is_some() {}
        }
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
