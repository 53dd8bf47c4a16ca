//! Everything that happens, turn by turn, and what is checked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::Arc;

use flatbuffers::FlatBufferBuilder;
use florin_core::limits::{ABSENT_UNHEARD_MAX, MAP_STANDS_US};
use florin_core::nodes::{Departure, Described, News, Place, Planted, Topic, View};
use florin_schema::{MapNode, NodeId, Partitioner, UserId, Version};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::client::{Behind, Client, DEADLINE, Defect, Ended};
use super::group::Group;
use super::node::Node;
use crate::Address;

/// Turns of 50 ms in which things happen; and in which nothing does, by which all is at rest: a node of a hundred has asked each other
/// eight times by then.
pub const BUSY: u64 = 400;
const QUIET: u64 = 400;
/// For so long all is to be at rest: then the epoch is above that of a map that was told by somebody who is gone, and by nobody else.
const RESTED: u64 = MAP_STANDS_US / TURN_US + 20;
/// Turns before anybody asks.
const STARTING: u64 = 100;
/// So long must one node have had a user, and have been there, for a call to find it: the group has noticed who is gone, and nodes
/// have told each other.
const FOUND_AFTER: u64 = 30;
/// How long a call may take where nobody is killed and nobody freezes, a turn for each round trip: some nodes that do not have the user
/// any more, and their maps, each later than the last.
const PLANNED_TURNS: u64 = 10;
/// How many others a node asks in a turn: of a hundred half as many as in production.
const ASKED_EACH_TURN: u64 = 2;
/// By then all know that a node has ended which was told to: nearly always all do when it ends, where nothing is lost.
const ENDED_TURNS: u64 = 20;
/// For so long something more happens soon.
const BURST: u64 = 6;
/// The time at which everything begins, µs since 1970 UTC, and what a turn takes of it.
const BEGAN_US: u64 = 1_795_320_306_000_000;
const TURN_US: u64 = 50_000;

/// The topic: whose record is where.
pub struct Log {
    partitioner: Partitioner,
    ends: Vec<usize>,
    /// By user, the offsets of its records.
    records: BTreeMap<UserId, Vec<usize>>,
}

impl Log {
    pub fn partition_of(&self, user: UserId) -> u32 {
        self.partitioner.partition_of_user(user, self.ends.len() as u32)
    }

    pub fn end(&self, partition: u32) -> usize {
        self.ends[partition as usize]
    }

    /// The version of a user for whoever has read so far.
    pub fn version(&self, user: UserId, position: usize) -> Version {
        Version(self.records[&user].partition_point(|&offset| offset < position) as u64)
    }

    fn append(&mut self, user: UserId) {
        let partition = self.partition_of(user) as usize;
        self.records.get_mut(&user).expect("a user of the world's").push(self.ends[partition]);
        self.ends[partition] += 1;
    }
}

/// What was seen.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    pub answered: u64,
    pub missed: u64,
    pub from_standbys: u64,
    pub moved: u64,
    pub killed: u64,
    pub maps_learned: u64,
    /// The most turns that a call took where nobody was killed and nobody froze.
    pub planned_turns: u64,
    pub attempts: u64,
    /// Messages between nodes, how many reports they had, and what the largest map takes on the wire.
    pub letters: u64,
    pub words: u64,
    pub map_bytes: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.answered.add_assign(other.answered);
        self.missed.add_assign(other.missed);
        self.from_standbys.add_assign(other.from_standbys);
        self.moved.add_assign(other.moved);
        self.killed.add_assign(other.killed);
        self.maps_learned.add_assign(other.maps_learned);
        self.attempts.add_assign(other.attempts);
        self.letters.add_assign(other.letters);
        self.words.add_assign(other.words);
        self.map_bytes = self.map_bytes.max(other.map_bytes);
        self.planned_turns = self.planned_turns.max(other.planned_turns);
    }
}

/// A message under way.
struct Letter {
    at: u64,
    to: NodeId,
    asked_us: u64,
    news: News,
}

/// How a node ended.
struct End {
    at: u64,
    /// Who knew of it by then.
    known_by: BTreeSet<NodeId>,
}

/// See the module.
pub struct World {
    seed: u64,
    rng: StdRng,
    now: u64,
    topic: Topic,
    log: Log,
    users: Vec<UserId>,
    group: Group,
    nodes: BTreeMap<NodeId, Node>,
    nodes_most: usize,
    /// Whether nobody is killed, and nobody freezes.
    is_planned: bool,
    /// Whether partitions move back before all have heard that they have moved. Nobody asks for users then: what others say comes too late.
    is_hasty: bool,
    lives: u64,
    /// When something happened to a node last.
    troubled_at: u64,
    planted: Option<Planted>,
    letters: Vec<Letter>,
    descriptions: Vec<(u64, NodeId, Arc<Described>, View)>,
    clients: Vec<Client>,
    /// Whoever was told to end and has.
    ended: BTreeMap<NodeId, End>,
    /// Of a node and one that it names, though that one has ended: the last word it has of it, and which of its descriptions of the group
    /// was the last when it first named it by that.
    misled: BTreeMap<(NodeId, NodeId), (u64, u32)>,
    tally: Tally,
}

impl World {
    /// A small one, or now and then one of many nodes.
    pub fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes = if rng.random_ratio(1, 50) { rng.random_range(20..=40) } else { rng.random_range(2..=8) };
        World::of(seed, nodes, rng.random_range(1..=4) * nodes as u32)
    }

    pub fn of(seed: u64, nodes: usize, partitions: u32) -> World {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5EED);
        let partitioner = if rng.random() { Partitioner::Murmur2 } else { Partitioner::Crc32 };
        let standbys = if rng.random_ratio(1, 8) { 0 } else { rng.random_range(1..=2) };
        let users: Vec<UserId> = (0..40).map(|_| UserId::new(rng.random::<u64>() >> 1).unwrap()).collect();
        let log = Log {
            partitioner,
            ends: vec![0; partitions as usize],
            records: users.iter().map(|&user| (user, Vec::new())).collect(),
        };
        let mut world = World {
            seed,
            rng,
            now: 0,
            topic: Topic { partitioner, partitions, standbys },
            log,
            users,
            group: Group::new(partitions),
            nodes: BTreeMap::new(),
            nodes_most: nodes,
            is_planned: seed.is_multiple_of(3),
            is_hasty: false,
            lives: 0,
            troubled_at: 0,
            planted: None,
            letters: Vec::new(),
            descriptions: Vec::new(),
            clients: Vec::new(),
            ended: BTreeMap::new(),
            misled: BTreeMap::new(),
            tally: Tally::default(),
        };
        (0..nodes).for_each(|host| world.start(host));
        let given: Vec<Address> = (0..nodes.min(2)).map(address).collect();
        world.clients = (0..3).map(|_| Client::new(&given, None)).collect();
        world
    }

    /// Of a few nodes that hear of each other seldom and late, while partitions move back and forth. `planted`: what is wrong with them.
    pub fn hasty(seed: u64, planted: Option<Planted>) -> World {
        let nodes = 3 + (seed % 3) as usize;
        let mut world = World::of(seed, nodes, nodes as u32);
        (world.is_hasty, world.topic.standbys, world.planted) = (true, 0, planted);
        world.clients.clear();
        world.nodes.clear();
        (0..nodes).for_each(|host| world.start(host));
        world
    }

    /// With clients that do something wrong.
    pub fn planted(seed: u64, defect: Defect) -> World {
        let mut world = World::new(seed);
        let given: Vec<Address> = (0..world.nodes_most.min(2)).map(address).collect();
        world.clients = (0..3).map(|_| Client::new(&given, Some(defect))).collect();
        world
    }

    /// Of nodes that have a defect.
    pub fn of_defective(seed: u64, planted: Planted) -> World {
        let mut world = World::new(seed);
        world.planted = Some(planted);
        world.nodes.values_mut().for_each(|node| node.member.plant(planted));
        world
    }

    /// Lets everything happen for so many turns, then nothing, and looks at what is left.
    pub fn play(mut self, busy: u64) -> Tally {
        // Nobody asks before there is anybody to answer.
        (0..STARTING).for_each(|_| self.turn(false));
        for _ in 0..busy {
            self.trouble();
            self.turn(true);
        }
        let now = self.now;
        self.nodes.values_mut().for_each(|node| node.frozen_until = node.frozen_until.min(now));
        if self.is_hasty {
            return self.tally;
        }
        self.rest();
        // A client whose every address is gone finds nobody, ever.
        if !self.nodes.values().any(|node| node.host() == "node-0") {
            self.start(0);
            self.rest();
        }
        // Whose calls go to the owners asks for news seldom.
        self.clients.iter_mut().for_each(|client| client.idle(QUIET));
        self.check_reads();
        assert_eq!(self.unrest(), None, "seed {}: it was at rest", self.seed);
        self.tally.map_bytes = self.map_bytes();
        self.tally.maps_learned = self.clients.iter().map(|client| client.learned).sum();
        self.tally
    }

    fn now_us(&self) -> u64 {
        BEGAN_US + TURN_US * self.now
    }

    fn start(&mut self, host: usize) {
        self.lives += 1;
        let id = NodeId(self.rng.random_range(1..u64::MAX));
        let place = MapNode { id, host: format!("node-{host}"), port: 7400, tls_port: 0 };
        let mut node = Node::new(place, self.topic, self.now, self.now_us() + self.lives % 50);
        if let Some(planted) = self.planted {
            node.member.plant(planted);
        }
        self.nodes.insert(id, node);
    }

    /// Something happens to a node, now and then; and where it has just happened, soon again: what moves twice before all have heard of
    /// the first time is what goes wrong.
    fn trouble(&mut self) {
        let rarely = if self.now - self.troubled_at < BURST { 4 } else { 40 };
        let rarely = if self.is_hasty { 8 } else { rarely };
        if !self.rng.random_ratio(1, rarely) {
            return;
        }
        if self.now - self.troubled_at >= BURST || self.rng.random_ratio(3, 4) {
            self.troubled_at = self.now;
        }
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let id = ids[self.rng.random_range(0..ids.len())];
        let others_stay = self.nodes.values().any(|node| node.id() != id && !node.is_leaving);
        let troubles = match (self.is_hasty, self.is_planned) {
            (true, _) => 1..4,
            (false, true) => 2..4,
            (false, false) => 0..4,
        };
        match self.rng.random_range(troubles) {
            0 if others_stay => {
                self.nodes.remove(&id);
                self.tally.killed += 1;
            }
            1 => self.nodes.get_mut(&id).unwrap().frozen_until = self.now + self.rng.random_range(1..120),
            2 if others_stay => {
                let now_us = self.now_us();
                self.nodes.get_mut(&id).unwrap().leave(now_us);
            }
            _ => {
                let taken: BTreeSet<&str> = self.nodes.values().map(|node| node.host()).collect();
                let free = (0..self.nodes_most).find(|host| !taken.contains(&*format!("node-{host}")));
                if let Some(host) = free {
                    self.start(host);
                }
            }
        }
    }

    fn turn(&mut self, is_read: bool) {
        self.now += 1;
        for _ in 0..self.rng.random_range(0..4) {
            let user = self.users[self.rng.random_range(0..self.users.len())];
            self.log.append(user);
        }
        self.group.expire(self.now);
        self.deliver();
        self.run_nodes();
        self.check_own_maps();
        if !self.is_hasty {
            self.check_ended();
        }
        self.note_who_has_what();
        if is_read {
            for client in &mut self.clients {
                let user = self.users[self.rng.random_range(0..self.users.len())];
                client.begin(user, self.now);
            }
        }
        self.run_clients();
    }

    fn deliver(&mut self) {
        let now = self.now;
        let is_there = |node: &Node| node.frozen_until <= now;
        for letter in self.letters.extract_if(.., |letter| letter.at <= now) {
            if let Some(node) = self.nodes.get_mut(&letter.to).filter(|node| is_there(node)) {
                node.hear(letter.news, letter.asked_us);
            }
        }
        for (_, to, described, asked) in self.descriptions.extract_if(.., |(at, ..)| *at <= now) {
            let Some(node) = self.nodes.get_mut(&to) else { continue };
            node.is_asking = false;
            if is_there(node) {
                node.describe(&described, &asked);
            }
        }
    }

    fn run_nodes(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let now_us = self.now_us();
        let by_place: BTreeMap<Place, NodeId> =
            self.nodes.values().map(|node| (node.place(), node.id())).collect();
        for &id in &ids {
            let node = self.nodes.get_mut(&id).unwrap();
            if node.frozen_until > self.now {
                continue;
            }
            if !node.has_left {
                self.group.heartbeat(&node.place(), self.now);
            }
            let records = self.rng.random_range(1..60);
            let loads = self.rng.random_range(1..if self.is_hasty { 6 } else { 40 });
            let let_go = node.follow(&self.log, records, loads, (self.now, now_us));
            self.check_let_go(id, &let_go);
            let node = self.nodes.get_mut(&id).unwrap();
            if !node.is_asking && self.rng.random_ratio(1, 3) {
                node.is_asking = true;
                let at = self.now + self.rng.random_range(1..4);
                self.descriptions.push((at, id, self.group.described(), node.member.view().clone()));
            }
            for _ in 0..ASKED_EACH_TURN {
                self.ask(id, &by_place);
            }
            match self.nodes[&id].member.departure(now_us) {
                Departure::Stay => {}
                Departure::LeaveGroup => {
                    let node = self.nodes.get_mut(&id).unwrap();
                    node.has_left = true;
                    self.group.leave(&node.place());
                }
                Departure::End => {
                    self.nodes.remove(&id);
                    let knows = |node: &&Node| node.member.view().has(id);
                    let known_by = self.nodes.values().filter(knows).map(Node::id).collect();
                    self.ended.insert(id, End { at: self.now, known_by });
                }
            }
        }
    }

    /// The next of those that it knows of tells what is new to it; late, or never.
    fn ask(&mut self, id: NodeId, by_place: &BTreeMap<Place, NodeId>) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some((place, is_known)) = node.next_peer(&mut self.rng) else { return };
        let peer = by_place.get(&place).and_then(|peer| self.nodes.get(peer));
        let Some(peer) = peer.filter(|peer| peer.frozen_until <= self.now) else {
            return;
        };
        let late = if self.is_hasty { 40 } else { 5 };
        let at = self.now + self.rng.random_range(1..late);
        if self.rng.random_ratio(if self.is_hasty { 1 } else { 9 }, 10) {
            let since = if is_known { self.nodes[&id].heard_of(peer.id()) } else { 0 };
            let news = peer.member.news(since);
            self.tally.letters += 1;
            self.tally.words += news.words.len() as u64;
            self.letters.push(Letter { at, to: id, asked_us: self.now_us(), news });
        }
    }

    fn note_who_has_what(&mut self) {
        let now = self.now;
        let is_found = |node: &&Node| node.frozen_until <= now && self.is_findable(node);
        let found: BTreeSet<NodeId> = self.nodes.values().filter(is_found).map(Node::id).collect();
        for (id, node) in &mut self.nodes {
            self.tally.moved += node.note(&self.log, now, found.contains(id));
        }
    }

    /// Whether others can hear of a node: one that has left the group is asked by those alone who know of it, and all of these may die.
    fn is_findable(&self, node: &Node) -> bool {
        let knows = |other: &Node| {
            let is_there = other.frozen_until <= self.now && self.group.has(&other.place());
            is_there && other.member.view().has(node.id())
        };
        self.group.has(&node.place()) || self.nodes.values().any(knows)
    }

    fn run_clients(&mut self) {
        let (now, nodes, log) = (self.now, &self.nodes, &self.log);
        let by_host: BTreeMap<&str, &Node> = nodes.values().map(|node| (node.host(), node)).collect();
        let behind = |address: &Address| match by_host.get(host_of(address)) {
            None => Behind::Nobody,
            Some(node) if node.frozen_until > now => Behind::Frozen,
            // It answers no Hello before it has a map.
            Some(node) if node.member.map().is_none() => Behind::Nobody,
            Some(node) => Behind::There(node),
        };
        let reply = |node: &Node, user: UserId, floor: Version| node.answer(log, user, floor);
        let mut all = Vec::new();
        for client in &mut self.clients {
            client.greet(&behind);
            let shown: BTreeMap<UserId, Version> =
                client.asked_about().map(|user| (user, client.shown(user))).collect();
            all.extend(
                client.turn(now, &behind, &reply).into_iter().map(|ended| (shown[&ended.user], ended)),
            );
        }
        for (shown, ended) in all {
            self.check(shown, &ended);
        }
    }

    /// How each node stands with a partition, for whoever looks into a seed.
    fn standings(&self, partition: u32) -> String {
        let of = |(id, node): (&NodeId, &Node)| {
            let member = &node.member;
            let owner = member.map().and_then(|map| map.owner_id(partition));
            let report = member.view().report(*id);
            let (hold, said) =
                (member.hold(partition), report.and_then(|report| report.held.get(&partition)));
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

    fn check(&mut self, shown: Version, ended: &Ended) {
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
    fn check_let_go(&self, id: NodeId, let_go: &[u32]) {
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
    fn check_ended(&mut self) {
        let mut misled = BTreeMap::new();
        for node in self.nodes.values().filter(|node| !node.is_leaving) {
            let Some(map) = node.member.map() else { continue };
            for (ended, place) in map.nodes().iter().zip(0..) {
                let Some(end) = self.ended.get(&ended.id).filter(|end| node.has_heard(end.at)) else {
                    continue;
                };
                let mut owned =
                    (0..map.partitions()).filter(|&partition| map.owner(partition) == Some(place));
                if self.now - end.at < ENDED_TURNS || owned.next().is_none() {
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
    fn check_own_maps(&mut self) {
        for (&id, node) in self.nodes.iter_mut().filter(|(_, node)| node.frozen_until <= self.now) {
            let Some(map) = node.member.map().cloned() else { continue };
            if node.checked.as_ref().is_some_and(|checked| Arc::ptr_eq(checked, &map)) {
                continue;
            }
            node.checked = Some(Arc::clone(&map));
            let Some(own) = map.nodes().iter().position(|node| node.id == id) else { continue };
            let owned = (0..map.partitions()).filter(|&partition| map.owner(partition) == Some(own as u16));
            for partition in owned {
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
    fn rest(&mut self) {
        let is_at_rest = (0..QUIET).any(|_| {
            self.turn(false);
            self.unrest().is_none()
        });
        assert!(is_at_rest, "seed {}: nothing happens, and {:?}", self.seed, self.unrest());
        (0..RESTED).for_each(|_| self.turn(false));
        assert_eq!(self.unrest(), None, "seed {}: it was at rest", self.seed);
    }

    /// What is not as it has to be once nothing has happened for a while.
    fn unrest(&self) -> Option<String> {
        let mut maps = self.nodes.values().map(|node| node.member.map());
        let Some(map) = maps.next().flatten() else { return Some("a node has no map".to_owned()) };
        let digest = |node: &Node| node.member.mark().map(|mark| mark.digest);
        if self.nodes.values().any(|node| digest(node) != Some(map.digest()))
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
    fn map_bytes(&self) -> u64 {
        let map = self.nodes.values().find_map(|node| node.member.map()).expect("somebody has one");
        let mut builder = FlatBufferBuilder::new();
        let root = map.write(&mut builder);
        builder.finish_minimal(root);
        builder.finished_data().len() as u64
    }

    /// Once a client has asked twice, all of its calls go to the owner.
    fn check_reads(&mut self) {
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

fn host_of(address: &Address) -> &str {
    match address {
        Address::Tcp { host, .. } => host,
        other => unreachable!("nobody is at {other}"),
    }
}

fn address(host: usize) -> Address {
    Address::Tcp { host: format!("node-{host}"), port: 7400 }
}
