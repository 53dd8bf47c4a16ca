//! One node: what it holds, what it says, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use florin_core::nodes::{Agreement, Report, Standing, Topic, View};
use florin_schema::{MapNode, NodeId, NodeMap, UserId, Version};

use super::world::Log;

/// What a node answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// 0 where it has no record of the user.
    Version(Version),
    /// Not at the version that was asked for.
    Stale,
    Unavailable,
    NotOwner(u64),
}

/// What two nodes tell each other.
pub type News = (View, Option<Arc<NodeMap>>);

/// How far it has read a partition.
struct Held {
    position: usize,
    /// Until which turn it loads it.
    loads_until: u64,
    is_ready: bool,
}

/// See the module.
pub struct Node {
    pub place: MapNode,
    pub agreement: Agreement,
    /// Until which turn it stands still.
    pub frozen_until: u64,
    pub is_leaving: bool,
    /// Each partition that it holds.
    held: BTreeMap<u32, Held>,
    assigned: BTreeSet<u32>,
    number: u64,
    said: Option<Arc<Report>>,
}

impl Node {
    pub fn new(place: MapNode, topic: Topic, now_us: u64) -> Node {
        Node {
            place,
            agreement: Agreement::new(topic),
            frozen_until: 0,
            is_leaving: false,
            held: BTreeMap::new(),
            assigned: BTreeSet::new(),
            number: now_us,
            said: None,
        }
    }

    pub fn id(&self) -> NodeId {
        self.place.id
    }

    pub fn news(&self) -> News {
        (self.agreement.view().clone(), self.agreement.map().cloned())
    }

    /// The group's callback.
    pub fn assign(&mut self, assigned: BTreeSet<u32>) {
        self.assigned = assigned;
    }

    /// Reads on, `records` of each partition, and does what the map says. What it takes up is loaded for so many turns.
    pub fn follow(&mut self, log: &Log, records: usize, loads: u64, (now, now_us): (u64, u64)) {
        let kept: BTreeSet<u32> = self.agreement.kept_by(self.id()).into_iter().collect();
        self.held.retain(|partition, _| kept.contains(partition));
        for partition in kept {
            let taken_up = Held { position: 0, loads_until: now + loads, is_ready: false };
            let held = self.held.entry(partition).or_insert(taken_up);
            held.position = (held.position + records).min(log.end(partition));
            held.is_ready |= now >= held.loads_until && held.position == log.end(partition);
        }
        self.speak(now_us);
    }

    /// Says how it stands, where that has changed or others think that it is gone.
    fn speak(&mut self, now_us: u64) {
        let id = self.id();
        let map = self.agreement.map();
        let place = map.and_then(|map| map.nodes().iter().position(|node| node.id == id));
        let standing = |partition: u32, is_ready: bool| {
            let is_owner = || map.and_then(|map| map.owner(partition)).map(usize::from) == place;
            match is_ready {
                false => Standing::Loading,
                true if place.is_some() && is_owner() => Standing::Owning,
                true => Standing::Ready,
            }
        };
        let held = self.held.iter().map(|(&partition, held)| (partition, standing(partition, held.is_ready)));
        let held: BTreeMap<u32, Standing> = held.collect();
        let is_as_before = self.said.as_ref().is_some_and(|said| {
            (&said.held, &said.assigned, said.is_leaving) == (&held, &self.assigned, self.is_leaving)
        });
        if is_as_before && self.agreement.view().has(id) {
            return;
        }
        let number = self.agreement.view().next_number(id, self.number);
        let (node, assigned, is_leaving) = (self.place.clone(), self.assigned.clone(), self.is_leaving);
        let report = Arc::new(Report { node, number, is_leaving, assigned, held });
        self.said = Some(Arc::clone(&report));
        self.agreement.hear(report, now_us);
    }

    /// Whether it has nothing left that others do not have.
    pub fn may_end(&self) -> bool {
        self.is_leaving && self.held.is_empty()
    }

    pub fn is_ready(&self, partition: u32) -> bool {
        self.held.get(&partition).is_some_and(|held| held.is_ready)
    }

    pub fn position(&self, partition: u32) -> Option<usize> {
        self.held.get(&partition).map(|held| held.position)
    }

    pub fn holds(&self) -> impl Iterator<Item = u32> + '_ {
        self.held.keys().copied()
    }

    /// Answers about a user, with at least the version that was shown elsewhere.
    pub fn answer(&self, log: &Log, user: UserId, floor: Version) -> Reply {
        let partition = log.partition_of(user);
        match self.held.get(&partition) {
            None => Reply::NotOwner(self.agreement.map().map_or(0, |map| map.epoch)),
            Some(Held { is_ready: false, .. }) => Reply::Unavailable,
            Some(&Held { position, .. }) => {
                let version = log.version(user, position);
                if version < floor { Reply::Stale } else { Reply::Version(version) }
            }
        }
    }
}
