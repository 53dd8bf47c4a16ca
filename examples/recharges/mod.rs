//! Transactions as a ledger would have them, for examples that publish some.

use florin_core::ledger::Kind;
use florin_record::{Entered, NewTransaction, TransactionId};
use florin_schema::{Asset, UserId, Version};

/// The transaction in the `row`th place of all.
pub fn recharge(row: u64, user: u64, version: u64, amount: i64) -> Entered {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&row.to_le_bytes());
    let occurred_at_us = 1_795_320_306_000_000 + row as i64;
    let transaction = NewTransaction {
        transaction_id: TransactionId::at(occurred_at_us, random),
        user_id: UserId::new(user).expect("an id"),
        asset: Asset::parse(b"COIN").expect("an asset"),
        kind: Kind::Recharge,
        amount,
        occurred_at_us,
    };
    Entered { transaction, version: Version(version) }
}
