//! What the driver keeps of each connection: 48 bytes, a buffer only while it is being sent, and the encryption of one by TLS.

use super::sealed::Sealed;
use super::token::{Generation, Operation, Token};
use crate::{
    drivers::lingering::Lingering,
    limits,
    shard::{
        Listener,
        life::{Life, Reception, Stage},
    },
};

/// One slot.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// What is being sent. Touched by nobody while a send is out.
    pub(super) output: Vec<u8>,
    /// How much of it went.
    pub(super) sent: u32,
    pub(super) generation: Generation,
    pub(super) life: Life,
    /// What lies between its bytes and the shard's; none where they are the same.
    pub(super) sealed: Option<Box<Sealed>>,
}

const _: () =
    assert!(size_of::<Connection>() <= 48, "ten thousand idle connections should cost next to nothing");

impl Connection {
    pub(super) fn token(&self, operation: Operation, slot: u32) -> Token {
        Token::new(operation, slot, self.generation)
    }
}

/// How connections of `listener` are received from. On a unix socket the kernel now and then loses the end of a half-close
/// under a receive that goes on (some 10 in 500,000 short connections; never on TCP), so there the end is watched for.
pub(super) fn reception(listener: Listener) -> Reception {
    match listener {
        Listener::Unix => Reception::Watched,
        Listener::Any | Listener::Shard => Reception::Many,
        Listener::Tls => Reception::Sealed,
    }
}

/// All slots, and the time-outs of those that linger.
#[derive(Debug)]
pub(super) struct Connections {
    slots: Vec<Connection>,
    /// Slots that are not free.
    live: u32,
    lingering: Lingering<Generation>,
    /// Those by TLS with half a record.
    halved: Lingering<Generation>,
}

impl Connections {
    pub(super) fn new() -> Connections {
        Connections {
            slots: Vec::new(),
            live: 0,
            lingering: Lingering::new(limits::LINGER_US),
            halved: Lingering::new(limits::PARTIAL_RECORD_US),
        }
    }

    /// Connections whose slot is taken.
    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// The slots that are taken.
    pub(super) fn live_slots(&self) -> Vec<u32> {
        let is_taken = |(connection, _): &(&Connection, u32)| connection.life.stage() != Stage::Free;
        self.slots.iter().zip(0_u32..).filter(is_taken).map(|(_, slot)| slot).collect()
    }

    /// # Panics
    /// Where the kernel has never accepted into `slot`.
    #[inline]
    pub(super) fn at(&mut self, slot: u32) -> &mut Connection {
        &mut self.slots[slot as usize]
    }

    /// Begins a life of `slot`.
    pub(super) fn occupy(&mut self, slot: u32, reception: Reception) {
        let place = slot as usize;
        if place >= self.slots.len() {
            self.slots.resize_with(place + 1, Connection::default);
        }
        self.slots[place].life.begin(reception);
        self.live += 1;
    }

    /// Ends a life of `slot`.
    pub(super) fn vacate(&mut self, slot: u32) {
        let connection = &mut self.slots[slot as usize];
        connection.life.closed();
        connection.generation = connection.generation.next();
        if connection.sealed.take().is_some() {
            // Its last word, which nobody gives back.
            connection.output = Vec::new();
        }
        self.live -= 1;
    }

    /// Notes that `slot` begins to linger.
    pub(super) fn linger(&mut self, slot: u32, now_us: u64) {
        let generation = self.at(slot).generation;
        self.lingering.begin(slot, generation, now_us);
    }

    /// When the next is to be looked at because of the time.
    pub(super) fn next_end_us(&self) -> Option<u64> {
        [self.lingering.next_end_us(), self.halved.next_end_us()].into_iter().flatten().min()
    }

    /// Notes that `slot` has half a record, unless that is known.
    pub(super) fn watch_half(&mut self, slot: u32, now_us: u64) {
        let Connection { generation, sealed, .. } = &mut self.slots[slot as usize];
        if sealed.as_mut().is_some_and(|sealed| sealed.begins_watch()) {
            self.halved.begin(slot, *generation, now_us);
        }
    }

    /// The next slot whose half record was watched for long enough; whether it is the same that it was.
    pub(super) fn next_halved(&mut self, now_us: u64) -> Option<(u32, bool)> {
        let slots = &self.slots;
        let slot = self.halved.overdue(now_us, |slot| {
            let Connection { generation, life, .. } = &slots[slot as usize];
            life.is_open().then_some(*generation)
        })?;
        let sealed = self.slots[slot as usize].sealed.as_mut().expect("only those by TLS are watched");
        Some((slot, sealed.ends_watch()))
    }

    /// The next slot that has lingered long enough.
    pub(super) fn overdue(&mut self, now_us: u64) -> Option<u32> {
        let slots = &self.slots;
        self.lingering.overdue(now_us, |slot| {
            let Connection { generation, life, .. } = &slots[slot as usize];
            (life.stage() == Stage::Lingering).then_some(*generation)
        })
    }
}
