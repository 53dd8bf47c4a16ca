//! JSON bodies: keys in wire.md's order, 64-bit integers as strings, no spaces.

use alloc::vec::Vec;

use florin_schema::layout::{BalanceView, WindowTotals};

use super::line::{Line, Text};
use crate::wire::{BatchEntry, StatisticsAnswer};

/// What a balance has before its assets and behind them: 125 bytes at most.
const AROUND_BYTES: usize = 144;
/// An asset's part of it: 86 bytes at most.
const ROW_BYTES: usize = 96;
/// The times of an asset's statistics: 107 bytes.
const TIMES_BYTES: usize = 128;
/// A window's totals: 185 bytes at most.
const WINDOW_BYTES: usize = 208;

const USER_ID: Text<24> = Text::new("{\"user_id\":\"");
const VERSION: Text<24> = Text::new("\",\"version\":\"");
const ASSET: Text<16> = Text::new("{\"asset\":\"");

/// Bytes of room that [`write_balance`] needs.
pub(super) const fn balance_room(balance: BalanceView<'_>) -> usize {
    AROUND_BYTES + balance.rows.len() * ROW_BYTES
}

/// Appends a balance.
pub(super) fn balance(out: &mut Vec<u8>, balance: BalanceView<'_>) {
    Line::append(out, balance_room(balance), |line| write_balance(line, balance));
}

/// The same where there is room for it.
#[inline(always)]
pub(super) fn write_balance(line: &mut Line<'_>, balance: BalanceView<'_>) {
    const UPDATED_AT: Text<16> = Text::new("\",\"updated_at\":\"");
    const BALANCES: Text<16> = Text::new("\",\"balances\":[");
    const NEXT_ASSET: Text<16> = Text::new("\"},{\"asset\":\"");
    const NO_ASSETS: Text<4> = Text::new("]}");
    const LAST_ASSET: Text<4> = Text::new("\"}]}");
    line.unsigned(USER_ID, balance.root.user_id.get());
    line.unsigned(VERSION, balance.root.version.get());
    line.text(UPDATED_AT);
    line.moment(balance.root.updated_at_us.get());
    line.text(BALANCES);
    let (mut begin, mut end) = (&ASSET, &NO_ASSETS);
    for row in balance.rows {
        line.text(*begin);
        (begin, end) = (&NEXT_ASSET, &LAST_ASSET);
        asset(line, row.asset.get());
        line.signed(const { Text::new("\",\"available\":\"") }, row.available.get());
        line.signed(const { Text::new("\",\"held\":\"") }, row.held.get());
    }
    line.text(*end);
}

/// Appends statistics.
pub(super) fn statistics(out: &mut Vec<u8>, answer: &StatisticsAnswer<'_>) {
    Line::append(out, AROUND_BYTES, |line| {
        line.unsigned(USER_ID, answer.user_id.get());
        line.unsigned(VERSION, answer.version.0);
        line.text(const { Text::<16>::new("\",\"statistics\":[") });
    });
    list(out, answer.assets, |out, totals| {
        Line::append(out, ROW_BYTES, |line| {
            line.text(ASSET);
            asset(line, totals.asset.to_wire());
            line.text(const { Text::<16>::new("\",\"windows\":{") });
        });
        list(out, answer.windows.iter(), |out, asked| {
            text(out, "\"");
            text(out, asked.name());
            text(out, "\":");
            window(out, &totals.windows[asked as usize]);
        });
        // The times are the user's, as in the other encodings; wire.md writes them with each asset.
        Line::append(out, TIMES_BYTES, |line| {
            line.text(const { Text::<32>::new("},\"first_transaction_at\":\"") });
            line.moment(answer.first_transaction_at_us);
            line.text(const { Text::<32>::new("\",\"last_transaction_at\":\"") });
            line.moment(answer.last_transaction_at_us);
            line.text(const { Text::<2>::new("\"}") });
        });
    });
    text(out, "]}");
}

/// Appends a batch.
pub(super) fn balances(out: &mut Vec<u8>, entries: &[BatchEntry<'_>]) {
    text(out, "{\"balances\":[");
    list(out, entries, |out, entry| {
        Line::append(out, ROW_BYTES, |line| {
            line.unsigned(USER_ID, entry.user_id.get());
            line.text(const { Text::<16>::new("\",\"status\":\"") });
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
    Line::append(out, WINDOW_BYTES, |line| {
        line.unsigned(const { Text::new("{\"credit_count\":\"") }, totals.credit_count.get());
        line.signed(const { Text::new("\",\"credit_sum\":\"") }, totals.credit_sum.get());
        line.unsigned(const { Text::new("\",\"debit_count\":\"") }, totals.debit_count.get());
        line.signed(const { Text::new("\",\"debit_sum\":\"") }, totals.debit_sum.get());
        line.signed(const { Text::new("\",\"largest_debit\":\"") }, totals.largest_debit.get());
        line.text(const { Text::<2>::new("\"}") });
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

/// A code's text, which was checked when it was written.
#[inline(always)]
fn asset(line: &mut Line<'_>, code: u64) {
    line.beginning(&code.to_le_bytes(), 8 - code.leading_zeros() as usize / 8);
}
