//! For tests: ledgers in folders that go away. What fails here panics.

use std::path::PathBuf;

use florin_core::ledger::{Kind, Transaction};
use florin_record::{NewTransaction, TransactionId};
use florin_schema::{Asset, UserId};
use tempfile::TempDir;

use crate::{Reader, Writer};

/// A ledger's place in a folder that goes away with it.
pub struct Scratch {
    folder: TempDir,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch { folder: tempfile::tempdir().unwrap() }
    }
}

impl Scratch {
    /// A folder without anything in it.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// Where the ledger is, or would be.
    pub fn ledger(&self) -> PathBuf {
        self.file("ledger.db")
    }

    /// Another file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A writer of the ledger, which it makes where there is none.
    pub fn writer(&self) -> Writer {
        Writer::open_or_create(&self.ledger()).unwrap()
    }

    /// A plain connection, for what florin itself never does.
    pub fn sql(&self, text: &str) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.ledger()).unwrap();
        connection.execute_batch(text).unwrap();
        connection
    }

    /// Every row, in the order of commits.
    pub fn rows(&self) -> Vec<Transaction> {
        let mut rows = Vec::new();
        let reader = Reader::open(&self.ledger()).unwrap();
        reader.follow(None, usize::MAX >> 1, &mut rows).unwrap();
        rows.into_iter().map(Result::unwrap).collect()
    }
}

/// An id for each number.
pub fn id(number: u8) -> TransactionId {
    TransactionId::at(0, [number; 10])
}

/// A user that is one.
pub fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

/// An asset that is one.
pub fn asset(code: &str) -> Asset {
    Asset::parse(code.as_bytes()).unwrap()
}

/// A recharge of 100 COIN.
pub fn recharge(number: u8, user_id: u64) -> NewTransaction {
    NewTransaction {
        transaction_id: id(number),
        user_id: user(user_id),
        asset: asset("COIN"),
        kind: Kind::Recharge,
        amount: 100,
        occurred_at_us: 1_000_000,
    }
}
