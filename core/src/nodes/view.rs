//! What is known of the nodes.
//!
//! A node alone says how it stands, and numbers what it says. That it is gone, others say: when the group's description, asked for
//! after its last word was heard, does not have it. A node that hears that it is gone, and is not, raises its number. So of two
//! things known of one node one is always the later, and views that meet become the same, in whichever order they meet.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use florin_schema::ids::mix;
use florin_schema::{MapNode, NodeId};

use super::by_partition::ByPartition;
use crate::limits::NODES_KNOWN_MAX;

/// How far a node is with a partition that it holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// It has not reached the partition's end yet, and answers UNAVAILABLE.
    Loading,
    /// It has, and follows it.
    Ready,
    /// It does, and has claimed to be its owner, by a number above those of all claims that it knew of. The claim stands for as long as
    /// it holds the partition.
    Owning(u64),
}

impl Standing {
    /// The number of the claim, where there is one.
    pub fn claim(self) -> Option<u64> {
        match self {
            Standing::Owning(number) => Some(number),
            Standing::Loading | Standing::Ready => None,
        }
    }
}

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Who, and where it is asked.
    pub node: MapNode,
    /// Raised with each change. The first of a life is the time at which it began, so that of two lives the later is known.
    pub number: u64,
    /// Whether it is about to end. It stands by for nothing new, leaves the group unless others have all that it has, and holds what it
    /// holds until one of them has claimed it.
    pub is_leaving: bool,
    /// Whether it has a map: then it knows of everybody, those that are leaving as well.
    pub has_map: bool,
    /// What the group has assigned to it.
    pub assigned: ByPartition<()>,
    /// What it holds.
    pub held: ByPartition<Standing>,
}

/// What is known of one node.
#[derive(Clone, Debug)]
struct Known {
    id: NodeId,
    report: Arc<Report>,
    /// Its address, as a number: two addresses with one number are compared.
    address: u64,
    is_gone: bool,
    /// The view's version since which this is so.
    since: u64,
}

/// What is known of a node, as it is told on: its last word, and whether it is gone.
pub type Word = (Arc<Report>, bool);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// In the order of their ids.
    known: Vec<Known>,
    /// Raised with each change: whoever has heard all up to a version is told what has changed since.
    version: u64,
}

impl View {
    /// Takes in what a node says of itself, or what another knows of some; true where that was news, here and below.
    pub fn hear(&mut self, words: impl IntoIterator<Item = Word>) -> bool {
        let before = self.version;
        for (report, is_gone) in words {
            let (id, known) = (report.node.id, self.version);
            self.know(report, is_gone);
            if self.version != known {
                self.bury_former_life(id);
            }
        }
        self.version != before
    }

    /// As [`View::hear`], told by a node that is in the group: what it says of itself holds, whoever takes it for gone.
    pub fn hear_from(&mut self, teller: NodeId, words: impl IntoIterator<Item = Word>) -> bool {
        let before = self.version;
        let said = |known: &Known, report: &Report| known.is_gone && known.report.number == report.number;
        for (report, is_gone) in words {
            let is_own = report.node.id == teller && !is_gone;
            let place = if is_own { self.place_of(teller).ok() } else { None };
            let known = place.map(|place| &mut self.known[place]);
            if let Some(known) = known.filter(|known| said(known, &report)) {
                self.version += 1;
                (known.report, known.is_gone, known.since) = (report, false, self.version);
                self.bury_former_life(teller);
            } else {
                self.hear([(report, is_gone)]);
            }
        }
        self.version != before
    }

    /// These nodes are there, which was asked for once `before` was known: who else was known by then is gone.
    pub fn describe(&mut self, there: &BTreeSet<NodeId>, before: &View) -> bool {
        let version = self.version;
        let mut there = there.iter().peekable();
        for Known { id, report, .. } in &before.known {
            while there.next_if(|there| *there < id).is_some() {}
            if there.peek() != Some(&id) {
                self.know(Arc::clone(report), true);
            }
        }
        self.version != version
    }

    /// Its version: 0 where nothing is known.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What has changed since a version, each with the one at which it did.
    pub fn since(&self, version: u64) -> impl Iterator<Item = (u64, &Arc<Report>, bool)> {
        let known = self.known.iter().filter(move |known| known.since > version);
        known.map(|known| (known.since, &known.report, known.is_gone))
    }

    /// The nodes that are there, by their ids.
    pub fn living(&self) -> impl Iterator<Item = &Arc<Report>> {
        self.known.iter().filter(|known| !known.is_gone).map(|known| &known.report)
    }

    /// The last word of a node that is there.
    pub fn report(&self, id: NodeId) -> Option<&Arc<Report>> {
        self.known(id).filter(|known| !known.is_gone).map(|known| &known.report)
    }

    /// Whether something was heard of a node, and not that it is gone.
    pub fn has(&self, id: NodeId) -> bool {
        self.report(id).is_some()
    }

    /// The number above all that is known of a node: what it says next must have it to be heard. Of a life that is unknown `first`.
    pub fn next_number(&self, id: NodeId, first: u64) -> u64 {
        self.known(id).map_or(first, |known| known.report.number + 1)
    }

    fn know(&mut self, report: Arc<Report>, is_gone: bool) {
        let (id, place) = (report.node.id, self.place_of(report.node.id));
        let is_later = |known: &Known| (report.number, is_gone) > (known.report.number, known.is_gone);
        if place.is_ok_and(|place| !is_later(&self.known[place])) {
            return;
        }
        self.version += 1;
        let address = address(&report.node);
        let known = Known { id, report, address, is_gone, since: self.version };
        match place {
            Ok(place) => self.known[place] = known,
            Err(place) => {
                self.known.insert(place, known);
                self.forget();
            }
        }
    }

    fn place_of(&self, id: NodeId) -> Result<usize, usize> {
        self.known.binary_search_by_key(&id, |known| known.id)
    }

    fn known(&self, id: NodeId) -> Option<&Known> {
        Some(&self.known[self.place_of(id).ok()?])
    }

    /// Of two lives at one address the former is over: of a node of which something was heard, and another.
    fn bury_former_life(&mut self, id: NodeId) {
        let Some(Known { report, address, .. }) = self.known(id) else { return };
        let (own, address) = (Arc::clone(report), *address);
        let is_there = |other: &MapNode| {
            (&other.host, other.port, other.tls_port) == (&own.node.host, own.node.port, own.node.tls_port)
        };
        let others = self.known.iter().filter(|known| known.address == address && known.id != id);
        let others = others.filter(|known| is_there(&known.report.node)).map(|known| known.report.number);
        let Some(latest) = others.max().map(|number| number.max(own.number)) else { return };
        for known in &mut self.known {
            let is_former = known.address == address && !known.is_gone && known.report.number < latest;
            if is_former && is_there(&known.report.node) {
                self.version += 1;
                (known.is_gone, known.since) = (true, self.version);
            }
        }
    }

    /// Whoever is gone for longest is forgotten first.
    fn forget(&mut self) {
        if self.known.len() > NODES_KNOWN_MAX {
            let places = 0..self.known.len();
            let first = places.min_by_key(|&place| {
                let Known { is_gone, report, .. } = &self.known[place];
                (!is_gone, report.number)
            });
            self.known.remove(first.expect("there are some"));
        }
    }
}

/// A node's address, as a number.
fn address(MapNode { host, port, tls_port, .. }: &MapNode) -> u64 {
    let ports = u64::from(*port) << 16 | u64::from(*tls_port);
    host.bytes().fold(mix(ports), |address, byte| mix(address ^ u64::from(byte)))
}
