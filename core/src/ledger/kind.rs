//! The ten kinds of transaction: what each does to a balance, and what it counts as.

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

use florin_schema::decimal;

/// What happened to an account.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Money came in.
    Recharge = 1,
    /// Another user's gift; its other half is a [`Kind::GiftSent`].
    GiftReceived = 2,
    /// A payment came back.
    Refund = 3,
    /// An operator added.
    AdjustmentCredit = 4,
    /// A gift to another user.
    GiftSent = 5,
    /// Money went out.
    Withdrawal = 6,
    /// An operator took away.
    AdjustmentDebit = 7,
    /// Available becomes held.
    Hold = 8,
    /// Held becomes available.
    Release = 9,
    /// Held is spent.
    Capture = 10,
}

/// What a transaction adds to in its account's statistics.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Counting {
    /// Count and sum of credits.
    Credit,
    /// Count and sum of debits, and the largest of them.
    Debit,
    /// Nothing.
    Neither,
}

/// What a user has of one asset, in minor units.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Holdings {
    /// What the user can spend; negative where the ledger says so.
    pub available: i64,
    /// Reserved by holds.
    pub held: i64,
}

/// A sum left the range of a 64-bit integer: no number can be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a sum leaves the range of a 64-bit integer")]
pub struct Overflow;

/// A kind that is none of the ten.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown kind {0:?}: expected 1 to 10 or one of {names}", names = Kind::ALL.map(Kind::name).join(", "))]
pub struct UnknownKind(pub String);

impl Kind {
    /// All ten, in the order of their numbers.
    pub const ALL: [Kind; 10] = [
        Kind::Recharge,
        Kind::GiftReceived,
        Kind::Refund,
        Kind::AdjustmentCredit,
        Kind::GiftSent,
        Kind::Withdrawal,
        Kind::AdjustmentDebit,
        Kind::Hold,
        Kind::Release,
        Kind::Capture,
    ];

    /// The ledger's number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with the ledger's number, or `None` outside 1 to 10.
    pub fn from_number(number: i64) -> Option<Kind> {
        Kind::ALL.get(usize::try_from(number.checked_sub(1)?).ok()?).copied()
    }

    /// The name in imports and requests.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Recharge => "recharge",
            Kind::GiftReceived => "gift_received",
            Kind::Refund => "refund",
            Kind::AdjustmentCredit => "adjustment_credit",
            Kind::GiftSent => "gift_sent",
            Kind::Withdrawal => "withdrawal",
            Kind::AdjustmentDebit => "adjustment_debit",
            Kind::Hold => "hold",
            Kind::Release => "release",
            Kind::Capture => "capture",
        }
    }

    /// Reads a name, or a number's digits.
    pub fn parse(text: &str) -> Result<Kind, UnknownKind> {
        let named = Kind::ALL.into_iter().find(|kind| kind.name() == text);
        let number = || decimal(text).and_then(|number| Kind::from_number(i64::try_from(number).ok()?));
        named.or_else(number).ok_or_else(|| UnknownKind(text.to_owned()))
    }

    /// What it counts as.
    #[inline]
    pub const fn counting(self) -> Counting {
        match self {
            Kind::Recharge | Kind::GiftReceived | Kind::Refund | Kind::AdjustmentCredit => Counting::Credit,
            Kind::GiftSent | Kind::Withdrawal | Kind::AdjustmentDebit | Kind::Capture => Counting::Debit,
            Kind::Hold | Kind::Release => Counting::Neither,
        }
    }

    /// `before` after a transaction of this kind over `amount` minor units.
    #[inline]
    pub fn apply(self, before: Holdings, amount: i64) -> Result<Holdings, Overflow> {
        let (available, held) = match self {
            Kind::Recharge | Kind::GiftReceived | Kind::Refund | Kind::AdjustmentCredit => {
                (before.available.checked_add(amount), Some(before.held))
            }
            Kind::GiftSent | Kind::Withdrawal | Kind::AdjustmentDebit => {
                (before.available.checked_sub(amount), Some(before.held))
            }
            Kind::Hold => (before.available.checked_sub(amount), before.held.checked_add(amount)),
            Kind::Release => (before.available.checked_add(amount), before.held.checked_sub(amount)),
            Kind::Capture => (Some(before.available), before.held.checked_sub(amount)),
        };
        match (available, held) {
            (Some(available), Some(held)) => Ok(Holdings { available, held }),
            _ => Err(Overflow),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_moves_what_domain_md_says() {
        let before = Holdings { available: 100, held: 30 };
        let after = |kind: Kind| {
            let Holdings { available, held } = kind.apply(before, 7).unwrap();
            (available - 100, held - 30)
        };
        let expected = [(7, 0), (7, 0), (7, 0), (7, 0), (-7, 0), (-7, 0), (-7, 0), (-7, 7), (7, -7), (0, -7)];
        assert_eq!(Kind::ALL.map(after), expected);
        let credits = Kind::ALL.iter().filter(|kind| kind.counting() == Counting::Credit).count();
        let debits = Kind::ALL.iter().filter(|kind| kind.counting() == Counting::Debit).count();
        assert_eq!((credits, debits), (4, 4));
    }

    #[test]
    fn a_sum_that_leaves_the_range_is_no_number() {
        let full = Holdings { available: i64::MAX, held: i64::MAX };
        let empty = Holdings { available: i64::MIN, held: i64::MIN };
        assert_eq!(Kind::Recharge.apply(full, 1), Err(Overflow));
        assert_eq!(Kind::Release.apply(full, 1), Err(Overflow));
        assert_eq!(Kind::Hold.apply(Holdings { available: 0, held: i64::MAX }, 1), Err(Overflow));
        assert_eq!(Kind::Withdrawal.apply(empty, 1), Err(Overflow));
        assert_eq!(Kind::Capture.apply(empty, 1), Err(Overflow));
    }

    #[test]
    fn names_and_numbers_lead_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.name()), Ok(kind));
            assert_eq!(Kind::from_number(i64::from(kind.number())), Some(kind));
        }
        for wrong in [0, 11, -1, i64::MIN, i64::MAX] {
            assert_eq!(Kind::from_number(wrong), None);
        }
        assert_eq!(Kind::parse("7"), Ok(Kind::AdjustmentDebit));
        for wrong in ["", "+1", "01", "1 ", "0", "11", "99999999999999999999"] {
            assert!(Kind::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Kind::parse("gift").unwrap_err().to_string().contains("gift_received"));
    }
}
