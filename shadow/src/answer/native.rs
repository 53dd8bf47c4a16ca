//! Native answers as the JSON that the contract would have made of them: same keys, same order, integers as strings.

use florin_schema::records::{Balance, Statistics};
use florin_schema::{Asset, Status, UserId, Window, WindowMask, generated};

use super::Value;
use super::stated::rfc3339;

/// Why a native body is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NativeError {
    /// FlatBuffers' verifier.
    #[error("body: it does not verify: {0}")]
    Verify(String),
    /// A list that must be there.
    #[error("{0}: expected a list, got none")]
    Missing(&'static str),
    /// Not one total for each window.
    #[error("windows: expected {expected} for each asset, got {got}")]
    Windows {
        /// As many as the mask has.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// No status.
    #[error("status: expected 0 to 8, got {0}")]
    Status(u8),
}

/// A balance.
pub fn balance(record: &Balance) -> Value {
    let rows = record.balances.iter().map(|row| asset_balance(row.asset, row.available, row.held));
    balance_of(record.user_id, record.version, record.updated_at_us, rows.collect())
}

/// The same, from FlatBuffers.
pub fn balance_flat(table: &generated::Balance<'_>) -> Result<Value, NativeError> {
    let rows = table.balances().ok_or(NativeError::Missing("balances"))?;
    let rows = rows.iter().map(|row| asset_balance(row.asset(), row.available(), row.held()));
    Ok(balance_of(table.user_id(), table.version(), table.updated_at_us(), rows.collect()))
}

fn balance_of(user_id: u64, version: u64, updated_at_us: i64, rows: Vec<Value>) -> Value {
    Value::object([
        ("user_id", Value::text(user_id)),
        ("version", Value::text(version)),
        ("updated_at", Value::Text(rfc3339(updated_at_us))),
        ("balances", Value::List(rows)),
    ])
}

fn asset_balance(asset: u64, available: i64, held: i64) -> Value {
    Value::object([
        ("asset", Value::Text(code(asset))),
        ("available", Value::text(available)),
        ("held", Value::text(held)),
    ])
}

/// One window's numbers, in the order in which JSON has them.
type Totals = (u64, i64, u64, i64, i64);

/// Statistics.
///
/// # Errors
/// Where an asset has not one total for each window of the mask.
pub fn statistics(record: &Statistics) -> Result<Value, NativeError> {
    let assets = record.statistics.iter().map(|asset| {
        let totals = asset.windows.iter();
        let totals =
            totals.map(|w| (w.credit_count, w.credit_sum, w.debit_count, w.debit_sum, w.largest_debit));
        (asset.asset, totals.collect())
    });
    let times = (record.first_transaction_at_us, record.last_transaction_at_us);
    statistics_of((record.user_id, record.version), record.windows, assets.collect(), times)
}

/// The same, from FlatBuffers.
pub fn statistics_flat(table: &generated::Statistics<'_>) -> Result<Value, NativeError> {
    let rows = table.statistics().ok_or(NativeError::Missing("statistics"))?;
    let mut assets = Vec::with_capacity(rows.len());
    for asset in rows {
        let totals = asset.windows().ok_or(NativeError::Missing("windows"))?.iter();
        let totals = totals
            .map(|w| (w.credit_count(), w.credit_sum(), w.debit_count(), w.debit_sum(), w.largest_debit()));
        assets.push((asset.asset(), totals.collect()));
    }
    let times = (table.first_transaction_at_us(), table.last_transaction_at_us());
    statistics_of((table.user_id(), table.version()), table.windows(), assets, times)
}

fn statistics_of(
    (user_id, version): (u64, u64),
    mask: u8,
    assets: Vec<(u64, Vec<Totals>)>,
    (first_us, last_us): (i64, i64),
) -> Result<Value, NativeError> {
    let windows: Vec<Window> = WindowMask::new(mask).map(|mask| mask.iter().collect()).unwrap_or_default();
    let mut rows = Vec::with_capacity(assets.len());
    for (asset, totals) in assets {
        if totals.len() != windows.len() {
            return Err(NativeError::Windows { expected: windows.len(), got: totals.len() });
        }
        let named =
            windows.iter().zip(totals).map(|(window, totals)| (window.name().to_owned(), sums(totals)));
        rows.push(Value::object([
            ("asset", Value::Text(code(asset))),
            ("windows", Value::Object(named.collect())),
            ("first_transaction_at", Value::Text(rfc3339(first_us))),
            ("last_transaction_at", Value::Text(rfc3339(last_us))),
        ]));
    }
    Ok(Value::object([
        ("user_id", Value::text(user_id)),
        ("version", Value::text(version)),
        ("statistics", Value::List(rows)),
    ]))
}

fn sums((credit_count, credit_sum, debit_count, debit_sum, largest_debit): Totals) -> Value {
    Value::object([
        ("credit_count", Value::text(credit_count)),
        ("credit_sum", Value::text(credit_sum)),
        ("debit_count", Value::text(debit_count)),
        ("debit_sum", Value::text(debit_sum)),
        ("largest_debit", Value::text(largest_debit)),
    ])
}

/// A batch's entries: whose, how it ended, and the balance where it ended well.
pub fn batch(entries: impl IntoIterator<Item = (UserId, Status, Option<Value>)>) -> Value {
    let entries = entries.into_iter().map(|(user, status, balance)| {
        let mut fields = vec![
            ("user_id".to_owned(), Value::text(user)),
            ("status".to_owned(), Value::text(status.name())),
        ];
        fields.extend(balance.map(|balance| ("balance".to_owned(), balance)));
        Value::Object(fields)
    });
    Value::object([("balances", Value::List(entries.collect()))])
}

/// The same, from FlatBuffers.
pub fn batch_flat(table: &generated::Balances<'_>) -> Result<Value, NativeError> {
    let mut entries = Vec::new();
    for entry in table.entries().ok_or(NativeError::Missing("entries"))? {
        let status = Status::try_from(entry.status()).map_err(|unknown| NativeError::Status(unknown.0))?;
        let balance = entry.balance().map(|balance| balance_flat(&balance)).transpose()?;
        let mut fields = vec![
            ("user_id".to_owned(), Value::text(entry.user_id())),
            ("status".to_owned(), Value::text(status.name())),
        ];
        fields.extend(balance.map(|balance| ("balance".to_owned(), balance)));
        entries.push(Value::Object(fields));
    }
    Ok(Value::object([("balances", Value::List(entries))]))
}

/// A refusal, as HTTP words it: RFC 9457.
pub fn problem(status: Status, detail: &str) -> Value {
    let code = status.http_code();
    let title =
        http::StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason()).unwrap_or_default();
    Value::object([
        ("type", Value::text("about:blank")),
        ("title", Value::text(title)),
        ("status", Value::Number(super::Number::parse(&code.to_string()).expect("digits are a number"))),
        ("detail", Value::text(detail)),
    ])
}

fn code(asset: u64) -> String {
    Asset::from_wire(asset).map_or_else(|_| format!("{asset:#x}"), |asset| asset.to_string())
}
