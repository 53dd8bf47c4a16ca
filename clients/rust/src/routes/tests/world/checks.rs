//! What is checked of a world: of each answer, of each node, and of what is left once nothing has happened for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flatbuffers::FlatBufferBuilder;
use florin_core::limits::{ABSENT_UNHEARD_MAX, MAP_STANDS_US};
use florin_core::nodes::Place;
use florin_schema::{NodeId, Version};

use super::super::client::{Client, DEADLINE, Ended};
use super::super::node::Node;
use super::{TURN_US, World};

/// Turns in which nothing happens, by which all is at rest: a node of a hundred has asked each other eight times by then.
pub(super) const QUIET: u64 = 400;
/// For so long all is to be at rest: then the epoch is above that of a map that was told by somebody who is gone, and by nobody else.
const RESTED: u64 = MAP_STANDS_US / TURN_US + 20;
/// So long must one node have had a user, and have been there, for a call to find it: the group has noticed who is gone, and nodes
/// have told each other.
const FOUND_AFTER: u64 = 30;
/// How long a call may take where nobody is killed and nobody freezes, a turn for each round trip: some nodes that do not have the user
/// any more, and their maps, each later than the last.
const PLANNED_TURNS: u64 = 10;
/// By then all know that a node has ended which was told to: nearly always all do when it ends, where nothing is lost.
const ENDED_TURNS: u64 = 20;

impl World {
    /// How each node stands with a partition, for whoever looks into a seed.
    fn standings(&self, partition: u32) -> String {
        let of = |(id, node): (&NodeId, &Node)| {
            let member = &node.member;
            let owner = member.map().and_then(|map| map.owner_id(partition));
            let report = member.view().report(*id);
            let (hold, said) = (member.hold(partition), report.and_then(|report| report.held.get(partition)));
            let is_assigned = self.group.owner(partition) == Some(&node.place());
            let is_leaving = node.is_leaving.then_some(node.has_left);
            let is_frozen = node.frozen_until > self.now;
            format!(
                "\n{id} {}: {hold:?}, says {said:?}, names {owner:?}, assigned {is_assigned}, leaving {is_leaving:?}, frozen {is_frozen}",
                node.host()
            )
        };
        self.nodes.iter().map(of).collect()
    }

    pub(super) fn check(&mut self, shown: Version, ended: &Ended) {
        let (seed, now, user) = (self.seed, self.now, ended.user);
        let partition = self.log.partition_of(user);
        self.tally.attempts += u64::from(ended.attempts);
        if self.is_planned {
            self.tally.planned_turns = self.tally.planned_turns.max(ended.took);
        }
        // Somebody has to be there whom the client knows: all that it knew may have left at the same time.
        let is_quick = ended.answer.is_some() && ended.took <= PLANNED_TURNS;
        assert!(
            !self.is_planned || is_quick || ended.reachable < ended.took,
            "seed {seed}, turn {now}: {user} of partition {partition} took {} turns: {:?}{}",
            ended.took,
            ended.way,
            self.standings(partition)
        );
        let Some(answer) = &ended.answer else {
            self.tally.missed += 1;
            let needed = now - DEADLINE - FOUND_AFTER;
            let has_had = |node: &&Node| node.had_since(partition).is_some_and(|since| since <= needed);
            let had = self.nodes.values().find(has_had).map(Node::id);
            // Somebody has to be there who can tell of the others: whoever has only just come, or stood still, and is all that the client
            // reaches, tells a map of what it knows itself, and of none of the others.
            assert!(
                had.is_none() || ended.chances < DEADLINE / 2,
                "seed {seed}, turn {now}: no answer about {user} of partition {partition}, which {had:?} has had: {:?}{}",
                ended.way,
                self.standings(partition)
            );
            return;
        };
        self.tally.answered += 1;
        self.tally.from_standbys += u64::from(!answer.is_owner);
        let node = &self.nodes[&answer.by];
        let position = node.position(partition).expect("whoever answers holds it");
        assert!(node.has_loaded(partition), "seed {seed}, turn {now}: {} answers while it loads", answer.by);
        let told: u64 = self.log.records[&user].iter().filter(|&&offset| offset < position).count() as u64;
        assert_eq!(answer.version.0, told, "seed {seed}, turn {now}: {user} by {}", answer.by);
        assert!(answer.version >= shown, "seed {seed}, turn {now}: {user} went back from {shown}");
    }

    /// Nobody lets go of what nobody else has, where nobody was killed.
    pub(super) fn check_let_go(&self, id: NodeId, let_go: &[u32]) {
        for &partition in let_go {
            assert!(
                !(self.is_planned || self.is_hasty) || self.nodes.values().any(|node| node.has(partition)),
                "seed {}, turn {}: {id} lets go of {partition}, which nobody else has{}",
                self.seed,
                self.now,
                self.standings(partition)
            );
        }
    }

    /// Whoever stays, and was there and knew of a node when it ended as it was told to, sends callers there no more: they would be
    /// refused. Whoever did not know of it may be told by somebody who has stood still since, and cannot know better before that counts
    /// as gone; and not while the group has its place, where another life may be that has said nothing yet.
    pub(super) fn check_ended(&mut self) {
        let mut misled = BTreeMap::new();
        for node in self.nodes.values().filter(|node| !node.is_leaving) {
            let Some(map) = node.member.map() else { continue };
            for (ended, place) in map.nodes().iter().zip(0..) {
                let Some(end) = self.ended.get(&ended.id).filter(|end| node.has_heard(end.at)) else {
                    continue;
                };
                if self.now - end.at < ENDED_TURNS || map.owned_by(place).next().is_none() {
                    continue;
                }
                let said = node.member.view().report(ended.id);
                let number = said.map_or(0, |said| said.number);
                let pair = (node.id(), ended.id);
                let before = self.misled.get(&pair).filter(|(before, _)| *before == number);
                let before = before.filter(|_| !self.group.has(&Place::of(ended)));
                let since = before.map_or(node.descriptions, |&(_, since)| since);
                misled.insert(pair, (number, since));
                // The first may have been asked for before it was told; by the last, nothing new was heard for as long as that may take.
                assert!(
                    !end.known_by.contains(&node.id()) && node.descriptions - since < ABSENT_UNHEARD_MAX + 2,
                    "seed {}, turn {}: {} names {}, which has ended at turn {}: {said:?}{}",
                    self.seed,
                    self.now,
                    node.id(),
                    ended.id,
                    end.at,
                    self.standings(0)
                );
            }
        }
        self.misled = misled;
    }

    /// A node that names itself an owner has caught up.
    pub(super) fn check_own_maps(&mut self) {
        for (&id, node) in self.nodes.iter_mut().filter(|(_, node)| node.frozen_until <= self.now) {
            let Some(map) = node.member.map().cloned() else { continue };
            if node.checked.as_ref().is_some_and(|checked| Arc::ptr_eq(checked, &map)) {
                continue;
            }
            node.checked = Some(Arc::clone(&map));
            let Some(own) = map.nodes().iter().position(|node| node.id == id) else { continue };
            for partition in map.owned_by(own as u16) {
                assert!(
                    node.has_loaded(partition),
                    "seed {}, turn {}: {id} owns {partition} and loads it",
                    self.seed,
                    self.now
                );
            }
        }
    }

    /// Lets nothing happen until all is at rest, and while it is to stay so.
    pub(super) fn rest(&mut self) {
        let is_at_rest = (0..QUIET).any(|_| {
            self.turn(false);
            self.unrest().is_none()
        });
        assert!(is_at_rest, "seed {}: nothing happens, and {:?}", self.seed, self.unrest());
        (0..RESTED).for_each(|_| self.turn(false));
        assert_eq!(self.unrest(), None, "seed {}: it was at rest", self.seed);
    }

    /// What is not as it has to be once nothing has happened for a while.
    pub(super) fn unrest(&self) -> Option<String> {
        let mut maps = self.nodes.values().map(|node| node.member.map());
        let Some(map) = maps.next().flatten() else { return Some("a node has no map".to_owned()) };
        let mut digests = self.nodes.values().map(|node| node.member.mark().map(|mark| mark.digest));
        let first = digests.next().flatten();
        if digests.any(|digest| digest != first)
            || first != Some(map.digest())
            || !maps.flatten().all(|other| other.says_as(map))
        {
            return Some("two nodes have two maps".to_owned());
        }
        if self.nodes.values().any(|node| node.is_leaving) {
            return Some("who is leaving stays".to_owned());
        }
        let living: BTreeSet<NodeId> = self.nodes.keys().copied().collect();
        if map.nodes().iter().map(|node| node.id).ne(living.iter().copied()) {
            return Some("the map has others than are there".to_owned());
        }
        let mut hold: Vec<BTreeSet<NodeId>> = vec![BTreeSet::new(); map.partitions() as usize];
        for (&id, node) in &self.nodes {
            node.holds().for_each(|partition| hold[partition as usize].extend([id]));
        }
        let node_at = |place: u16| &map.nodes()[usize::from(place)];
        (0..map.partitions()).find_map(|partition| {
            let owner = map.owner(partition).map(|place| Place::of(node_at(place)));
            let assigned = self.group.owner(partition);
            if owner.as_ref() != assigned {
                return Some(format!("partition {partition} has {owner:?}, and is assigned to {assigned:?}"));
            }
            let (standbys, wanted) =
                (map.standbys(partition).count(), self.topic.standbys.min(living.len() - 1));
            if standbys != wanted {
                return Some(format!("partition {partition} has {standbys} standbys and not {wanted}"));
            }
            let named: BTreeSet<NodeId> = map.holders(partition).map(|place| node_at(place).id).collect();
            let hold = &hold[partition as usize];
            (*hold != named)
                .then(|| format!("partition {partition} is held by {hold:?}, and is to be by {named:?}"))
        })
    }

    /// What a map takes on the wire.
    pub(super) fn map_bytes(&self) -> u64 {
        let map = self.nodes.values().find_map(|node| node.member.map()).expect("somebody has one");
        let mut builder = FlatBufferBuilder::new();
        let root = map.write(&mut builder);
        builder.finish_minimal(root);
        builder.finished_data().len() as u64
    }

    /// Once a client has asked twice, all of its calls go to the owner.
    pub(super) fn check_reads(&mut self) {
        for round in 0..3 {
            let before = self.tally;
            for &user in &self.users {
                self.clients.iter_mut().for_each(|client| client.begin(user, self.now));
            }
            for _ in 0..=DEADLINE {
                self.turn(false);
            }
            assert!(self.clients.iter().all(Client::is_idle));
            assert_eq!(
                self.tally.missed, before.missed,
                "seed {}: all is well, and a call failed",
                self.seed
            );
            if round == 2 {
                let calls = self.tally.answered - before.answered;
                assert_eq!(self.tally.attempts - before.attempts, calls, "seed {}", self.seed);
                assert_eq!(self.tally.from_standbys, before.from_standbys, "seed {}", self.seed);
            }
        }
    }
}
