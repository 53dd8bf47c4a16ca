//! Versions are dense, duplicates change nothing, and a request enters whole or not at all.

use std::collections::HashMap;
use std::thread;

use florin_core::ledger::Kind;
use florin_core::limits::ASSETS_MAX;
use florin_record::{Appended, Field, NewTransaction, Refused, Rejection, TransactionId};
use florin_schema::{UserId, Version};
use proptest::prelude::*;

use crate::SqliteError;
use crate::scratch::*;

fn new(version: u64) -> Appended {
    Appended { version: Version(version), duplicate: false }
}

fn duplicate(version: u64) -> Appended {
    Appended { version: Version(version), duplicate: true }
}

fn rejection(result: Result<Vec<Appended>, SqliteError>) -> (usize, Rejection) {
    match result {
        Err(SqliteError::Refused(Refused { index, rejection })) => (index, rejection),
        other => panic!("expected a rejection, got {other:?}"),
    }
}

#[test]
fn each_user_counts_from_one() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    let request = [recharge(1, 7), recharge(2, 8), recharge(3, 7), recharge(4, 0)];
    assert_eq!(writer.append(&request).unwrap(), [new(1), new(1), new(2), new(1)]);
    assert_eq!(writer.append(&[recharge(5, 7), recharge(6, i64::MAX as u64)]).unwrap(), [new(3), new(1)]);
    let found: Vec<_> = scratch.rows().iter().map(|row| (row.user_id.get(), row.version.0)).collect();
    assert_eq!(found, [(7, 1), (8, 1), (7, 2), (0, 1), (7, 3), (i64::MAX as u64, 1)]);
}

#[test]
fn what_is_there_already_answers_its_version() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    writer.append(&[recharge(1, 7), recharge(2, 7)]).unwrap();
    let again = [recharge(1, 7), recharge(3, 7), recharge(3, 7), recharge(2, 7)];
    assert_eq!(writer.append(&again).unwrap(), [duplicate(1), new(3), duplicate(3), duplicate(2)]);
    assert_eq!(scratch.rows().len(), 3);
}

#[test]
fn one_id_with_other_content_is_a_conflict_and_nothing_enters() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    let original = recharge(1, 7);
    writer.append(&[recharge(0, 7), original]).unwrap();
    for (field, changed) in [
        (Field::UserId, NewTransaction { user_id: user(8), ..original }),
        (Field::Asset, NewTransaction { asset: asset("USD"), ..original }),
        (Field::Kind, NewTransaction { kind: Kind::Refund, ..original }),
        (Field::Amount, NewTransaction { amount: 101, ..original }),
        (Field::OccurredAt, NewTransaction { occurred_at_us: 2, ..original }),
    ] {
        let conflict = Rejection::Conflict { transaction_id: id(1), field, version: Version(2) };
        assert_eq!(rejection(writer.append(&[recharge(9, 7), changed])), (1, conflict));
        assert_eq!(scratch.rows().len(), 2);
    }
    // The versions that the refused requests had been given are given again.
    assert_eq!(writer.append(&[recharge(9, 7)]).unwrap(), [new(3)]);
}

#[test]
fn what_a_row_may_not_hold_is_refused() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    let field = |result| match rejection(result) {
        (index, Rejection::Field(error)) => (index, error.field),
        other => panic!("{other:?}"),
    };
    let free = NewTransaction { amount: 0, ..recharge(2, 7) };
    assert_eq!(field(writer.append(&[recharge(1, 7), free])), (1, Field::Amount));
    let far = NewTransaction { occurred_at_us: i64::MIN, ..recharge(2, 7) };
    assert_eq!(field(writer.append(&[far])), (0, Field::OccurredAt));
    assert_eq!(scratch.rows(), []);
}

#[test]
fn an_account_holds_sixteen_assets() {
    let scratch = Scratch::new();
    let of = |number: u8| NewTransaction { asset: asset(&format!("A{number}")), ..recharge(number, 7) };
    let full: Vec<_> = (0..ASSETS_MAX as u8).map(of).collect();
    scratch.writer().append(&full).unwrap();
    // Neither a writer that knows the account nor one that must look it up lets a 17th in.
    let mut writer = scratch.writer();
    for _ in 0..2 {
        let too_many = Rejection::TooManyAssets { user_id: user(7), asset: asset("A99") };
        assert_eq!(rejection(writer.append(&[of(99)])), (0, too_many));
        assert_eq!(writer.append(&[of(3)]).unwrap(), [duplicate(4)]);
    }
    let more = NewTransaction { transaction_id: id(100), ..of(3) };
    assert_eq!(writer.append(&[more]).unwrap(), [new(17)]);
    assert_eq!(writer.append(&[NewTransaction { user_id: user(8), ..of(99) }]).unwrap(), [new(1)]);
}

#[test]
fn a_dropped_batch_leaves_no_trace() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    let mut batch = writer.begin().unwrap();
    batch.append(&recharge(1, 7)).unwrap().unwrap();
    drop(batch);
    assert_eq!(scratch.rows(), []);
    assert_eq!(writer.append(&[recharge(2, 7)]).unwrap(), [new(1)]);
}

#[test]
fn writers_take_turns() {
    let scratch = Scratch::new();
    scratch.writer();
    thread::scope(|scope| {
        for first in [0, 100] {
            let scratch = &scratch;
            scope.spawn(move || {
                let mut writer = scratch.writer();
                for number in first..first + 50 {
                    writer.append(&[recharge(number, u64::from(number % 3))]).unwrap();
                }
            });
        }
    });
    let mut versions: HashMap<UserId, u64> = HashMap::new();
    for row in scratch.rows() {
        let last = versions.entry(row.user_id).or_default();
        *last += 1;
        assert_eq!(row.version.0, *last);
    }
    assert_eq!(versions.values().sum::<u64>(), 100);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Two writers in turn, few ids and users, so that duplicates and conflicts are common.
    #[test]
    fn any_requests_do_what_the_model_does(
        requests in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec((0..40u8, 0..3u64, 1..3i64), 1..6)), 1..40
        )
    ) {
        let scratch = Scratch::new();
        let mut writers = [scratch.writer(), scratch.writer()];
        let mut model: HashMap<TransactionId, (NewTransaction, u64)> = HashMap::new();
        let mut versions: HashMap<UserId, u64> = HashMap::new();
        for (which, rows) in requests {
            let rows: Vec<_> = rows
                .into_iter()
                .map(|(number, user_id, amount)| NewTransaction { amount, ..recharge(number, user_id) })
                .collect();
            let (mut next_model, mut next_versions) = (model.clone(), versions.clone());
            let mut expected = Some(Vec::new());
            for row in &rows {
                let known = next_model.get(&row.transaction_id).copied();
                match (known, &mut expected) {
                    (_, None) => {}
                    (Some((old, version)), Some(all)) if old == *row => all.push(duplicate(version)),
                    (Some(_), _) => expected = None,
                    (None, Some(all)) => {
                        let version = next_versions.entry(row.user_id).or_default();
                        *version += 1;
                        next_model.insert(row.transaction_id, (*row, *version));
                        all.push(new(*version));
                    }
                }
            }
            let answer = writers[usize::from(which)].append(&rows);
            match expected {
                Some(all) => {
                    prop_assert_eq!(answer.unwrap(), all);
                    (model, versions) = (next_model, next_versions);
                }
                None => {
                    let is_conflict =
                        matches!(answer, Err(SqliteError::Refused(Refused { rejection: Rejection::Conflict { .. }, .. })));
                    prop_assert!(is_conflict);
                }
            }
        }
        prop_assert_eq!(scratch.rows().len(), model.len());
    }
}
