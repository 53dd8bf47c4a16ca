//! What one node of the group does: it says how it stands, and finds what it is to follow and what callers are told.
//!
//! ```text
//!     group: who is described, where ─▶ describe ┐          ┌─▶ kept: the partitions to follow
//!     others: their news ────────────────▶ hear  ├─▶ turn ──┼─▶ holds, map: what callers are told
//!     ledger: how far each partition is ──▶ turn ┘          └─▶ news: what others are told
//! ```
//!
//! The group names members by their places; which life of a node is at a place, the node says itself. A place of which nothing was
//! heard yet is somebody whose partitions nobody knows: until something is, there is no map.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use florin_schema::{MapNode, NodeId, NodeMap};

use super::agreement::Agreement;
use super::plan::Topic;
use super::view::{Report, Standing, View};
use crate::limits::{LEAVING_SPEAKS_US, LEAVING_UNHEARD_MAX};

/// What a node has of a partition, as callers are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// Nothing: others have it.
    No,
    /// It is being loaded.
    Loading,
    /// All of it.
    Ready,
}

/// Where a node is: what the group's description says of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// Its host's name or address; an IPv6 address without brackets.
    pub host: String,
    /// Of its any-shard listener; 0 where it has none without TLS.
    pub port: u16,
    /// Of its listener for TLS; 0 where it has none.
    pub tls_port: u16,
}

impl Place {
    /// A node's.
    pub fn of(node: &MapNode) -> Place {
        let MapNode { host, port, tls_port, .. } = node;
        Place { host: host.clone(), port: *port, tls_port: *tls_port }
    }
}

/// The group's members, and what each is assigned.
pub type Described = BTreeMap<Place, BTreeSet<u32>>;

/// What nodes tell each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct News {
    /// What is known of all nodes.
    pub view: View,
    /// What callers are told; `None` before there is a map.
    pub map: Option<Arc<NodeMap>>,
}

/// See the module.
#[derive(Debug)]
pub struct Member {
    node: MapNode,
    agreement: Agreement,
    /// Of its first word.
    number: u64,
    is_leaving: bool,
    assigned: BTreeSet<u32>,
    /// Of each partition that is followed, whether it is caught up.
    followed: BTreeMap<u32, bool>,
    kept: BTreeSet<u32>,
    said: Option<Said>,
    /// Of those that are leaving the number of the last word, and in how many descriptions running it was the last.
    unheard: BTreeMap<NodeId, (u64, u32)>,
}

#[derive(Debug)]
struct Said {
    report: Arc<Report>,
    at_us: u64,
    /// Whether another node is known to have heard it.
    is_heard: bool,
}

impl Member {
    /// Of a node that knows of nobody. `now_us` is the time, µs since 1970 UTC, here and everywhere.
    ///
    /// # Panics
    /// Where the topic has too many standbys.
    pub fn new(node: MapNode, topic: Topic, now_us: u64) -> Member {
        Member {
            node,
            agreement: Agreement::new(topic),
            number: now_us,
            is_leaving: false,
            assigned: BTreeSet::new(),
            followed: BTreeMap::new(),
            kept: BTreeSet::new(),
            said: None,
            unheard: BTreeMap::new(),
        }
    }

    /// The node itself.
    pub fn node(&self) -> &MapNode {
        &self.node
    }

    /// What is known of all nodes. Whoever asks the group who is there takes a copy first, for [`Member::describe`].
    pub fn view(&self) -> &View {
        self.agreement.view()
    }

    /// What callers are told; `None` while somebody is in the group of whom nothing was heard.
    pub fn map(&self) -> Option<&Arc<NodeMap>> {
        self.agreement.map()
    }

    /// What other nodes are told.
    pub fn news(&self) -> News {
        News { view: self.view().clone(), map: self.map().cloned() }
    }

    /// Takes in what another node told.
    pub fn hear(&mut self, news: &News, now_us: u64) {
        if let Some(said) = &mut self.said {
            said.is_heard |= news.view.report(self.node.id) == Some(&said.report);
        }
        self.agreement.meet(&news.view, news.map.as_deref(), now_us);
    }

    /// Takes in who is in the group, which was asked for when `asked` was known. While that is being decided, there is nothing to take
    /// in. A node that has left the group is there for as long as it goes on speaking.
    pub fn describe(&mut self, described: &Described, asked: &View, now_us: u64) {
        let assigned = described.get(&Place::of(&self.node));
        self.assigned = assigned.cloned().unwrap_or_default();
        // One without this node is of a time before it came, or after it went: nothing was heard of the others yet, or nothing is to be.
        if assigned.is_none() && !self.is_leaving {
            return;
        }
        self.listen_to_leaving(asked);
        let is_there = |report: &&Arc<Report>| {
            let is_speaking =
                || self.unheard.get(&report.node.id).is_some_and(|&(_, times)| times < LEAVING_UNHEARD_MAX);
            described.contains_key(&Place::of(&report.node)) || report.is_leaving && is_speaking()
        };
        let living = self.view().living();
        let mut there: BTreeSet<NodeId> = living.filter(is_there).map(|report| report.node.id).collect();
        there.insert(self.node.id);
        let places: BTreeSet<Place> = self.view().living().map(|report| Place::of(&report.node)).collect();
        let is_complete = described.keys().all(|place| places.contains(place));
        self.agreement.describe(&there, asked, is_complete, now_us);
    }

    /// Counts for how long nothing new was heard of those that are leaving.
    fn listen_to_leaving(&mut self, asked: &View) {
        let before = core::mem::take(&mut self.unheard);
        for report in asked.living().filter(|report| report.is_leaving) {
            let last = before.get(&report.node.id).filter(|(number, _)| *number == report.number);
            let times = last.map_or(0, |(_, times)| times.saturating_add(1));
            self.unheard.insert(report.node.id, (report.number, times));
        }
        // Whoever began to leave since.
        for report in self.agreement.view().living().filter(|report| report.is_leaving) {
            self.unheard.entry(report.node.id).or_insert((report.number, 0));
        }
    }

    /// It is about to end: others are to have what it has.
    pub fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// Whether it is about to end, and nobody is known who stays.
    pub fn is_last(&self) -> bool {
        let others = |report: &&Arc<Report>| report.node.id != self.node.id && !report.is_leaving;
        self.is_leaving && !self.view().living().any(|report| others(&report))
    }

    /// Whether it is about to end, has nothing left that others do not have, and somebody knows that.
    pub fn may_end(&self) -> bool {
        self.is_leaving && self.followed.is_empty() && self.said.as_ref().is_some_and(|said| said.is_heard)
    }

    /// Takes in which partitions are followed, and whether each is caught up, and says so; then finds what is to be followed.
    pub fn turn(&mut self, followed: BTreeMap<u32, bool>, now_us: u64) {
        self.followed = followed;
        self.speak(now_us);
        let plan = self.agreement.plan();
        let Some(place) = plan.place_of(self.node.id) else {
            // Another life has this one's place; the group says so as well, and this one ends.
            self.kept.retain(|partition| self.followed.contains_key(partition));
            return;
        };
        // Before it is known who else is there, everybody seems to be missing.
        let is_needed = |partition: &u32| {
            self.map().is_some() || self.assigned.contains(partition) || self.followed.contains_key(partition)
        };
        self.kept = plan.kept_by(place).filter(is_needed).collect();
    }

    /// The partitions that are to be followed. What is not among them is followed until no caller is answered about it.
    pub fn kept(&self) -> &BTreeSet<u32> {
        &self.kept
    }

    /// What it has of each partition of the topic.
    pub fn holds(&self) -> Vec<Hold> {
        (0..self.agreement.topic().partitions).map(|partition| self.hold(partition)).collect()
    }

    /// What it has of one partition.
    pub fn hold(&self, partition: u32) -> Hold {
        match (self.kept.contains(&partition), self.followed.get(&partition)) {
            (false, _) => Hold::No,
            (true, Some(true)) => Hold::Ready,
            (true, _) => Hold::Loading,
        }
    }

    /// Says how it stands, where that has changed or others think that it is gone; while it is leaving, for nobody else says that it is
    /// there, again and again.
    fn speak(&mut self, now_us: u64) {
        let held: BTreeMap<u32, Standing> = self
            .followed
            .iter()
            .map(|(&partition, &is_ready)| (partition, self.standing(partition, is_ready)))
            .collect();
        let is_as_before = self.said.as_ref().is_some_and(|Said { report, at_us, .. }| {
            (&report.held, &report.assigned, report.is_leaving) == (&held, &self.assigned, self.is_leaving)
                && !(self.is_leaving && now_us.abs_diff(*at_us) >= LEAVING_SPEAKS_US)
        });
        if is_as_before && self.view().has(self.node.id) {
            return;
        }
        let number = self.view().next_number(self.node.id, self.number);
        let (node, assigned, is_leaving) = (self.node.clone(), self.assigned.clone(), self.is_leaving);
        let report = Arc::new(Report { node, number, is_leaving, assigned, held });
        self.said = Some(Said { report: Arc::clone(&report), at_us: now_us, is_heard: false });
        self.agreement.hear(report, now_us);
    }

    fn standing(&self, partition: u32, is_ready: bool) -> Standing {
        if !is_ready {
            return Standing::Loading;
        }
        let plan = self.agreement.plan();
        let claim = || plan.claim(plan.place_of(self.node.id)?, partition);
        let before = || self.said.as_ref()?.report.held.get(&partition)?.claim();
        claim().or_else(before).map_or(Standing::Ready, Standing::Owning)
    }
}
