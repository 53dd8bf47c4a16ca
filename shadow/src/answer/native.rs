//! Native answers as the JSON that the contract would have made of them: same keys, same order, integers as strings. A primary that
//! keeps the contract says the same to the byte.

use std::fmt::{Arguments, Write};

use florin_schema::records::{Balance, Statistics};
use florin_schema::{Asset, Status, Window, WindowMask, generated};

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
    #[error("status: expected 0 to 9, got {0}")]
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

/// An account as the records have it: whose, at which version, when it last changed, and its rows of asset, available and held.
struct Account<Rows> {
    user_id: u64,
    version: u64,
    updated_at_us: i64,
    rows: Rows,
}

/// A balance.
pub fn balance(record: &Balance) -> Content {
    balance_of(account(record))
}

/// The same, from FlatBuffers.
pub fn balance_flat(table: &generated::Balance<'_>) -> Result<Content, NativeError> {
    Ok(balance_of(account_flat(*table)?))
}

fn account(record: &Balance) -> Account<impl Iterator<Item = (u64, i64, i64)>> {
    let rows = record.balances.iter().map(|row| (row.asset, row.available, row.held));
    Account { user_id: record.user_id, version: record.version, updated_at_us: record.updated_at_us, rows }
}

fn account_flat(
    table: generated::Balance<'_>,
) -> Result<Account<impl Iterator<Item = (u64, i64, i64)>>, NativeError> {
    let rows = table.balances().ok_or(NativeError::Missing("balances"))?;
    let rows = rows.iter().map(|row| (row.asset(), row.available(), row.held()));
    Ok(Account {
        user_id: table.user_id(),
        version: table.version(),
        updated_at_us: table.updated_at_us(),
        rows,
    })
}

fn balance_of(account: Account<impl Iterator<Item = (u64, i64, i64)>>) -> Content {
    let version = Some(account.version);
    let mut json = String::new();
    write_account(&mut json, account);
    Content { json, version }
}

fn write_account(out: &mut String, account: Account<impl Iterator<Item = (u64, i64, i64)>>) {
    let Account { user_id, version, updated_at_us, rows } = account;
    let updated_at = rfc3339(updated_at_us);
    put(out, format_args!(r#"{{"user_id":"{user_id}","version":"{version}","updated_at":"{updated_at}","#));
    out.push_str(r#""balances":["#);
    separated(out, rows, |out, (asset, available, held)| {
        let asset = code(asset);
        put(out, format_args!(r#"{{"asset":"{asset}","available":"{available}","held":"{held}"}}"#));
    });
    out.push_str("]}");
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
    put(&mut json, format_args!(r#"{{"user_id":"{user_id}","version":"{version}","statistics":["#));
    separated(&mut json, assets.into_iter(), |out, (asset, totals)| {
        put(out, format_args!(r#"{{"asset":"{}","windows":{{"#, code(asset)));
        separated(out, windows.iter().zip(totals), |out, (window, totals)| {
            let (credit_count, credit_sum, debit_count, debit_sum, largest_debit) = totals;
            put(out, format_args!(r#""{}":{{"credit_count":"{credit_count}","#, window.name()));
            put(out, format_args!(r#""credit_sum":"{credit_sum}","debit_count":"{debit_count}","#));
            put(out, format_args!(r#""debit_sum":"{debit_sum}","largest_debit":"{largest_debit}"}}"#));
        });
        put(out, format_args!(r#"}},"first_transaction_at":"{first}","last_transaction_at":"{last}"}}"#));
    });
    json.push_str("]}");
    Ok(Content { json, version: Some(version) })
}

/// One entry of a batch.
pub struct BatchEntry<Account> {
    /// Whose.
    pub user_id: u64,
    /// How it ended.
    pub status: Status,
    /// Whether it says that transactions are missing.
    pub is_quarantined: bool,
    /// Where it ended well.
    pub balance: Option<Account>,
}

/// A batch.
pub fn batch<'a>(entries: impl Iterator<Item = BatchEntry<&'a Balance>>) -> Content {
    batch_of(entries.map(|entry| BatchEntry {
        user_id: entry.user_id,
        status: entry.status,
        is_quarantined: entry.is_quarantined,
        balance: entry.balance.map(account),
    }))
}

/// The same, from FlatBuffers.
pub fn batch_flat(table: &generated::Balances<'_>) -> Result<Content, NativeError> {
    let mut entries = Vec::new();
    for entry in table.entries().ok_or(NativeError::Missing("entries"))? {
        let status = Status::try_from(entry.status()).map_err(|unknown| NativeError::Status(unknown.0))?;
        entries.push(BatchEntry {
            user_id: entry.user_id(),
            status,
            is_quarantined: entry.quarantined(),
            balance: entry.balance().map(account_flat).transpose()?,
        });
    }
    Ok(batch_of(entries.into_iter()))
}

fn batch_of<Rows: Iterator<Item = (u64, i64, i64)>>(
    entries: impl Iterator<Item = BatchEntry<Account<Rows>>>,
) -> Content {
    let mut json = r#"{"balances":["#.to_owned();
    separated(&mut json, entries, |out, entry| {
        let BatchEntry { user_id, status, is_quarantined, balance } = entry;
        put(out, format_args!(r#"{{"user_id":"{user_id}","status":"{}""#, status.name()));
        if is_quarantined {
            out.push_str(r#","quarantined":true"#);
        }
        if let Some(account) = balance {
            out.push_str(r#","balance":"#);
            write_account(out, account);
        }
        out.push('}');
    });
    json.push_str("]}");
    Content { json, version: None }
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

/// Appends elements, and commas between them.
fn separated<T>(out: &mut String, elements: impl Iterator<Item = T>, write: impl Fn(&mut String, T)) {
    for (at, element) in elements.enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, element);
    }
}

/// Appends words of which none has to be escaped in JSON.
fn put(out: &mut String, words: Arguments<'_>) {
    out.write_fmt(words).expect("a string takes all");
}

fn code(asset: u64) -> String {
    Asset::from_wire(asset).map_or_else(|_| format!("{asset:#x}"), |asset| asset.to_string())
}
