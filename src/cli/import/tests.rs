//! A file enters whole or not at all, and the message leads to the bad row.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use florin_sqlite::scratch::*;

use super::*;
use crate::cli::progress::{Progress, Silent, Unit};
use crate::ledger::Kind;

const HEADER: &str = "transaction_id,user_id,asset,kind,amount,occurred_at";
const FIRST: &str =
    "99001032-b24c-5525-b910-74da77541092,2378,CZK,recharge,70000,1993-01-01T08:00:00.000000Z";
const SECOND: &str = "310e1d0f-4cbd-5196-9952-de08181f406d,576,CZK,1,90000,1993-01-01T08:00:20Z";
const THIRD: &str = "83f3bdb6-4199-5242-a482-fe32dd7faa3e,2378,CZK,withdrawal,1,1993-01-01T10:00:40+02:00";

fn options(scratch: &Scratch, bytes: impl AsRef<[u8]>) -> ImportOptions {
    let path = scratch.file("rows.csv");
    fs::write(&path, bytes).unwrap();
    ImportOptions { source: Source::File(path), ledger: scratch.ledger().into(), skip_bad: None }
}

fn lines(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn run(scratch: &Scratch, bytes: impl AsRef<[u8]>) -> Result<ImportReport, ImportError> {
    import(&options(scratch, bytes), &mut Silent)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn rows_enter_in_the_file_s_order() {
    let scratch = Scratch::new();
    let report = run(&scratch, lines(&[HEADER, FIRST, SECOND, THIRD])).unwrap();
    assert_eq!(report, ImportReport { rows: 3, imported: 3, duplicates: 0, bad: 0 });
    let rows = scratch.rows();
    let found: Vec<_> =
        rows.iter().map(|row| (row.user_id.get(), row.version.0, row.kind, row.amount)).collect();
    let expected =
        [(2378, 1, Kind::Recharge, 70_000), (576, 1, Kind::Recharge, 90_000), (2378, 2, Kind::Withdrawal, 1)];
    assert_eq!(found, expected);
    assert_eq!(rows[2].occurred_at_us - rows[0].occurred_at_us, 40_000_000);
}

#[test]
fn every_usual_form_of_the_file_is_the_same_file() {
    let plain = lines(&[HEADER, FIRST, SECOND, THIRD]);
    let quoted = plain.replace("CZK", "\"CZK\"");
    let two_members = [gzip(&plain.as_bytes()[..100]), gzip(&plain.as_bytes()[100..])].concat();
    for (what, bytes) in [
        ("plain", plain.clone().into_bytes()),
        ("CRLF", plain.replace('\n', "\r\n").into_bytes()),
        ("BOM", format!("\u{feff}{plain}").into_bytes()),
        ("no last line end", plain.trim_end().into()),
        ("quoted", quoted.into_bytes()),
        ("blank lines", plain.replace('\n', "\r\n\n").into_bytes()),
        ("gzip under a name that does not say so", gzip(plain.as_bytes())),
        ("gzip in two members", two_members),
    ] {
        let scratch = Scratch::new();
        let report = run(&scratch, bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((report.rows, scratch.rows().len()), (3, 3), "{what}");
    }
}

#[test]
fn the_same_file_twice_changes_nothing() {
    let scratch = Scratch::new();
    let file = lines(&[HEADER, FIRST, SECOND, THIRD, FIRST]);
    assert_eq!(run(&scratch, &file).unwrap(), ImportReport { rows: 4, imported: 3, duplicates: 1, bad: 0 });
    let before = scratch.rows();
    assert_eq!(run(&scratch, &file).unwrap(), ImportReport { rows: 4, imported: 0, duplicates: 4, bad: 0 });
    assert_eq!(scratch.rows(), before);
}

#[test]
fn a_file_without_the_header_is_refused_before_a_ledger_is_made() {
    for (bytes, found) in [
        (String::new(), "\"\""),
        (lines(&[FIRST]), "99001032"),
        (lines(&["user_id,transaction_id,asset,kind,amount,occurred_at"]), "user_id,transaction_id"),
        (lines(&[&HEADER.to_uppercase()]), "TRANSACTION_ID"),
    ] {
        let scratch = Scratch::new();
        let error = run(&scratch, bytes).unwrap_err();
        assert!(matches!(error, ImportError::Header { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(HEADER) && message.contains(found), "{message}");
        assert!(!scratch.ledger().exists());
    }
    let scratch = Scratch::new();
    assert_eq!(run(&scratch, lines(&[HEADER])).unwrap(), ImportReport::default());
}

/// Each bad third line, the column that the message must name, and a piece of what it must say.
fn bad_lines() -> Vec<(String, &'static str, &'static str)> {
    let with = |column: usize, text: &str| {
        let mut fields: Vec<&str> = SECOND.split(',').collect();
        fields[column] = text;
        fields.join(",")
    };
    vec![
        (with(0, "99001032"), "column 1: transaction_id", "a UUID"),
        (with(1, "-1"), "column 2: user_id", "9223372036854775807"),
        (with(1, "9223372036854775808"), "column 2: user_id", "found \"9223372036854775808\""),
        (with(2, "czk"), "column 3: asset", "A-Z"),
        (with(3, "bribe"), "column 4: kind", "gift_received"),
        (with(3, "11"), "column 4: kind", "found \"11\""),
        (with(4, "0"), "column 5: amount", "from 1"),
        (with(4, "007"), "column 5: amount", "leading zeros"),
        (with(1, "01"), "column 2: user_id", "leading zeros"),
        (with(3, "+1"), "column 4: kind", "found \"+1\""),
        (with(3, "01"), "column 4: kind", "found \"01\""),
        (with(4, "12.50"), "column 5: amount", "minor units"),
        (with(5, "1993-01-01"), "column 6: occurred_at", "RFC 3339"),
        (with(5, "1993-01-01T08:00:20.0000005Z"), "column 6: occurred_at", "no finer than"),
        (format!("{SECOND},more"), "expected 6 fields", "found 7"),
        ("576,CZK".to_owned(), "expected 6 fields", "found 2"),
        (FIRST.replace("70000", "70001"), "column 1: transaction_id", "another amount (version 1"),
    ]
}

#[test]
fn a_bad_row_ends_the_import_and_the_ledger_is_as_it_was() {
    let scratch = Scratch::new();
    scratch.writer().append(&[recharge(1, 7)]).unwrap();
    for (bad, place, reason) in bad_lines() {
        let message = run(&scratch, lines(&[HEADER, FIRST, &bad, THIRD])).unwrap_err().to_string();
        assert!(message.contains("rows.csv, line 3, ") && message.contains(place), "{bad}: {message}");
        assert!(message.contains(reason) && message.contains("--skip-bad"), "{bad}: {message}");
        assert_eq!(scratch.rows().len(), 1, "{bad}");
    }
    let mut bytes = lines(&[HEADER, FIRST]).into_bytes();
    bytes.extend_from_slice(&SECOND.replace("CZK", "CZ?").into_bytes());
    let at = bytes.iter().rposition(|&byte| byte == b'?').unwrap();
    bytes[at] = 0xff;
    let message = run(&scratch, bytes).unwrap_err().to_string();
    assert!(message.contains("line 3, column 3: asset: expected UTF-8"), "{message}");
}

/// Once a quote that nobody closed swallowed every row up to the next quote, 998 of them, and the import said "1 bad row"
/// and ended well; `"1"00` became 100; and behind CRLF and blank lines the line that was named was another.
#[test]
fn a_quote_costs_its_own_line_and_lines_are_numbered_as_the_file_has_them() {
    let scratch = Scratch::new();
    let open = SECOND.replace("CZK", "\"CZK");
    let behind = THIRD.replace(",1,", ",\"1\"00,");
    let long = format!("{SECOND}{}", " ".repeat(1 << 20));
    let file = [HEADER, "", &open, FIRST, "", "", &behind, &long, SECOND, ""].join("\r\n");
    for (line, file, reason) in [
        (3, &file, "closing quote before the line's end"),
        (6, &file.replace(&format!("{open}\r\n"), ""), "behind the closing quote"),
        (6, &[HEADER, "", "", "", "", &long].join("\n"), "at most 16384 bytes"),
    ] {
        let message = run(&scratch, file).unwrap_err().to_string();
        assert!(message.contains(&format!("line {line}, ")) && message.contains(reason), "{message}");
    }
    let aside = scratch.file("bad.csv");
    let options = ImportOptions { skip_bad: Some(aside.clone()), ..options(&scratch, &file) };
    let report = import(&options, &mut Silent).unwrap();
    assert_eq!(report, ImportReport { rows: 5, imported: 2, duplicates: 0, bad: 3 });
    let mut csv = csv::Reader::from_path(&aside).unwrap();
    let bad: Vec<_> = csv.records().map(|record| record.unwrap()[6].to_owned()).collect();
    assert_eq!(bad, ["3", "7", "8"]);
}

#[test]
fn bad_rows_can_be_put_aside() {
    let scratch = Scratch::new();
    let bad = bad_lines();
    let mut file = vec![HEADER, FIRST];
    file.extend(bad.iter().map(|(line, ..)| line.as_str()));
    file.push(THIRD);
    let aside = scratch.file("bad.csv");
    let options = ImportOptions { skip_bad: Some(aside.clone()), ..options(&scratch, lines(&file)) };
    let report = import(&options, &mut Silent).unwrap();
    let rows = bad.len() as u64 + 2;
    assert_eq!(report, ImportReport { rows, imported: 2, duplicates: 0, bad: rows - 2 });
    assert_eq!(scratch.rows().len(), 2);

    let mut csv = csv::Reader::from_path(&aside).unwrap();
    assert_eq!(csv.headers().unwrap(), HEADER.split(',').chain(["line", "reason"]).collect::<Vec<_>>());
    let records: Vec<_> = csv.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), bad.len());
    for ((record, (line, _, reason)), number) in records.iter().zip(&bad).zip(3..) {
        assert_eq!(record[6], number.to_string());
        assert!(record[7].contains(reason), "{record:?}");
        assert_eq!(&record[0], line.split(',').next().unwrap());
    }
}

/// Paths were compared, so a hard link of the ledger or of the input was emptied; and an older file of bad rows was, too.
#[test]
fn the_file_for_bad_rows_is_a_new_one() {
    let scratch = Scratch::new();
    drop(scratch.writer());
    let options = options(&scratch, lines(&[HEADER, FIRST]));
    fs::hard_link(scratch.file("rows.csv"), scratch.file("link.csv")).unwrap();
    fs::write(scratch.file("older.csv"), "bad rows of yesterday").unwrap();
    for own in ["ledger.db", "ledger.db-journal", "ledger.db-wal", "ledger.db-shm", "./ledger.db-wal"] {
        let options = ImportOptions { skip_bad: Some(scratch.file(own)), ..options.clone() };
        let error = import(&options, &mut Silent).unwrap_err();
        assert!(matches!(error, ImportError::AsideIsLedgers { .. }), "{own}: {error}");
        assert_eq!(scratch.file(own).exists(), own == "ledger.db", "{own}");
    }
    for victim in ["rows.csv", "link.csv", "older.csv"] {
        let before = fs::read(scratch.file(victim)).unwrap();
        let options = ImportOptions { skip_bad: Some(scratch.file(victim)), ..options.clone() };
        let error = import(&options, &mut Silent).unwrap_err();
        assert!(matches!(error, ImportError::AsideExists { .. }), "{error}");
        assert_eq!(fs::read(scratch.file(victim)).unwrap(), before, "{victim}");
    }
    let options = ImportOptions { skip_bad: Some("/dev/null".into()), ..options };
    assert_eq!(import(&options, &mut Silent).unwrap().imported, 1);
}

/// It left an empty ledger, which a node then served, and an empty file of bad rows.
#[test]
fn an_import_that_fails_leaves_nothing_where_nothing_was() {
    let scratch = Scratch::new();
    let packed = gzip(lines(&[HEADER, FIRST, SECOND, THIRD]).as_bytes());
    let options = ImportOptions {
        skip_bad: Some(scratch.file("bad.csv")),
        ..options(&scratch, &packed[..packed.len() - 12])
    };
    import(&options, &mut Silent).unwrap_err();
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm", "bad.csv"] {
        assert!(!scratch.file(name).exists(), "{name} was left behind");
    }
    // One that was there stays, empty as it may be.
    drop(scratch.writer());
    import(&options, &mut Silent).unwrap_err();
    assert!(scratch.ledger().exists());
}

/// A version after the largest was the smallest.
#[test]
fn a_row_without_a_next_version_is_a_bad_row() {
    let scratch = Scratch::new();
    drop(scratch.writer());
    drop(scratch.sql(
        "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) VALUES \
            ('00000000-0000-4000-8000-0000000000ff', 576, 9223372036854775807, 'CZK', 1, 5, 0)",
    ));
    let message = run(&scratch, lines(&[HEADER, FIRST, SECOND])).unwrap_err().to_string();
    assert!(message.contains("line 3, column 2: user_id") && message.contains("576"), "{message}");
    assert_eq!(scratch.rows().len(), 1);
}

#[test]
fn a_file_that_breaks_off_leaves_the_ledger_as_it_was() {
    let scratch = Scratch::new();
    drop(scratch.writer());
    let packed = gzip(lines(&[HEADER, FIRST, SECOND, THIRD]).as_bytes());
    let error = run(&scratch, &packed[..packed.len() - 12]).unwrap_err();
    assert!(matches!(error, ImportError::Read { .. }), "{error}");
    assert_eq!(scratch.rows(), []);
    let missing = ImportOptions {
        source: Source::File(scratch.file("nowhere.csv")),
        ledger: scratch.ledger().into(),
        skip_bad: None,
    };
    let error = import(&missing, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("nowhere.csv"), "{error}");
}

#[test]
fn progress_counts_the_bytes_of_the_file() {
    #[derive(Default)]
    struct Seen {
        total: Option<u64>,
        last: u64,
        ended: bool,
    }
    impl Progress for Seen {
        fn begin(&mut self, unit: Unit, total: Option<u64>) {
            assert_eq!(unit, Unit::Bytes);
            self.total = total;
        }
        fn reach(&mut self, done: u64) {
            assert!(done >= self.last);
            self.last = done;
        }
        fn end(&mut self) {
            self.ended = true;
        }
    }
    let scratch = Scratch::new();
    let file = format!("{HEADER}\n{}", format!("{FIRST}\n").repeat(2_048));
    let mut seen = Seen::default();
    import(&options(&scratch, &file), &mut seen).unwrap();
    assert!(seen.ended && seen.last > 0);
    assert_eq!(seen.total, Some(file.len() as u64));
}
