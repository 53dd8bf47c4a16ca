//! What is known of the nodes.
//!
//! A node alone says how it stands, and numbers what it says. That it is gone, others say: when the group's description, asked for
//! after its last word was heard, does not have it. A node that hears that it is gone, and is not, raises its number. So of two
//! things known of one node one is always the later, and views that meet become the same, in whichever order they meet.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use florin_schema::{MapNode, NodeId};

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
    pub assigned: BTreeSet<u32>,
    /// What it holds.
    pub held: BTreeMap<u32, Standing>,
}

/// What is known of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Known {
    report: Arc<Report>,
    is_gone: bool,
}

impl Known {
    fn is_later_than(&self, other: &Known) -> bool {
        (self.report.number, self.is_gone) > (other.report.number, other.is_gone)
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    known: BTreeMap<NodeId, Known>,
}

impl View {
    /// Takes in what a node says of itself; true where that was news, here and below.
    pub fn hear(&mut self, report: Arc<Report>) -> bool {
        let id = report.node.id;
        let is_news = self.know(id, &Known { report, is_gone: false });
        if is_news {
            self.bury_former_lives();
        }
        is_news
    }

    /// Takes in what another node knows.
    pub fn merge(&mut self, other: &View) -> bool {
        let is_news = other.known.iter().fold(false, |is_news, (&id, known)| self.know(id, known) | is_news);
        if is_news {
            self.bury_former_lives();
        }
        is_news
    }

    /// These nodes are there, which was asked for once `before` was known: who else was known by then is gone.
    pub fn describe(&mut self, there: &BTreeSet<NodeId>, before: &View) -> bool {
        let absent = before.known.iter().filter(|(id, _)| !there.contains(id));
        let gone = absent
            .map(|(&id, Known { report, .. })| (id, Known { report: Arc::clone(report), is_gone: true }));
        gone.fold(false, |is_news, (id, known)| self.know(id, &known) | is_news)
    }

    /// Of what another node says that it knows: each node's last word, and whether it is gone.
    pub fn of(known: impl IntoIterator<Item = (Arc<Report>, bool)>) -> View {
        let mut view = View::default();
        for (report, is_gone) in known {
            view.know(report.node.id, &Known { report, is_gone });
        }
        view.bury_former_lives();
        view
    }

    /// All that is known: each node's last word, and whether it is gone.
    pub fn known(&self) -> impl Iterator<Item = (&Arc<Report>, bool)> {
        self.known.values().map(|known| (&known.report, known.is_gone))
    }

    /// The nodes that are there, by their ids.
    pub fn living(&self) -> impl Iterator<Item = &Arc<Report>> {
        self.known.values().filter(|known| !known.is_gone).map(|known| &known.report)
    }

    /// The last word of a node that is there.
    pub fn report(&self, id: NodeId) -> Option<&Arc<Report>> {
        self.known.get(&id).filter(|known| !known.is_gone).map(|known| &known.report)
    }

    /// Whether something was heard of a node, and not that it is gone.
    pub fn has(&self, id: NodeId) -> bool {
        self.report(id).is_some()
    }

    /// The number above all that is known of a node: what it says next must have it to be heard. Of a life that is unknown `first`.
    pub fn next_number(&self, id: NodeId, first: u64) -> u64 {
        self.known.get(&id).map_or(first, |known| known.report.number + 1)
    }

    fn know(&mut self, id: NodeId, news: &Known) -> bool {
        let known = self.known.get(&id);
        let is_news = known.is_none_or(|known| news.is_later_than(known));
        if is_news {
            self.known.insert(id, news.clone());
            self.forget();
        }
        is_news
    }

    /// Of two lives at one address the former is over.
    fn bury_former_lives(&mut self) {
        fn place(MapNode { host, port, tls_port, .. }: &MapNode) -> (&str, u16, u16) {
            (host, *port, *tls_port)
        }
        let mut latest: BTreeMap<(&str, u16, u16), u64> = BTreeMap::new();
        for Known { report, .. } in self.known.values() {
            let number = latest.entry(place(&report.node)).or_default();
            *number = report.number.max(*number);
        }
        let is_former =
            |known: &&Known| !known.is_gone && latest[&place(&known.report.node)] > known.report.number;
        let former: Vec<NodeId> =
            self.known.values().filter(is_former).map(|known| known.report.node.id).collect();
        for id in former {
            self.known.get_mut(&id).expect("it was just found").is_gone = true;
        }
    }

    /// Whoever is gone for longest is forgotten first.
    fn forget(&mut self) {
        if self.known.len() > NODES_KNOWN_MAX {
            let first = self.known.iter().min_by_key(|(_, known)| (!known.is_gone, known.report.number));
            let id = *first.expect("there are some").0;
            self.known.remove(&id);
        }
    }
}
