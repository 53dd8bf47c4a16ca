//! What the driver keeps of each connection: 40 bytes, and a buffer only while it is being sent.

use std::collections::VecDeque;

use super::token::{Generation, Operation, Token};

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
    /// Our half is shut and what still comes is thrown away: a close with unread bytes would reset the connection and
    /// could take the last answer with it.
    Lingering,
    /// Its operations are being cancelled and awaited; then its descriptor is closed.
    Closing,
    /// The close itself is out.
    Closed,
}

/// The multishot receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Receiving {
    #[default]
    Off,
    Armed,
    /// Its cancellation is out, and its last completion awaited.
    Cancelling,
    /// It ended because no buffer was left; it is armed again when its turn comes.
    Starved,
}

/// The one send that may be out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Sending {
    #[default]
    Nothing,
    /// `Connection::output`, from `Connection::sent` on. Until it completes the kernel reads these bytes.
    Output,
    /// The end of our half.
    Shutdown,
}

/// The peer's half of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Input {
    #[default]
    Flowing,
    Ended,
}

/// One slot.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// What is being sent. Touched by nobody while `sending` is [`Sending::Output`].
    pub(super) output: Vec<u8>,
    /// How much of it went.
    pub(super) sent: u32,
    pub(super) generation: Generation,
    pub(super) stage: Stage,
    pub(super) receiving: Receiving,
    pub(super) sending: Sending,
    pub(super) input: Input,
}

const _: () =
    assert!(size_of::<Connection>() <= 40, "ten thousand idle connections should cost next to nothing");

impl Connection {
    pub(super) fn token(&self, operation: Operation, slot: u32) -> Token {
        Token::new(operation, slot, self.generation)
    }

    /// Whether the kernel holds no operation on it.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.receiving, Receiving::Off | Receiving::Starved) && self.sending == Sending::Nothing
    }
}

/// All slots, and the time-outs of those that linger.
#[derive(Debug)]
pub(super) struct Connections {
    slots: Vec<Connection>,
    /// Slots that are not [`Stage::Free`].
    live: u32,
    /// In the order of their deadlines, which is that of their coming.
    lingering: VecDeque<Lingerer>,
}

#[derive(Debug)]
struct Lingerer {
    until_us: u64,
    slot: u32,
    generation: Generation,
}

impl Connections {
    pub(super) fn new() -> Connections {
        Connections { slots: Vec::new(), live: 0, lingering: VecDeque::new() }
    }

    /// Connections whose slot is taken.
    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// The slots that are taken.
    pub(super) fn live_slots(&self) -> Vec<u32> {
        let taken = self.slots.iter().zip(0_u32..).filter(|(connection, _)| connection.stage != Stage::Free);
        taken.map(|(_, slot)| slot).collect()
    }

    /// # Panics
    /// Where the kernel has never accepted into `slot`.
    #[inline]
    pub(super) fn at(&mut self, slot: u32) -> &mut Connection {
        &mut self.slots[slot as usize]
    }

    /// Begins a life of `slot`.
    pub(super) fn occupy(&mut self, slot: u32) -> &mut Connection {
        let place = slot as usize;
        if place >= self.slots.len() {
            self.slots.resize_with(place + 1, Connection::default);
        }
        let connection = &mut self.slots[place];
        assert_eq!(connection.stage, Stage::Free, "the kernel accepted into slot {slot}, which is taken");
        connection.stage = Stage::Open;
        connection.input = Input::Flowing;
        connection.receiving = Receiving::Off;
        self.live += 1;
        connection
    }

    /// Ends a life of `slot`.
    pub(super) fn vacate(&mut self, slot: u32) {
        let connection = &mut self.slots[slot as usize];
        assert!(connection.is_quiet(), "slot {slot} was closed under an operation: {connection:?}");
        connection.stage = Stage::Free;
        connection.generation = connection.generation.next();
        self.live -= 1;
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
