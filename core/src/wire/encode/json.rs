//! JSON bodies: keys in wire.md's order, 64-bit integers as strings, no spaces.

use alloc::vec::Vec;

use florin_schema::Asset;
use florin_schema::layout::{BalanceView, WindowTotals};

use super::line::Line;
use crate::wire::{BatchEntry, StatisticsAnswer};

/// What a balance has before its assets: 122 bytes at most.
const HEAD_BYTES: usize = 128;
/// An asset's part of it: 86 bytes at most.
const ROW_BYTES: usize = 96;
/// A window's totals: 185 bytes at most.
const WINDOW_BYTES: usize = 192;

/// Appends a balance.
pub(super) fn balance(out: &mut Vec<u8>, balance: BalanceView<'_>) {
    Line::<HEAD_BYTES>::append(out, |line| {
        line.text(b"{\"user_id\":\"");
        line.unsigned(balance.root.user_id.get());
        line.text(b"\",\"version\":\"");
        line.unsigned(balance.root.version.get());
        line.text(b"\",\"updated_at\":\"");
        line.moment(balance.root.updated_at_us.get());
        line.text(b"\",\"balances\":[");
    });
    list(out, balance.rows, |out, row| {
        Line::<ROW_BYTES>::append(out, |line| {
            line.text(b"{\"asset\":\"");
            asset(line, row.asset());
            line.text(b"\",\"available\":\"");
            line.signed(row.available.get());
            line.text(b"\",\"held\":\"");
            line.signed(row.held.get());
            line.text(b"\"}");
        });
    });
    text(out, "]}");
}

/// Appends statistics.
pub(super) fn statistics(out: &mut Vec<u8>, answer: &StatisticsAnswer<'_>) {
    Line::<HEAD_BYTES>::append(out, |line| {
        line.text(b"{\"user_id\":\"");
        line.unsigned(answer.user_id.get());
        line.text(b"\",\"version\":\"");
        line.unsigned(answer.version.0);
        line.text(b"\",\"statistics\":[");
    });
    list(out, answer.assets, |out, totals| {
        Line::<ROW_BYTES>::append(out, |line| {
            line.text(b"{\"asset\":\"");
            asset(line, totals.asset);
            line.text(b"\",\"windows\":{");
        });
        list(out, answer.windows.iter(), |out, asked| {
            text(out, "\"");
            text(out, asked.name());
            text(out, "\":");
            window(out, &totals.windows[asked as usize]);
        });
        // The times are the user's, as in the other encodings; wire.md writes them with each asset.
        Line::<HEAD_BYTES>::append(out, |line| {
            line.text(b"},\"first_transaction_at\":\"");
            line.moment(answer.first_transaction_at_us);
            line.text(b"\",\"last_transaction_at\":\"");
            line.moment(answer.last_transaction_at_us);
            line.text(b"\"}");
        });
    });
    text(out, "]}");
}

/// Appends a batch.
pub(super) fn balances(out: &mut Vec<u8>, entries: &[BatchEntry<'_>]) {
    text(out, "{\"balances\":[");
    list(out, entries, |out, entry| {
        Line::<ROW_BYTES>::append(out, |line| {
            line.text(b"{\"user_id\":\"");
            line.unsigned(entry.user_id.get());
            line.text(b"\",\"status\":\"");
        });
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
    Line::<WINDOW_BYTES>::append(out, |line| {
        line.text(b"{\"credit_count\":\"");
        line.unsigned(totals.credit_count.get());
        line.text(b"\",\"credit_sum\":\"");
        line.signed(totals.credit_sum.get());
        line.text(b"\",\"debit_count\":\"");
        line.unsigned(totals.debit_count.get());
        line.text(b"\",\"debit_sum\":\"");
        line.signed(totals.debit_sum.get());
        line.text(b"\",\"largest_debit\":\"");
        line.signed(totals.largest_debit.get());
        line.text(b"\"}");
    });
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

#[inline(always)]
fn asset<const N: usize>(line: &mut Line<'_, N>, asset: Asset) {
    let code = asset.to_wire();
    line.beginning(&code.to_le_bytes(), 8 - code.leading_zeros() as usize / 8);
}
