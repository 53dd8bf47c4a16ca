//! What a completion carries back: which operation, on which slot, in which of the slot's lives.

/// The operations whose completions mean something to the loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Operation {
    /// A connection came; the slot is the place of its listener.
    Accept = 1,
    /// Bytes came.
    Receive,
    /// Bytes went.
    Send,
    /// The peer has sent all it will, or is gone.
    PeerEnd,
    /// Our half of the stream is closed.
    Shutdown,
    /// The descriptor is closed and its slot free.
    Close,
    /// Somebody has woken the shard.
    Wake,
    /// A connection that was handed over has a slot; the token's is its place among those that arrive.
    Arrive,
    /// Completions that only failures bring: a cancellation that found nothing, a wake that was not needed.
    Aside,
}

const OPERATIONS: [Operation; 9] = [
    Operation::Accept,
    Operation::Receive,
    Operation::Send,
    Operation::PeerEnd,
    Operation::Shutdown,
    Operation::Close,
    Operation::Wake,
    Operation::Arrive,
    Operation::Aside,
];

/// How often a slot was used, so that a completion of its former life is recognised. 24 bits travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Generation(u32);

impl Generation {
    pub(super) fn next(self) -> Generation {
        Generation((self.0 + 1) & 0xFF_FFFF)
    }
}

/// A completion's user data.
///
/// | bits | |
/// | --- | --- |
/// | 0–31 | slot |
/// | 32–55 | generation |
/// | 56–63 | operation |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Token {
    pub(super) operation: Operation,
    pub(super) generation: Generation,
    pub(super) slot: u32,
}

impl Token {
    pub(super) fn new(operation: Operation, slot: u32, generation: Generation) -> Token {
        Token { operation, generation, slot }
    }

    /// An operation that belongs to no connection.
    pub(super) fn of(operation: Operation, place: u32) -> Token {
        Token::new(operation, place, Generation::default())
    }

    pub(super) fn to_user_data(self) -> u64 {
        u64::from(self.slot) | u64::from(self.generation.0) << 32 | (self.operation as u64) << 56
    }

    /// # Panics
    /// On a number that [`Token::to_user_data`] never made: the kernel only gives back what it was given.
    pub(super) fn from_user_data(user_data: u64) -> Token {
        let [s0, s1, s2, s3, g0, g1, g2, operation] = user_data.to_le_bytes();
        Token {
            operation: *OPERATIONS
                .get(usize::from(operation).wrapping_sub(1))
                .unwrap_or_else(|| panic!("no operation of ours has the user data {user_data:#x}")),
            generation: Generation(u32::from_le_bytes([g0, g1, g2, 0])),
            slot: u32::from_le_bytes([s0, s1, s2, s3]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Generation, OPERATIONS, Token};

    #[test]
    fn a_token_survives_the_kernel() {
        for operation in OPERATIONS {
            for (slot, generation) in [(0, 0), (1, 2), (32_767, 0xFF_FFFF), (u32::MAX, 77)] {
                let token = Token::new(operation, slot, Generation(generation));
                assert_eq!(Token::from_user_data(token.to_user_data()), token);
            }
        }
    }

    #[test]
    fn a_generation_wraps_within_its_bits() {
        assert_eq!(Generation(0xFF_FFFF).next(), Generation(0));
    }
}
