//! Who owns, stands by and keeps a partition: a pure function of what is known.
//!
//! Nodes only read, so that several may hold a partition; and nobody lets go of one before whoever should have it has caught up.
//! Who is assigned a partition owns it once it has caught up; until then whoever has owned it goes on, or, where that one is
//! gone, somebody who stands by.
//!
//! Two who know different things could each let go because the other has it. So whoever finds that it is the owner claims it, by a
//! number above all claims that it knows, and lets go only once it knows that a node that stays has made a higher one than its own. Who
//! has made the highest claim of all knows of none: it has the partition, whatever the others know. A node that is about to end is
//! nobody to rely on: it may have ended by now.

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
    /// Whether more stand by than those who stand first: who does depends on everybody.
    is_beyond_first: bool,
}

impl Row {
    /// What a node has to do with it from now on.
    fn put(&mut self, place: u16, claim: Option<Claim>) {
        match (self.claims.binary_search_by_key(&place, |claim| claim.place), claim) {
            (Ok(at), Some(claim)) => self.claims[at] = claim,
            (Ok(at), None) => drop(self.claims.remove(at)),
            (Err(at), Some(claim)) => self.claims.insert(at, claim),
            (Err(_), None) => {}
        }
    }

    /// Nodes have other places, in the same order; some have none.
    fn move_to(&mut self, moved: impl Fn(u16) -> Option<u16>) {
        self.claims.retain_mut(|claim| moved(claim.place).map(|place| claim.place = place).is_some());
        self.keepers.retain_mut(|keeper| moved(*keeper).map(|place| *keeper = place).is_some());
        self.highest = self.highest.and_then(|(number, place)| Some((number, moved(place)?)));
    }
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
        let (is_assigned, is_leaving) = (report.assigned.has(partition), report.is_leaving);
        let standing = report.held.get(partition).copied();
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
    report.held.partitions().chain(report.assigned.partitions())
}

/// Adds the partitions of which two reports of one node say something else; some twice.
fn differing(before: &Report, after: &Report, changed: &mut Vec<u32>) {
    if before.is_leaving != after.is_leaving {
        changed.extend(partitions(before).chain(partitions(after)));
        return;
    }
    before.held.differing(&after.held, changed);
    before.assigned.differing(&after.assigned, changed);
}

impl Plan {
    /// The plan where nobody is known.
    pub(super) fn new(topic: &Topic) -> Plan {
        // One more than are to have it: where the next owner falls silent before it claims it, callers go to the one that waits for that.
        let holders_each = HOLDERS_MAX.min(2 + topic.standbys);
        let mut map = NodeMap::new(0, topic.partitioner, Vec::new(), holders_each);
        (0..topic.partitions).for_each(|_| map.push(None, []));
        Plan {
            digest: map.digest(),
            map,
            reports: Vec::new(),
            nodes: Vec::new(),
            first: Vec::new(),
            first_each: 0,
            rows: vec![Row::default(); topic.partitions as usize],
        }
    }

    /// Makes it that of what is known now, and says which partitions were looked at, and whether others are there or stay. What it says of
    /// a partition follows from what is said of that one, and from who stands first for it: where these are the same as before, it says
    /// the same.
    pub(super) fn update(
        &mut self,
        topic: &Topic,
        view: &View,
        planted: Option<Planted>,
    ) -> (Vec<u32>, bool) {
        let is_same = |(one, other): (&Arc<Report>, &Arc<Report>)| {
            Arc::ptr_eq(one, other) || (one.is_leaving == other.is_leaving && one.node == other.node)
        };
        let mut changed = Vec::new();
        let are_same =
            view.living().count() == self.reports.len() && view.living().zip(&self.reports).all(is_same);
        if !are_same {
            self.replace_nodes(topic, view.living().cloned().collect(), &mut changed);
        }
        let mut said = Vec::new();
        for (report, place) in view.living().zip(0..) {
            let before = &mut self.reports[usize::from(place)];
            if Arc::ptr_eq(before, report) {
                continue;
            }
            differing(before, report, &mut said);
            *before = Arc::clone(report);
            for partition in said.drain(..).filter(|&partition| partition < topic.partitions) {
                changed.push(partition);
                self.rows[partition as usize].put(place, Claim::of(place, report, partition));
            }
        }
        changed.sort_unstable();
        changed.dedup();
        changed.iter().for_each(|&partition| self.settle(topic, partition, planted));
        (changed, !are_same)
    }

    /// Others are there, or stay. What was said of partitions moves with the nodes to their places. A partition is changed of which those
    /// who are there no more said something, or for which others stand first.
    fn replace_nodes(&mut self, topic: &Topic, reports: Vec<Arc<Report>>, changed: &mut Vec<u32>) {
        let before = core::mem::take(&mut self.reports);
        let place_in = |report: &Arc<Report>| {
            let place = reports.binary_search_by_key(&report.node.id, |report| report.node.id).ok()?;
            (reports[place].node == report.node).then_some(place as u16)
        };
        let moved: Vec<Option<u16>> = before.iter().map(place_in).collect();
        let move_to = |place: u16| moved[usize::from(place)];
        for (gone, _) in before.iter().zip(&moved).filter(|(_, moved)| moved.is_none()) {
            changed.extend(partitions(gone).filter(|&partition| partition < topic.partitions));
        }
        if moved.iter().zip(0..).any(|(moved, place)| *moved != Some(place)) {
            self.rows.iter_mut().for_each(|row| row.move_to(move_to));
        }
        self.map.replace_nodes(reports.iter().map(|report| report.node.clone()).collect(), move_to);
        self.digest = self.map.digest();
        let stay = |report: &Arc<Report>| Stay { salt: salt(&report.node), is_leaving: report.is_leaving };
        let stayed = core::mem::replace(&mut self.nodes, reports.iter().map(stay).collect());
        self.rank(topic.partitions, &stayed, &moved, changed);
        // Of whoever comes, what it says is new.
        let nothing = |Report { node, number, is_leaving, has_map, .. }: &Report| {
            let (assigned, held) = Default::default();
            let (node, number, is_leaving, has_map) = (node.clone(), *number, *is_leaving, *has_map);
            Arc::new(Report { node, number, is_leaving, has_map, assigned, held })
        };
        let mut known: Vec<Option<Arc<Report>>> = vec![None; reports.len()];
        for (report, place) in before.into_iter().zip(&moved) {
            if let Some(place) = place {
                known[usize::from(*place)] = Some(report);
            }
        }
        self.reports = known
            .into_iter()
            .zip(&reports)
            .map(|(known, report)| known.unwrap_or_else(|| nothing(report)))
            .collect();
        let beyond = self.rows.iter().zip(0..).filter(|(row, _)| row.is_beyond_first);
        changed.extend(beyond.map(|(_, partition)| partition));
    }

    /// Finds for each partition those that stand first, of whom `stayed` had the places that moved; where these are others than before, it
    /// is changed.
    fn rank(&mut self, partitions: u32, stayed: &[Stay], moved: &[Option<u16>], changed: &mut Vec<u32>) {
        let staying = self.nodes.iter().filter(|node| !node.is_leaving).count();
        let each = core::mem::replace(&mut self.first_each, staying.min(HOLDERS_MAX));
        let mut is_known = vec![false; self.nodes.len()];
        for (before, place) in stayed.iter().zip(moved) {
            if let Some(place) = place {
                is_known[usize::from(*place)] = !before.is_leaving;
            }
        }
        let is_new =
            |place: &u16| !self.nodes[usize::from(*place)].is_leaving && !is_known[usize::from(*place)];
        let new: Vec<u16> = (0..self.nodes.len() as u16).filter(is_new).collect();
        let stays = |place: u16| {
            moved[usize::from(place)].filter(|&place| !self.nodes[usize::from(place)].is_leaving)
        };
        let all: Vec<u16> = (0..self.nodes.len() as u16)
            .filter(|&place| !self.nodes[usize::from(place)].is_leaving)
            .collect();
        let mut first = Vec::with_capacity(partitions as usize * self.first_each);
        let mut best: Vec<(u64, u16)> = Vec::with_capacity(HOLDERS_MAX + 1);
        for partition in 0..partitions {
            let scored = |place: u16| (score(&self.nodes[usize::from(place)], partition), place);
            let before = &self.first[partition as usize * each..][..each];
            // Mostly the same stand first: all of them stay, and who comes stands behind them.
            let last = before.last().and_then(|&place| stays(place)).map(scored);
            if each == self.first_each
                && new.iter().all(|&place| last.is_some_and(|last| scored(place) < last))
                && before.iter().all(|&place| stays(place).is_some())
            {
                first.extend(before.iter().filter_map(|&place| stays(place)));
                continue;
            }
            best.clear();
            best.extend(before.iter().filter_map(|&place| stays(place)).map(scored));
            // As many as before, and all of them stay: who comes has to stand before one of them.
            let is_kept = best.len() == each;
            if !is_kept {
                best.clear();
            }
            let mut is_other = each != self.first_each || !is_kept;
            for &place in if is_kept { &new } else { &all } {
                let scored = scored(place);
                if best.len() < self.first_each || best.last().is_some_and(|last| scored > *last) {
                    let at = best.partition_point(|better| *better > scored);
                    best.insert(at, scored);
                    best.truncate(self.first_each);
                    is_other = true;
                }
            }
            first.extend(best.iter().map(|&(_, place)| place));
            if is_other {
                changed.push(partition);
            }
        }
        self.first = first;
    }

    fn settle(&mut self, topic: &Topic, partition: u32, planted: Option<Planted>) {
        let row = &mut self.rows[partition as usize];
        let from = partition as usize * self.first_each;
        let first = &self.first[from..from + self.first_each];
        let claims = &row.claims[..];
        let one =
            Partition { standbys: topic.standbys, nodes: &self.nodes, first, partition, claims, planted };
        let (owner, ready) = (one.owner(), one.ready());
        row.is_beyond_first = one.find_keepers(&ready, &mut row.keepers);
        row.highest = one.claim();
        let others = ready.into_iter().filter(|&place| Some(place) != owner);
        self.digest = self.digest.wrapping_add(self.map.set(partition, owner, others));
    }

    /// The place of a node that is there.
    pub fn place_of(&self, id: NodeId) -> Option<u16> {
        let place = self.map.nodes().binary_search_by_key(&id, |node| node.id);
        place.ok().map(|place| place as u16)
    }

    /// Whether the node at a place holds a partition, or begins to; otherwise it lets go of it.
    pub fn keeps(&self, place: u16, partition: u32) -> bool {
        self.rows[partition as usize].keepers.contains(&place)
    }

    /// Of those that stay, who has claimed a partition since the node at a place has.
    pub fn claimants_since(&self, place: u16, partition: u32) -> impl Iterator<Item = NodeId> + '_ {
        let claims = &self.rows[partition as usize].claims;
        let own = claims.binary_search_by_key(&place, |claim| claim.place).ok();
        let own = own.and_then(|at| claims[at].number());
        let since = claims.iter().filter(move |claim| !claim.is_leaving && claim.number() > own);
        since.map(|claim| self.map.nodes()[usize::from(claim.place)].id)
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
        if places.len() > 1 {
            places.sort_by_cached_key(|&place| core::cmp::Reverse(self.score(place)));
        }
        places
    }

    /// The highest claim.
    fn claim(&self) -> Option<(u64, u16)> {
        self.claims.iter().filter_map(Claim::number).max()
    }

    /// The highest claim of those that stay.
    fn staying_claim(&self) -> Option<(u64, u16)> {
        self.claims.iter().filter(|claim| !claim.is_leaving).filter_map(Claim::number).max()
    }

    /// Who holds it, or begins to: who is assigned it, who stands by, and whoever is ready until all of these are and somebody else who
    /// stays has claimed it since.
    /// True where some of them stand by who do not stand first.
    fn find_keepers(&self, ready: &[u16], keepers: &mut Vec<u16>) -> bool {
        keepers.clear();
        keepers.extend(self.claims.iter().filter(|claim| claim.is_assigned).map(|claim| claim.place));
        let is_assigned = !keepers.is_empty();
        let is_beyond_first = self.add_standbys(keepers);
        let is_settled = is_assigned && keepers.iter().all(|place| ready.contains(place));
        let last = self.staying_claim();
        let named = keepers.len();
        for claim in self.claims.iter().filter(|claim| claim.is_ready()) {
            let has_another = last > claim.number() || Planted::IgnoresClaims.is(self.planted);
            let lets_go = is_settled && has_another;
            if !lets_go && !keepers[..named].contains(&claim.place) {
                keepers.push(claim.place);
            }
        }
        is_beyond_first
    }

    /// The nodes that stand first for it, but for those who have it anyway. True where these are not enough.
    fn add_standbys(&self, keepers: &mut Vec<u16>) -> bool {
        if Planted::StandsByForNothing.is(self.planted) {
            return false;
        }
        let wanted = keepers.len() + self.standbys;
        for &place in self.first {
            if keepers.len() < wanted && !keepers.contains(&place) {
                keepers.push(place);
            }
        }
        // Where some of the first have it anyway, those behind them stand by.
        let is_beyond_first = keepers.len() < wanted && self.first.len() == HOLDERS_MAX;
        while is_beyond_first && keepers.len() < wanted {
            let stays =
                |&place: &u16| !self.nodes[usize::from(place)].is_leaving && !keepers.contains(&place);
            let others = (0..self.nodes.len() as u16).filter(stays);
            let Some(next) = others.max_by_key(|&place| self.score(place)) else { break };
            keepers.push(next);
        }
        is_beyond_first
    }
}
