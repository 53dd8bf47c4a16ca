//! What a driver drives.

use florin_schema::ShardIndex;

use crate::{
    clock::Now,
    shard::{Listener, Park, Shard, Wants},
};

/// What gives a driver's connections their meaning: a [`Shard`], or, to measure a driver alone, something that answers
/// without looking anything up. The methods are those of [`Shard`], and called as its module says.
pub trait Engine {
    /// See [`Shard::begin_turn`].
    fn begin_turn(&mut self, now: Now);
    /// See [`Shard::open`].
    fn open(&mut self, connection: u32, listener: Listener);
    /// See [`Shard::receive`].
    fn receive(&mut self, connection: u32, bytes: &[u8]);
    /// See [`Shard::end_of_input`].
    fn end_of_input(&mut self, connection: u32);
    /// See [`Shard::closed`].
    fn closed(&mut self, connection: u32);
    /// See [`Shard::input_waits`].
    fn input_waits(&mut self) {}
    /// See [`Shard::work`].
    fn work(&mut self);
    /// See [`Shard::next_touched`].
    fn next_touched(&mut self) -> Option<u32>;
    /// See [`Shard::wants`].
    fn wants(&self, connection: u32) -> Wants;
    /// See [`Shard::take_output`].
    fn take_output(&mut self, connection: u32, empty: Vec<u8>) -> Vec<u8>;
    /// See [`Shard::sent`].
    fn sent(&mut self, connection: u32, bytes: usize);
    /// See [`Shard::recycle`].
    fn recycle(&mut self, buffer: Vec<u8>);
    /// See [`Shard::next_bell`].
    fn next_bell(&mut self) -> Option<ShardIndex>;
    /// See [`Shard::end_turn`].
    fn end_turn(&mut self, monotonic_us: u64);
    /// See [`Shard::park`].
    fn park(&mut self) -> Park;
    /// See [`Shard::has_data`]. What needs no data always has it.
    fn has_data(&self) -> bool {
        true
    }
    /// See [`Shard::note_accept_refused`].
    fn note_accept_refused(&mut self) {}
    /// See [`Shard::drain`].
    fn drain(&mut self);
    /// See [`Shard::drained`].
    fn drained(&self) -> bool;
}

impl Engine for Shard {
    #[inline]
    fn begin_turn(&mut self, now: Now) {
        Shard::begin_turn(self, now)
    }

    #[inline]
    fn open(&mut self, connection: u32, listener: Listener) {
        Shard::open(self, connection, listener)
    }

    #[inline]
    fn receive(&mut self, connection: u32, bytes: &[u8]) {
        Shard::receive(self, connection, bytes)
    }

    #[inline]
    fn end_of_input(&mut self, connection: u32) {
        Shard::end_of_input(self, connection)
    }

    #[inline]
    fn closed(&mut self, connection: u32) {
        Shard::closed(self, connection)
    }

    fn input_waits(&mut self) {
        Shard::input_waits(self)
    }

    #[inline]
    fn work(&mut self) {
        Shard::work(self)
    }

    #[inline]
    fn next_touched(&mut self) -> Option<u32> {
        Shard::next_touched(self)
    }

    #[inline]
    fn wants(&self, connection: u32) -> Wants {
        Shard::wants(self, connection)
    }

    #[inline]
    fn take_output(&mut self, connection: u32, empty: Vec<u8>) -> Vec<u8> {
        Shard::take_output(self, connection, empty)
    }

    #[inline]
    fn sent(&mut self, connection: u32, bytes: usize) {
        Shard::sent(self, connection, bytes)
    }

    #[inline]
    fn recycle(&mut self, buffer: Vec<u8>) {
        Shard::recycle(self, buffer)
    }

    #[inline]
    fn next_bell(&mut self) -> Option<ShardIndex> {
        Shard::next_bell(self)
    }

    #[inline]
    fn end_turn(&mut self, monotonic_us: u64) {
        Shard::end_turn(self, monotonic_us)
    }

    #[inline]
    fn park(&mut self) -> Park {
        Shard::park(self)
    }

    #[inline]
    fn has_data(&self) -> bool {
        Shard::has_data(self)
    }

    fn note_accept_refused(&mut self) {
        Shard::note_accept_refused(self)
    }

    #[inline]
    fn drain(&mut self) {
        Shard::drain(self)
    }

    #[inline]
    fn drained(&self) -> bool {
        Shard::drained(self)
    }
}
