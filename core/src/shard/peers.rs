//! What shards ask each other, and the links over which they do.
//!
//! The ring from shard i to shard j carries i's questions to j and i's answers to j's questions. A shard has at most
//! [`MESH_ASKS_MAX`] questions outstanding with another, beside [`MESH_WAITS_MAX`] that may wait there, and the ring has
//! twice as many slots: so an answer always finds room, and no pair of shards can wait for each other.

use alloc::sync::Arc;
use alloc::vec::Vec;

use florin_schema::{ShardIndex, UserId, WindowMask};

use crate::limits::{MESH_ASKS_MAX, MESH_RING_SLOTS, MESH_WAITS_MAX};
use crate::mesh::{self, Parking, Receiver, Sender};
use crate::wire::{Freshness, ReplyTo};

/// The connection, of the shard that asks, for which an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    pub(super) connection: u32,
    pub(super) generation: u32,
    /// What was promised for the answer beyond the usual; see [`Session::owe`](super::session::Session::owe).
    pub(super) bytes: u32,
    /// Whether it may wait for its freshness: it has one of the places of its connection, and of the link that it takes.
    pub(super) may_wait: bool,
}

/// What is asked of an account's owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Question {
    Balance(UserId),
    Statistics(UserId, WindowMask),
    /// The owner's part of the batch that the asker keeps as `gather`: users in the batch's order.
    Part {
        gather: u32,
        users: Vec<UserId>,
    },
}

/// A question on its way.
#[derive(Debug)]
pub(super) struct Ask {
    pub ticket: Ticket,
    pub reply_to: ReplyTo,
    pub freshness: Freshness,
    pub question: Question,
    /// Empty, with room: the answer is written into it, and it comes back.
    pub buffer: Vec<u8>,
}

/// An answer on its way back.
#[derive(Debug)]
pub(super) enum Answer {
    /// The whole reply, as the connection sends it.
    Whole { ticket: Ticket, reply: Vec<u8> },
    /// A part of batch `gather`; see [`super::gather`].
    Part { ticket: Ticket, gather: u32, entries: Vec<u8>, as_of_us: i64 },
}

impl Answer {
    pub(super) fn ticket(&self) -> Ticket {
        let (Answer::Whole { ticket, .. } | Answer::Part { ticket, .. }) = *self;
        ticket
    }
}

/// What goes through a ring of the mesh.
#[derive(Debug)]
pub struct MeshMessage(pub(super) Message);

#[derive(Debug)]
pub(super) enum Message {
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
    pushed: bool,
}

impl PeerLink {
    /// Whether one more question may be asked.
    pub(super) fn may_ask(&self) -> bool {
        self.asks < MESH_ASKS_MAX
    }

    /// Whether one more question may wait there.
    pub(super) fn may_wait(&self) -> bool {
        self.waits < MESH_WAITS_MAX
    }

    /// Questions not yet answered.
    pub(super) fn outstanding(&self) -> usize {
        self.asks + self.waits
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
            Message::Ask(_) | Message::Leave(_) => {}
        }
        Some(message)
    }

    pub(super) fn has_messages(&self) -> bool {
        !self.from.is_empty()
    }

    /// Whether the other shard must be woken: something was pushed since the last call, and it is parked.
    pub(super) fn must_ring(&mut self) -> bool {
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
                Some(PeerLink { to, from, parking: Arc::clone(parking), asks: 0, waits: 0, pushed: false })
            };
            links[i][j] = link(to_j, from_j, &parkings[j]);
            links[j][i] = link(to_i, from_i, &parkings[i]);
        }
    }
    links
}

const _: () =
    assert!(MESH_RING_SLOTS >= 2 * (MESH_ASKS_MAX + MESH_WAITS_MAX) && MESH_RING_SLOTS.is_power_of_two());

/// Who wants an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Destination {
    /// A connection of this shard's.
    Here(Ticket),
    /// Another shard, for a connection of its own.
    Peer(ShardIndex, Ticket),
}

impl Destination {
    /// Whether both are one connection, whatever was asked.
    pub(super) fn is_same(&self, other: Destination) -> bool {
        let place = |destination| match destination {
            Destination::Here(ticket) => (None, ticket.connection, ticket.generation),
            Destination::Peer(shard, ticket) => (Some(shard), ticket.connection, ticket.generation),
        };
        place(*self) == place(other)
    }
}
