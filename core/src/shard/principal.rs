//! Who asks, and what that one may ask. Today everybody is anonymous and may ask everything; whoever authenticates callers
//! says who they are with [`Shard::open_as`](super::Shard::open_as) or [`Shard::identify`](super::Shard::identify), and
//! decides nothing else.
//!
//! What a connection may ask is checked where its requests are admitted, before anything is looked up, waits or is passed on.
//! A neighbour that passes a question on has admitted it.

use florin_schema::{Opcode, Status};

/// Kinds of data that a caller may ask for, as a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights(u8);

impl Rights {
    /// Nothing.
    pub const NONE: Rights = Rights(0);
    /// One user's balances.
    pub const BALANCE: Rights = Rights(1);
    /// One user's statistics.
    pub const STATISTICS: Rights = Rights(2);
    /// Many users' balances at once.
    pub const BATCH: Rights = Rights(4);
    /// Everything.
    pub const ALL: Rights = Rights(7);

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    const fn hold(self, needed: Rights) -> bool {
        self.0 & needed.0 == needed.0
    }
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    /// Nobody in particular: it has proved nothing.
    Anonymous,
    /// One that whoever authenticates knows by this number.
    Known(u16),
}

/// Who asks, and what that one may ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Principal {
    who: Who,
    rights: Rights,
}

impl Principal {
    /// Whoever reaches a node that authenticates nobody.
    pub const ANONYMOUS: Principal = Principal::anonymous(Rights::ALL);

    /// One that has proved nothing, and may ask so much all the same.
    pub const fn anonymous(rights: Rights) -> Principal {
        Principal { who: Who::Anonymous, rights }
    }

    /// One that whoever authenticates knows by `number`.
    pub const fn known(number: u16, rights: Rights) -> Principal {
        Principal { who: Who::Known(number), rights }
    }

    /// By which whoever authenticates knows it; `None` for the anonymous.
    pub const fn number(self) -> Option<u16> {
        match self.who {
            Who::Anonymous => None,
            Who::Known(number) => Some(number),
        }
    }

    /// Whether it may ask everything: then its requests need no closer look.
    #[inline(always)]
    pub(super) const fn may_ask_all(self) -> bool {
        self.rights.0 == Rights::ALL.0
    }

    /// How a request of this kind is refused, if it is. Hello is open to all, for with it a caller proves who it is; a Ping to
    /// those who have.
    pub const fn refusal(self, opcode: Opcode) -> Option<Status> {
        let needed = match opcode {
            Opcode::Hello => return None,
            Opcode::Ping => Rights::NONE,
            Opcode::GetBalance => Rights::BALANCE,
            Opcode::GetStatistics => Rights::STATISTICS,
            Opcode::GetBalances => Rights::BATCH,
        };
        match self.who {
            Who::Anonymous if self.rights.0 == Rights::NONE.0 || !self.rights.hold(needed) => {
                Some(Status::Unauthenticated)
            }
            Who::Known(_) if !self.rights.hold(needed) => Some(Status::PermissionDenied),
            Who::Anonymous | Who::Known(_) => None,
        }
    }
}

/// What a refusal says.
pub(super) const fn message(status: Status) -> &'static str {
    match status {
        Status::Unauthenticated => {
            "token: expected one, for this node answers only callers that it knows: send it with a Hello, over HTTP as \
             Authorization: Bearer"
        }
        _ => "this caller may not ask for that: whoever runs this node can grant it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_ask_is_told_whether_to_prove_itself() {
        use Opcode::{GetBalance, GetBalances, GetStatistics, Hello, Ping};
        let refusals = |principal: Principal| {
            [Hello, Ping, GetBalance, GetStatistics, GetBalances].map(|opcode| principal.refusal(opcode))
        };
        let (unknown, denied) = (Some(Status::Unauthenticated), Some(Status::PermissionDenied));
        assert_eq!(refusals(Principal::ANONYMOUS), [None; 5]);
        assert_eq!(refusals(Principal::known(7, Rights::ALL)), [None; 5]);
        assert_eq!(refusals(Principal::anonymous(Rights::NONE)), [None, unknown, unknown, unknown, unknown]);
        assert_eq!(refusals(Principal::known(7, Rights::NONE)), [None, None, denied, denied, denied]);
        let some = Rights::BALANCE.and(Rights::BATCH);
        assert_eq!(refusals(Principal::anonymous(some)), [None, None, None, unknown, None]);
        assert_eq!(refusals(Principal::known(7, some)), [None, None, None, denied, None]);
        assert!(Principal::ANONYMOUS.may_ask_all() && !Principal::known(7, some).may_ask_all());
        assert_eq!((Principal::ANONYMOUS.number(), Principal::known(7, some).number()), (None, Some(7)));
    }
}
