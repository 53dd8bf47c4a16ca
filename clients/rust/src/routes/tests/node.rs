//! One node: how far it has read, and what it answers. What it follows, says and tells callers is the production code's.

use std::collections::BTreeMap;
use std::sync::Arc;

use florin_core::nodes::{ByPartition, Described, Hold, Member, News, Place, Topic, View};
use florin_schema::{MapNode, NodeId, NodeMap, UserId, Version};
use rand::Rng;
use rand::seq::SliceRandom;

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

/// After so many turns among the others, where it has come or has stood still, a node has heard of them all, and callers have its map. By
/// then it may tell one that is later than the others' and knows less.
const HEARD_TURNS: u64 = 20;

/// How far it has read a partition.
#[derive(Clone)]
struct Held {
    position: usize,
    /// Until which turn it loads it.
    loads_until: u64,
    is_ready: bool,
    /// Since when it has been there, and has had all of it; one that stands still lacks what others show, until it has read on.
    had_since: Option<u64>,
}

/// See the module.
#[derive(Clone)]
pub struct Node {
    pub member: Member,
    /// Until which turn it stands still.
    pub frozen_until: u64,
    began: u64,
    pub is_leaving: bool,
    pub has_left: bool,
    /// Whether it has asked the group who is there, and waits to hear.
    pub is_asking: bool,
    /// In how many of the group's descriptions it was.
    pub descriptions: u32,
    /// Which of its maps was compared with what it holds, since it last let go of something.
    pub checked: Option<Arc<NodeMap>>,
    /// The peers that it asks before it asks any of them again, the last one first.
    to_ask: Vec<Place>,
    /// Up to which version of what another knows it has heard all.
    heard: BTreeMap<NodeId, u64>,
    /// Each partition that it holds.
    held: ByPartition<Held>,
    /// Whether it has all of each, as its member is told.
    followed: ByPartition<bool>,
}

impl Node {
    pub fn new(place: MapNode, topic: Topic, now: u64, now_us: u64) -> Node {
        Node {
            member: Member::new(place, topic, now_us),
            frozen_until: 0,
            began: now,
            is_leaving: false,
            has_left: false,
            is_asking: false,
            descriptions: 0,
            checked: None,
            to_ask: Vec::new(),
            heard: BTreeMap::new(),
            held: ByPartition::default(),
            followed: ByPartition::default(),
        }
    }

    pub fn hear(&mut self, news: News, asked_us: u64) {
        self.heard.insert(news.teller, news.version);
        self.member.hear(news, asked_us);
    }

    pub fn describe(&mut self, described: &Described, asked: &View) {
        self.descriptions += u32::from(described.contains_key(&self.place()));
        self.member.describe(described, asked);
    }

    /// Whom it asks next, and whether that one is known to be there: all in turn, each time in another order, as if each had its own pauses.
    pub fn next_peer(&mut self, rng: &mut impl Rng) -> Option<(Place, bool)> {
        if self.to_ask.is_empty() {
            self.to_ask.extend(self.member.peers().keys().cloned());
            self.to_ask.shuffle(rng);
        }
        let place = self.to_ask.pop()?;
        let is_known = *self.member.peers().get(&place)?;
        Some((place, is_known))
    }

    pub fn heard_of(&self, other: NodeId) -> u64 {
        self.heard.get(&other).copied().unwrap_or(0)
    }

    pub fn id(&self) -> NodeId {
        self.member.node().id
    }

    /// Whether it has been among the others for long enough to tell of them.
    pub fn has_heard(&self, now: u64) -> bool {
        now >= self.began.max(self.frozen_until) + HEARD_TURNS
    }

    pub fn place(&self) -> Place {
        Place::of(self.member.node())
    }

    pub fn host(&self) -> &str {
        &self.member.node().host
    }

    /// It is told to end.
    pub fn leave(&mut self, now_us: u64) {
        self.is_leaving = true;
        self.member.leave(now_us);
    }

    /// Reads on, `records` of each partition, and does what is to be done. What it takes up is loaded for so many turns. Says what it lets go
    /// of that it has all of: with its next turn, which comes late where it stands still.
    pub fn follow(&mut self, log: &Log, records: usize, loads: u64, (now, now_us): (u64, u64)) -> Vec<u32> {
        let kept = self.member.kept();
        let mut is_changed = !kept.partitions().eq(self.held.partitions());
        if is_changed {
            let taken_up = Held { position: 0, loads_until: now + loads, is_ready: false, had_since: None };
            let held = |partition| self.held.get(partition).unwrap_or(&taken_up).clone();
            self.held = kept.partitions().map(|partition| (partition, held(partition))).collect();
            self.checked = None;
        }
        for (partition, held) in self.held.iter_mut() {
            held.position = (held.position + records).min(log.end(partition));
            if !held.is_ready && now >= held.loads_until && held.position == log.end(partition) {
                (held.is_ready, is_changed) = (true, true);
            }
        }
        if is_changed {
            self.followed = self.held.iter().map(|(partition, held)| (partition, held.is_ready)).collect();
        }
        self.member.turn(&self.followed, now_us);
        let has = self.held.iter().filter(|(_, held)| held.is_ready);
        has.map(|(partition, _)| partition).filter(|&partition| !self.member.kept().has(partition)).collect()
    }

    /// Whether it has all of the partition, and does not let go of it.
    pub fn has(&self, partition: u32) -> bool {
        self.has_loaded(partition) && self.member.kept().has(partition)
    }

    /// Notes which partitions it has all of, if others can find it; and says how many it has come to have.
    pub fn note(&mut self, log: &Log, now: u64, is_found: bool) -> u64 {
        let mut moved = 0;
        // Whoever lets go of nothing answers about all that it has read.
        let lets_go = !self.held.partitions().eq(self.member.kept().partitions());
        for (partition, held) in self.held.iter_mut() {
            let is_kept = !lets_go && held.is_ready;
            let is_answered = is_found && (is_kept || self.member.hold(partition) == Hold::Ready);
            let has_all = is_answered && held.position == log.end(partition);
            moved += u64::from(has_all && held.had_since.is_none());
            held.had_since = has_all.then(|| held.had_since.unwrap_or(now));
        }
        moved
    }

    pub fn had_since(&self, partition: u32) -> Option<u64> {
        self.held.get(partition)?.had_since
    }

    /// Whether it has read the partition to its end once.
    pub fn has_loaded(&self, partition: u32) -> bool {
        self.held.get(partition).is_some_and(|held| held.is_ready)
    }

    /// The partitions that it holds.
    pub fn holds(&self) -> impl Iterator<Item = u32> + '_ {
        self.held.partitions()
    }

    pub fn position(&self, partition: u32) -> Option<usize> {
        self.held.get(partition).map(|held| held.position)
    }

    /// Answers about a user, with at least the version that was shown elsewhere.
    pub fn answer(&self, log: &Log, user: UserId, floor: Version) -> Reply {
        let partition = log.partition_of(user);
        match self.member.hold(partition) {
            Hold::No => Reply::NotOwner(self.member.map().map_or(0, |map| map.epoch)),
            Hold::Loading => Reply::Unavailable,
            Hold::Ready => {
                let position = self.position(partition).expect("it follows what it is ready to answer about");
                let version = log.version(user, position);
                if version < floor { Reply::Stale } else { Reply::Version(version) }
            }
        }
    }
}
