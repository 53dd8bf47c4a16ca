//! `florin import`: a CSV file into the ledger, wholly or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::ByteRecord;
use flate2::bufread::MultiGzDecoder;

use super::csv_line::{self, QuoteError};
use super::{Batch, Field, Line, Lines, Progress, Rejection, StoreError, TransactionText, Unit, Writer};
use crate::limits::CSV_LINE_BYTES_MAX;

/// Rows between two reports of progress: a few milliseconds.
const PROGRESS_ROWS: u64 = 1_024;
/// A larger buffer than the default saves system calls on large files.
const READ_BYTES: usize = 256 * 1_024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What to import.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportOptions {
    /// From where.
    pub source: Source,
    /// Into which ledger; made where there is none.
    pub ledger: PathBuf,
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

/// Why an import ended early: the ledger is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The input cannot be read.
    #[error("{input}: cannot read it: {source}")]
    Open {
        /// The file.
        input: String,
        /// Why.
        source: io::Error,
    },
    /// The input ends early or is damaged.
    #[error("{input}, after line {line}: cannot read on: {source}; the ledger is as it was")]
    Read {
        /// The file.
        input: String,
        /// The last line that was read.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// The first line is not the header.
    #[error("{input}, line 1: expected the header {expected:?}, found {found:?}; the ledger is as it was", expected = header())]
    Header {
        /// The file.
        input: String,
        /// The first line.
        found: String,
    },
    /// A bad row, and nowhere to put it.
    #[error(
        "{input}, line {line}, {defect}; the ledger is as it was (--skip-bad FILE writes bad rows aside and goes on)"
    )]
    Row {
        /// The file.
        input: String,
        /// The line that the row begins on, from 1.
        line: u64,
        /// What is wrong with it.
        defect: RowDefect,
    },
    /// The file for bad rows cannot be written.
    #[error("cannot write bad rows to {}: {source}; the ledger is as it was", .path.display())]
    Aside {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file for bad rows is there already.
    #[error("--skip-bad {} exists already, and nothing is overwritten: name a file that does not exist yet", .path.display())]
    AsideExists {
        /// The file.
        path: PathBuf,
    },
    /// The ledger refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with a row.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RowDefect {
    /// Too few or too many fields.
    #[error("expected 6 fields, found {found}")]
    Fields {
        /// How many.
        found: usize,
    },
    /// Quotes that do not pair up within the line.
    #[error(transparent)]
    Quotes(#[from] QuoteError),
    /// A line that nobody's row needs.
    #[error("expected a line of at most {CSV_LINE_BYTES_MAX} bytes: this one is longer")]
    TooLong,
    /// A field that is not text.
    #[error("column {column}: {field}: expected UTF-8 text, found other bytes", column = column_of(*.field))]
    NotText {
        /// Which.
        field: Field,
    },
    /// A value that the ledger may not hold.
    #[error("column {column}: {0}", column = column_of(.0.field()))]
    Rejected(Rejection),
}

/// Imports; see the README for the format.
///
/// # Errors
/// After any, the ledger holds what it held before.
pub fn import(options: &ImportOptions, progress: &mut dyn Progress) -> Result<ImportReport, ImportError> {
    let mut input = Input::open(&options.source)?;
    check_header(&mut input)?;
    let mut writer = Writer::open_or_create(&options.ledger)?;
    let imported = import_into(&mut writer, input, options, progress);
    match &imported {
        Ok(_) => writer.checkpoint(),
        Err(_) => writer.remove_if_made(),
    }
    imported
}

fn import_into(
    writer: &mut Writer,
    mut input: Input,
    options: &ImportOptions,
    progress: &mut dyn Progress,
) -> Result<ImportReport, ImportError> {
    let mut aside = options.skip_bad.as_deref().map(Aside::create).transpose()?;
    let mut run = || {
        writer.expect_many()?;
        let mut batch = writer.begin()?;
        progress.begin(Unit::Bytes, input.bytes_total);
        let report = read_rows(&mut input, &mut batch, aside.as_mut(), progress);
        progress.end();
        let report = report?;
        if let Some(aside) = &mut aside {
            aside.finish()?;
        }
        batch.commit()?;
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
    batch: &mut Batch<'_>,
    mut aside: Option<&mut Aside>,
    progress: &mut dyn Progress,
) -> Result<ImportReport, ImportError> {
    let mut report = ImportReport::default();
    let mut record = ByteRecord::new();
    while let Some(read) = input.next(&mut record)? {
        let line = input.lines.number();
        report.rows += 1;
        let outcome = match read {
            Ok(()) => append(batch, &record)?,
            Err(defect) => Err(defect),
        };
        match (outcome, &mut aside) {
            (Ok(Outcome::Imported), _) => report.imported += 1,
            (Ok(Outcome::Duplicate), _) => report.duplicates += 1,
            (Err(defect), Some(aside)) => {
                aside.put(&record, line, &defect)?;
                report.bad += 1;
            }
            (Err(defect), None) => return Err(ImportError::Row { input: input.name.clone(), line, defect }),
        }
        if report.rows.is_multiple_of(PROGRESS_ROWS) {
            progress.reach(input.bytes_read.load(Ordering::Relaxed));
        }
    }
    Ok(report)
}

enum Outcome {
    Imported,
    Duplicate,
}

fn append(batch: &mut Batch<'_>, record: &ByteRecord) -> Result<Result<Outcome, RowDefect>, StoreError> {
    let row = match texts(record)
        .and_then(|texts| texts.parse().map_err(|error| RowDefect::Rejected(error.into())))
    {
        Ok(row) => row,
        Err(defect) => return Ok(Err(defect)),
    };
    Ok(match batch.append(&row)? {
        Ok(appended) if appended.duplicate => Ok(Outcome::Duplicate),
        Ok(_) => Ok(Outcome::Imported),
        Err(rejection) => Err(RowDefect::Rejected(rejection)),
    })
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

/// From 1, as spreadsheets count.
fn column_of(field: Field) -> usize {
    1 + Field::ALL.iter().position(|&one| one == field).expect("ALL holds every field")
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

/// The rows of a file, with how many of its bytes have been read.
struct Input {
    name: String,
    lines: Lines<Box<dyn BufRead>>,
    line: Vec<u8>,
    bytes_read: Arc<AtomicU64>,
    bytes_total: Option<u64>,
}

impl Input {
    fn open(source: &Source) -> Result<Input, ImportError> {
        let name = match source {
            Source::Stdin => "standard input".to_owned(),
            Source::File(path) => path.display().to_string(),
        };
        let bytes_read = Arc::new(AtomicU64::new(0));
        let opened = || -> io::Result<(Box<dyn BufRead>, Option<u64>)> {
            let (raw, bytes_total): (Box<dyn Read>, _) = match source {
                Source::Stdin => (Box::new(io::stdin()), None),
                Source::File(path) => {
                    let file = File::open(path)?;
                    let length = file.metadata()?;
                    (Box::new(file), length.is_file().then_some(length.len()))
                }
            };
            let counting = Counting { inner: raw, bytes: Arc::clone(&bytes_read) };
            let mut buffered = BufReader::with_capacity(READ_BYTES, counting);
            // A pipe may bring one byte first, but never splits what `fill_buf` is asked for again: so it is gzip if
            // the first byte is, which no header can begin with.
            let packed = buffered.fill_buf()?.first() == Some(&GZIP_MAGIC[0]);
            Ok(if packed {
                (Box::new(BufReader::with_capacity(READ_BYTES, MultiGzDecoder::new(buffered))), bytes_total)
            } else {
                (Box::new(buffered), bytes_total)
            })
        };
        let (reader, bytes_total) =
            opened().map_err(|source| ImportError::Open { input: name.clone(), source })?;
        let lines = Lines::new(reader, CSV_LINE_BYTES_MAX);
        Ok(Input { name, lines, line: Vec::new(), bytes_read, bytes_total })
    }

    /// The next line that is not blank: into `record`, whole where that could be done.
    fn next(&mut self, record: &mut ByteRecord) -> Result<Option<Result<(), RowDefect>>, ImportError> {
        loop {
            let line = match self.lines.next(&mut self.line) {
                Ok(line) => line,
                Err(source) => {
                    let line = self.lines.number();
                    return Err(ImportError::Read { input: self.name.clone(), line, source });
                }
            };
            return Ok(match line {
                None => {
                    record.clear();
                    None
                }
                Some(Line::Whole(b"")) => continue,
                Some(Line::Whole(line)) => Some(csv_line::split(line, record).map_err(RowDefect::from)),
                Some(Line::TooLong(beginning)) => {
                    record.clear();
                    record.push_field(beginning);
                    Some(Err(RowDefect::TooLong))
                }
            });
        }
    }
}

struct Counting {
    inner: Box<dyn Read>,
    bytes: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Where bad rows go: the same columns, then the line and the reason.
struct Aside {
    path: PathBuf,
    csv: csv::Writer<File>,
    /// A file that this import has made.
    is_new: bool,
}

impl Aside {
    /// In a new file: whatever is there, by any of its names, is left alone. A device or a pipe holds nothing to lose.
    fn create(path: &Path) -> Result<Aside, ImportError> {
        let holds_nothing = fs::metadata(path).is_ok_and(|found| !found.is_file());
        let mut how = OpenOptions::new();
        let file = if holds_nothing {
            how.write(true).open(path)
        } else {
            how.write(true).create_new(true).open(path)
        };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => ImportError::AsideExists { path: path.to_owned() },
            _ => ImportError::Aside { path: path.to_owned(), source },
        };
        let mut csv = csv::WriterBuilder::new().flexible(true).from_writer(file.map_err(failed)?);
        let header = csv.write_record(Field::ALL.map(Field::name).iter().chain(&["line", "reason"]));
        header.map_err(|error| failed(error.into()))?;
        Ok(Aside { path: path.to_owned(), csv, is_new: !holds_nothing })
    }

    /// Nothing was imported, so nothing was left out.
    fn remove(self) {
        if self.is_new {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn put(&mut self, record: &ByteRecord, line: u64, defect: &RowDefect) -> Result<(), ImportError> {
        // Always eight columns, whatever the row had: fields beyond the sixth stay with it, separated by commas.
        let mut fields: [Vec<u8>; 6] = Default::default();
        for (at, bytes) in record.iter().enumerate() {
            let field = &mut fields[at.min(5)];
            if at > 5 {
                field.push(b',');
            }
            field.extend_from_slice(bytes);
        }
        let (line, reason) = (line.to_string(), defect.to_string());
        let row = fields.iter().map(Vec::as_slice).chain([line.as_bytes(), reason.as_bytes()]);
        self.csv.write_record(row).map_err(|error| self.error(error.into()))
    }

    /// On disk before the ledger commits: a bad row is in one of the two or still in the input, never lost.
    fn finish(&mut self) -> Result<(), ImportError> {
        let synced = |file: &File| if self.is_new { file.sync_data() } else { Ok(()) };
        let flushed = self.csv.flush().and_then(|()| synced(self.csv.get_ref()));
        flushed.map_err(|error| self.error(error))
    }

    fn error(&self, source: io::Error) -> ImportError {
        ImportError::Aside { path: self.path.clone(), source }
    }
}
