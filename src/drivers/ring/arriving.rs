//! Connections that have shaken hands elsewhere: each comes as a descriptor of the process's, and gets a slot of the ring's table
//! like all others.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use slab::Slab;

use super::{
    RingDriver,
    sealed::Sealed,
    token::{Operation, Token},
};
use crate::{
    drivers::{Engine, handover::Secured},
    shard::{Listener, callers::Proof, life::Reception},
    tls::tally::Outcome,
};

/// Those whose slot the kernel is finding.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    moving: Slab<Moving>,
}

#[derive(Debug)]
struct Moving {
    secured: Secured,
    /// The descriptor, and then the slot: the kernel reads and writes it until the operation has completed, so it stays where it is.
    place: Box<RawFd>,
}

impl Arriving {
    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.moving.len()).expect("no more than there are slots")
    }
}

impl<E: Engine> RingDriver<E> {
    /// Takes what has been handed over.
    pub(super) fn take_arrivals(&mut self) {
        while let Some(secured) = self.context.arrivals.as_ref().and_then(|arrivals| arrivals.next()) {
            // Each listener may be about to bring one.
            let reserved = u32::try_from(self.acceptors.len()).expect("a few") + self.arriving.count();
            if self.drain.has_begun() || self.connections.live() + reserved >= self.queue.connections_max() {
                self.count(Outcome::NoPlace);
                continue;
            }
            let place = Box::new(secured.socket.as_raw_fd());
            let entry = self.arriving.moving.vacant_entry();
            let token = Token::of(Operation::Arrive, u32::try_from(entry.key()).expect("as few as slots"));
            let Moving { place, .. } = entry.insert(Moving { secured, place });
            // SAFETY: the place is boxed, and is dropped only once the operation has completed, or leaked with all the others.
            unsafe { self.queue.install(place, token) };
        }
    }

    pub(super) fn on_arrival(&mut self, token: Token, result: i32) {
        let Moving { secured, place } = self.arriving.moving.remove(token.slot as usize);
        let Secured { socket, session, from, names } = secured;
        if result != 1 {
            self.count(Outcome::NoPlace);
            return;
        }
        // The ring's table holds it from now on.
        self.close_own(socket);
        let slot = u32::try_from(*place).expect("the kernel has written a slot there");
        self.connections.occupy(slot, Reception::Sealed);
        self.connections.at(slot).sealed = Some(Box::new(Sealed::new(session)));
        self.touched.push(slot);
        let shard = &mut self.context.shard;
        shard.comes_from(slot, from);
        match names {
            None => shard.open(slot, Listener::Tls),
            Some(names) => {
                let principal = shard.proved(Proof::Certificate(&names.all()));
                shard.open_as(slot, Listener::Tls, Some(principal));
            }
        }
        self.open_records(slot, None);
    }

    /// Forgets those whose operation will not complete.
    pub(super) fn leak_arrivals(&mut self) {
        std::mem::forget(std::mem::take(&mut self.arriving));
    }

    /// By the ring, for a system call would be one.
    fn close_own(&mut self, socket: OwnedFd) {
        self.queue.close_descriptor(socket.into_raw_fd());
    }

    pub(super) fn count(&self, outcome: Outcome) {
        if let Some(arrivals) = &self.context.arrivals {
            arrivals.tally.add(outcome);
        }
    }
}
