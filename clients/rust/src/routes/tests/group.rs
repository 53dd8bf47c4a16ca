//! Kafka's group, as far as nodes see it: who is a member, by its heartbeats, and what each is assigned. It knows members by their
//! places (static membership): a life that follows another there has what that one had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use florin_core::nodes::{Described, Place};

/// After so many turns without a heartbeat a member is none any more.
pub const SESSION_TURNS: u64 = 40;

/// See the module.
#[derive(Clone, Default)]
pub struct Group {
    /// When each was last heard.
    members: BTreeMap<Place, u64>,
    /// By partition.
    assigned: Vec<Option<Place>>,
    described: Arc<Described>,
}

impl Group {
    pub fn new(partitions: u32) -> Group {
        Group { assigned: vec![None; partitions as usize], ..Group::default() }
    }

    pub fn heartbeat(&mut self, place: &Place, now: u64) {
        if let Some(heard) = self.members.get_mut(place) {
            *heard = now;
        } else {
            self.members.insert(place.clone(), now);
            self.rebalance();
        }
    }

    pub fn leave(&mut self, place: &Place) {
        if self.members.remove(place).is_some() {
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

    /// Who is there, and what each is assigned.
    pub fn described(&self) -> Arc<Described> {
        Arc::clone(&self.described)
    }

    fn describe(&self) -> Described {
        let mut described: Described =
            self.members.keys().map(|place| (place.clone(), BTreeSet::new())).collect();
        for (place, partition) in self.assigned.iter().zip(0..) {
            if let Some(assigned) = place.as_ref().and_then(|place| described.get_mut(place)) {
                assigned.insert(partition);
            }
        }
        described
    }

    pub fn has(&self, place: &Place) -> bool {
        self.members.contains_key(place)
    }

    pub fn owner(&self, partition: u32) -> Option<&Place> {
        self.assigned[partition as usize].as_ref()
    }

    fn rebalance(&mut self) {
        self.assign();
        self.described = Arc::new(self.describe());
    }

    /// As the cooperative sticky assignor does: even shares, and as few partitions moved as that takes.
    fn assign(&mut self) {
        let Some(most) = self.assigned.len().checked_div(self.members.len()) else {
            self.assigned.fill(None);
            return;
        };
        let mut extra = self.assigned.len() % self.members.len();
        let mut shares: BTreeMap<&Place, usize> = self.members.keys().map(|place| (place, 0)).collect();
        for assigned in &mut self.assigned {
            let share = assigned.as_ref().and_then(|place| shares.get_mut(place));
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
            let (place, share) =
                shares.iter_mut().min_by_key(|(_, share)| **share).expect("there are members");
            *assigned = Some((*place).clone());
            *share += 1;
        }
    }
}
