//! Florin's own records: the JSON of `florin apply`, with the version that the ledger has assigned.

use florin_core::ledger::Transaction;
use florin_record::{Field, TransactionText, json_text};
use florin_schema::{UserId, Version, decimal};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Wrong;

/// A record's keys as they came; [`RawValue`] keeps every digit of a number.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys<'a> {
    #[serde(borrow)]
    transaction_id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    asset: Option<&'a RawValue>,
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    #[serde(borrow)]
    occurred_at: Option<&'a RawValue>,
}

/// Of any object, who it is about.
#[derive(Deserialize)]
struct About<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
}

/// Reads a row.
pub(super) fn read(value: &[u8]) -> Result<Transaction, Wrong> {
    let keys: Keys<'_> = florin_input::json(value).map_err(|error| {
        let found = format!("{error}, in {} bytes", value.len());
        ("value", "florin's JSON of a transaction with its version, or Debezium's envelope of one", found)
    })?;
    let text = |field, raw| json_text(field, raw).map_err(|error| named(&error));
    let texts = [
        text(Field::TransactionId, keys.transaction_id)?,
        text(Field::UserId, keys.user_id)?,
        text(Field::Asset, keys.asset)?,
        text(Field::Kind, keys.kind)?,
        text(Field::Amount, keys.amount)?,
        text(Field::OccurredAt, keys.occurred_at)?,
    ];
    let [transaction_id, user_id, asset, kind, amount, occurred_at] = texts.each_ref().map(|text| &**text);
    let text = TransactionText { transaction_id, user_id, asset, kind, amount, occurred_at };
    let row = text.parse().map_err(|error| named(&error))?;
    Ok(Transaction {
        user_id: row.user_id,
        version: version(keys.version)?,
        asset: row.asset,
        kind: row.kind,
        amount: row.amount,
        occurred_at_us: row.occurred_at_us,
    })
}

/// Who a value is about that cannot be read otherwise.
pub(super) fn user_of(value: &[u8]) -> Option<UserId> {
    let about: About<'_> = florin_input::json(value).ok()?;
    user(about.user_id)
}

pub(super) fn user(raw: Option<&RawValue>) -> Option<UserId> {
    json_text(Field::UserId, raw).ok().and_then(|text| decimal(&*text)).and_then(UserId::new)
}

pub(super) fn version(raw: Option<&RawValue>) -> Result<Version, Wrong> {
    let text = raw.map_or("nothing", RawValue::get);
    let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    decimal(digits).filter(|&version| version > 0 && version <= i64::MAX as u64).map(Version).ok_or_else(
        || {
            let found = text.chars().take(64).collect();
            (
                "version",
                "a whole number from 1, the account's last and one more, without leading zeros",
                found,
            )
        },
    )
}

/// What is wrong with a field, of which the ledger's crates all say the same.
pub(super) fn named(error: &florin_record::FieldError) -> Wrong {
    (error.field.name(), error.field.expected(), error.found.clone())
}
