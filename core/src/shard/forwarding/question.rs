//! What is asked about accounts, and who wants the answer: of this shard or of another, now or once it is fresh enough.

use alloc::vec::Vec;

use florin_schema::{ShardIndex, UserId, WindowMask};

use crate::wire::{Freshness, ReplyTo};

/// The connection, of the shard that asks, for which an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    pub(in crate::shard) connection: u32,
    pub(in crate::shard) generation: u32,
    /// What was promised for the answer beyond the usual; see `Session::owe`.
    pub(in crate::shard) bytes: u32,
    /// Whether it may wait for its freshness: it has one of the places of its connection, and of the link that it takes.
    pub(in crate::shard) may_wait: bool,
}

/// What of an account is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Aspect {
    Balance,
    Statistics(WindowMask),
}

/// What is asked of an account's owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Question {
    Balance(UserId),
    Statistics(UserId, WindowMask),
    /// The owner's part of the batch that the asker keeps as `gather`: users in the batch's order.
    Part {
        gather: u32,
        users: Vec<UserId>,
    },
}

impl Question {
    /// The user and aspect of a question about one user.
    pub(in crate::shard) fn single(&self) -> Option<(UserId, Aspect)> {
        match *self {
            Question::Balance(user) => Some((user, Aspect::Balance)),
            Question::Statistics(user, windows) => Some((user, Aspect::Statistics(windows))),
            Question::Part { .. } => None,
        }
    }
}

/// A question on its way.
#[derive(Debug)]
pub(in crate::shard) struct Ask {
    pub ticket: Ticket,
    pub reply_to: ReplyTo,
    pub freshness: Freshness,
    /// By when it had come, monotonic µs: whoever answers may have looked at the clock before.
    pub asked_by_us: u64,
    pub question: Question,
    /// Empty, with room: the answer is written into it, and it comes back.
    pub buffer: Vec<u8>,
}

/// An answer on its way back.
#[derive(Debug)]
pub(in crate::shard) enum Answer {
    /// The whole reply, as the connection sends it.
    Whole { ticket: Ticket, reply: Vec<u8> },
    /// A part of batch `gather`; see `gather`.
    Part { ticket: Ticket, gather: u32, entries: Vec<u8>, as_of_us: i64 },
}

impl Answer {
    pub(in crate::shard) fn ticket(&self) -> Ticket {
        let (Answer::Whole { ticket, .. } | Answer::Part { ticket, .. }) = *self;
        ticket
    }
}

/// Who wants an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Destination {
    /// A connection of this shard's.
    Here(Ticket),
    /// Another shard, for a connection of its own.
    Peer(ShardIndex, Ticket),
}

impl Destination {
    /// Whether both are one connection, whatever was asked.
    pub(in crate::shard) fn is_same(&self, other: Destination) -> bool {
        let place = |destination| match destination {
            Destination::Here(ticket) => (None, ticket.connection, ticket.generation),
            Destination::Peer(shard, ticket) => (Some(shard), ticket.connection, ticket.generation),
        };
        place(*self) == place(other)
    }
}
