//! What the table itself forbids, whoever writes to it; and ledgers of the schema before.

use rusqlite::types::Value;

use crate::scratch::*;
use crate::{SqliteError, Writer};

const INSERT: &str = "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
    VALUES (?1, 7, ?2, ?3, 1, ?4, 0)";
const ID: &str = "00000000-0000-4000-8000-0000000000ab";
/// The table as it was before schemas had versions, as far as ids go.
const OLD: &str = "CREATE TABLE transactions (seq INTEGER PRIMARY KEY AUTOINCREMENT, transaction_id TEXT NOT NULL UNIQUE \
    CHECK (length(transaction_id) = 36), user_id BIGINT NOT NULL, version BIGINT NOT NULL, asset TEXT NOT NULL, \
    kind SMALLINT NOT NULL, amount BIGINT NOT NULL, occurred_at BIGINT NOT NULL, UNIQUE (user_id, version))";

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// An id in upper case by SQL and the same one by POST were two transactions: the money was counted twice.
#[test]
fn an_id_has_one_spelling_and_every_column_its_type() {
    let old = Scratch::new();
    drop(old.sql(OLD));
    let new = Scratch::new();
    for scratch in [old, new] {
        drop(scratch.writer());
        let connection = scratch.sql("");
        for (id, asset) in [
            (text(&ID.to_uppercase()), text("COIN")),
            (text("00000000-0000-4000-8000-0000000000ag"), text("COIN")),
            (text("0000000-00000-4000-8000-0000000000ab"), text("COIN")),
            (text("00000000000040008000000000000000ab--"), text("COIN")),
            (text("00000000-0000-4000-8000-00000000000ab"), text("COIN")),
            (Value::Blob(ID.as_bytes().to_vec()), text("COIN")),
            (Value::Blob(vec![0xff; 36]), text("COIN")),
            (text(ID), Value::Blob(b"COIN".to_vec())),
        ] {
            let refused = connection.execute(INSERT, (&id, 1, &asset, 5));
            assert!(refused.is_err(), "{id:?}, {asset:?}");
        }
        connection.execute(INSERT, (ID, 1, "COIN", 5)).unwrap();
    }
}

/// Who follows a ledger has read past what would change: such a row was never seen, and a restart showed another balance.
#[test]
fn rows_are_only_added_each_behind_all_others() {
    let scratch = Scratch::new();
    scratch.writer().append(&[recharge(1, 1), recharge(2, 1)]).unwrap();
    let connection = scratch.sql("UPDATE sqlite_sequence SET seq = 10");
    connection.execute(INSERT, (ID, 1, "COIN", 5)).unwrap();
    for (sql, reason) in [
        ("UPDATE transactions SET amount = 1 WHERE seq = 1", "never changed"),
        ("UPDATE transactions SET seq = 12 WHERE seq = 1", "never changed"),
        ("DELETE FROM transactions WHERE seq = 11", "never removed"),
        ("DELETE FROM transactions", "never removed"),
        (
            "INSERT INTO transactions VALUES (5, '00000000-0000-4000-8000-0000000000ac', 7, 2, 'COIN', 1, 5, 0)",
            "behind all others",
        ),
    ] {
        let error = connection.execute_batch(sql).unwrap_err().to_string();
        assert!(error.contains(reason), "{sql}: {error}");
    }
    assert_eq!(scratch.rows().len(), 3);
}

/// INSERT OR REPLACE took a row away without asking the trigger that forbids it: a node went on with the old balance, and a
/// restart showed another.
#[test]
fn no_row_is_replaced_and_whoever_ignores_what_is_there_may() {
    let current = Scratch::new();
    drop(current.writer());
    // The schema before this one, whose first writer brings it up to date.
    let before = Scratch::new();
    drop(before.writer());
    drop(before.sql(
        "DROP TRIGGER transactions_meeting; DROP TRIGGER transactions_never_replaced; DROP TABLE transactions_met; \
         PRAGMA user_version = 1",
    ));
    drop(Writer::open(&before.ledger()).unwrap());
    // What was made before schemas had versions.
    let old = Scratch::new();
    drop(old.sql(OLD));
    drop(Writer::open(&old.ledger()).unwrap());
    for scratch in [current, before, old] {
        let connection = scratch.sql("");
        let insert = |how: &str, seq: Option<i64>, id: u64, version: i64, rest: &str| {
            let id = format!("00000000-0000-4000-8000-{id:012}");
            let sql = format!("{how} INTO transactions VALUES (?1, ?2, 7, ?3, 'COIN', 1, 5, 0) {rest}");
            connection.execute(&sql, (seq, id, version)).map_err(|error| error.to_string())
        };
        for version in 1..=3 {
            insert("INSERT", None, version, version.cast_signed(), "").unwrap();
        }
        let kept = scratch.rows();
        for (seq, id, version) in [(None, 1, 4), (None, 9, 1), (None, 9, 3), (None, 1, 3), (Some(3), 9, 4)] {
            for how in ["INSERT OR REPLACE", "REPLACE"] {
                let refused = insert(how, seq, id, version, "").unwrap_err();
                assert!(refused.contains("never replaced"), "{how} {seq:?} {id} {version}: {refused}");
            }
            assert!(insert("INSERT", seq, id, version, "").unwrap_err().contains("UNIQUE"));
            assert_eq!(insert("INSERT OR IGNORE", seq, id, version, ""), Ok(0));
            assert_eq!(insert("INSERT", seq, id, version, "ON CONFLICT DO NOTHING"), Ok(0));
            assert_eq!(scratch.rows(), kept);
        }
        let update = insert("INSERT", None, 1, 4, "ON CONFLICT DO UPDATE SET amount = 9").unwrap_err();
        assert!(update.contains("never changed") || update.contains("UNIQUE"), "{update}");
        // What meets nothing is added, whatever its writer would do.
        assert_eq!(insert("INSERT OR REPLACE", None, 4, 4, ""), Ok(1));
        assert_eq!(insert("INSERT", None, 5, 5, ""), Ok(1));
        assert_eq!(scratch.rows().len(), 5);
    }
}

#[test]
fn a_ledger_of_the_schema_before_is_read_as_it_is_and_upgraded_by_the_first_writer() {
    let scratch = Scratch::new();
    let connection = scratch.sql(OLD);
    connection.execute(INSERT, (ID, 1, "COIN", 5)).unwrap();
    assert_eq!(scratch.rows().len(), 1);
    for _ in 0..2 {
        drop(Writer::open(&scratch.ledger()).unwrap());
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, florin_schema::LEDGER_VERSION);
    }
    assert!(connection.execute("DELETE FROM transactions", []).is_err());
}

#[test]
fn one_with_ids_in_upper_case_is_read_and_not_written_to() {
    let scratch = Scratch::new();
    let connection = scratch.sql(OLD);
    connection.execute(INSERT, (ID.to_uppercase(), 1, "COIN", 5)).unwrap();
    assert_eq!(scratch.rows().len(), 1);
    let error = Writer::open(&scratch.ledger()).map(drop).unwrap_err();
    assert!(matches!(error, SqliteError::OldRows { count: 1, seq: 1, .. }), "{error}");
    // What the sentence says helps.
    connection.execute_batch("UPDATE transactions SET transaction_id = lower(transaction_id)").unwrap();
    drop(Writer::open(&scratch.ledger()).unwrap());
}

#[test]
fn a_ledger_of_a_later_schema_is_left_alone() {
    let scratch = Scratch::new();
    drop(scratch.writer());
    drop(scratch.sql("PRAGMA user_version = 3"));
    let error = Writer::open(&scratch.ledger()).map(drop).unwrap_err();
    assert!(matches!(error, SqliteError::OtherSchema { .. }), "{error}");
    assert!(error.to_string().contains("version 3"), "{error}");
}
