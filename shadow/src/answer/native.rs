//! Native answers as the JSON that the contract would have made of them: same keys, same order, integers as strings. A primary that
//! keeps the contract says the same to the byte.

use std::fmt::{Arguments, Write};

use florin_schema::records::{Balance, Statistics};
use florin_schema::{Asset, Status, UserId, Window, WindowMask, generated};

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

/// What a native answer says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// As JSON.
    pub json: String,
    /// Of which version its account is, where it is about one.
    pub version: Option<u64>,
}

/// A balance.
pub fn balance(record: &Balance) -> Content {
    let mut json = String::new();
    write_balance(&mut json, record);
    Content { json, version: Some(record.version) }
}

/// The same, from FlatBuffers.
pub fn balance_flat(table: &generated::Balance<'_>) -> Result<Content, NativeError> {
    let mut json = String::new();
    write_balance_flat(&mut json, table)?;
    Ok(Content { json, version: Some(table.version()) })
}

fn write_balance(out: &mut String, record: &Balance) {
    let rows = record.balances.iter().map(|row| (row.asset, row.available, row.held));
    write_account(out, (record.user_id, record.version), record.updated_at_us, rows);
}

fn write_balance_flat(out: &mut String, table: &generated::Balance<'_>) -> Result<(), NativeError> {
    let rows = table.balances().ok_or(NativeError::Missing("balances"))?;
    let rows = rows.iter().map(|row| (row.asset(), row.available(), row.held()));
    write_account(out, (table.user_id(), table.version()), table.updated_at_us(), rows);
    Ok(())
}

fn write_account(
    out: &mut String,
    (user_id, version): (u64, u64),
    updated_at_us: i64,
    rows: impl Iterator<Item = (u64, i64, i64)>,
) {
    let updated_at = rfc3339(updated_at_us);
    put(
        out,
        format_args!(
            r#"{{"user_id":"{user_id}","version":"{version}","updated_at":"{updated_at}","balances":"#
        ),
    );
    list(out, rows, |out, (asset, available, held)| {
        let asset = code(asset);
        put(out, format_args!(r#"{{"asset":"{asset}","available":"{available}","held":"{held}"}}"#));
    });
    out.push('}');
}

/// One window's numbers, in the order in which JSON has them.
type Totals = (u64, i64, u64, i64, i64);

/// Statistics.
///
/// # Errors
/// Where an asset has not one total for each window of the mask.
pub fn statistics(record: &Statistics) -> Result<Content, NativeError> {
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
pub fn statistics_flat(table: &generated::Statistics<'_>) -> Result<Content, NativeError> {
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
) -> Result<Content, NativeError> {
    let windows: Vec<Window> = WindowMask::new(mask).map(|mask| mask.iter().collect()).unwrap_or_default();
    if let Some((_, totals)) = assets.iter().find(|(_, totals)| totals.len() != windows.len()) {
        return Err(NativeError::Windows { expected: windows.len(), got: totals.len() });
    }
    let (first, last) = (rfc3339(first_us), rfc3339(last_us));
    let mut json = String::new();
    put(&mut json, format_args!(r#"{{"user_id":"{user_id}","version":"{version}","statistics":"#));
    list(&mut json, assets.into_iter(), |out, (asset, totals)| {
        put(out, format_args!(r#"{{"asset":"{}","windows":{{"#, code(asset)));
        for (at, (window, totals)) in windows.iter().zip(totals).enumerate() {
            let (credit_count, credit_sum, debit_count, debit_sum, largest_debit) = totals;
            let comma = if at > 0 { "," } else { "" };
            put(
                out,
                format_args!(
                    r#"{comma}"{}":{{"credit_count":"{credit_count}","credit_sum":"{credit_sum}","#,
                    window.name()
                ),
            );
            put(
                out,
                format_args!(
                    r#""debit_count":"{debit_count}","debit_sum":"{debit_sum}","largest_debit":"{largest_debit}"}}"#
                ),
            );
        }
        put(out, format_args!(r#"}},"first_transaction_at":"{first}","last_transaction_at":"{last}"}}"#));
    });
    json.push('}');
    Ok(Content { json, version: Some(version) })
}

/// A batch's entries: whose, how it ended, and the balance where it ended well.
pub fn batch<'a>(entries: impl Iterator<Item = (UserId, Status, Option<&'a Balance>)>) -> Content {
    let mut json = r#"{"balances":"#.to_owned();
    list(&mut json, entries, |out, (user, status, balance)| {
        put(out, format_args!(r#"{{"user_id":"{user}","status":"{}""#, status.name()));
        if let Some(balance) = balance {
            out.push_str(r#","balance":"#);
            write_balance(out, balance);
        }
        out.push('}');
    });
    json.push('}');
    Content { json, version: None }
}

/// The same, from FlatBuffers.
pub fn batch_flat(table: &generated::Balances<'_>) -> Result<Content, NativeError> {
    let mut json = r#"{"balances":["#.to_owned();
    for (at, entry) in table.entries().ok_or(NativeError::Missing("entries"))?.iter().enumerate() {
        let status = Status::try_from(entry.status()).map_err(|unknown| NativeError::Status(unknown.0))?;
        let comma = if at > 0 { "," } else { "" };
        let user = entry.user_id();
        put(&mut json, format_args!(r#"{comma}{{"user_id":"{user}","status":"{}""#, status.name()));
        if let Some(balance) = entry.balance() {
            json.push_str(r#","balance":"#);
            write_balance_flat(&mut json, &balance)?;
        }
        json.push('}');
    }
    json.push_str("]}");
    Ok(Content { json, version: None })
}

/// A refusal, as HTTP words it: RFC 9457.
pub fn problem(status: Status, detail: &str) -> Content {
    let code = status.http_code();
    let title =
        http::StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason()).unwrap_or_default();
    let detail = serde_json::Value::from(detail);
    let json = format!(r#"{{"type":"about:blank","title":"{title}","status":{code},"detail":{detail}}}"#);
    Content { json, version: None }
}

fn list<T>(out: &mut String, elements: impl Iterator<Item = T>, mut write: impl FnMut(&mut String, T)) {
    out.push('[');
    for (at, element) in elements.enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, element);
    }
    out.push(']');
}

/// Appends words of which none has to be escaped in JSON.
fn put(out: &mut String, words: Arguments<'_>) {
    out.write_fmt(words).expect("a string takes all");
}

fn code(asset: u64) -> String {
    Asset::from_wire(asset).map_or_else(|_| format!("{asset:#x}"), |asset| asset.to_string())
}
