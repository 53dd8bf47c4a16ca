//! Which users a node has, where several divide a ledger's users among them. Whoever keeps the node's map tells each shard, and
//! whatever is read from then on is answered by it.
//!
//! A node that has all users has none of this.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use florin_schema::{NodeMap, Status, UserId};

use super::orders::{OrderLink, OrderPort, order_link};
use crate::limits::HOLDINGS_QUEUED_MAX;
pub use crate::nodes::Hold;

/// The map, and what of it is this node's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holdings {
    map: NodeMap,
    holds: Vec<Hold>,
}

impl Holdings {
    /// By partition what this node has.
    ///
    /// # Panics
    /// Where it is not one for each partition of the map's.
    pub fn new(map: NodeMap, holds: Vec<Hold>) -> Holdings {
        assert_eq!(holds.len(), map.partitions() as usize, "one for each partition");
        Holdings { map, holds }
    }

    /// What callers are told.
    pub fn map(&self) -> &NodeMap {
        &self.map
    }
}

/// What a shard is told by whoever keeps the map.
#[derive(Clone, Debug)]
pub enum NodesNews {
    /// Whose users it answers about from now on.
    Holdings(Arc<Holdings>),
    /// What it answers whoever asks for the nodes: JSON, ready to be sent.
    Told(Arc<NodesText>),
}

/// What a node tells of all that divide the users, in JSON, ready to be sent: to people all of it, to other nodes what is new to them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodesText {
    whole: Vec<u8>,
    /// The beginning of what other nodes are told, and then what it knows of each node, what is new last first, with commas between.
    news: Vec<u8>,
    head_bytes: usize,
    /// For each of these nodes the version since which it is so, and where its part ends.
    parts: Vec<(u64, usize)>,
}

/// By which both end.
const NODES_END: &[u8] = b"]}";

impl NodesText {
    /// `whole_head` and `news_head` end where the list of nodes begins; `parts` are its entries, each with the version since which it is
    /// so, the latest first.
    ///
    /// # Panics
    /// Where they are in another order.
    pub fn new(mut whole_head: Vec<u8>, news_head: Vec<u8>, parts: &[(u64, Vec<u8>)]) -> NodesText {
        assert!(parts.is_sorted_by(|(one, _), (next, _)| one >= next), "the latest is first");
        let (head_bytes, mut news) = (news_head.len(), news_head);
        let mut ends = Vec::with_capacity(parts.len());
        for (since, part) in parts {
            if !ends.is_empty() {
                news.push(b',');
            }
            news.extend_from_slice(part);
            ends.push((*since, news.len()));
        }
        whole_head.extend_from_slice(&news[head_bytes..]);
        whole_head.extend_from_slice(NODES_END);
        NodesText { whole: whole_head, news, head_bytes, parts: ends }
    }

    /// All of it.
    pub fn whole(&self) -> &[u8] {
        &self.whole
    }

    /// An answer, in two pieces: all of it, or what is new to a node that has heard all up to a version.
    pub fn answer(&self, since: Option<u64>) -> [&[u8]; 2] {
        let Some(since) = since else { return [&self.whole, &[]] };
        let new = self.parts.partition_point(|&(version, _)| version > since);
        let end = new.checked_sub(1).map_or(self.head_bytes, |last| self.parts[last].1);
        [&self.news[..end], NODES_END]
    }
}

/// A shard's side of the way from whoever keeps the map.
pub type HoldingsLink = OrderLink<NodesNews, ()>;
/// The other side: answered once what was told has been taken over.
pub type HoldingsPort = OrderPort<NodesNews, ()>;

/// Both sides.
pub fn holdings_link() -> (HoldingsPort, HoldingsLink) {
    order_link(HOLDINGS_QUEUED_MAX)
}

/// Whose users a shard answers about.
#[derive(Debug, Default)]
pub(super) enum Share {
    /// Everybody's of its own.
    #[default]
    All,
    /// Nobody's yet: the node has no map.
    Unknown,
    /// Those of some partitions.
    Some(Arc<Holdings>),
}

/// Why a node that divides users says nothing yet.
pub(super) const NO_MAP: &str = "this node has not yet heard of the others that it divides the users with: ask again in a moment, or another";

/// What one who asks for the nodes is told where users are not divided.
pub const NO_NODES: &str = "nodes: this node divides the users with no others, and answers about everybody";

/// Why a user is not answered about.
pub(super) enum Elsewhere {
    /// It is not known who has it, or nobody has caught up.
    Unavailable(String),
    /// Another has it: the place of its owner in the map.
    NotOwner(Arc<Holdings>, u32, u16),
}

impl Share {
    /// How a user's entry in a batch ends; `None` where it is answered.
    #[inline]
    pub fn refusal(&self, user: UserId) -> Option<Status> {
        match self {
            Share::All => None,
            Share::Unknown => Some(Status::Unavailable),
            Share::Some(holdings) => {
                let partition = holdings.map.partition_of(user);
                match holdings.holds[partition as usize] {
                    Hold::Ready => None,
                    Hold::No if holdings.map.owner(partition).is_some() => Some(Status::NotOwner),
                    Hold::Loading | Hold::No => Some(Status::Unavailable),
                }
            }
        }
    }

    /// Whether there may be users who are answered about now and were not before.
    pub fn has_gained(&self, before: &Share) -> bool {
        match (self, before) {
            (Share::Some(now), Share::Some(before)) => now
                .holds
                .iter()
                .zip(&before.holds)
                .any(|holds| matches!(holds, (Hold::Ready, before) if *before != Hold::Ready)),
            _ => true,
        }
    }

    /// The same in words.
    #[inline]
    pub fn elsewhere(&self, user: UserId) -> Option<Elsewhere> {
        if matches!(self, Share::All) { None } else { self.told(user) }
    }

    #[inline(never)]
    fn told(&self, user: UserId) -> Option<Elsewhere> {
        let status = self.refusal(user)?;
        let Share::Some(holdings) = self else { return Some(Elsewhere::Unavailable(String::from(NO_MAP))) };
        let partition = holdings.map.partition_of(user);
        Some(match (status, holdings.map.owner(partition)) {
            (Status::NotOwner, Some(owner)) => Elsewhere::NotOwner(Arc::clone(holdings), partition, owner),
            _ => Elsewhere::Unavailable(format!(
                "user_id: partition {partition}, to which {user} belongs, is being loaded: ask again in a moment"
            )),
        })
    }
}
