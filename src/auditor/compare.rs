//! What is served against what must be, to the byte; and both in words, for whoever has to find out why they differ.

use std::fmt::Write;

use florin_schema::records::{Balance, Statistics, WindowStatistics};
use florin_schema::{Asset, Version, Window};
use rkyv::rancor;
use rkyv::util::AlignedVec;

use super::history::History;
use crate::limits::AUDIT_CONTENT_MAX;
use crate::shard::audit::Standing;

/// What a caller of the node would get.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    /// Whether it is to be compared.
    pub standing: Standing,
    /// Transactions that it holds.
    pub version: Version,
    /// A balance, archived.
    pub balance: &'a [u8],
    /// Statistics of all windows, archived; empty where they are not to be compared.
    pub statistics: &'a [u8],
    /// What the windows are of, µs since 1970 UTC.
    pub wall_us: i64,
}

/// What came of comparing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// To the byte.
    Equal,
    /// The balance is equal; windows are not held for this time, and say so.
    WindowsUnknown,
    /// The node says itself that the account is incomplete.
    Quarantined,
    /// Neither has anything.
    Nobody,
    /// They differ, or are of two versions.
    Different(Difference),
}

/// How an account differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// In what.
    pub what: &'static str,
    /// Of the account, as the node has it.
    pub version: Version,
    /// What is answered.
    pub served: String,
    /// What the ledger's rows amount to.
    pub ledger: String,
}

/// Compares an account.
pub fn compare(history: &History, served: &Served<'_>) -> Outcome {
    let ledger_version = history.version();
    let different = |what, served_text: String, ledger: String| {
        let ledger = match &history.trouble {
            Some(trouble) => format!("{ledger}; and {trouble}"),
            None => ledger,
        };
        let (served_text, ledger) = (shortened(served_text), shortened(ledger));
        Outcome::Different(Difference { what, version: served.version, served: served_text, ledger })
    };
    match served.standing {
        Standing::Quarantined => return Outcome::Quarantined,
        Standing::Absent if ledger_version == Version(0) => return Outcome::Nobody,
        Standing::Absent => {
            return different("account", "nothing".to_owned(), format!("{ledger_version} rows"));
        }
        Standing::Whole | Standing::WindowsUnknown => {}
    }
    if served.version != ledger_version || history.trouble.is_some() {
        let (served, ledger) = (format!("version {}", served.version), format!("version {ledger_version}"));
        return different("version", served, ledger);
    }
    let balance = history.account.balance();
    if archived(&balance).as_slice() != served.balance {
        return different("balance", balance_in_words(served.balance), words_of_balance(&balance));
    }
    if served.standing == Standing::WindowsUnknown || !history.account.reaches(served.wall_us) {
        return Outcome::WindowsUnknown;
    }
    let statistics = history.account.statistics(served.wall_us);
    if archived(&statistics).as_slice() != served.statistics {
        let served = statistics_in_words(served.statistics);
        return different("statistics", served, words_of_statistics(&statistics));
    }
    Outcome::Equal
}

fn archived<T>(record: &T) -> AlignedVec
where
    T: for<'a> rkyv::Serialize<
            rkyv::api::high::HighSerializer<AlignedVec, rkyv::ser::allocator::ArenaHandle<'a>, rancor::Error>,
        >,
{
    rkyv::to_bytes::<rancor::Error>(record).expect("a record of flat types is always written")
}

fn aligned(bytes: &[u8]) -> AlignedVec {
    let mut aligned = AlignedVec::with_capacity(bytes.len());
    aligned.extend_from_slice(bytes);
    aligned
}

fn balance_in_words(bytes: &[u8]) -> String {
    match rkyv::from_bytes::<Balance, rancor::Error>(&aligned(bytes)) {
        Ok(balance) => words_of_balance(&balance),
        Err(_) => hex(bytes),
    }
}

fn statistics_in_words(bytes: &[u8]) -> String {
    match rkyv::from_bytes::<Statistics, rancor::Error>(&aligned(bytes)) {
        Ok(statistics) => words_of_statistics(&statistics),
        Err(_) => hex(bytes),
    }
}

fn hex(bytes: &[u8]) -> String {
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("no record: {hex}")
}

fn asset_name(asset: u64) -> String {
    Asset::from_wire(asset).map_or_else(|_| format!("{asset:#x}"), |asset| asset.text(&mut [0; 8]).to_owned())
}

/// `user 42, updated at 7 µs: COIN 1200 and 5 held`.
pub fn words_of_balance(balance: &Balance) -> String {
    let mut words = format!("user {}, updated at {} µs:", balance.user_id, balance.updated_at_us);
    for row in &balance.balances {
        let name = asset_name(row.asset);
        write!(words, " {name} {} and {} held;", row.available, row.held).expect("a String takes any text");
    }
    words
}

/// `user 42, from 1 to 7 µs: COIN 24h +1 of 500 -2 of 300 at most 200, 7d …`.
pub fn words_of_statistics(statistics: &Statistics) -> String {
    let (first, last) = (statistics.first_transaction_at_us, statistics.last_transaction_at_us);
    let mut words = format!("user {}, from {first} to {last} µs:", statistics.user_id);
    for asset in &statistics.statistics {
        write!(words, " {}", asset_name(asset.asset)).expect("a String takes any text");
        for (window, totals) in Window::ALL.iter().zip(&asset.windows) {
            let &WindowStatistics { credit_count, credit_sum, debit_count, debit_sum, largest_debit } =
                totals;
            let name = window.name();
            write!(
                words,
                " {name} +{credit_count} of {credit_sum} -{debit_count} of {debit_sum} at most {largest_debit},"
            )
            .expect("a String takes any text");
        }
    }
    words
}

fn shortened(text: String) -> String {
    if text.chars().count() <= AUDIT_CONTENT_MAX {
        return text;
    }
    text.chars().take(AUDIT_CONTENT_MAX - 1).chain(['…']).collect()
}
