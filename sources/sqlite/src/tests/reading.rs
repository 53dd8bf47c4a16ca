//! Rows come back in order; a row that is none of florin's is reported with its place and its column.

use florin_core::follower::{Position, Row};
use florin_schema::Version;
use rusqlite::types::Value;

use crate::scratch::*;
use crate::{Followed, Place, Reader, Seq};

/// A table without any of the schema's checks, as another program might have made it.
const LENIENT: &str = "CREATE TABLE transactions (seq INTEGER PRIMARY KEY, transaction_id, user_id, version, asset, \
    kind, amount, occurred_at)";

/// Up to `limit` rows after `after`, and the place of the last.
fn follow(scratch: &Scratch, after: Option<&Place>, limit: usize) -> (Vec<Row>, Option<Place>) {
    let mut rows = Vec::new();
    let found = Reader::open(&scratch.ledger()).unwrap().follow(after, limit, &mut rows).unwrap();
    let Followed::Rows(last) = found else { panic!("the place is lost") };
    (rows, last)
}

#[test]
fn an_empty_ledger_has_no_last_row() {
    let scratch = Scratch::new();
    drop(scratch.writer());
    let reader = Reader::open(&scratch.ledger()).unwrap();
    assert_eq!((reader.first().unwrap(), reader.last().unwrap()), (None, None));
}

#[test]
fn rows_are_followed_by_what_is_there_however_far_apart() {
    // Two rows numbered 1 and 9e18 once kept a node from ever being ready: it read by distances between keys.
    let scratch = Scratch::new();
    let connection = scratch.sql(LENIENT);
    let numbers = [i64::MIN, -7, 1, 1_000_000_001, 9_000_000_000_000_000_000, i64::MAX];
    for (seq, version) in numbers.iter().zip(1..) {
        let sql = "INSERT INTO transactions VALUES (?1, ?1 || '', 7, ?2, 'COIN', 1, 5, 0)";
        connection.execute(sql, (seq, version)).unwrap();
    }
    let (mut place, mut found) = (None, Vec::new());
    loop {
        let (rows, last) = follow(&scratch, place.as_ref(), 2);
        let Some(last) = last else { break };
        assert!(rows.len() <= 2 && Place::decode(&last.encode()).as_ref() == Some(&last));
        found.extend(rows.into_iter().map(|row| row.unwrap().version.0));
        place = Some(last);
    }
    assert_eq!((found.len(), place.unwrap().seq), (6, Seq(i64::MAX)));
    let reader = Reader::open(&scratch.ledger()).unwrap();
    assert_eq!(reader.nth(None, 2).unwrap(), Some(Seq(-7)));
    assert_eq!(reader.nth(Some(Seq(1)), 2).unwrap(), Some(Seq(numbers[4])));
    assert_eq!(reader.nth(Some(Seq(1)), 4).unwrap(), None);
}

#[test]
fn a_place_whose_row_is_gone_or_another_is_lost() {
    // An id that is a blob, or no UTF-8, once stopped the feed: it is only compared.
    let scratch = Scratch::new();
    let connection = scratch.sql(LENIENT);
    let sql = "INSERT INTO transactions VALUES (1, CAST(x'ff41' AS TEXT), 7, 1, 'COIN', 1, 5, 0), \
        (2, x'01ff', 7, 2, 'COIN', 1, 5, 0)";
    connection.execute(sql, []).unwrap();
    let (rows, last) = follow(&scratch, None, 9);
    assert!(rows.len() == 2 && rows.iter().all(Result::is_ok));
    assert_eq!(follow(&scratch, last.as_ref(), 9), (Vec::new(), None));
    connection.execute("UPDATE transactions SET transaction_id = x'02ff' WHERE seq = 2", []).unwrap();
    let reader = Reader::open(&scratch.ledger()).unwrap();
    assert_eq!(reader.follow(last.as_ref(), 9, &mut Vec::new()).unwrap(), Followed::Lost);
    connection.execute("DELETE FROM transactions WHERE seq = 2", []).unwrap();
    assert_eq!(reader.follow(last.as_ref(), 9, &mut Vec::new()).unwrap(), Followed::Lost);
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
        rows.into_iter().map(|row| row.unwrap().version.0).collect::<Vec<_>>()
    };
    assert_eq!(versions(None, 3), [1, 2, 3]);
    assert_eq!(versions(Some(Version(3)), 3), [4, 5]);
    assert_eq!(versions(Some(Version(5)), 3), [0; 0]);
    assert_eq!(reader.transaction_id_of(user(1), Version(2)).unwrap(), Some(id(3).to_string()));
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

    let (rows, _) = follow(&scratch, None, 100);
    assert_eq!(rows.len(), bad.len() + 1);
    for ((row, (column, _)), seq) in rows.iter().zip(&bad).zip(1..) {
        let seq: i32 = seq;
        let unreadable = row.as_ref().unwrap_err();
        assert_eq!(
            (unreadable.place.clone(), unreadable.column),
            (seq.to_string(), columns[*column]),
            "{unreadable}"
        );
        assert_eq!(unreadable.user_id, (*column > 0).then_some(user(7)), "{unreadable}");
    }
    assert!(rows.last().unwrap().is_ok());
    let mut account = Vec::new();
    Reader::open(&scratch.ledger()).unwrap().account(user(7), None, 100, &mut account).unwrap();
    assert_eq!(account.len(), bad.len() + 1 - 3, "all of the account's rows, whatever is wrong with them");
}
