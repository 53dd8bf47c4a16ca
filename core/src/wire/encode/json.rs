//! JSON bodies: keys in wire.md's order, 64-bit integers as strings, no spaces.

use alloc::vec::Vec;

use florin_schema::layout::{AssetRow, BalanceRoot, BalanceView, WindowTotals};

use super::line::{Line, Text};
use super::time::{Days, TIME};
use crate::wire::{BatchEntry, StatisticsAnswer};

/// What a balance has before its assets and behind them, with what makes it a bulk string: 133 bytes at most.
const AROUND_BYTES: usize = 144;
/// An asset's part of it: 86 bytes at most.
const ROW_BYTES: usize = 96;
/// The times of an asset's statistics: 107 bytes.
const TIMES_BYTES: usize = 128;
/// A window's totals: 185 bytes at most.
const WINDOW_BYTES: usize = 208;

const USER_ID: &str = "{\"user_id\":\"";
const VERSION: &Text<16> = &Text::new("\",\"version\":\"");
const ASSET: &Text<16> = &Text::new("{\"asset\":\"");

/// What a balance begins and ends with: what is around it counts.
#[derive(Clone, Copy)]
pub(super) struct Around {
    begin: Text<24>,
    end: Text<8>,
    end_without_assets: Text<8>,
}

impl Around {
    pub(super) const fn new(before: &str, behind: &str) -> Around {
        Around {
            begin: Text::of([before, USER_ID]),
            end: Text::of(["\"}]}", behind]),
            end_without_assets: Text::of(["]}", behind]),
        }
    }
}

/// Bytes of room that [`write_balance`] needs.
pub(super) const fn balance_room(rows: &[AssetRow]) -> usize {
    AROUND_BYTES + rows.len() * ROW_BYTES
}

/// Appends a balance.
pub(super) fn balance(out: &mut Vec<u8>, balance: BalanceView<'_>, days: &mut Days) {
    const NOTHING: Around = Around::new("", "");
    let BalanceView { rows, root, .. } = balance;
    Line::append(out, balance_room(rows), |line| write_balance(line, &NOTHING, rows, root, days));
}

/// The same where there is room for it.
#[inline(always)]
pub(super) fn write_balance(
    line: &mut Line<'_>,
    around: &'static Around,
    rows: &[AssetRow],
    root: &BalanceRoot,
    days: &mut Days,
) {
    const UPDATED_AT: &str = "\",\"updated_at\":\"";
    const BALANCES: &str = "\",\"balances\":[";
    const MOMENT: &Text<64> = &Text::of([UPDATED_AT, TIME, BALANCES]);
    const NEXT_ASSET: &Text<16> = &Text::new("\"},{\"asset\":\"");
    const AVAILABLE: &Text<16> = &Text::new("\",\"available\":\"");
    const HELD: &Text<16> = &Text::new("\",\"held\":\"");
    line.numbers((&around.begin, VERSION), (root.user_id.get(), root.version.get()));
    line.moment(MOMENT, UPDATED_AT.len(), root.updated_at_us.get(), days);
    let (mut begin, mut end) = (ASSET, &around.end_without_assets);
    for row in rows {
        line.code(begin, row.asset.get());
        line.numbers((AVAILABLE, HELD), (row.available.get(), row.held.get()));
        (begin, end) = (NEXT_ASSET, &around.end);
    }
    line.text(*end);
}

/// Appends statistics.
pub(super) fn statistics(out: &mut Vec<u8>, answer: &StatisticsAnswer<'_>, days: &mut Days) {
    Line::append(out, AROUND_BYTES, |line| {
        let labels = (const { &Text::<16>::new(USER_ID) }, VERSION);
        line.numbers(labels, (answer.user_id.get(), answer.version.0));
        line.text(const { Text::<16>::new("\",\"statistics\":[") });
    });
    list(out, answer.assets, |out, totals| {
        Line::append(out, ROW_BYTES, |line| {
            line.code(ASSET, totals.asset.to_wire());
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
            const FIRST: &str = "},\"first_transaction_at\":\"";
            const LAST: &str = "\",\"last_transaction_at\":\"";
            let (first, last) =
                const { (&Text::<64>::of([FIRST, TIME, ""]), &Text::<64>::of([LAST, TIME, "\"}"])) };
            line.moment(first, FIRST.len(), answer.first_transaction_at_us, days);
            line.moment(last, LAST.len(), answer.last_transaction_at_us, days);
        });
    });
    text(out, "]}");
}

/// Appends a batch.
pub(super) fn balances(out: &mut Vec<u8>, entries: &[BatchEntry<'_>], days: &mut Days) {
    text(out, "{\"balances\":[");
    list(out, entries, |out, entry| {
        Line::append(out, ROW_BYTES, |line| {
            line.number(const { &Text::<16>::new(USER_ID) }, entry.user_id.get());
            line.text(const { Text::<16>::new("\",\"status\":\"") });
        });
        text(out, entry.status.name());
        text(out, if entry.quarantined { "\",\"quarantined\":true" } else { "\"" });
        if let Some(view) = entry.balance {
            text(out, ",\"balance\":");
            balance(out, view, days);
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
        let credits = (totals.credit_count.get(), totals.credit_sum.get());
        let debits = (totals.debit_count.get(), totals.debit_sum.get());
        line.numbers(
            const { (&Text::<24>::new("{\"credit_count\":\""), &Text::<24>::new("\",\"credit_sum\":\"")) },
            credits,
        );
        line.numbers(
            const { (&Text::<24>::new("\",\"debit_count\":\""), &Text::<24>::new("\",\"debit_sum\":\"")) },
            debits,
        );
        line.number(const { &Text::<24>::new("\",\"largest_debit\":\"") }, totals.largest_debit.get());
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
