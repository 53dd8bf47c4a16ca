//! Brings rows that were copied into the order of their accounts. A table's pages hold them in the order of commits but where
//! room was used again: such rows are held back until those before them have come.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

use florin_core::follower::Row;
use florin_core::ledger::Transaction;
use florin_schema::ids::Mixed;
use florin_schema::{UserId, Version};

use crate::limits::HELD_ROWS_MAX;

/// More rows had to be held back than there is room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfOrder;

/// See the module.
#[derive(Default)]
pub struct Order {
    last: HashMap<UserId, Version, BuildHasherDefault<Mixed>>,
    held: BTreeMap<(UserId, Version), Transaction>,
}

impl Order {
    /// Takes a row; adds to `rows` what may be delivered now.
    ///
    /// # Errors
    /// Where too much is held back.
    #[inline]
    pub fn take(&mut self, row: Transaction, rows: &mut Vec<Row>) -> Result<(), OutOfOrder> {
        let last = self.last.entry(row.user_id).or_default();
        if row.version > last.next() {
            self.held.insert((row.user_id, row.version), row);
            return if self.held.len() > HELD_ROWS_MAX { Err(OutOfOrder) } else { Ok(()) };
        }
        *last = (*last).max(row.version);
        rows.push(Ok(row));
        if !self.held.is_empty() {
            while let Some(next) = self.held.remove(&(row.user_id, last.next())) {
                *last = next.version;
                rows.push(Ok(next));
            }
        }
        Ok(())
    }

    /// The ledger has no more: what is held back has a hole before it, and follows as it is.
    pub fn end(self) -> impl Iterator<Item = Row> {
        self.held.into_values().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use florin_core::ledger::Kind;
    use florin_schema::Asset;
    use proptest::prelude::*;

    use super::*;

    fn row(user: u64, version: u64) -> Transaction {
        Transaction {
            user_id: UserId::new(user).unwrap(),
            version: Version(version),
            asset: Asset::parse(b"COIN").unwrap(),
            kind: Kind::Recharge,
            amount: 1,
            occurred_at_us: 0,
        }
    }

    proptest! {
        #[test]
        fn whatever_order_pages_have_accounts_are_in_theirs(
            rows in Just((0..300u64).map(|at| (at % 7, at / 7 + 1)).collect::<Vec<_>>()).prop_shuffle()
        ) {
            let (mut order, mut delivered) = (Order::default(), Vec::new());
            for (user, version) in &rows {
                order.take(row(*user, *version), &mut delivered).unwrap();
            }
            prop_assert_eq!(order.end().count(), 0);
            prop_assert_eq!(delivered.len(), rows.len());
            let mut last = HashMap::new();
            for row in delivered.into_iter().flatten() {
                let last = last.entry(row.user_id).or_insert(0);
                *last += 1;
                prop_assert_eq!(row.version.0, *last);
            }
        }
    }

    #[test]
    fn a_hole_in_the_ledger_holds_nothing_back_for_ever() {
        let (mut order, mut delivered) = (Order::default(), Vec::new());
        for version in [3, 1, 4] {
            order.take(row(1, version), &mut delivered).unwrap();
        }
        delivered.extend(order.end());
        let versions: Vec<_> = delivered.into_iter().map(|row| row.unwrap().version.0).collect();
        assert_eq!(versions, [1, 3, 4]);
    }
}
