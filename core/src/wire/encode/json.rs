//! JSON bodies: keys in wire.md's order, 64-bit integers as strings, no spaces.

use alloc::vec::Vec;

use florin_schema::Asset;
use florin_schema::layout::BalanceView;
use florin_schema::layout::WindowTotals;

use super::time;
use crate::wire::{BatchEntry, StatisticsAnswer};

/// Appends a balance.
pub(super) fn balance(out: &mut Vec<u8>, balance: BalanceView<'_>) {
    number(out, "{\"user_id\":\"", balance.root.user_id.get());
    number(out, "\",\"version\":\"", balance.root.version.get());
    moment(out, "\",\"updated_at\":\"", balance.root.updated_at_us.get());
    text(out, "\",\"balances\":[");
    list(out, balance.rows, |out, row| {
        asset(out, "{\"asset\":\"", row.asset());
        number(out, "\",\"available\":\"", row.available.get());
        number(out, "\",\"held\":\"", row.held.get());
        text(out, "\"}");
    });
    text(out, "]}");
}

/// Appends statistics.
pub(super) fn statistics(out: &mut Vec<u8>, answer: &StatisticsAnswer<'_>) {
    number(out, "{\"user_id\":\"", answer.user_id.get());
    number(out, "\",\"version\":\"", answer.version.0);
    text(out, "\",\"statistics\":[");
    list(out, answer.assets, |out, totals| {
        asset(out, "{\"asset\":\"", totals.asset);
        text(out, "\",\"windows\":{");
        list(out, answer.windows.iter(), |out, asked| {
            text(out, "\"");
            text(out, asked.name());
            text(out, "\":");
            window(out, &totals.windows[asked as usize]);
        });
        // The times are the user's, as in the other encodings; wire.md writes them with each asset.
        moment(out, "},\"first_transaction_at\":\"", answer.first_transaction_at_us);
        moment(out, "\",\"last_transaction_at\":\"", answer.last_transaction_at_us);
        text(out, "\"}");
    });
    text(out, "]}");
}

/// Appends a batch.
pub(super) fn balances(out: &mut Vec<u8>, entries: &[BatchEntry<'_>]) {
    text(out, "{\"balances\":[");
    list(out, entries, |out, entry| {
        number(out, "{\"user_id\":\"", entry.user_id.get());
        text(out, "\",\"status\":\"");
        text(out, entry.status.name());
        text(out, if entry.quarantined { "\",\"quarantined\":true" } else { "\"" });
        if let Some(view) = entry.balance {
            text(out, ",\"balance\":");
            balance(out, view);
        }
        text(out, "}");
    });
    text(out, "]}");
}

/// Appends an RFC 9457 problem. Its type is `about:blank`, which makes `title` the status's own phrase.
pub(super) fn problem(out: &mut Vec<u8>, code: u16, title: &'static str, detail: &str) {
    text(out, "{\"type\":\"about:blank\",\"title\":\"");
    text(out, title);
    text(out, "\",\"status\":");
    text(out, itoa::Buffer::new().format(code));
    text(out, ",\"detail\":");
    serde_json::to_writer(&mut *out, detail).expect("a string always is JSON, and a Vec takes every byte");
    text(out, "}");
}

fn window(out: &mut Vec<u8>, totals: &WindowTotals) {
    number(out, "{\"credit_count\":\"", totals.credit_count.get());
    number(out, "\",\"credit_sum\":\"", totals.credit_sum.get());
    number(out, "\",\"debit_count\":\"", totals.debit_count.get());
    number(out, "\",\"debit_sum\":\"", totals.debit_sum.get());
    number(out, "\",\"largest_debit\":\"", totals.largest_debit.get());
    text(out, "\"}");
}

fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    for (index, item) in items.into_iter().enumerate() {
        if index != 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

#[inline]
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

// What stands before a value goes out with it: a constant of a known length is a store or two, and no call.

#[inline]
fn number(out: &mut Vec<u8>, before: &'static str, number: impl itoa::Integer) {
    text(out, before);
    text(out, itoa::Buffer::new().format(number));
}

#[inline]
fn asset(out: &mut Vec<u8>, before: &'static str, asset: Asset) {
    text(out, before);
    let code = asset.to_wire();
    out.extend_from_slice(&code.to_le_bytes());
    out.truncate(out.len() - code.leading_zeros() as usize / 8);
}

#[inline]
fn moment(out: &mut Vec<u8>, before: &'static str, us: i64) {
    text(out, before);
    out.extend_from_slice(&time::rfc3339(us));
}
