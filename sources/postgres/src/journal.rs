//! The rows that were delivered last. A server that was restored, or promoted without its last rows, has another history since
//! some place: whose rows it has lost, or has others instead of, is told by what was delivered before and is not there now.

use std::collections::{BTreeSet, HashMap, VecDeque};

use florin_core::ledger::Transaction;
use florin_schema::{UserId, Version};

use crate::limits::JOURNAL_ROWS_MAX;

/// See the module.
#[derive(Default, Debug)]
pub struct Journal {
    rows: VecDeque<Transaction>,
}

impl Journal {
    /// Remembers a row that is delivered from the stream.
    #[inline]
    pub fn note(&mut self, row: Transaction) {
        if self.rows.len() == JOURNAL_ROWS_MAX {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
    }

    /// The row that was delivered last.
    pub fn last(&self) -> Option<&Transaction> {
        self.rows.back()
    }

    /// The newest version of an account that was delivered, as far as is remembered.
    pub fn last_of(&self, user: UserId) -> Option<Version> {
        self.rows.iter().rev().find(|row| row.user_id == user).map(|row| row.version)
    }

    /// Begins to compare it with all rows that the ledger has.
    pub fn compare(&self) -> Comparison {
        let key = |row: &Transaction| ((row.user_id, row.version), *row);
        Comparison {
            oldest: self.rows.front().copied(),
            missing: self.rows.iter().map(key).collect(),
            changed: BTreeSet::new(),
        }
    }

    /// Remembers what another one does, as delivered later.
    pub fn append(&mut self, later: Journal) {
        later.rows.into_iter().for_each(|row| self.note(row));
    }
}

/// What of a journal was not seen yet.
#[derive(Default, Debug)]
pub struct Comparison {
    oldest: Option<Transaction>,
    missing: HashMap<(UserId, Version), Transaction>,
    changed: BTreeSet<UserId>,
}

/// What a comparison has found.
#[derive(PartialEq, Eq, Debug)]
pub enum Compared {
    /// Every row is there as it was.
    Same,
    /// These accounts have lost rows, or have others instead.
    Differs(BTreeSet<UserId>),
    /// Even the oldest is not there: what else is not, nobody knows.
    Unknown,
}

impl Comparison {
    /// The ledger has this row. Whether it is another one than was delivered.
    #[inline]
    pub fn see(&mut self, row: &Transaction) -> bool {
        if self.missing.is_empty() {
            return false;
        }
        match self.missing.remove(&(row.user_id, row.version)) {
            Some(known) if known != *row => {
                self.missing.insert((row.user_id, row.version), known);
                self.changed.insert(row.user_id)
            }
            _ => false,
        }
    }

    /// All rows were seen.
    pub fn end(self) -> Compared {
        let Comparison { oldest, missing, mut changed } = self;
        if oldest.is_some_and(|row| missing.contains_key(&(row.user_id, row.version))) {
            return Compared::Unknown;
        }
        changed.extend(missing.into_keys().map(|(user, _)| user));
        if changed.is_empty() { Compared::Same } else { Compared::Differs(changed) }
    }
}

#[cfg(test)]
mod tests {
    use florin_core::ledger::Kind;
    use florin_schema::Asset;

    use super::*;

    fn row(user: u64, version: u64, amount: i64) -> Transaction {
        Transaction {
            user_id: UserId::new(user).unwrap(),
            version: Version(version),
            asset: Asset::parse(b"COIN").unwrap(),
            kind: Kind::Recharge,
            amount,
            occurred_at_us: 0,
        }
    }

    #[test]
    fn what_a_restored_server_lost_is_told_by_account() {
        let mut journal = Journal::default();
        for known in [row(1, 1, 5), row(2, 1, 5), row(3, 1, 5), row(2, 2, 5)] {
            journal.note(known);
        }
        let compared = |rows: &[Transaction]| {
            let mut comparison = journal.compare();
            rows.iter().for_each(|row| {
                comparison.see(row);
            });
            comparison.end()
        };
        let users = |users: &[u64]| users.iter().map(|&user| UserId::new(user).unwrap()).collect();
        let all = [row(1, 1, 5), row(2, 1, 5), row(3, 1, 5), row(2, 2, 5), row(9, 1, 1)];
        assert_eq!(compared(&all), Compared::Same);
        assert_eq!(compared(&all[..3]), Compared::Differs(users(&[2])), "a row was lost");
        let other = [row(1, 1, 5), row(2, 1, 5), row(3, 1, 6), row(2, 2, 5)];
        assert_eq!(compared(&other), Compared::Differs(users(&[3])), "another row is in its place");
        assert_eq!(compared(&all[1..]), Compared::Unknown, "who knows what else");
    }
}
