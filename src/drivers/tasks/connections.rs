//! What is kept of each connection, beside what its task holds.

use std::{collections::VecDeque, task::Waker};

/// Where a connection is in its life.
///
/// ```text
///     Free ──accepted──▶ Open ──nothing left to say──▶ Lingering ──the peer is done, or time is up──▶ Closing ──▶ Free
///                          └────────────the socket failed───────────────────────────────────────────────▲
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Stage {
    /// The slot has no connection.
    #[default]
    Free,
    /// The shard has a session for it.
    Open,
    /// Our half is to be shut, or is, and what still comes is thrown away: a close with unread bytes would reset the
    /// connection and could take the last answer with it.
    Lingering,
    /// Its operations are being ended and awaited; then its task ends, and with that its descriptor is closed.
    Closing,
}

/// What the sending half does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Sending {
    #[default]
    Nothing,
    /// One buffer of answers: never two at a time, for they could overtake each other.
    Output,
    /// Nothing any more.
    Shut,
}

/// What the receiving half does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Receiving {
    #[default]
    Wanted,
    /// The shard has enough for now: the peer's bytes stay in the kernel, which in time tells the peer to wait.
    Refused,
    /// The peer has sent all it will.
    Ended,
}

/// One slot.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) stage: Stage,
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
    /// Tells a life of the slot from the one before.
    generation: u32,
    /// Its task.
    pub(super) waker: Option<Waker>,
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
    /// In the order of their deadlines, which is that of their coming.
    lingering: VecDeque<Lingerer>,
}

#[derive(Debug)]
struct Lingerer {
    until_us: u64,
    slot: u32,
    generation: u32,
}

impl Connections {
    pub(super) fn new(most: u32) -> Connections {
        Connections { slots: Vec::new(), free: Vec::new(), most, lingering: VecDeque::new() }
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
        let taken = self.slots.iter().zip(0_u32..).filter(|(connection, _)| connection.stage != Stage::Free);
        taken.map(|(_, slot)| slot).collect()
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
        self.at(slot).stage = Stage::Open;
        slot
    }

    /// Ends a life of `slot`.
    pub(super) fn vacate(&mut self, slot: u32) {
        let connection = self.at(slot);
        assert_eq!(connection.stage, Stage::Closing, "slot {slot} was left before its connection was closed");
        *connection =
            Connection { generation: connection.generation.wrapping_add(1), ..Connection::default() };
        self.free.push(slot);
    }

    /// Notes when `slot` has lingered long enough. Every lingering lasts equally long.
    pub(super) fn linger(&mut self, slot: u32, until_us: u64) {
        let generation = self.at(slot).generation;
        self.lingering.push_back(Lingerer { until_us, slot, generation });
    }

    /// When the next lingering ends.
    pub(super) fn next_linger_end_us(&self) -> Option<u64> {
        self.lingering.front().map(|lingerer| lingerer.until_us)
    }

    /// The next slot that has lingered long enough.
    pub(super) fn overdue(&mut self, monotonic_us: u64) -> Option<u32> {
        while self.next_linger_end_us()? <= monotonic_us {
            let Lingerer { slot, generation, .. } = self.lingering.pop_front()?;
            let connection = &self.slots[slot as usize];
            if connection.generation == generation && connection.stage == Stage::Lingering {
                return Some(slot);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Connections, Stage};

    #[test]
    fn slots_are_used_again_and_never_more_than_there_may_be() {
        let mut connections = Connections::new(2);
        assert!(connections.is_empty());
        assert_eq!([connections.occupy(), connections.occupy()], [0, 1]);
        assert!(!connections.has_room());
        connections.at(0).stage = Stage::Closing;
        connections.vacate(0);
        assert_eq!(connections.taken(), [1]);
        assert!(connections.has_room());
        assert_eq!(connections.occupy(), 0);
        assert!(!connections.is_empty());
    }

    #[test]
    fn a_lingering_of_a_former_life_ends_nobody() {
        let mut connections = Connections::new(2);
        let slot = connections.occupy();
        connections.at(slot).stage = Stage::Lingering;
        connections.linger(slot, 10);
        connections.at(slot).stage = Stage::Closing;
        connections.vacate(slot);
        assert_eq!(connections.occupy(), slot);
        connections.at(slot).stage = Stage::Lingering;
        connections.linger(slot, 20);
        assert_eq!(connections.overdue(15), None);
        assert_eq!(connections.next_linger_end_us(), Some(20));
        assert_eq!(connections.overdue(20), Some(slot));
        assert_eq!(connections.overdue(20), None);
    }
}
