//! `florin import`: a CSV file into a ledger, wholly or not at all.
//!
//! | module | holds |
//! | --- | --- |
//! | `input` | the file, line by line |
//! | [`csv_line`] | one line of CSV, without forgiveness |
//! | `aside` | where bad rows go |
//! | `error` | what can be wrong |

mod aside;
pub mod csv_line;
mod error;
mod input;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::Args;
use csv::ByteRecord;
use florin_record::{Added, Bulk, BulkWriter, Field, LedgerError, NewTransaction, TransactionText, time};

use super::output::say;
use super::progress::{Bar, Progress, Unit};
use crate::limits::PROGRESS_ROWS;
use crate::numbers::{counted, grouped, were};
use crate::sources::{LedgerAddress, bulk_writer};

use aside::Aside;
pub use error::{ImportError, RowDefect};
use input::Input;

/// Flags of `florin import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// CSV, packed with gzip or not, or - for standard input. The header is
    /// transaction_id,user_id,asset,kind,amount,occurred_at
    #[arg(value_name = "FILE.csv[.gz]|-")]
    file: PathBuf,
    /// The ledger; made where there is none
    #[arg(long, value_name = "sqlite:PATH", default_value_t)]
    ledger: LedgerAddress,
    /// Write bad rows to this new file and go on; without it, the first bad row ends the import and nothing is imported
    #[arg(long, value_name = "FILE")]
    skip_bad: Option<PathBuf>,
}

/// Runs `florin import`.
pub(super) fn run(args: ImportArgs) -> Result<(), ImportError> {
    let source = if args.file.as_os_str() == "-" { Source::Stdin } else { Source::File(args.file) };
    let options = ImportOptions { source, ledger: args.ledger, skip_bad: args.skip_bad };
    let started = Instant::now();
    let report = import(&options, &mut Bar::new())?;
    let seconds = started.elapsed().as_secs_f64();
    say(&format!(
        "imported {} into {} in {seconds:.1} s ({} rows/s)",
        counted(report.imported, "transaction"),
        options.ledger,
        grouped((report.rows as f64 / seconds.max(1e-6)) as u64),
    ));
    if report.duplicates > 0 {
        say(&format!("{} {} in the ledger already", grouped(report.duplicates), were(report.duplicates)));
    }
    if let Some(path) = options.skip_bad.filter(|_| report.bad > 0) {
        say(&format!(
            "{} {} in {}",
            counted(report.bad, "bad row"),
            if report.bad == 1 { "is" } else { "are" },
            path.display()
        ));
    }
    Ok(())
}

/// What to import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportOptions {
    /// From where.
    pub source: Source,
    /// Into which ledger; made where there is none.
    pub ledger: LedgerAddress,
    /// Where bad rows go; without it, the first one ends the import.
    pub skip_bad: Option<PathBuf>,
}

/// Where rows come from: CSV, packed with gzip or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// What an import did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ImportReport {
    /// Rows read.
    pub rows: u64,
    /// New ones, now in the ledger.
    pub imported: u64,
    /// Those that the ledger held already.
    pub duplicates: u64,
    /// Those that were written aside.
    pub bad: u64,
}

/// Imports; see the README for the format.
///
/// # Errors
/// After any, the ledger holds what it held before.
pub fn import(options: &ImportOptions, progress: &mut dyn Progress) -> Result<ImportReport, ImportError> {
    // Before the ledger is opened, which may remove the file.
    if let Some(path) = options.skip_bad.as_deref().filter(|path| options.ledger.owns(path)) {
        return Err(ImportError::AsideIsLedgers { path: path.to_owned() });
    }
    let mut input = Input::open(&options.source)?;
    check_header(&mut input)?;
    let mut writer = bulk_writer(&options.ledger)?;
    let imported = import_into(&mut *writer, input, options, progress);
    writer.close();
    imported
}

fn import_into(
    writer: &mut dyn BulkWriter,
    mut input: Input,
    options: &ImportOptions,
    progress: &mut dyn Progress,
) -> Result<ImportReport, ImportError> {
    let mut aside = options.skip_bad.as_deref().map(Aside::create).transpose()?;
    let mut run = || {
        let mut bulk = writer.begin()?;
        progress.begin(Unit::Bytes, input.bytes_total);
        let report = read_rows(&mut input, &mut *bulk, aside.as_mut(), progress);
        progress.end();
        let report = report?;
        if let Some(aside) = &mut aside {
            aside.finish()?;
        }
        bulk.commit()?;
        Ok(report)
    };
    let imported = run();
    if let (Err(_), Some(aside)) = (&imported, aside) {
        aside.remove();
    }
    imported
}

fn read_rows(
    input: &mut Input,
    bulk: &mut dyn Bulk,
    aside: Option<&mut Aside>,
    progress: &mut dyn Progress,
) -> Result<ImportReport, ImportError> {
    let mut report = ImportReport::default();
    let mut bad = BadRows { input: input.name.clone(), aside, count: 0 };
    let mut record = ByteRecord::new();
    while let Some(read) = input.next(&mut record)? {
        let line = input.lines.number();
        report.rows += 1;
        let added = match read {
            Ok(()) => add(bulk, line, &record)?,
            Err(defect) => Err(defect),
        };
        match added {
            Ok(Added::New) => report.imported += 1,
            Ok(Added::Duplicate) => report.duplicates += 1,
            Ok(Added::Later) => {}
            Ok(Added::Rejected(rejection)) => bad.put(&record, line, RowDefect::Rejected(rejection))?,
            Err(defect) => bad.put(&record, line, defect)?,
        }
        if report.rows.is_multiple_of(PROGRESS_ROWS) {
            progress.reach(input.bytes_read.load(Ordering::Relaxed));
        }
    }
    let mut outcome = Ok(());
    let judged = bulk.judge(&mut |line, row, rejection| {
        if outcome.is_ok() {
            outcome = bad.put(&record_of(row), line, RowDefect::Rejected(rejection));
        }
    })?;
    outcome?;
    report.imported += judged.new;
    report.duplicates += judged.duplicates;
    report.bad = bad.count;
    Ok(report)
}

/// Rows that do not enter: written aside, or the end of the import.
struct BadRows<'a> {
    input: String,
    aside: Option<&'a mut Aside>,
    count: u64,
}

impl BadRows<'_> {
    fn put(&mut self, record: &ByteRecord, line: u64, defect: RowDefect) -> Result<(), ImportError> {
        let Some(aside) = &mut self.aside else {
            return Err(ImportError::Row { input: self.input.clone(), line, defect });
        };
        self.count += 1;
        aside.put(record, line, &defect)
    }
}

fn add(bulk: &mut dyn Bulk, line: u64, record: &ByteRecord) -> Result<Result<Added, RowDefect>, LedgerError> {
    let parsed =
        texts(record).and_then(|texts| texts.parse().map_err(|error| RowDefect::Rejected(error.into())));
    match parsed {
        Ok(row) => bulk.add(line, &row).map(Ok),
        Err(defect) => Ok(Err(defect)),
    }
}

/// A row as this command reads it.
fn record_of(row: &NewTransaction) -> ByteRecord {
    ByteRecord::from(vec![
        row.transaction_id.to_string(),
        row.user_id.to_string(),
        row.asset.to_string(),
        row.kind.name().to_owned(),
        row.amount.to_string(),
        time::text(row.occurred_at_us),
    ])
}

fn texts(record: &ByteRecord) -> Result<TransactionText<'_>, RowDefect> {
    if record.len() != Field::ALL.len() {
        return Err(RowDefect::Fields { found: record.len() });
    }
    let mut texts = [""; Field::ALL.len()];
    for ((text, bytes), field) in texts.iter_mut().zip(record).zip(Field::ALL) {
        *text = str::from_utf8(bytes).map_err(|_| RowDefect::NotText { field })?;
    }
    let [transaction_id, user_id, asset, kind, amount, occurred_at] = texts;
    Ok(TransactionText { transaction_id, user_id, asset, kind, amount, occurred_at })
}

fn header() -> String {
    Field::ALL.map(Field::name).join(",")
}

fn check_header(input: &mut Input) -> Result<(), ImportError> {
    let mut record = ByteRecord::new();
    let is_read = matches!(input.next(&mut record)?, Some(Ok(())));
    if is_read && record.iter().eq(Field::ALL.map(|field| field.name().as_bytes())) {
        return Ok(());
    }
    let found = record.iter().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
    Err(ImportError::Header { input: input.name.clone(), found: found.chars().take(128).collect() })
}
