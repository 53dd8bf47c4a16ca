//! What the ring driver drives: a shard. The benchmark puts something in its place that answers without looking anything up,
//! and so measures the driver alone.

use std::net::IpAddr;

use florin_schema::ShardIndex;

use crate::{
    clock::Now,
    shard::{Listener, Park, Principal, Shard, Wants, callers::Proof},
};

/// Declares [`Engine`] by the methods of [`Shard`] that the ring driver calls, and makes a shard one.
macro_rules! engine {
    (
        changes { $(fn $changes:ident($($argument:ident: $kind:ty),*) $(-> $answer:ty)?;)* }
        asks { $(fn $asks:ident($($key:ident: $of:ty),*) -> $found:ty;)* }
    ) => {
        /// What gives the ring driver's connections their meaning: a [`Shard`], or, to measure the driver alone, something
        /// that answers without looking anything up. The methods are those of [`Shard`], and called as its module says.
        pub trait Engine {
            $(
                #[doc = concat!("See [`Shard::", stringify!($changes), "`].")]
                fn $changes(&mut self, $($argument: $kind),*) $(-> $answer)?;
            )*
            $(
                #[doc = concat!("See [`Shard::", stringify!($asks), "`].")]
                fn $asks(&self, $($key: $of),*) -> $found;
            )*
        }

        impl Engine for Shard {
            $(
                #[inline]
                fn $changes(&mut self, $($argument: $kind),*) $(-> $answer)? {
                    Shard::$changes(self, $($argument),*)
                }
            )*
            $(
                #[inline]
                fn $asks(&self, $($key: $of),*) -> $found {
                    Shard::$asks(self, $($key),*)
                }
            )*
        }
    };
}

engine! {
    changes {
        fn begin_turn(now: Now);
        fn input_came_by(monotonic_us: u64);
        fn open(connection: u32, listener: Listener);
        fn open_as(connection: u32, listener: Listener, principal: Option<Principal>);
        fn comes_from(connection: u32, address: IpAddr);
        fn receive(connection: u32, bytes: &[u8]);
        fn end_of_input(connection: u32);
        fn closed(connection: u32);
        fn input_waits();
        fn note_accept_refused();
        fn note_connections_full();
        fn work();
        fn next_touched() -> Option<u32>;
        fn take_output(connection: u32, empty: Vec<u8>) -> Vec<u8>;
        fn sent(connection: u32, bytes: usize);
        fn spare_buffer() -> Vec<u8>;
        fn recycle(buffer: Vec<u8>);
        fn next_to_wake() -> Option<ShardIndex>;
        fn end_turn(monotonic_us: u64);
        fn park() -> Park;
        fn drain();
    }
    asks {
        fn proved(proof: Proof<'_>) -> Principal;
        fn knows_callers() -> bool;
        fn wants(connection: u32) -> Wants;
        fn has_data() -> bool;
        fn drained() -> bool;
    }
}
