//! Rows come back in order; a row that is none of florin's is reported with its place and its column.

use florin_schema::Version;
use rusqlite::types::Value;

use crate::store::scratch::*;
use crate::store::{LedgerRow, Reader, Seq};

/// A table without any of the schema's checks, as another program might have made it.
const LENIENT: &str = "CREATE TABLE transactions (seq INTEGER PRIMARY KEY, transaction_id, user_id, version, asset, \
    kind, amount, occurred_at)";

fn range(scratch: &Scratch, after: i64, up_to: i64, limit: usize) -> Vec<LedgerRow> {
    let mut rows = Vec::new();
    Reader::open(&scratch.ledger()).unwrap().range(Seq(after), Seq(up_to), limit, &mut rows).unwrap();
    rows
}

#[test]
fn an_empty_ledger_has_no_last_row() {
    let scratch = Scratch::new();
    drop(scratch.writer());
    let reader = Reader::open(&scratch.ledger()).unwrap();
    assert_eq!((reader.first().unwrap(), reader.last().unwrap()), (None, None));
}

#[test]
fn ranges_exclude_their_start_and_include_their_end() {
    let scratch = Scratch::new();
    scratch.writer().append(&[1, 2, 3, 4, 5].map(|number| recharge(number, 7))).unwrap();
    let seqs = |rows: Vec<LedgerRow>| rows.iter().map(|row| row.seq.0).collect::<Vec<_>>();
    assert_eq!(seqs(range(&scratch, 0, 5, 10)), [1, 2, 3, 4, 5]);
    assert_eq!(seqs(range(&scratch, 1, 3, 10)), [2, 3]);
    assert_eq!(seqs(range(&scratch, 1, 5, 2)), [2, 3]);
    assert_eq!(seqs(range(&scratch, 5, 9, 2)), [0; 0]);
}

#[test]
fn an_account_is_read_in_pages() {
    let scratch = Scratch::new();
    let rows: Vec<_> = (0..10).map(|number| recharge(number, u64::from(number % 2))).collect();
    scratch.writer().append(&rows).unwrap();
    let reader = Reader::open(&scratch.ledger()).unwrap();
    let versions = |after, limit| {
        let mut rows = Vec::new();
        reader.account(user(1), after, limit, &mut rows).unwrap();
        rows.into_iter().map(|row| row.content.unwrap().version.0).collect::<Vec<_>>()
    };
    assert_eq!(versions(None, 3), [1, 2, 3]);
    assert_eq!(versions(Some(Version(3)), 3), [4, 5]);
    assert_eq!(versions(Some(Version(5)), 3), [0; 0]);
    assert_eq!(reader.transaction_id_of(user(1), Version(2)).unwrap(), Some(id(3).to_string()));
    assert_eq!(reader.transaction_id_at(Seq(1)).unwrap(), Some(id(0).to_string()));
    assert_eq!(reader.transaction_id_at(Seq(11)).unwrap(), None);
}

#[test]
fn what_is_no_transaction_is_reported() {
    let text = |text: &str| Value::Text(text.to_owned());
    let good = [
        Value::Integer(7),
        Value::Integer(1),
        text("COIN"),
        Value::Integer(1),
        Value::Integer(5),
        Value::Integer(0),
    ];
    let columns = ["user_id", "version", "asset", "kind", "amount", "occurred_at"];
    let bad = [
        (0, Value::Null),
        (0, Value::Integer(-1)),
        (0, text("7")),
        (1, Value::Integer(0)),
        (1, Value::Real(1.5)),
        (2, text("coin")),
        (2, Value::Null),
        (2, Value::Blob(b"COIN".to_vec())),
        (3, Value::Integer(11)),
        (3, text("recharge")),
        (4, Value::Integer(0)),
        (4, Value::Real(1e300)),
        (5, Value::Integer(i64::MAX)),
        (5, text("1993-01-01")),
    ];
    let scratch = Scratch::new();
    let connection = scratch.sql(LENIENT);
    let insert = "INSERT INTO transactions VALUES (NULL, 'id', ?1, ?2, ?3, ?4, ?5, ?6)";
    for (column, value) in &bad {
        let mut values = good.clone();
        values[*column] = value.clone();
        connection.execute(insert, rusqlite::params_from_iter(values)).unwrap();
    }
    connection.execute(insert, rusqlite::params_from_iter(good)).unwrap();

    let rows = range(&scratch, 0, 100, 100);
    assert_eq!(rows.len(), bad.len() + 1);
    for ((row, (column, _)), seq) in rows.iter().zip(&bad).zip(1..) {
        let unreadable = row.content.as_ref().unwrap_err();
        assert_eq!((unreadable.seq, unreadable.column), (Seq(seq), columns[*column]), "{unreadable}");
        assert_eq!(unreadable.user_id, (*column > 0).then_some(user(7)), "{unreadable}");
    }
    assert!(rows.last().unwrap().content.is_ok());
    let mut account = Vec::new();
    Reader::open(&scratch.ledger()).unwrap().account(user(7), None, 100, &mut account).unwrap();
    assert_eq!(account.len(), bad.len() + 1 - 3, "all of the account's rows, whatever is wrong with them");
}
