//! Debezium's envelopes of the ledger's table: what its connectors make of commits in MySQL, Oracle, SQL Server or PostgreSQL.
//!
//! Times are µs since 1970 where they are numbers, as in florin's own table, and RFC 3339 where they are texts. Where the envelope
//! brings its schema, a column of another unit is refused by it.

use florin_core::ledger::{Kind, Transaction};
use florin_record::{Field, FieldError, json_text, time};
use florin_schema::{Asset, UserId, Version, decimal};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::record::{named, user, version};
use super::{Said, Wrong};

/// A value that is an envelope, whatever is wrong with it: with its schema, or without.
#[derive(Deserialize)]
pub(super) struct Whole<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    op: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    op: Option<&'a RawValue>,
}

/// A row's columns, of which there may be others.
#[derive(Deserialize)]
struct Columns<'a> {
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

/// Kafka Connect's schema of a field, as far as it is looked at.
#[derive(Deserialize)]
struct Schema {
    field: Option<String>,
    name: Option<String>,
    fields: Option<Vec<Schema>>,
}

impl<'a> Whole<'a> {
    /// `None` where a value is none.
    pub(super) fn of(value: &'a [u8]) -> Option<Whole<'a>> {
        florin_input::json(value)
            .ok()
            .filter(|whole: &Whole<'a>| whole.payload.is_some() || whole.op.is_some())
    }

    /// What is inside `value`, which this is of.
    fn open(&self, value: &'a [u8]) -> Result<Envelope<'a>, serde_json::Error> {
        florin_input::json(self.payload.map_or(value, |payload| payload.get().as_bytes()))
    }
}

/// Reads an envelope, which is the whole of `value`; `by_key` is whose the record is.
pub(super) fn read<'a>(whole: &Whole<'a>, value: &'a [u8], by_key: UserId) -> Result<Said, Wrong> {
    if let Some(schema) = whole.schema {
        check_schema(schema)?;
    }
    let envelope = whole.open(value).map_err(|error| unlike(&error))?;
    let after = || row(envelope.after);
    match envelope.op.map(RawValue::get) {
        Some("\"c\"" | "\"r\"") => after().map(Said::Row),
        Some("\"u\"") => Ok(Said::Changed { after: after()?, before: place_of(envelope.before) }),
        Some("\"d\"") => {
            let place = place_of(envelope.before);
            let user = envelope.before.and_then(columns).and_then(|columns| user(columns.user_id));
            Ok(Said::Removed { user: user.unwrap_or(by_key), version: place.map(|(_, version)| version) })
        }
        Some("\"t\"") => Ok(Said::Truncated),
        other => {
            let found = other.unwrap_or("nothing").chars().take(64).collect();
            Err(("op", "c, r, u, d or t", found))
        }
    }
}

/// Who an envelope is about that cannot be read otherwise.
pub(super) fn user_of(value: &[u8]) -> Option<UserId> {
    let whole: Whole<'_> = florin_input::json(value).ok()?;
    let envelope = whole.open(value).ok()?;
    let of = |part: Option<&RawValue>| user(part.and_then(columns)?.user_id);
    of(envelope.after).or_else(|| of(envelope.before))
}

fn columns(part: &RawValue) -> Option<Columns<'_>> {
    florin_input::json(part.get().as_bytes()).ok()
}

fn place_of(part: Option<&RawValue>) -> Option<(UserId, Version)> {
    let columns = columns(part?)?;
    Some((user(columns.user_id)?, version(columns.version).ok()?))
}

fn row(part: Option<&RawValue>) -> Result<Transaction, Wrong> {
    let part = part.ok_or(("after", "the row as it is now", "nothing".to_owned()))?;
    let columns: Columns<'_> = florin_input::json(part.get().as_bytes())
        .map_err(|error| ("after", "an object with the row's columns", error.to_string()))?;
    let text = |field, raw| json_text(field, raw).map_err(|error| named(&error));
    let wrong = |field, found: &str| named(&FieldError::new(field, found));
    let user_id = user(columns.user_id)
        .ok_or_else(|| wrong(Field::UserId, columns.user_id.map_or("nothing", RawValue::get)))?;
    let asset = text(Field::Asset, columns.asset)?;
    let kind = text(Field::Kind, columns.kind)?;
    let amount = text(Field::Amount, columns.amount)?;
    Ok(Transaction {
        user_id,
        version: version(columns.version)?,
        asset: Asset::parse(asset.as_bytes()).map_err(|_| wrong(Field::Asset, &asset))?,
        kind: Kind::parse(&kind).map_err(|_| wrong(Field::Kind, &kind))?,
        amount: decimal(&*amount)
            .and_then(|amount| i64::try_from(amount).ok())
            .filter(|&amount| amount > 0)
            .ok_or_else(|| wrong(Field::Amount, &amount))?,
        occurred_at_us: occurred_at_us(columns.occurred_at)?,
    })
}

fn occurred_at_us(raw: Option<&RawValue>) -> Result<i64, Wrong> {
    let text = raw.map_or("nothing", RawValue::get);
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let us = match decimal(digits) {
        Some(us) => i64::try_from(us).ok().map(|us| if is_negative { -us } else { us }),
        None => json_text(Field::OccurredAt, raw).ok().and_then(|text| time::parse_us(&text).ok()),
    };
    us.filter(|us| Transaction::OCCURRED_AT_US.contains(us)).ok_or_else(|| {
        let expected = "µs since 1970 as a number, or RFC 3339 as a text, in the years 0001 to 9999";
        (Field::OccurredAt.name(), expected, text.chars().take(64).collect())
    })
}

/// Debezium's types of times that are numbers of another unit than µs would be read as another time.
fn check_schema(raw: &RawValue) -> Result<(), Wrong> {
    let schema: Option<Schema> = florin_input::json(raw.get().as_bytes())
        .map_err(|error| ("schema", "Kafka Connect's schema of the envelope", error.to_string()))?;
    let of = |schema: Schema, name: &str| {
        schema.fields?.into_iter().find(|field| field.field.as_deref() == Some(name))
    };
    let column = schema.and_then(|schema| of(schema, "after")).and_then(|after| of(after, "occurred_at"));
    match column.and_then(|column| column.name) {
        None => Ok(()),
        Some(name) if name.ends_with(".MicroTimestamp") || name.ends_with(".ZonedTimestamp") => Ok(()),
        Some(name) => Err((
            "occurred_at",
            "a column of µs: BIGINT, a timestamp of 6 decimals, or one with a time zone",
            name.chars().take(64).collect(),
        )),
    }
}

fn unlike(error: &serde_json::Error) -> Wrong {
    ("value", "Debezium's envelope: before, after and op, or these in payload", error.to_string())
}
