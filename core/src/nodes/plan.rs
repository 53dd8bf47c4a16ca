//! Who owns, stands by and keeps a partition: a pure function of what is known.
//!
//! Nodes only read, so that several may hold a partition; and nobody lets go of one before whoever should have it has caught up.
//! Who is assigned a partition owns it once it has caught up; until then whoever has owned it goes on, or, where that one is
//! gone, somebody who stands by.
//!
//! Two who know different things could each let go because the other has it. So whoever finds that it is the owner claims it, by a
//! number above all claims that it knows, and lets go only once it knows of a higher one than its own. Who has made the highest claim of
//! all knows of none: it has the partition, whatever the others know.

use alloc::vec;
use alloc::vec::Vec;

use florin_schema::ids::mix;
use florin_schema::{MapNode, NodeId, NodeMap, Partitioner};

use super::planted::Planted;
use super::view::{Standing, View};

/// What is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topic {
    /// By which keys find their partitions.
    pub partitioner: Partitioner,
    /// How many there are.
    pub partitions: u32,
    /// How many nodes follow each beside its owner; below [`crate::limits::HOLDERS_MAX`].
    pub standbys: usize,
}

/// What follows from a view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Who answers, with the epoch 0.
    pub map: NodeMap,
    /// What the map says, as a number.
    pub digest: u64,
    /// For each partition the places of those who hold it, or begin to.
    keepers: Vec<Vec<u16>>,
    /// For each partition the highest claim, and whose it is.
    claims: Vec<Option<(u64, u16)>>,
}

/// What a node has to do with one partition.
#[derive(Clone, Copy)]
struct Claim {
    place: u16,
    is_assigned: bool,
    is_leaving: bool,
    standing: Option<Standing>,
}

impl Claim {
    fn is_ready(&self) -> bool {
        self.standing >= Some(Standing::Ready)
    }

    /// Its number; of two nodes that have claimed by the same one the place decides.
    fn number(&self) -> Option<(u64, u16)> {
        Some((self.standing?.claim()?, self.place))
    }
}

impl Plan {
    /// The plan for what is known.
    pub(super) fn of(topic: &Topic, view: &View, planted: Option<Planted>) -> Plan {
        let mut claims: Vec<Vec<Claim>> = vec![Vec::new(); topic.partitions as usize];
        let (mut nodes, mut stays) = (Vec::new(), Vec::new());
        for (report, place) in view.living().zip(0..) {
            nodes.push(report.node.clone());
            stays.push(Stay { salt: salt(&report.node), is_leaving: report.is_leaving });
            let held = report.held.iter().map(|(&partition, &standing)| (partition, Some(standing)));
            let assigned = report.assigned.iter().filter(|partition| !report.held.contains_key(partition));
            for (partition, standing) in held.chain(assigned.map(|&partition| (partition, None))) {
                if let Some(claims) = claims.get_mut(partition as usize) {
                    let (is_assigned, is_leaving) = (report.assigned.contains(&partition), report.is_leaving);
                    claims.push(Claim { place, is_assigned, is_leaving, standing });
                }
            }
        }
        let mut map = NodeMap::new(0, topic.partitioner, nodes, 1 + topic.standbys);
        let (mut keepers, mut highest) = (Vec::with_capacity(claims.len()), Vec::with_capacity(claims.len()));
        for (claims, partition) in claims.into_iter().zip(0..) {
            let one = Partition { standbys: topic.standbys, nodes: &stays, partition, claims, planted };
            let owner = one.owner();
            map.push(owner, one.ready().into_iter().filter(|&place| Some(place) != owner));
            keepers.push(one.keepers());
            highest.push(one.claim());
        }
        Plan { digest: map.digest(), map, keepers, claims: highest }
    }

    /// The place of a node that is there.
    pub fn place_of(&self, id: NodeId) -> Option<u16> {
        let place = self.map.nodes().iter().position(|node| node.id == id);
        place.map(|place| place as u16)
    }

    /// The partitions that the node at a place holds, or begins to; it lets go of all others.
    pub fn kept_by(&self, place: u16) -> impl Iterator<Item = u32> + '_ {
        let keepers = self.keepers.iter().zip(0..);
        keepers.filter(move |(keepers, _)| keepers.contains(&place)).map(|(_, partition)| partition)
    }

    /// Whether another than the node at a place has claimed a partition since that one has.
    pub fn has_another(&self, place: u16, partition: u32) -> bool {
        self.claims[partition as usize].is_some_and(|(_, highest)| highest != place)
    }

    /// The number by which the node at a place, which is ready, is to claim a partition from now on; `None` where it has nothing to claim
    /// that it has not claimed.
    pub fn claim(&self, place: u16, partition: u32) -> Option<u64> {
        if self.map.owner(partition) != Some(place) {
            return None;
        }
        match self.claims[partition as usize] {
            Some((_, highest)) if highest == place => None,
            Some((number, _)) => Some(number.saturating_add(1)),
            None => Some(1),
        }
    }
}

/// By its address, so that a node that is started anew stands by for the same partitions.
fn salt(node: &MapNode) -> u64 {
    node.host.bytes().fold(mix(u64::from(node.port)), |salt, byte| mix(salt ^ u64::from(byte)))
}

/// A node as far as it may stand by.
struct Stay {
    salt: u64,
    is_leaving: bool,
}

/// One partition, and who has to do with it.
struct Partition<'a> {
    standbys: usize,
    nodes: &'a [Stay],
    partition: u32,
    claims: Vec<Claim>,
    planted: Option<Planted>,
}

impl Partition<'_> {
    /// How well a node stands for this partition, for everybody alike: rendezvous hashing, so that a node that comes or goes moves
    /// no more than its own share.
    fn score(&self, place: u16) -> u64 {
        mix(self.nodes[usize::from(place)].salt ^ u64::from(self.partition))
    }

    /// Of those that are ready one that stays: whoever is assigned it, else whoever has claimed it last, else the first.
    fn owner(&self) -> Option<u16> {
        let is_ready = |claim: &&Claim| claim.is_ready() || Planted::NamesLoading.is(self.planted);
        let ready = self.claims.iter().filter(is_ready);
        let best = ready.max_by_key(|claim| {
            (!claim.is_leaving, claim.is_assigned, claim.standing, self.score(claim.place))
        });
        best.map(|claim| claim.place)
    }

    /// Who can answer, those first who are to stand by.
    fn ready(&self) -> Vec<u16> {
        let ready = self.claims.iter().filter(|claim| claim.is_ready());
        let mut places: Vec<u16> = ready.map(|claim| claim.place).collect();
        places.sort_by_key(|&place| core::cmp::Reverse(self.score(place)));
        places
    }

    /// The highest claim.
    fn claim(&self) -> Option<(u64, u16)> {
        self.claims.iter().filter_map(Claim::number).max()
    }

    /// Who holds it, or begins to: who is assigned it, who stands by, and whoever is ready until all of these are and somebody else has
    /// claimed it since.
    fn keepers(&self) -> Vec<u16> {
        let assigned = self.claims.iter().filter(|claim| claim.is_assigned);
        let mut keepers: Vec<u16> = assigned.map(|claim| claim.place).collect();
        let is_assigned = !keepers.is_empty();
        self.add_standbys(&mut keepers);
        let ready = self.ready();
        let is_settled = is_assigned && keepers.iter().all(|place| ready.contains(place));
        let last = self.claim().map(|(_, place)| place);
        let is_last = |place: u16| last.is_none_or(|last| last == place);
        let stays = |place: &u16| !is_settled || is_last(*place) && !Planted::IgnoresClaims.is(self.planted);
        let others: Vec<u16> =
            ready.into_iter().filter(|place| !keepers.contains(place) && stays(place)).collect();
        keepers.extend(others);
        keepers
    }

    /// The nodes that stand first for it, but for those who have it anyway.
    fn add_standbys(&self, keepers: &mut Vec<u16>) {
        if Planted::StandsByForNothing.is(self.planted) {
            return;
        }
        for _ in 0..self.standbys {
            let stays =
                |&place: &u16| !self.nodes[usize::from(place)].is_leaving && !keepers.contains(&place);
            let others = (0..self.nodes.len() as u16).filter(stays);
            let Some(next) = others.max_by_key(|&place| self.score(place)) else { return };
            keepers.push(next);
        }
    }
}
