//! What is under way between shards: links to the neighbours, batches whose parts are still coming, and the questions that
//! wait here for their freshness.
//!
//! A question that was passed on has exactly one answer, and each part of a batch comes exactly once; where the connection is
//! gone meanwhile the answer comes all the same, and is thrown away.

use alloc::vec;
use alloc::vec::Vec;

use florin_schema::{ShardIndex, UserId};

pub(super) mod bundle;
pub(super) mod gather;
pub(super) mod peers;
pub(super) mod question;
pub(super) mod waiting;

use super::planted::Planted;
use crate::limits::SPARE_BUNDLES;
use crate::wire::ReplyTo;
use bundle::{Bundle, ForeignLookup};
use gather::Gather;
use peers::{Message, PeerLink};
use question::{Answer, Ask, Ticket};
use waiting::{Waiter, WaitingRoom};

/// See the module.
pub(super) struct Forwarding {
    /// By shard; none to this one.
    peers: Vec<Option<PeerLink>>,
    pub waiting: WaitingRoom,
    gathers: slab::Slab<Gather>,
    /// Connections whose input waits for room on a link.
    blocked: Vec<u32>,
    /// Other shards' lookups that are under way in the pipeline; none between two turns.
    pub incoming: Vec<Incoming>,
    spare: Vec<Bundle>,
    next_to_wake: usize,
    /// Emptied whenever it was used.
    pub due: Vec<Waiter>,
    pub planted: Option<Planted>,
}

/// A bundle of another shard's.
pub(super) struct Incoming {
    pub shard: ShardIndex,
    /// `None` once it is on its way back.
    pub bundle: Option<Bundle>,
}

impl Forwarding {
    pub fn new(peers: Vec<Option<PeerLink>>) -> Forwarding {
        Forwarding {
            peers,
            waiting: WaitingRoom::default(),
            gathers: slab::Slab::new(),
            blocked: Vec::new(),
            incoming: Vec::new(),
            spare: Vec::new(),
            next_to_wake: 0,
            due: Vec::new(),
            planted: None,
        }
    }

    /// The link to a shard; `None` to this one.
    pub fn link(&self, shard: ShardIndex) -> Option<&PeerLink> {
        self.peers[usize::from(shard.0)].as_ref()
    }

    fn peer(&mut self, shard: ShardIndex) -> &mut PeerLink {
        self.peers[usize::from(shard.0)].as_mut().expect("a link to every other shard")
    }

    /// Passes a lookup that had come by `asked_by_us` on to `owner`; `false` where its link has no room.
    #[inline]
    pub fn look_up(&mut self, owner: ShardIndex, lookup: ForeignLookup, asked_by_us: u64) -> bool {
        let Forwarding { peers, spare, .. } = self;
        let peer = peers[usize::from(owner.0)].as_mut().expect("a link to every other shard");
        let may = peer.may_look_up();
        if may {
            peer.look_up(lookup, asked_by_us, || spare.pop().unwrap_or_else(Bundle::new));
        }
        may
    }

    /// Sends the lookups that this turn has gathered.
    pub fn flush(&mut self) {
        if Planted::LosesBundle.is(self.planted) {
            self.peers.iter_mut().flatten().for_each(PeerLink::lose);
        }
        if !Planted::KeepsBundle.is(self.planted) {
            self.peers.iter_mut().flatten().for_each(PeerLink::flush);
        }
    }

    /// Gives an answered bundle back to the shard that it is from.
    pub fn found(&mut self, shard: ShardIndex, bundle: Bundle) {
        self.peer(shard).found(bundle);
    }

    /// Keeps a bundle for later.
    pub fn recycle(&mut self, mut bundle: Bundle) {
        if self.spare.len() < SPARE_BUNDLES {
            bundle.clear();
            self.spare.push(bundle);
        }
    }

    /// Passes any other question on; there must be room.
    pub fn ask(&mut self, owner: ShardIndex, ask: Ask) {
        self.peer(owner).ask(ask);
    }

    /// Answers a question of `shard`'s.
    pub fn answer(&mut self, shard: ShardIndex, answer: Answer) {
        self.peer(shard).answer(answer);
    }

    /// Says to all neighbours that a connection is gone.
    pub fn leave(&mut self, ticket: Ticket) {
        self.peers.iter_mut().flatten().for_each(|peer| peer.leave(ticket));
    }

    /// Says to `shard` that what waited for its connection waits no longer.
    pub fn left(&mut self, shard: ShardIndex) {
        self.peer(shard).left();
    }

    /// The next message of `shard`'s.
    pub fn pop(&mut self, shard: ShardIndex) -> Option<Message> {
        self.peer(shard).pop()
    }

    /// A connection's input waits for room on a link.
    pub fn block(&mut self, connection: u32) {
        self.blocked.push(connection);
    }

    /// One that has waited, and may try again now that an answer has come.
    pub fn unblock(&mut self) -> Option<u32> {
        self.blocked.pop()
    }

    /// Begins a batch, split by owner.
    pub fn begin_gather(&mut self, reply_to: ReplyTo, users: &[UserId], by_owner: &[Vec<UserId>]) -> u32 {
        let missing = by_owner.iter().filter(|users| !users.is_empty()).count();
        assert!(missing > 0, "a batch asks for somebody");
        let parts = vec![Vec::new(); by_owner.len()];
        let gather = Gather { reply_to, users: users.to_vec(), parts, missing, as_of_us: i64::MAX };
        self.gathers.insert(gather) as u32
    }

    /// A part has come: the batch, if it was the last.
    pub fn part_came(
        &mut self,
        gather: u32,
        owner: ShardIndex,
        entries: Vec<u8>,
        as_of_us: i64,
    ) -> Option<Gather> {
        let found = &mut self.gathers[gather as usize];
        found.parts[usize::from(owner.0)] = entries;
        found.as_of_us = found.as_of_us.min(as_of_us);
        found.missing -= 1;
        (found.missing == 0).then(|| self.gathers.remove(gather as usize))
    }

    /// The next neighbour that must be woken after this turn.
    pub fn next_to_wake(&mut self) -> Option<ShardIndex> {
        while self.next_to_wake < self.peers.len() {
            let shard = self.next_to_wake;
            self.next_to_wake += 1;
            if self.peers[shard].as_mut().is_some_and(PeerLink::must_wake) {
                return Some(ShardIndex(shard as u16));
            }
        }
        self.next_to_wake = 0;
        None
    }

    /// Whether a neighbour has sent something.
    pub fn has_messages(&self) -> bool {
        self.peers.iter().flatten().any(PeerLink::has_messages)
    }

    /// Whether lookups are left that should be on their way: none is when a turn has ended.
    pub fn holds_back(&self) -> bool {
        self.peers.iter().flatten().any(PeerLink::holds_back)
    }

    /// Questions of this shard's that its neighbours have not answered yet.
    pub fn outstanding(&self) -> usize {
        self.peers.iter().flatten().map(PeerLink::outstanding).sum()
    }

    /// Batches under way.
    #[cfg(test)]
    pub fn gathers(&self) -> impl ExactSizeIterator<Item = &Gather> {
        self.gathers.iter().map(|(_, gather)| gather)
    }
}

#[cfg(test)]
mod tests;
