//! Kafka's group, as far as nodes see it: who is a member, by its heartbeats, and what each is assigned.

use std::collections::{BTreeMap, BTreeSet};

use florin_schema::NodeId;

/// After so many turns without a heartbeat a member is none any more.
pub const SESSION_TURNS: u64 = 40;

/// See the module.
#[derive(Default)]
pub struct Group {
    /// When each was last heard.
    members: BTreeMap<NodeId, u64>,
    /// By partition.
    assigned: Vec<Option<NodeId>>,
}

impl Group {
    pub fn new(partitions: u32) -> Group {
        Group { members: BTreeMap::new(), assigned: vec![None; partitions as usize] }
    }

    pub fn heartbeat(&mut self, id: NodeId, now: u64) {
        if self.members.insert(id, now).is_none() {
            self.rebalance();
        }
    }

    pub fn leave(&mut self, id: NodeId) {
        if self.members.remove(&id).is_some() {
            self.rebalance();
        }
    }

    pub fn expire(&mut self, now: u64) {
        let before = self.members.len();
        self.members.retain(|_, heard| now - *heard <= SESSION_TURNS);
        if self.members.len() != before {
            self.rebalance();
        }
    }

    pub fn members(&self) -> BTreeSet<NodeId> {
        self.members.keys().copied().collect()
    }

    pub fn assigned_to(&self, id: NodeId) -> BTreeSet<u32> {
        let own = self.assigned.iter().zip(0..).filter(|(assigned, _)| **assigned == Some(id));
        own.map(|(_, partition)| partition).collect()
    }

    pub fn owner(&self, partition: u32) -> Option<NodeId> {
        self.assigned[partition as usize]
    }

    /// As the cooperative sticky assignor does: even shares, and as few partitions moved as that takes.
    fn rebalance(&mut self) {
        let Some(most) = self.assigned.len().checked_div(self.members.len()) else {
            self.assigned.fill(None);
            return;
        };
        let mut extra = self.assigned.len() % self.members.len();
        let mut shares: BTreeMap<NodeId, usize> = self.members.keys().map(|&id| (id, 0)).collect();
        for assigned in &mut self.assigned {
            let share = assigned.and_then(|id| shares.get_mut(&id));
            match share {
                Some(share) if *share < most => *share += 1,
                Some(share) if *share == most && extra > 0 => {
                    *share += 1;
                    extra -= 1;
                }
                _ => *assigned = None,
            }
        }
        for assigned in self.assigned.iter_mut().filter(|assigned| assigned.is_none()) {
            let (id, share) = shares.iter_mut().min_by_key(|(_, share)| **share).expect("there are members");
            *assigned = Some(*id);
            *share += 1;
        }
    }
}
