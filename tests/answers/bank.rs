//! A bank's transactions, imported: made up, and real ones where they lie beside the checkout. A bank's accounts are unlike a
//! platform's: few rows each, over many months, at a day's exact times, with amounts of every size.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use florin::cli::import::{ImportOptions, Source, import};
use florin::cli::progress::Silent;
use florin_schema::ids::mix;

/// 1994-03-31T23:59:59Z: the end of both.
pub const NOW_US: i64 = 765_158_399_000_000;

const REAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/czech-bank-1993.csv.gz");
const REAL_ROWS: u64 = 49_102;
const MADE_UP_ROWS: u64 = 2_000;
/// January 1993 to March 1994, of 28 days each.
const MONTHS: u64 = 15;
const ACCOUNTS: u64 = 60;

/// The ledgers that there are.
pub fn ledgers(directory: &Path) -> Vec<PathBuf> {
    let made_up = directory.join("bank.csv.gz");
    make_up(&made_up);
    let mut ledgers = vec![imported(&made_up, &directory.join("bank.db"), MADE_UP_ROWS)];
    if Path::new(REAL).exists() {
        ledgers.push(imported(Path::new(REAL), &directory.join("real.db"), REAL_ROWS));
    }
    ledgers
}

fn imported(source: &Path, ledger: &Path, rows: u64) -> PathBuf {
    let options = ImportOptions {
        source: Source::File(source.to_owned()),
        ledger: ledger.to_owned().into(),
        skip_bad: None,
    };
    let report = import(&options, &mut Silent).expect("an import");
    assert_eq!((report.imported, report.duplicates), (rows, 0));
    let again = import(&options, &mut Silent).expect("an import");
    assert_eq!((again.imported, again.duplicates), (0, rows));
    ledger.to_owned()
}

/// The rows of a day are 20 seconds apart, from 08:00 on: wages, cash, transfers, and interest at a month's end.
fn make_up(path: &Path) {
    let mut file = GzEncoder::new(File::create(path).expect("a file"), Compression::fast());
    let mut line = |text: String| file.write_all(text.as_bytes()).expect("room for it");
    line("transaction_id,user_id,asset,kind,amount,occurred_at\n".to_owned());
    for row in 0..MADE_UP_ROWS {
        let day = row * MONTHS * 28 / MADE_UP_ROWS;
        let (month, at) = (day / 28, row % (MADE_UP_ROWS / MONTHS / 28 + 1));
        let drawn = mix(row);
        let kind = match drawn % 20 {
            _ if day % 28 == 27 => "adjustment_credit",
            0..=4 => "recharge",
            5..=8 => "gift_received",
            9..=13 => "gift_sent",
            14 => "adjustment_debit",
            _ => "withdrawal",
        };
        // From some haléř to a house.
        let amount = 1 + drawn / 20 % 10_u64.pow(1 + (drawn / 1_000 % 9) as u32);
        let seconds = 8 * 3_600 + at * 20;
        line(format!(
            "00000000-0000-5000-8000-{row:012},{},CZK,{kind},{amount},{}-{:02}-{:02}T{:02}:{:02}:{:02}Z\n",
            1 + mix(drawn) % ACCOUNTS * 7,
            1993 + month / 12,
            1 + month % 12,
            1 + day % 28,
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60,
        ));
    }
    file.finish().expect("room for it");
}
