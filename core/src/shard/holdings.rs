//! Which users a node has, where several divide a ledger's users among them. Whoever keeps the node's map tells each shard, and
//! whatever is read from then on is answered by it.
//!
//! A node that has all users has none of this.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use florin_schema::{NodeMap, Status, UserId};

use super::Shard;
use super::orders::{OrderLink, OrderPort, order_link};
use super::responder::Via;
use crate::limits::HOLDINGS_QUEUED_MAX;
use crate::wire::{Format, NotOwner, Query, Request};

/// What a node has of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// Nothing: others have it.
    No,
    /// It is being loaded.
    Loading,
    /// All of it.
    Ready,
}

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

/// A shard's side of the way from whoever keeps the map.
pub type HoldingsLink = OrderLink<Arc<Holdings>, ()>;
/// The other side: nothing is answered.
pub type HoldingsPort = OrderPort<Arc<Holdings>, ()>;

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
const NO_MAP: &str = "this node has not yet heard of the others that it divides the users with: ask again in a moment, or another";

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

impl Shard {
    /// A shard of a node that divides users with others: it answers nobody before it has been told of the map.
    #[must_use]
    pub fn with_holdings(mut self, link: HoldingsLink) -> Shard {
        self.holdings = Some(link);
        self.responder.share = Share::Unknown;
        self
    }

    /// Whether a new map waits.
    #[inline]
    pub(super) fn has_new_holdings(&self) -> bool {
        self.holdings.as_ref().is_some_and(|link| !link.orders.is_empty())
    }

    /// Takes over the latest map. Nothing, nearly always.
    #[inline]
    pub(super) fn take_holdings(&mut self) {
        while let Some(holdings) = self.holdings.as_mut().and_then(|link| link.orders.pop()) {
            self.greeting.holdings = Some(Arc::clone(&holdings));
            self.responder.share = Share::Some(holdings);
        }
    }

    /// Answers a request about a user whom this node does not have; a frame also where it has not all of a batch's. Whether it was one.
    #[inline(always)]
    pub(super) fn is_elsewhere(&mut self, connection: u32, request: &Request<'_>) -> bool {
        !matches!(self.responder.share, Share::All) && self.tells_where(connection, request)
    }

    #[inline(never)]
    fn tells_where(&mut self, connection: u32, request: &Request<'_>) -> bool {
        let to = request.reply_to;
        let share = &self.responder.share;
        let elsewhere = match request.query {
            Query::Balance(user) | Query::Statistics(user, _) => {
                share.elsewhere(user).map(|told| (user, told))
            }
            Query::Balances if matches!(to.format, Format::Rkyv | Format::FlatBuffers) => {
                let others = self.users.iter().find(|&&user| share.refusal(user) == Some(Status::NotOwner));
                others.and_then(|&user| share.elsewhere(user).map(|told| (user, told)))
            }
            Query::Hello { .. } if matches!(share, Share::Unknown) => {
                Some((UserId::default(), Elsewhere::Unavailable(String::from(NO_MAP))))
            }
            _ => None,
        };
        let Some((user, elsewhere)) = elsewhere else { return false };
        let out = self.connections.out(connection);
        match elsewhere {
            Elsewhere::Unavailable(message) => {
                self.responder.error(out, &to, Via::Connection, Status::Unavailable, &message);
            }
            Elsewhere::NotOwner(holdings, partition, owner) => {
                let owner = &holdings.map.nodes()[usize::from(owner)];
                let answer = NotOwner { epoch: holdings.map.epoch, user, partition, owner };
                self.responder.not_owner(out, &to, request, &answer);
            }
        }
        true
    }
}
