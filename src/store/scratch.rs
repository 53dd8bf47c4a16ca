//! For tests: ledgers in directories that go away.

use std::path::PathBuf;

use florin_schema::{Asset, UserId};
use tempfile::TempDir;

use super::{NewTransaction, Reader, TransactionId, Writer};
use crate::ledger::{Kind, Transaction};

/// A ledger's place in a directory that goes away with it.
pub(crate) struct Scratch {
    directory: TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.file("ledger.db")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn writer(&self) -> Writer {
        Writer::open_or_create(&self.ledger()).unwrap()
    }

    /// A plain connection, for what florin itself never does.
    pub(crate) fn sql(&self, text: &str) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.ledger()).unwrap();
        connection.execute_batch(text).unwrap();
        connection
    }

    /// Every row, in the order of commits.
    pub(crate) fn rows(&self) -> Vec<Transaction> {
        let mut rows = Vec::new();
        let reader = Reader::open(&self.ledger()).unwrap();
        reader.follow(None, usize::MAX >> 1, &mut rows).unwrap();
        rows.into_iter().map(Result::unwrap).collect()
    }
}

pub(crate) fn id(number: u8) -> TransactionId {
    TransactionId::at(0, [number; 10])
}

pub(crate) fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

pub(crate) fn asset(code: &str) -> Asset {
    Asset::parse(code.as_bytes()).unwrap()
}

/// A recharge of 100 COIN.
pub(crate) fn recharge(number: u8, user_id: u64) -> NewTransaction {
    NewTransaction {
        transaction_id: id(number),
        user_id: user(user_id),
        asset: asset("COIN"),
        kind: Kind::Recharge,
        amount: 100,
        occurred_at_us: 1_000_000,
    }
}
