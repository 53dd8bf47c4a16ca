use florin_core::ledger::Kind;
use proptest::prelude::*;

use super::*;

const LAYOUT: Layout = Layout { partitions: 1, partitioner: Partitioner::Murmur2 };
const GOOD: &str = r#"{"transaction_id":"99001032-b24c-5525-b910-74da77541092","user_id":"42","version":"7","asset":"COIN","kind":"recharge","amount":"500","occurred_at":"2026-11-22T04:05:06Z"}"#;
const COLUMNS: &str = r#"{"seq":9,"transaction_id":"99001032-b24c-5525-b910-74da77541092","user_id":42,"version":7,"asset":"COIN","kind":1,"amount":500,"occurred_at":1795320306000000}"#;

fn said(key: &str, value: &str) -> Said {
    read(
        &Record {
            partition: 0,
            offset: 3,
            time_ms: 0,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
        },
        LAYOUT,
    )
}

fn refused(said: Said) -> Refused {
    let Said::Refused(refused) = said else { panic!("{said:?}") };
    refused
}

fn row() -> Transaction {
    Transaction {
        user_id: UserId::new(42).unwrap(),
        version: Version(7),
        asset: florin_schema::Asset::parse(b"COIN").unwrap(),
        kind: Kind::Recharge,
        amount: 500,
        occurred_at_us: 1_795_320_306_000_000,
    }
}

fn envelope(op: &str, before: &str, after: &str) -> String {
    format!(r#"{{"before":{before},"after":{after},"source":{{"version":"3.6"}},"op":"{op}","ts_ms":1}}"#)
}

#[test]
fn a_row_is_read_from_florins_json_and_from_debeziums_envelopes() {
    assert_eq!(said("42", GOOD), Said::Row(row()));
    let numbers = GOOD.replace("\"42\"", "42").replace("\"7\"", "7").replace("\"500\"", "500");
    assert_eq!(said("42", &numbers), Said::Row(row()));
    for op in ["c", "r"] {
        let plain = envelope(op, "null", COLUMNS);
        assert_eq!(said("42", &plain), Said::Row(row()));
        assert_eq!(said("42", &format!(r#"{{"schema":null,"payload":{plain}}}"#)), Said::Row(row()));
    }
    let texts =
        COLUMNS.replace("1795320306000000", "\"2026-11-22T04:05:06Z\"").replace(":1,", ":\"recharge\",");
    assert_eq!(said("42", &envelope("c", "null", &texts)), Said::Row(row()));
}

#[test]
fn what_changes_or_removes_a_row_names_its_account() {
    let user = row().user_id;
    let place = Some((user, Version(7)));
    assert_eq!(said("42", &envelope("u", COLUMNS, COLUMNS)), Said::Changed { after: row(), before: place });
    assert_eq!(said("42", &envelope("u", "null", COLUMNS)), Said::Changed { after: row(), before: None });
    let removed = |version| Said::Removed { user, version };
    assert_eq!(said("42", &envelope("d", COLUMNS, "null")), removed(Some(Version(7))));
    assert_eq!(said("42", &envelope("d", r#"{"seq":9}"#, "null")), removed(None), "by its key");
    let tombstone = Record { partition: 0, offset: 0, time_ms: 0, key: Some(b"42"), value: None };
    assert_eq!(read(&tombstone, LAYOUT), Said::Tombstone(user));
    assert_eq!(said("42", &envelope("t", "null", "null")), Said::Truncated);
}

#[test]
fn what_is_wrong_is_named_with_its_account() {
    for (from, to, column) in [
        ("\"500\"", "\"0500\"", "amount"),
        ("\"500\"", "-5", "amount"),
        ("\"500\"", "1.5", "amount"),
        ("\"7\"", "\"0\"", "version"),
        ("\"7\"", "\"07\"", "version"),
        ("\"7\"", "9223372036854775808", "version"),
        ("\"7\"", "null", "version"),
        ("\"version\":\"7\",", "", "version"),
        ("\"recharge\"", "\"gift\"", "kind"),
        ("\"COIN\"", "7", "asset"),
        ("06Z", "60Z", "occurred_at"),
        ("99001032", "9900103", "transaction_id"),
        ("\"amount\"", "\"ammount\"", "value"),
        ("{", "{\"amount\":1,", "value"),
    ] {
        let found = refused(said("42", &GOOD.replace(from, to)));
        assert_eq!((found.why.column, found.why.user_id), (column, UserId::new(42)), "{found:?}");
        assert!(found.why.place == "partition 0 offset 3" && found.other.is_none(), "{found:?}");
    }
    for (from, to, column) in [
        ("500", "\"AfQ=\"", "amount"),
        ("\"version\":7", "\"version\":null", "version"),
        ("1795320306000000", "99999999999999999999", "occurred_at"),
        ("\"user_id\":42", "\"user_id\":-42", "user_id"),
        ("\"kind\":1", "\"kind\":11", "kind"),
    ] {
        let found = refused(said("42", &envelope("c", "null", &COLUMNS.replace(from, to))));
        assert_eq!((found.why.column, found.why.user_id), (column, UserId::new(42)), "{found:?}");
    }
    for (value, column) in [
        ("", "value"),
        ("garbage", "value"),
        ("[]", "value"),
        ("\u{1}\u{2}", "value"),
        (r#"{"op":"m"}"#, "op"),
        (r#"{"payload":7}"#, "value"),
        (r#"{"op":"c","after":null}"#, "after"),
    ] {
        let found = refused(said("42", value));
        assert_eq!((found.why.column, found.why.user_id), (column, UserId::new(42)), "{found:?}");
    }
}

#[test]
fn a_key_that_is_none_or_another_than_the_values_concerns_every_account_that_is_named() {
    for key in ["", "042", "+42", "forty-two", "9223372036854775808", "\"42\"", "42 "] {
        let found = refused(said(key, GOOD));
        assert_eq!(
            (found.why.column, found.why.user_id, found.other),
            ("key", UserId::new(42), None),
            "{key}"
        );
    }
    let found = refused(said("5", GOOD));
    assert_eq!((found.why.user_id, found.other), (UserId::new(42), UserId::new(5)));
    let none = Record { partition: 0, offset: 0, time_ms: 0, key: None, value: Some(GOOD.as_bytes()) };
    assert_eq!(refused(read(&none, LAYOUT)).why.user_id, UserId::new(42));
}

#[test]
fn a_record_in_another_partition_than_its_keys_is_refused_with_a_sentence_about_producers() {
    let layout = Layout { partitions: 6, partitioner: Partitioner::Murmur2 };
    let belongs = layout.partitioner.partition_of(b"42", 6);
    for partition in 0..6 {
        let record =
            Record { partition, offset: 0, time_ms: 0, key: Some(b"42"), value: Some(GOOD.as_bytes()) };
        match read(&record, layout) {
            Said::Row(read) => assert_eq!((read, partition), (row(), belongs)),
            said => {
                let found = refused(said);
                assert_eq!((found.fault, found.why.user_id), (Fault::Misplaced, UserId::new(42)));
                assert!(
                    found.why.to_string().contains("all producers of a ledger partition alike"),
                    "{found:?}"
                );
            }
        }
    }
}

#[test]
fn a_long_value_is_refused_by_its_length() {
    let long = format!("{}{}", GOOD, " ".repeat(1 << 20));
    let found = refused(said("42", &long));
    assert_eq!((found.fault, found.why.user_id), (Fault::Oversize, UserId::new(42)));
    assert!(found.why.expected.contains(&VALUE_BYTES_MAX.to_string()), "{found:?}");
}

/// A timestamp of three decimals comes as ms, which read as µs is a day in January 1970.
#[test]
fn a_time_of_another_unit_is_refused_where_the_schema_tells() {
    let with = |name: &str| {
        let column = format!(r#"{{"type":"int64","name":{name},"field":"occurred_at"}}"#);
        let after = format!(r#"{{"type":"struct","fields":[{column}],"field":"after"}}"#);
        let payload = envelope("c", "null", COLUMNS);
        said("42", &format!(r#"{{"schema":{{"type":"struct","fields":[{after}]}},"payload":{payload}}}"#))
    };
    assert_eq!(with("null"), Said::Row(row()));
    assert_eq!(with("\"io.debezium.time.MicroTimestamp\""), Said::Row(row()));
    assert_eq!(refused(with("\"io.debezium.time.Timestamp\"")).why.column, "occurred_at");
}

proptest! {
    /// Whatever the bytes are: never a panic, and a row that is read is its key's, of its partition, and can be a ledger's.
    #[test]
    fn anything_may_come(key in proptest::option::of(".{0,24}"), value in proptest::option::of(".{0,80}"), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut torn = if byte.is_multiple_of(2) { GOOD.as_bytes().to_vec() } else { envelope("u", COLUMNS, COLUMNS).into_bytes() };
        let place = at.index(torn.len());
        torn[place] = byte;
        let key = key.as_deref().map(str::as_bytes);
        for (key, value) in [(key, value.as_deref().map(str::as_bytes)), (Some(&b"42"[..]), Some(&torn[..])), (key, Some(&torn[..place]))] {
            let record = Record { partition: 0, offset: 0, time_ms: 0, key, value };
            if let Said::Row(row) | Said::Changed { after: row, .. } = read(&record, LAYOUT) {
                let user = row.user_id.to_string();
                prop_assert_eq!(user.as_bytes(), key.unwrap());
                prop_assert!(row.amount > 0 && row.version.0 > 0 && Transaction::OCCURRED_AT_US.contains(&row.occurred_at_us));
            }
        }
    }
}
