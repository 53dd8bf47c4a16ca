//! Sockets that all shards accept on, and whose turn it is.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Whether a listening socket has one shard or all of them accepting on it.
#[derive(Clone, Debug)]
pub enum Sharing {
    /// This shard's own; the kernel spreads connections over such sockets of one port.
    Own,
    /// All shards': the kernel has no such spreading for unix sockets.
    AllShards(Arc<AcceptTurn>),
}

/// Whose turn it is to accept on a socket that all shards share. The kernel wakes those who wait for it in turn, or all
/// of them, but whoever runs first takes everyone that has come by then: on a busy host that is one shard.
#[derive(Debug)]
pub struct AcceptTurn {
    shards: usize,
    on: AtomicUsize,
}

impl AcceptTurn {
    /// The first shard's turn.
    pub fn new(shards: u16) -> AcceptTurn {
        AcceptTurn { shards: usize::from(shards), on: AtomicUsize::new(0) }
    }

    /// Whether it is the turn of `shard`.
    pub fn is_on(&self, shard: usize) -> bool {
        self.on.load(Ordering::Acquire) == shard
    }

    /// Gives the turn of `shard`, which has it, to the next: to whom.
    pub fn pass_on(&self, shard: usize) -> usize {
        let next = (shard + 1) % self.shards;
        self.on.store(next, Ordering::Release);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::AcceptTurn;

    #[test]
    fn the_turn_goes_round() {
        let turn = AcceptTurn::new(3);
        assert!(turn.is_on(0) && !turn.is_on(1));
        assert_eq!([turn.pass_on(0), turn.pass_on(1), turn.pass_on(2)], [1, 2, 0]);
        assert!(turn.is_on(0));
        assert_eq!(AcceptTurn::new(1).pass_on(0), 0);
    }
}
