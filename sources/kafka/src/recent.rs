//! The rows that were delivered last. A producer that sends a record again is harmless; another record with a version that is
//! taken is a ledger that contradicts itself.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::hash::BuildHasherDefault;

use florin_core::ledger::Transaction;
use florin_schema::ids::Mixed;
use florin_schema::{UserId, Version};

use crate::limits::RECENT_ROWS;

/// See the module.
#[derive(Default)]
pub struct Recent {
    rows: HashMap<(UserId, Version), Transaction, BuildHasherDefault<Mixed>>,
    order: VecDeque<(UserId, Version)>,
}

impl Recent {
    /// Remembers a row. Whether another one with its version is remembered: that one stays.
    pub fn contradicts(&mut self, row: &Transaction) -> bool {
        let key = (row.user_id, row.version);
        match self.rows.entry(key) {
            Entry::Occupied(known) => return known.get() != row,
            Entry::Vacant(place) => place.insert(*row),
        };
        self.order.push_back(key);
        if self.order.len() > RECENT_ROWS
            && let Some(oldest) = self.order.pop_front()
        {
            self.rows.remove(&oldest);
        }
        false
    }

    /// A row took the place of the one that is remembered, if one is.
    pub fn replace(&mut self, row: &Transaction) {
        if let Some(known) = self.rows.get_mut(&(row.user_id, row.version)) {
            *known = *row;
        }
    }
}

#[cfg(test)]
mod tests {
    use florin_core::ledger::Kind;
    use florin_schema::Asset;

    use super::*;

    #[test]
    fn a_duplicate_is_told_from_another_record_as_long_as_the_first_is_remembered() {
        let row = |version, amount| Transaction {
            user_id: UserId::new(7).unwrap(),
            version: Version(version),
            asset: Asset::parse(b"COIN").unwrap(),
            kind: Kind::Recharge,
            amount,
            occurred_at_us: 0,
        };
        let mut recent = Recent::default();
        assert!(!recent.contradicts(&row(1, 5)) && !recent.contradicts(&row(1, 5)));
        assert!(recent.contradicts(&row(1, 6)) && recent.contradicts(&row(1, 6)), "the first stays");
        for version in 2..=RECENT_ROWS as u64 + 1 {
            assert!(!recent.contradicts(&row(version, 5)));
        }
        assert!(!recent.contradicts(&row(1, 6)), "it was forgotten");
    }
}
