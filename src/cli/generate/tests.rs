//! A generated ledger is whole, in order, and the same for the same seed.

use std::collections::HashMap;

use florin_schema::UserId;
use florin_sqlite::scratch::*;

use super::*;
use crate::cli::progress::Silent;
use crate::ledger::{Kind, Transaction};

const DAY_US: i64 = 24 * 3_600 * 1_000_000;

fn options(scratch: &Scratch, transactions: u64) -> GenerateOptions {
    let until_us = 20_000 * DAY_US;
    GenerateOptions { ledger: scratch.ledger().into(), users: 100, transactions, seed: 7, until_us }
}

#[test]
fn it_has_exactly_the_rows_asked_for_in_order() {
    let scratch = Scratch::new();
    let options = options(&scratch, 5_001);
    generate(&options, &mut Silent).unwrap();
    let rows = scratch.rows();
    assert_eq!(rows.len(), 5_001);
    assert!(rows.is_sorted_by_key(|row| row.occurred_at_us));
    let (first, last) = (rows[0].occurred_at_us, rows[5_000].occurred_at_us);
    assert!(last <= options.until_us && last > options.until_us - DAY_US);
    assert!(first > options.until_us - 91 * DAY_US && first < options.until_us - 89 * DAY_US);

    let mut versions: HashMap<UserId, u64> = HashMap::new();
    let mut sent: Option<Transaction> = None;
    for row in rows {
        let version = versions.entry(row.user_id).or_default();
        *version += 1;
        assert_eq!(row.version.0, *version);
        assert_eq!(sent.is_some(), row.kind == Kind::GiftReceived);
        if let Some(sent) = sent {
            assert_eq!((sent.asset, sent.amount), (row.asset, row.amount));
        }
        sent = (row.kind == Kind::GiftSent).then_some(row);
    }
    assert_eq!(versions.len(), 100);
}

#[test]
fn a_seed_makes_the_same_ledger() {
    let scratches = [Scratch::new(), Scratch::new()];
    let [one, other] = scratches.each_ref().map(|scratch| {
        generate(&options(scratch, 1_000), &mut Silent).unwrap();
        scratch.rows()
    });
    assert_eq!(one, other);
}

#[test]
fn the_platform_goes_on_where_the_ledger_ends() {
    let scratch = Scratch::new();
    let mut platform = generate(&options(&scratch, 1_000), &mut Silent).unwrap();
    let mut writer = scratch.writer();
    for at in 0..200 {
        let rows: Vec<_> = platform.next_event(20_000 * DAY_US + at).rows().collect();
        assert!(writer.append(&rows).unwrap().iter().all(|appended| !appended.duplicate));
    }
}

#[test]
fn it_wants_an_empty_ledger() {
    let scratch = Scratch::new();
    scratch.writer().append(&[recharge(1, 7)]).unwrap();
    let result = generate(&options(&scratch, 10), &mut Silent).map(drop);
    assert!(matches!(result, Err(GenerateError::NotEmpty { .. })), "{result:?}");
    assert_eq!(scratch.rows().len(), 1);
}
