//! JSON bodies: keys in wire.md's order, 64-bit integers as strings, no spaces.

use alloc::vec::Vec;

use florin_schema::Asset;
use florin_schema::layout::BalanceView;
use florin_schema::layout::WindowTotals;

use super::time;
use crate::wire::{BatchEntry, StatisticsAnswer};

/// Appends a balance.
pub(super) fn balance(out: &mut Vec<u8>, balance: BalanceView<'_>) {
    text(out, "{\"user_id\":");
    quoted(out, balance.root.user_id.get());
    text(out, ",\"version\":");
    quoted(out, balance.root.version.get());
    text(out, ",\"updated_at\":");
    moment(out, balance.root.updated_at_us.get());
    text(out, ",\"balances\":[");
    list(out, balance.rows, |out, row| {
        text(out, "{\"asset\":");
        asset(out, row.asset());
        text(out, ",\"available\":");
        quoted(out, row.available.get());
        text(out, ",\"held\":");
        quoted(out, row.held.get());
        text(out, "}");
    });
    text(out, "]}");
}

/// Appends statistics.
pub(super) fn statistics(out: &mut Vec<u8>, answer: &StatisticsAnswer<'_>) {
    text(out, "{\"user_id\":");
    quoted(out, answer.user_id.get());
    text(out, ",\"version\":");
    quoted(out, answer.version.0);
    text(out, ",\"statistics\":[");
    list(out, answer.assets, |out, totals| {
        text(out, "{\"asset\":");
        asset(out, totals.asset);
        text(out, ",\"windows\":{");
        list(out, answer.windows.iter(), |out, asked| {
            text(out, "\"");
            text(out, asked.name());
            text(out, "\":");
            window(out, &totals.windows[asked as usize]);
        });
        // The times are the user's, as in the other encodings; wire.md writes them with each asset.
        text(out, "},\"first_transaction_at\":");
        moment(out, answer.first_transaction_at_us);
        text(out, ",\"last_transaction_at\":");
        moment(out, answer.last_transaction_at_us);
        text(out, "}");
    });
    text(out, "]}");
}

/// Appends a batch.
pub(super) fn balances(out: &mut Vec<u8>, entries: &[BatchEntry<'_>]) {
    text(out, "{\"balances\":[");
    list(out, entries, |out, entry| {
        text(out, "{\"user_id\":");
        quoted(out, entry.user_id.get());
        text(out, ",\"status\":\"");
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
    text(out, "{\"credit_count\":");
    quoted(out, totals.credit_count.get());
    text(out, ",\"credit_sum\":");
    quoted(out, totals.credit_sum.get());
    text(out, ",\"debit_count\":");
    quoted(out, totals.debit_count.get());
    text(out, ",\"debit_sum\":");
    quoted(out, totals.debit_sum.get());
    text(out, ",\"largest_debit\":");
    quoted(out, totals.largest_debit.get());
    text(out, "}");
}

fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    for (index, item) in items.into_iter().enumerate() {
        if index != 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn quoted(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.push(b'"');
    text(out, itoa::Buffer::new().format(number));
    out.push(b'"');
}

fn asset(out: &mut Vec<u8>, asset: Asset) {
    out.push(b'"');
    text(out, asset.text(&mut [0; 8]));
    out.push(b'"');
}

fn moment(out: &mut Vec<u8>, us: i64) {
    out.push(b'"');
    out.extend_from_slice(&time::rfc3339(us));
    out.push(b'"');
}
