//! Who owns, stands by and keeps a partition: a pure function of what is known.
//!
//! Nodes only read, so that several may hold a partition; and nobody lets go of one before whoever should have it has caught up.
//! Who is assigned a partition owns it once it has caught up; until then whoever has owned it goes on, or, where that one is
//! gone, somebody who stands by.
//!
//! Two who know different things could each let go because the other has it. So whoever finds that it is the owner claims it, by a
//! number above all claims that it knows, and lets go only once it knows of a higher one than its own. Who has made the highest claim of
//! all knows of none: it has the partition, whatever the others know.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use florin_schema::ids::mix;
use florin_schema::{MapNode, NodeId, NodeMap, Partitioner};

use super::planted::Planted;
use super::view::{Report, Standing, View};
use crate::limits::HOLDERS_MAX;

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
    /// What it follows from: the words of those that are there, in the order of the map's nodes.
    reports: Vec<Arc<Report>>,
    nodes: Vec<Stay>,
    /// For each partition as many of those that stay, who stand first for it.
    first: Vec<u16>,
    first_each: usize,
    rows: Vec<Row>,
}

/// What follows for one partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Row {
    /// Of those who have to do with it, by their places.
    claims: Vec<Claim>,
    /// The places of those who hold it, or begin to.
    keepers: Vec<u16>,
    /// The highest claim, and whose it is.
    highest: Option<(u64, u16)>,
}

/// What a node has to do with one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Claim {
    place: u16,
    is_assigned: bool,
    is_leaving: bool,
    standing: Option<Standing>,
}

impl Claim {
    fn of(place: u16, report: &Report, partition: u32) -> Option<Claim> {
        let (is_assigned, is_leaving) = (report.assigned.contains(&partition), report.is_leaving);
        let standing = report.held.get(&partition).copied();
        (is_assigned || standing.is_some()).then_some(Claim { place, is_assigned, is_leaving, standing })
    }

    fn is_ready(&self) -> bool {
        self.standing >= Some(Standing::Ready)
    }

    /// Its number; of two nodes that have claimed by the same one the place decides.
    fn number(&self) -> Option<(u64, u16)> {
        Some((self.standing?.claim()?, self.place))
    }
}

/// The partitions that a node has to do with; some twice.
fn partitions(report: &Report) -> impl Iterator<Item = u32> + '_ {
    report.held.keys().chain(&report.assigned).copied()
}

impl Plan {
    /// The plan where nobody is known.
    pub(super) fn new(topic: &Topic) -> Plan {
        let mut plan = Plan {
            map: NodeMap::new(0, topic.partitioner, Vec::new(), 1 + topic.standbys),
            digest: 0,
            reports: Vec::new(),
            nodes: Vec::new(),
            first: Vec::new(),
            first_each: 0,
            rows: vec![Row::default(); topic.partitions as usize],
        };
        plan.begin(topic, Vec::new());
        plan.digest = plan.map.digest();
        plan
    }

    /// Makes it that of what is known now. What it says of a partition follows from what is said of that one, and from who is there and
    /// stays: where these are the same as before, no more is looked at than what has been said anew.
    pub(super) fn update(&mut self, topic: &Topic, view: &View, planted: Option<Planted>) {
        let reports: Vec<Arc<Report>> = view.living().cloned().collect();
        let is_same = |(one, other): (&Arc<Report>, &Arc<Report>)| {
            Arc::ptr_eq(one, other) || (one.is_leaving == other.is_leaving && one.node == other.node)
        };
        if reports.len() == self.reports.len() && reports.iter().zip(&self.reports).all(is_same) {
            for partition in self.replace(reports) {
                self.settle(topic, partition, planted);
            }
        } else {
            self.begin(topic, reports);
            (0..topic.partitions).for_each(|partition| self.settle(topic, partition, planted));
        }
        self.digest = self.map.digest();
    }

    /// Others are there, or stay: everything begins anew.
    fn begin(&mut self, topic: &Topic, reports: Vec<Arc<Report>>) {
        let nodes = reports.iter().map(|report| report.node.clone()).collect();
        self.map = NodeMap::new(0, topic.partitioner, nodes, 1 + topic.standbys);
        (0..topic.partitions).for_each(|_| self.map.push(None, []));
        let stay = |report: &Arc<Report>| Stay { salt: salt(&report.node), is_leaving: report.is_leaving };
        self.nodes = reports.iter().map(stay).collect();
        self.rank(topic.partitions);
        self.rows.iter_mut().for_each(|row| row.claims.clear());
        for (report, place) in reports.iter().zip(0..) {
            for partition in partitions(report) {
                if let Some(row) = self.rows.get_mut(partition as usize)
                    && row.claims.last().is_none_or(|last| last.place != place)
                {
                    row.claims.extend(Claim::of(place, report, partition));
                }
            }
        }
        self.reports = reports;
    }

    /// The same nodes have said something else: of which partitions.
    fn replace(&mut self, reports: Vec<Arc<Report>>) -> BTreeSet<u32> {
        let mut changed = BTreeSet::new();
        let before = core::mem::replace(&mut self.reports, reports);
        for ((before, after), place) in before.iter().zip(&self.reports).zip(0..) {
            if Arc::ptr_eq(before, after) {
                continue;
            }
            for partition in partitions(before).chain(partitions(after)) {
                let claim = Claim::of(place, after, partition);
                let Some(row) = self.rows.get_mut(partition as usize) else { continue };
                if claim != Claim::of(place, before, partition) && changed.insert((partition, place)) {
                    row.claims.retain(|claim| claim.place != place);
                    row.claims.extend(claim);
                    row.claims.sort_unstable_by_key(|claim| claim.place);
                }
            }
        }
        changed.into_iter().map(|(partition, _)| partition).collect()
    }

    /// Finds for each partition those that stand first.
    fn rank(&mut self, partitions: u32) {
        let staying = self.nodes.iter().filter(|node| !node.is_leaving).count();
        self.first_each = staying.min(HOLDERS_MAX);
        self.first.clear();
        let mut best: Vec<(u64, u16)> = Vec::with_capacity(HOLDERS_MAX + 1);
        for partition in 0..partitions {
            best.clear();
            for (node, place) in self.nodes.iter().zip(0..) {
                let score = score(node, partition);
                let is_among =
                    best.len() < self.first_each || best.last().is_some_and(|&(last, _)| score >= last);
                if is_among && !node.is_leaving {
                    let at = best.partition_point(|&(better, _)| better > score);
                    best.insert(at, (score, place));
                    best.truncate(self.first_each);
                }
            }
            self.first.extend(best.iter().map(|&(_, place)| place));
        }
    }

    fn settle(&mut self, topic: &Topic, partition: u32, planted: Option<Planted>) {
        let row = &mut self.rows[partition as usize];
        let from = partition as usize * self.first_each;
        let first = &self.first[from..from + self.first_each];
        let claims = &row.claims[..];
        let one =
            Partition { standbys: topic.standbys, nodes: &self.nodes, first, partition, claims, planted };
        let (owner, ready) = (one.owner(), one.ready());
        (row.keepers, row.highest) = (one.keepers(&ready), one.claim());
        self.map.set(partition, owner, ready.into_iter().filter(|&place| Some(place) != owner));
    }

    /// The place of a node that is there.
    pub fn place_of(&self, id: NodeId) -> Option<u16> {
        let place = self.map.nodes().iter().position(|node| node.id == id);
        place.map(|place| place as u16)
    }

    /// The partitions that the node at a place holds, or begins to; it lets go of all others.
    pub fn kept_by(&self, place: u16) -> impl Iterator<Item = u32> + '_ {
        let rows = self.rows.iter().zip(0..);
        rows.filter(move |(row, _)| row.keepers.contains(&place)).map(|(_, partition)| partition)
    }

    /// Whether another than the node at a place has claimed a partition since that one has.
    pub fn has_another(&self, place: u16, partition: u32) -> bool {
        self.rows[partition as usize].highest.is_some_and(|(_, highest)| highest != place)
    }

    /// The number by which the node at a place, which is ready, is to claim a partition from now on; `None` where it has nothing to claim
    /// that it has not claimed.
    pub fn claim(&self, place: u16, partition: u32) -> Option<u64> {
        if self.map.owner(partition) != Some(place) {
            return None;
        }
        match self.rows[partition as usize].highest {
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
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stay {
    salt: u64,
    is_leaving: bool,
}

/// How well a node stands for a partition, for everybody alike: rendezvous hashing, so that a node that comes or goes moves no more than its
/// own share.
fn score(node: &Stay, partition: u32) -> u64 {
    mix(node.salt ^ u64::from(partition))
}

/// One partition, and who has to do with it.
struct Partition<'a> {
    standbys: usize,
    nodes: &'a [Stay],
    /// Of those that stay, who stand first for it.
    first: &'a [u16],
    partition: u32,
    claims: &'a [Claim],
    planted: Option<Planted>,
}

impl Partition<'_> {
    fn score(&self, place: u16) -> u64 {
        score(&self.nodes[usize::from(place)], self.partition)
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
    fn keepers(&self, ready: &[u16]) -> Vec<u16> {
        let assigned = self.claims.iter().filter(|claim| claim.is_assigned);
        let mut keepers: Vec<u16> = assigned.map(|claim| claim.place).collect();
        let is_assigned = !keepers.is_empty();
        self.add_standbys(&mut keepers);
        let is_settled = is_assigned && keepers.iter().all(|place| ready.contains(place));
        let last = self.claim().map(|(_, place)| place);
        let is_last = |place: u16| last.is_none_or(|last| last == place);
        let stays = |place: &u16| !is_settled || is_last(*place) && !Planted::IgnoresClaims.is(self.planted);
        let others: Vec<u16> =
            ready.iter().copied().filter(|place| !keepers.contains(place) && stays(place)).collect();
        keepers.extend(others);
        keepers
    }

    /// The nodes that stand first for it, but for those who have it anyway.
    fn add_standbys(&self, keepers: &mut Vec<u16>) {
        if Planted::StandsByForNothing.is(self.planted) {
            return;
        }
        let wanted = keepers.len() + self.standbys;
        for &place in self.first {
            if keepers.len() < wanted && !keepers.contains(&place) {
                keepers.push(place);
            }
        }
        // Where some of the first have it anyway, those behind them stand by.
        while keepers.len() < wanted && self.first.len() == HOLDERS_MAX {
            let stays =
                |&place: &u16| !self.nodes[usize::from(place)].is_leaving && !keepers.contains(&place);
            let others = (0..self.nodes.len() as u16).filter(stays);
            let Some(next) = others.max_by_key(|&place| self.score(place)) else { return };
            keepers.push(next);
        }
    }
}
