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
    /// Whether some shards were told what others were not.
    is_split: bool,
}

impl Division {
    /// Tells the shards what the node has from now on. Each answers by it from its next turn on: false where one stands still and has
    /// not taken over what it was told before, so that it is to be told again.
    pub fn tell(&mut self, holdings: Holdings) -> bool {
        self.is_split = !self.tell_all(&NodesNews::Holdings(Arc::new(holdings)));
        !self.is_split
    }

    /// Whether every shard was told what was told last.
    pub fn is_told(&self) -> bool {
        !self.is_split
    }

    /// Gives the shards what whoever asks for the nodes is answered from now on; see [`Division::tell`].
    pub fn show(&mut self, nodes: Arc<NodesText>) -> bool {
        self.tell_all(&NodesNews::Told(nodes))
    }

    /// Whether each shard answers by what it was told last.
    pub fn is_taken_over(&mut self) -> bool {
        self.hear();
        self.is_told() && self.shards.iter().all(|shard| shard.unanswered() == 0)
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
    (Some(Division { shards, is_split: false }), links)
}

#[cfg(test)]
mod tests {
    use florin_schema::{NodeMap, Partitioner};

    use super::*;
    use crate::clock::Now;
    use crate::follower::link;
    use crate::mesh::Parking;
    use crate::shard::{Hold, Shard};

    fn holdings() -> Holdings {
        let mut map = NodeMap::new(1, Partitioner::Murmur2, vec![], 1);
        map.push(None, []);
        Holdings::new(map, vec![Hold::No])
    }

    /// Of two shards one stands still and has no room for what the other is told: by that nobody may go, also once both have taken over
    /// what they were told, and before both were told the same.
    #[test]
    fn what_only_some_shards_were_told_is_told_again_before_it_counts() {
        let (shards, mut both): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (port, link_of_holdings) = holdings_link();
                let parking = Arc::new(Parking::new());
                let (_, feed) = link(Arc::clone(&parking), Arc::new(|| {}));
                let shard = Shard::new(ShardSetup::alone(Arc::clone(&parking), feed));
                (Port::new(port, parking, Arc::new(|| {})), shard.with_holdings(link_of_holdings))
            })
            .unzip();
        let mut division = Division { shards, is_split: false };
        let turn = |shard: &mut Shard| shard.begin_turn(Now { wall_us: 0, monotonic_us: 1 });
        for _ in 0..HOLDINGS_QUEUED_MAX {
            assert!(division.tell(holdings()), "there is room");
            turn(&mut both[0]);
        }
        assert!(!division.is_taken_over(), "the second has taken over nothing");
        assert!(!division.tell(holdings()), "and has no room");
        both.iter_mut().for_each(turn);
        assert!(!division.is_told() && !division.is_taken_over(), "they go by different news");
        assert!(division.tell(holdings()) && division.is_told() && !division.is_taken_over());
        both.iter_mut().for_each(turn);
        assert!(division.is_taken_over());
    }
}
