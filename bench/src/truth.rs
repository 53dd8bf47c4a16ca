//! What the ledger says of each user, as a number for each kind of answer: so that an answer is served only where its values
//! are the right ones, and an answer costs the generator no more than one look into a table.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    path::Path,
    sync::Arc,
};

use florin::ledger::{Counting, Holdings, Kind};
use florin_schema::{Asset, UserId};

use crate::{
    targets::ledger::{LedgerError, each_row},
    work::Kind as Asked,
};

/// Everything in an answer that the ledger determines and no clock changes: the version and, of each asset, its amounts or its
/// lifetime's totals. In whichever order the assets come, the same content has the same digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest(u64);

impl Digest {
    /// Of an account at this version, without its assets.
    #[inline]
    pub fn at(version: u64) -> Digest {
        Digest(mix(version))
    }

    /// Puts an asset's numbers in; signed ones as they lie in memory.
    #[inline]
    pub fn add<const N: usize>(&mut self, asset: u64, numbers: [u64; N]) {
        let row = numbers.into_iter().fold(mix(asset), |row, number| mix(row ^ number));
        self.0 = self.0.wrapping_add(row);
    }
}

/// Spreads a number over all bits: the two halves of a wide product, folded.
#[inline]
fn mix(number: u64) -> u64 {
    let wide = u128::from(number ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
    wide as u64 ^ (wide >> 64) as u64
}

/// What a user's answers must come to.
#[derive(Clone, Copy, Debug)]
struct Expected {
    balance: Digest,
    statistics: Digest,
}

/// What the ledger says of its users.
#[derive(Debug, Default)]
pub struct Truth {
    users: HashMap<u64, Expected, BuildHasherDefault<IdHasher>>,
}

impl Truth {
    /// Adds up all rows of the ledger at `path`. A user whose sums overflow is left out: a server flags him, and no values of his
    /// are right.
    pub fn read(path: &Path) -> Result<Truth, LedgerError> {
        let mut accounts: HashMap<u64, Account, BuildHasherDefault<IdHasher>> = HashMap::default();
        each_row(path, |row| {
            accounts.entry(row.user).or_default().add(row.asset, row.kind, row.amount);
        })?;
        let users =
            accounts.into_iter().filter_map(|(user, account)| Some((user, account.expected()?))).collect();
        Ok(Truth { users })
    }

    /// Whether it is so. Of somebody whom the ledger does not have, nothing is known.
    #[inline]
    pub fn holds(&self, claim: &Claim) -> bool {
        self.users.get(&claim.user.get()).is_none_or(|expected| {
            claim.digest
                == match claim.kind {
                    Asked::Statistics => expected.statistics,
                    Asked::Balance | Asked::Batch(_) => expected.balance,
                }
        })
    }
}

/// What an answer says of a user. Of statistics, as far as no clock changes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Of whom.
    pub user: UserId,
    /// What was asked.
    pub kind: Asked,
    /// What it comes to.
    pub digest: Digest,
}

/// What answers have said, until all of a turn is compared with the truth: then a look into the table does not wait for the one before it
/// to have come from memory, and the generator can ask as much as a server can answer.
#[derive(Debug)]
pub struct Claims {
    truth: Arc<Truth>,
    waiting: RefCell<Vec<Claim>>,
}

impl Claims {
    /// To be compared with `truth`.
    pub fn new(truth: Arc<Truth>) -> Claims {
        Claims { truth, waiting: RefCell::default() }
    }

    /// One more.
    #[inline]
    pub fn push(&self, claim: Claim) {
        self.waiting.borrow_mut().push(claim);
    }

    /// Compares all that wait; the first that does not hold, if any.
    pub fn settle(&self) -> Option<Claim> {
        let mut waiting = self.waiting.borrow_mut();
        let wrong = waiting.iter().find(|claim| !self.truth.holds(claim)).copied();
        waiting.clear();
        wrong
    }
}

/// An account in the making.
#[derive(Default)]
struct Account {
    version: u64,
    /// Few: an account has at most 16 assets.
    assets: Vec<(Asset, Totals)>,
    has_overflown: bool,
}

/// An asset of an account.
#[derive(Clone, Copy, Default)]
struct Totals {
    held: Holdings,
    credits: (u64, i64),
    debits: (u64, i64),
    largest_debit: i64,
}

impl Account {
    fn add(&mut self, asset: Asset, kind: Kind, amount: i64) {
        self.version += 1;
        let place = self.assets.iter().position(|(known, _)| *known == asset).unwrap_or_else(|| {
            self.assets.push((asset, Totals::default()));
            self.assets.len() - 1
        });
        match self.assets[place].1.after(kind, amount) {
            Some(after) => self.assets[place].1 = after,
            None => self.has_overflown = true,
        }
    }

    fn expected(self) -> Option<Expected> {
        let (mut balance, mut statistics) = (Digest::at(self.version), Digest::at(self.version));
        for (asset, totals) in &self.assets {
            let Totals { held, credits, debits, largest_debit } = *totals;
            balance.add(asset.to_wire(), [held.available as u64, held.held as u64]);
            let numbers = [credits.0, credits.1 as u64, debits.0, debits.1 as u64, largest_debit as u64];
            statistics.add(asset.to_wire(), numbers);
        }
        (!self.has_overflown).then_some(Expected { balance, statistics })
    }
}

impl Totals {
    fn after(mut self, kind: Kind, amount: i64) -> Option<Totals> {
        self.held = kind.apply(self.held, amount).ok()?;
        let side = match kind.counting() {
            Counting::Credit => &mut self.credits,
            Counting::Debit => {
                self.largest_debit = self.largest_debit.max(amount);
                &mut self.debits
            }
            Counting::Neither => return Some(self),
        };
        *side = (side.0 + 1, side.1.checked_add(amount)?);
        Some(self)
    }
}

/// Ids need no more than [`mix`].
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = mix(self.0 ^ u64::from(byte)));
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = mix(id);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A truth of one user with one asset.
    pub(crate) fn of_one(user: u64, version: u64, asset: &str, balance: [i64; 2], totals: [i64; 5]) -> Truth {
        let asset = Asset::parse(asset.as_bytes()).unwrap().to_wire();
        let mut expected = Expected { balance: Digest::at(version), statistics: Digest::at(version) };
        expected.balance.add(asset, balance.map(|number| number as u64));
        expected.statistics.add(asset, totals.map(|number| number as u64));
        Truth { users: [(user, expected)].into_iter().collect() }
    }

    #[test]
    fn a_ledgers_rows_are_added_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("l.db");
        let ledger = rusqlite::Connection::open(&path).unwrap();
        ledger.execute_batch(florin_schema::LEDGER_SQL).unwrap();
        for (version, kind, amount) in [(1, 1, 500), (2, 8, 50), (3, 5, 30), (4, 5, 20)] {
            let sql = "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
                       VALUES (?1, 7, ?2, 'COIN', ?3, ?4, 0)";
            ledger
                .execute(sql, (format!("00000000-0000-4000-8000-{version:012}"), version, kind, amount))
                .unwrap();
        }
        drop(ledger);
        let truth = Truth::read(&path).unwrap();
        let user = UserId::new(7).unwrap();
        let coin = Asset::parse(b"COIN").unwrap().to_wire();
        let balance = |version, available: i64, held| {
            let mut digest = Digest::at(version);
            digest.add(coin, [available as u64, held]);
            digest
        };
        let claims = Claims::new(Arc::new(truth));
        let wrong = |kind, digests: &[Digest]| {
            digests.iter().for_each(|&digest| claims.push(Claim { user, kind, digest }));
            claims.settle().map(|claim| claim.digest)
        };
        let right = balance(4, 400, 50);
        assert_eq!(wrong(Asked::Balance, &[right]), None);
        for other in [balance(5, 400, 50), balance(4, 401, 50), balance(4, 50, 400), Digest::at(4)] {
            assert_eq!(wrong(Asked::Balance, &[right, other, right]), Some(other));
            assert_eq!(wrong(Asked::Batch(1), &[other]), Some(other));
        }
        let mut statistics = Digest::at(4);
        statistics.add(coin, [1, 500, 2, 50, 30]);
        assert_eq!(wrong(Asked::Statistics, &[statistics]), None);
        assert_eq!(wrong(Asked::Statistics, &[Digest::at(4)]), Some(Digest::at(4)));
        assert_eq!(wrong(Asked::Statistics, &[]), None, "what was compared is gone");
    }
}
