//! Everything that happens, turn by turn. What is checked of it: [`checks`].

mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use florin_core::nodes::{Departure, Described, News, Place, Planted, Topic, View};
use florin_schema::{MapNode, NodeId, Partitioner, UserId, Version};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::checks::QUIET;
use super::client::{Behind, Client, Defect};
use super::group::Group;
use super::node::Node;
use super::tally::Tally;
use crate::Address;

/// Turns of 50 ms in which things happen.
pub const BUSY: u64 = 400;
/// Turns before anybody asks.
const STARTING: u64 = 100;
/// How many others a node asks in a turn: of a hundred half as many as in production.
const ASKED_EACH_TURN: u64 = 2;
/// For so long something more happens soon.
const BURST: u64 = 6;
/// The time at which everything begins, µs since 1970 UTC, and what a turn takes of it.
const BEGAN_US: u64 = 1_795_320_306_000_000;
const TURN_US: u64 = 50_000;

/// The topic: whose record is where.
#[derive(Clone)]
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

/// A message under way.
#[derive(Clone)]
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
        world.come(None);
        world
    }

    /// Clients come that know the addresses of two nodes.
    fn come(&mut self, defect: Option<Defect>) {
        let given: Vec<Address> = (0..self.nodes_most.min(2)).map(address).collect();
        self.clients = (0..3).map(|_| Client::new(&given, defect)).collect();
    }

    /// As of when all have had time to find each other, and nothing else has happened: [`World::again`].
    pub fn started(mut self) -> World {
        // Nobody asks before there is anybody to answer.
        (0..STARTING).for_each(|_| self.turn(false));
        self
    }

    /// One that has started as this one has, and in which other things happen: those of another seed.
    pub fn again(&self, seed: u64) -> World {
        assert!(self.ended.is_empty() && self.misled.is_empty(), "nothing has happened");
        let mut world = World {
            seed,
            rng: StdRng::seed_from_u64(seed ^ 0xA6A1),
            log: self.log.clone(),
            users: self.users.clone(),
            group: self.group.clone(),
            nodes: self.nodes.clone(),
            is_planned: seed.is_multiple_of(3),
            letters: self.letters.clone(),
            descriptions: self.descriptions.clone(),
            clients: Vec::new(),
            ended: BTreeMap::new(),
            misled: BTreeMap::new(),
            ..*self
        };
        world.come(None);
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
        world.come(Some(defect));
        world
    }

    /// Of nodes that have a defect.
    pub fn of_defective(seed: u64, planted: Planted) -> World {
        let mut world = World::new(seed);
        world.planted = Some(planted);
        world.nodes.values_mut().for_each(|node| node.member.plant(planted));
        world
    }

    /// Starts, and goes on.
    pub fn play(self, busy: u64) -> Tally {
        self.started().go_on(busy)
    }

    /// Lets everything happen for so many turns, then nothing, and looks at what is left.
    pub fn go_on(mut self, busy: u64) -> Tally {
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
