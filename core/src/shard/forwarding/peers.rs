//! The links over which shards ask each other.
//!
//! The ring from shard i to shard j carries i's questions to j and i's answers to j's questions. A shard has at most
//! [`MESH_BUNDLES_MAX`] bundles of lookups outstanding with another, [`MESH_ASKS_MAX`] other questions, and
//! [`MESH_WAITS_MAX`] that may wait there. The ring has twice as many slots, and each question has one answer: so an answer
//! always finds room, and no pair of shards can wait for each other.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::bundle::{Bundle, ForeignLookup};
use super::question::{Answer, Ask, Ticket};
use crate::limits::{MESH_ASKS_MAX, MESH_BUNDLES_MAX, MESH_RING_SLOTS, MESH_WAITS_MAX};
use crate::mesh::{self, Parking, Receiver, Sender};

/// What goes through a ring of the mesh.
#[derive(Debug)]
pub struct MeshMessage(Message);

#[derive(Debug)]
pub(in crate::shard) enum Message {
    /// Lookups of any age.
    Lookups(Bundle),
    /// They have been looked up.
    Found(Bundle),
    /// Any other question.
    Ask(Ask),
    Answer(Answer),
    /// The ticket's connection is gone, and with it all that waits for it.
    Leave(Ticket),
    /// It has left.
    Left,
}

/// One shard's link to one other.
pub struct PeerLink {
    to: Sender<MeshMessage>,
    from: Receiver<MeshMessage>,
    parking: Arc<Parking>,
    /// Questions not yet answered, but for those that may wait.
    asks: usize,
    waits: usize,
    /// Lookups that wait for more of their turn, or for a bundle to come back: never one that is full while another may go.
    filling: Option<Bundle>,
    /// Bundles that have not come back.
    bundles: usize,
    /// Lookups in them.
    lookups: usize,
    pushed: bool,
}

impl PeerLink {
    /// Whether one more lookup may be asked for.
    #[inline]
    pub(in crate::shard) fn may_look_up(&self) -> bool {
        self.bundles < MESH_BUNDLES_MAX || !self.filling.as_ref().is_some_and(Bundle::is_full)
    }

    /// Asks for one more, in a bundle of `spare`'s making. It leaves when the bundle is full, or with [`PeerLink::flush`].
    #[inline]
    pub(super) fn look_up(
        &mut self,
        lookup: ForeignLookup,
        asked_by_us: u64,
        spare: impl FnOnce() -> Bundle,
    ) {
        assert!(self.may_look_up(), "a lookup is asked for only where it may be");
        if self.filling.as_ref().is_some_and(Bundle::is_full) {
            self.flush();
        }
        let bundle = self.filling.get_or_insert_with(spare);
        bundle.push(lookup, asked_by_us);
        if bundle.is_full() {
            self.flush();
        }
    }

    /// Sends the lookups that wait, unless as many bundles are out as may be: then they leave when one comes back.
    pub(super) fn flush(&mut self) {
        if self.bundles < MESH_BUNDLES_MAX
            && let Some(bundle) = self.filling.take()
        {
            self.bundles += 1;
            self.lookups += bundle.len();
            self.push(Message::Lookups(bundle));
        }
    }

    /// Forgets the lookups that wait, as a defect to be found.
    pub(super) fn lose(&mut self) {
        self.filling = None;
    }

    /// Lookups that it could send and has not.
    pub(super) fn holds_back(&self) -> bool {
        self.filling.is_some() && self.bundles < MESH_BUNDLES_MAX
    }

    /// Gives an answered bundle back.
    pub(super) fn found(&mut self, bundle: Bundle) {
        self.push(Message::Found(bundle));
    }

    /// Whether one more question may be asked.
    pub(in crate::shard) fn may_ask(&self) -> bool {
        self.asks < MESH_ASKS_MAX
    }

    /// Whether one more question may wait there.
    pub(in crate::shard) fn may_wait(&self) -> bool {
        self.waits < MESH_WAITS_MAX
    }

    /// Questions not yet answered.
    pub(in crate::shard) fn outstanding(&self) -> usize {
        let filling = self.filling.as_ref().map_or(0, Bundle::len);
        self.asks + self.waits + self.lookups + filling
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        let has_room = if ask.ticket.may_wait { self.may_wait() } else { self.may_ask() };
        assert!(has_room, "a question is asked only where it may be");
        *self.counter(ask.ticket) += 1;
        self.push(Message::Ask(ask));
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        self.push(Message::Answer(answer));
    }

    /// Says that a connection is gone. It takes the place of a question; where there is none, what waits for the connection
    /// stays until its time is up.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if self.waits > 0 && self.may_ask() {
            self.asks += 1;
            self.push(Message::Leave(ticket));
        }
    }

    pub(super) fn left(&mut self) {
        self.push(Message::Left);
    }

    fn counter(&mut self, ticket: Ticket) -> &mut usize {
        if ticket.may_wait { &mut self.waits } else { &mut self.asks }
    }

    fn push(&mut self, message: Message) {
        self.pushed = true;
        assert!(
            self.to.push(MeshMessage(message)).is_ok(),
            "a ring holds all questions and answers of both sides"
        );
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let MeshMessage(message) = self.from.pop()?;
        match &message {
            Message::Answer(answer) => *self.counter(answer.ticket()) -= 1,
            Message::Left => self.asks -= 1,
            Message::Found(bundle) => {
                self.bundles -= 1;
                self.lookups -= bundle.len();
            }
            Message::Lookups(_) | Message::Ask(_) | Message::Leave(_) => {}
        }
        Some(message)
    }

    pub(super) fn has_messages(&self) -> bool {
        !self.from.is_empty()
    }

    /// Whether the other shard must be woken: something was pushed since the last call, and it is parked.
    pub(super) fn must_wake(&mut self) -> bool {
        core::mem::take(&mut self.pushed) && self.parking.notify()
    }
}

/// The links of every shard of a node to every other: `links[i][j]` is shard i's link to j, `None` to itself.
pub fn mesh(parkings: &[Arc<Parking>]) -> Vec<Vec<Option<PeerLink>>> {
    let shards = parkings.len();
    let mut links: Vec<Vec<Option<PeerLink>>> =
        (0..shards).map(|_| (0..shards).map(|_| None).collect()).collect();
    for i in 0..shards {
        for j in i + 1..shards {
            let (to_j, from_i) = mesh::ring(MESH_RING_SLOTS);
            let (to_i, from_j) = mesh::ring(MESH_RING_SLOTS);
            let link = |to, from, parking: &Arc<Parking>| {
                Some(PeerLink {
                    to,
                    from,
                    parking: Arc::clone(parking),
                    asks: 0,
                    waits: 0,
                    filling: None,
                    bundles: 0,
                    lookups: 0,
                    pushed: false,
                })
            };
            links[i][j] = link(to_j, from_j, &parkings[j]);
            links[j][i] = link(to_i, from_i, &parkings[i]);
        }
    }
    links
}

const _: () = assert!(
    MESH_RING_SLOTS >= 2 * (MESH_ASKS_MAX + MESH_WAITS_MAX + MESH_BUNDLES_MAX)
        && MESH_RING_SLOTS.is_power_of_two()
);
