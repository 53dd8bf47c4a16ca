//! Connections that have shaken hands elsewhere, and those whose other end the kernel was asked about: each comes as a descriptor of
//! the process's, and gets a slot of the ring's table like all others.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use slab::Slab;

use super::{
    RingDriver,
    connections::reception,
    sealed::Sealed,
    token::{Operation, Token},
};
use crate::{
    drivers::{Engine, handover::Secured, peer::Peer},
    shard::{Listener, callers::Proof, life::Reception},
    tls::tally::Outcome,
};

/// Those whose slot the kernel is finding.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    moving: Slab<Moving>,
}

/// One of them.
#[derive(Debug)]
pub(super) enum Comer {
    /// By TLS.
    Secured(Secured),
    /// Plain, and known by its other end.
    Plain { socket: OwnedFd, listener: Listener, peer: Peer },
}

impl Comer {
    fn socket(&self) -> &OwnedFd {
        match self {
            Comer::Secured(Secured { socket, .. }) | Comer::Plain { socket, .. } => socket,
        }
    }
}

#[derive(Debug)]
struct Moving {
    comer: Comer,
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
            self.install(Comer::Secured(secured));
        }
    }

    /// Has the kernel find a slot.
    pub(super) fn install(&mut self, comer: Comer) {
        let place = Box::new(comer.socket().as_raw_fd());
        let entry = self.arriving.moving.vacant_entry();
        let token = Token::of(Operation::Arrive, u32::try_from(entry.key()).expect("as few as slots"));
        let Moving { place, .. } = entry.insert(Moving { comer, place });
        // SAFETY: the place is boxed, and is dropped only once the operation has completed, or leaked with all the others.
        unsafe { self.queue.install(place, token) };
    }

    pub(super) fn on_arrival(&mut self, token: Token, result: i32) {
        let Moving { comer, place } = self.arriving.moving.remove(token.slot as usize);
        let secured = match comer {
            Comer::Secured(secured) => secured,
            Comer::Plain { socket, listener, peer } => {
                return self.on_plain_arrival(socket, listener, peer, *place, result);
            }
        };
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
                let principal =
                    shard.proved(Proof::Certificate { names: &names.all(), until_us: names.until_us });
                shard.open_as(slot, Listener::Tls, Some(principal));
            }
        }
        self.open_records(slot, None);
    }

    fn on_plain_arrival(
        &mut self,
        socket: OwnedFd,
        listener: Listener,
        peer: Peer,
        place: RawFd,
        result: i32,
    ) {
        if result != 1 {
            self.context.shard.note_accept_refused();
            return;
        }
        self.close_own(socket);
        let slot = u32::try_from(place).expect("the kernel has written a slot there");
        self.connections.occupy(slot, reception(listener));
        self.touched.push(slot);
        peer.open(&mut self.context.shard, slot, listener);
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
