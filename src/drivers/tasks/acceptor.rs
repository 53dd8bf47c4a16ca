//! A listener of a shard, and whose turn it is to accept on it.

use std::{os::fd::OwnedFd, sync::Arc};

use crate::{
    drivers::{
        Listening,
        accept_turn::{AcceptTurn, Sharing},
    },
    shard::Listener,
};

/// One listener.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) socket: OwnedFd,
    pub(super) listener: Listener,
    /// Where all shards accept on the same socket: whose turn it is.
    turn: Option<Arc<AcceptTurn>>,
}

impl Acceptor {
    pub(super) fn new(Listening { listener, socket, sharing, .. }: Listening) -> Acceptor {
        let turn = match sharing {
            Sharing::Own => None,
            Sharing::AllShards(turn) => Some(turn),
        };
        Acceptor { socket, listener, turn }
    }

    /// Whether `shard` may accept now.
    pub(super) fn is_on_turn(&self, shard: usize) -> bool {
        self.turn.as_ref().is_none_or(|turn| turn.is_on(shard))
    }

    /// Whether all shards accept on its socket.
    pub(super) fn is_shared(&self) -> bool {
        self.turn.is_some()
    }

    /// Lets the next accept; whose waker is to be woken for that.
    pub(super) fn pass_on(&self, shard: usize) -> Option<usize> {
        let next = self.turn.as_ref()?.pass_on(shard);
        (next != shard).then_some(next)
    }
}
