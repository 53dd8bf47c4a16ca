//! What is kept of each connection, beside what its task holds.

use std::task::Waker;

use crate::{
    drivers::lingering::Lingering,
    shard::life::{Life, Reception, Stage},
};

/// One slot.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) life: Life,
    pub(super) to_begin: ToBegin,
    /// Tells a life of the slot from the one before.
    generation: u32,
    /// Its task.
    pub(super) waker: Option<Waker>,
}

/// What its task is to begin, and has not yet.
#[derive(Debug, Default)]
pub(super) struct ToBegin {
    pub(super) send: Option<Vec<u8>>,
    pub(super) receive: bool,
    pub(super) shut: bool,
    /// End whatever is out.
    pub(super) cancel: bool,
}

impl ToBegin {
    pub(super) fn is_empty(&self) -> bool {
        self.send.is_none() && !self.receive && !self.shut && !self.cancel
    }
}

impl Connection {
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// All slots, and the time-outs of those that linger.
#[derive(Debug)]
pub(super) struct Connections {
    slots: Vec<Connection>,
    /// Free slots, the last vacated last: its memory is warm.
    free: Vec<u32>,
    most: u32,
    lingering: Lingering<u32>,
}

impl Connections {
    pub(super) fn new(most: u32) -> Connections {
        Connections {
            slots: Vec::new(),
            free: Vec::new(),
            most,
            lingering: Lingering::new(crate::limits::LINGER_US),
        }
    }

    /// How many there may be.
    pub(super) fn most(&self) -> u32 {
        self.most
    }

    /// Whether one more finds a slot.
    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < self.most as usize
    }

    /// Whether no slot is taken.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// The slots that are taken.
    pub(super) fn taken(&self) -> Vec<u32> {
        let is_taken = |(connection, _): &(&Connection, u32)| connection.life.stage() != Stage::Free;
        self.slots.iter().zip(0_u32..).filter(is_taken).map(|(_, slot)| slot).collect()
    }

    #[inline]
    pub(super) fn at(&mut self, slot: u32) -> &mut Connection {
        &mut self.slots[slot as usize]
    }

    /// Begins a life of a slot.
    ///
    /// # Panics
    /// Where there is no room.
    pub(super) fn occupy(&mut self) -> u32 {
        assert!(self.has_room(), "a connection was accepted without a slot for it");
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Connection::default());
            u32::try_from(self.slots.len() - 1).expect("below the most, which is a u32")
        });
        self.at(slot).life.begin(Reception::Once);
        slot
    }

    /// Ends a life of `slot`.
    pub(super) fn vacate(&mut self, slot: u32) {
        let connection = self.at(slot);
        connection.life.closed();
        *connection =
            Connection { generation: connection.generation.wrapping_add(1), ..Connection::default() };
        self.free.push(slot);
    }

    /// Notes that `slot` begins to linger.
    pub(super) fn linger(&mut self, slot: u32, now_us: u64) {
        let generation = self.at(slot).generation;
        self.lingering.begin(slot, generation, now_us);
    }

    /// When the next lingering ends.
    pub(super) fn next_linger_end_us(&self) -> Option<u64> {
        self.lingering.next_end_us()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limits::LINGER_US, shard::life::Operation};

    #[test]
    fn slots_are_used_again_and_never_more_than_there_may_be() {
        let mut connections = Connections::new(2);
        assert!(connections.is_empty());
        assert_eq!([connections.occupy(), connections.occupy()], [0, 1]);
        assert!(!connections.has_room());
        end(&mut connections, 0);
        assert_eq!(connections.taken(), [1]);
        assert!(connections.has_room());
        assert_eq!(connections.occupy(), 0);
        assert!(!connections.is_empty());
    }

    #[test]
    fn a_lingering_of_a_former_life_ends_nobody() {
        let mut connections = Connections::new(2);
        let slot = connections.occupy();
        connections.linger(slot, 10);
        end(&mut connections, slot);
        assert_eq!(connections.occupy(), slot);
        connections.linger(slot, 20);
        // Neither is there, for only the first has lingered and that life is over.
        assert_eq!(connections.overdue(30 + LINGER_US), None);
        assert_eq!(connections.next_linger_end_us(), None);
    }

    fn end(connections: &mut Connections, slot: u32) {
        let life = &mut connections.at(slot).life;
        life.give_up();
        let nobody = || unreachable!("the shard is asked only while the connection is open");
        assert_eq!([life.next(nobody), life.next(nobody)], [Some(Operation::Forget), Some(Operation::Close)]);
        connections.vacate(slot);
    }
}
