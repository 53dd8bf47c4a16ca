//! Who asks, and what that one may ask. Where a node knows no callers everybody is anonymous and may ask everything. Who proves
//! itself, and how, stands in [`callers`](super::callers); whoever authenticates a connection before its first byte says who it is
//! with [`Shard::open_as`](super::Shard::open_as) or [`Shard::identify`](super::Shard::identify), and decides nothing else.
//!
//! What a connection may ask is checked where its requests are admitted, before anything is looked up, waits or is passed on.
//! A neighbour that passes a question on has admitted it.

use florin_schema::{Opcode, Status};

/// What a caller may do, as a set.
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
    /// Everything that a shard answers.
    pub const READS: Rights = Rights(7);
    /// What the node counts, and where its shards are: reads of the admin port.
    pub const METRICS: Rights = Rights(8);
    /// Appending to the ledger.
    pub const WRITE: Rights = Rights(16);
    /// Whatever else changes the node's state.
    pub const ADMIN: Rights = Rights(32);
    /// Everything.
    pub const ALL: Rights = Rights(63);

    /// Each by the name under which it is granted.
    pub const NAMED: [(&'static str, Rights); 6] = [
        ("balance", Rights::BALANCE),
        ("statistics", Rights::STATISTICS),
        ("batch", Rights::BATCH),
        ("metrics", Rights::METRICS),
        ("write", Rights::WRITE),
        ("admin", Rights::ADMIN),
    ];

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// What both have.
    #[must_use]
    pub const fn within(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }

    /// Whether all of `needed` is among them.
    pub const fn hold(self, needed: Rights) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// As bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Those of [`Rights::bits`]; bits that are no right are dropped.
    pub const fn of_bits(bits: u8) -> Rights {
        Rights(bits & Rights::ALL.0)
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
    is_metered: bool,
    /// May ask for balances, and nobody counts how often: such requests need no closer look.
    is_swift: bool,
    /// Until when it is this one, µs since 1970 UTC.
    until_us: i64,
    /// Tells what proved it from other proofs of the same principal, for whoever authenticates.
    mark: u64,
}

impl Principal {
    /// Whoever reaches a node that authenticates nobody.
    pub const ANONYMOUS: Principal = Principal::anonymous(Rights::ALL);

    /// One that has proved nothing, and may ask so much all the same.
    pub const fn anonymous(rights: Rights) -> Principal {
        Principal::new(Who::Anonymous, rights)
    }

    /// One that whoever authenticates knows by `number`.
    pub const fn known(number: u16, rights: Rights) -> Principal {
        Principal::new(Who::Known(number), rights)
    }

    const fn new(who: Who, rights: Rights) -> Principal {
        let is_swift = rights.hold(Rights::BALANCE);
        Principal { who, rights, is_metered: false, is_swift, until_us: i64::MAX, mark: 0 }
    }

    /// The same, but its requests are counted against its quota.
    #[must_use]
    pub const fn metered(self) -> Principal {
        Principal { is_metered: true, is_swift: false, ..self }
    }

    /// The same, proved by what `mark` tells from its other proofs, until `until_us` (µs since 1970 UTC; `i64::MAX` = for ever).
    #[must_use]
    pub const fn proved_by(self, mark: u64, until_us: i64) -> Principal {
        Principal { mark, until_us, ..self }
    }

    /// By which whoever authenticates knows it; `None` for the anonymous.
    pub const fn number(self) -> Option<u16> {
        match self.who {
            Who::Anonymous => None,
            Who::Known(number) => Some(number),
        }
    }

    /// What it may do.
    pub const fn rights(self) -> Rights {
        self.rights
    }

    /// See [`Principal::proved_by`].
    pub const fn mark(self) -> u64 {
        self.mark
    }

    /// See [`Principal::proved_by`].
    pub const fn until_us(self) -> i64 {
        self.until_us
    }

    /// Whether its requests are counted against a quota.
    pub const fn is_metered(self) -> bool {
        self.is_metered
    }

    /// Whether it may ask for balances as often as it likes: then such requests need no closer look.
    #[inline(always)]
    pub(super) const fn is_swift(self) -> bool {
        self.is_swift
    }

    /// Whether it may ask everything, as often as it likes: then its requests need no closer look.
    #[inline(always)]
    pub(super) const fn may_ask_all(self) -> bool {
        self.rights.hold(Rights::READS) && !self.is_metered
    }

    /// Whether it has to prove who it is before it may anything at all.
    pub const fn may_nothing(self) -> bool {
        self.refusal(Opcode::Ping).is_some()
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
        self.lacks(needed)
    }

    /// How something that takes these rights is refused, if it is.
    pub const fn lacks(self, needed: Rights) -> Option<Status> {
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
pub const fn message(status: Status, opcode: Opcode) -> &'static str {
    match (status, opcode) {
        (Status::Unauthenticated, _) => {
            "token: expected one, for this node answers only callers that it knows: send it with a Hello, over HTTP as \
             Authorization: Bearer, over RESP with AUTH"
        }
        (_, Opcode::GetBalance) => {
            "balance: this caller may not ask for it; whoever runs this node grants it with may = [\"balance\"]"
        }
        (_, Opcode::GetStatistics) => {
            "statistics: this caller may not ask for them; whoever runs this node grants it with may = [\"statistics\"]"
        }
        (_, Opcode::GetBalances) => {
            "batch: this caller may not ask for many users at once; whoever runs this node grants it with may = [\"batch\"]"
        }
        (_, Opcode::Hello | Opcode::Ping) => {
            "this caller may not ask for that: whoever runs this node can grant it"
        }
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

    #[test]
    fn only_who_is_not_counted_needs_no_closer_look() {
        let reader = Principal::known(7, Rights::READS);
        assert!(reader.may_ask_all() && reader.is_swift());
        assert!(!reader.metered().may_ask_all() && !reader.metered().is_swift());
        assert!(Principal::known(7, Rights::BALANCE).is_swift());
        assert!(!Principal::known(7, Rights::ALL.within(Rights::STATISTICS)).is_swift());
    }

    #[test]
    fn each_right_has_a_name_and_together_they_are_all() {
        let all = Rights::NAMED.iter().fold(Rights::NONE, |all, (_, right)| all.and(*right));
        assert_eq!(all, Rights::ALL);
        assert!(Rights::NAMED.iter().all(|(_, right)| right.bits().is_power_of_two()));
    }
}
