//! What is to be said of an account beside what it holds.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Some of the flags below.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct Flags(u8);

impl Flags {
    /// None of them.
    pub const NONE: Flags = Flags(0);
    /// Its history is known to be incomplete; answers say so.
    pub const QUARANTINED: Flags = Flags(1);
    /// It cannot be repaired by reading its history again, and no longer follows the ledger.
    pub const DEFECTIVE: Flags = Flags(2);
    /// The feed has been asked to read its history again.
    pub const REREAD_ASKED: Flags = Flags(4);
    /// Its history has been read again in vain, for the ledger itself lacks what is missing.
    pub const LASTING: Flags = Flags(8);

    /// These and those.
    #[inline]
    pub const fn and(self, those: Flags) -> Flags {
        Flags(self.0 | those.0)
    }

    /// These but for those.
    #[inline]
    pub const fn without(self, those: Flags) -> Flags {
        Flags(self.0 & !those.0)
    }

    /// Whether any of those is among these.
    #[inline]
    pub const fn has_any(self, those: Flags) -> bool {
        self.0 & those.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_added_once_taken_out_and_found() {
        let both = Flags::QUARANTINED.and(Flags::LASTING);
        assert_eq!(both.and(Flags::QUARANTINED), both);
        assert_eq!((both.without(Flags::LASTING), both.without(both)), (Flags::QUARANTINED, Flags::NONE));
        assert_eq!(Flags::QUARANTINED.without(Flags::LASTING), Flags::QUARANTINED);
        assert!(both.has_any(Flags::LASTING) && both.has_any(Flags::LASTING.and(Flags::DEFECTIVE)));
        assert!(!both.has_any(Flags::DEFECTIVE.and(Flags::REREAD_ASKED)) && !both.has_any(Flags::NONE));
    }
}
