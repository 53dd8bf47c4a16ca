//! What a topic has of a ledger that is published into it, found by reading all of it: so a publication that broke off goes on where it
//! stopped, whatever was acknowledged, and tells a topic that is another ledger's.

use std::collections::{BTreeMap, HashMap};

use florin_core::ledger::Transaction;
use florin_schema::ids::mix;
use florin_schema::{UserId, Version};

/// See the module.
#[derive(Debug, Default)]
pub struct Published {
    accounts: HashMap<UserId, Account>,
}

/// An account's rows in the topic.
#[derive(Debug, Default)]
struct Account {
    /// Up to here no version is missing.
    whole: Version,
    /// Of the rows up to there, mixed one after the other.
    mixed: u64,
    /// Those behind a version that is missing.
    beyond: BTreeMap<Version, u64>,
    /// Of the ledger's rows, as far as they have been offered.
    offered: u64,
}

/// Whether a row is to be published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offer {
    /// It is missing.
    Missing,
    /// It is there.
    There,
    /// Another one is there, under the same version or before it.
    Other,
}

impl Published {
    /// The topic has a row.
    pub fn note(&mut self, row: &Transaction) {
        let account = self.accounts.entry(row.user_id).or_default();
        // A duplicate says nothing new.
        if row.version > account.whole {
            account.beyond.entry(row.version).or_insert_with(|| digest(row));
        }
        while let Some(next) = account.beyond.remove(&account.whole.next()) {
            account.mixed = mix(account.mixed ^ next);
            account.whole = account.whole.next();
        }
    }

    /// The ledger has a row; those of its account before it were offered before.
    pub fn offer(&mut self, row: &Transaction) -> Offer {
        let account = self.accounts.entry(row.user_id).or_default();
        if row.version > account.whole {
            return match account.beyond.get(&row.version) {
                None => Offer::Missing,
                Some(found) if *found == digest(row) => Offer::There,
                Some(_) => Offer::Other,
            };
        }
        account.offered = mix(account.offered ^ digest(row));
        if row.version == account.whole && account.offered != account.mixed {
            Offer::Other
        } else {
            Offer::There
        }
    }
}

fn digest(row: &Transaction) -> u64 {
    let Transaction { asset, kind, amount, occurred_at_us, .. } = row;
    let amount = mix(mix(asset.to_wire()) ^ u64::from(kind.number())) ^ amount.cast_unsigned();
    mix(mix(amount) ^ occurred_at_us.cast_unsigned())
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
    fn exactly_the_rows_are_missing_that_the_topic_lacks() {
        let mut published = Published::default();
        for version in [1, 2, 2, 4, 6, 4] {
            published.note(&row(7, version, 5));
        }
        let missing: Vec<u64> =
            (1..=8).filter(|&version| published.offer(&row(7, version, 5)) == Offer::Missing).collect();
        assert_eq!(missing, [3, 5, 7, 8]);
        assert_eq!(published.offer(&row(8, 1, 5)), Offer::Missing);
    }

    #[test]
    fn another_ledgers_topic_is_noticed_wherever_it_differs() {
        for wrong in [1, 2, 3, 5] {
            let mut published = Published::default();
            for version in [1, 2, 3, 5] {
                published.note(&row(7, version, if version == wrong { 6 } else { 5 }));
            }
            let offers: Vec<Offer> = (1..=5).map(|version| published.offer(&row(7, version, 5))).collect();
            assert!(offers.contains(&Offer::Other), "{wrong}: {offers:?}");
        }
    }
}
