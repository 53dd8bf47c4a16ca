//! A file of rows: packed with gzip or not, line by line, with how many of its bytes have been read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::ByteRecord;
use flate2::bufread::MultiGzDecoder;

use super::{ImportError, RowDefect, Source, csv_line};
use crate::cli::lines::{Line, Lines};
use crate::limits::{CSV_LINE_BYTES_MAX, IMPORT_READ_BYTES};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The rows of a file, with how many of its bytes have been read.
pub(super) struct Input {
    pub name: String,
    pub lines: Lines<Box<dyn BufRead>>,
    line: Vec<u8>,
    pub bytes_read: Arc<AtomicU64>,
    pub bytes_total: Option<u64>,
}

impl Input {
    pub fn open(source: &Source) -> Result<Input, ImportError> {
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
            let mut buffered = BufReader::with_capacity(IMPORT_READ_BYTES, counting);
            // A pipe may bring one byte first, but never splits what `fill_buf` is asked for again: so it is gzip if
            // the first byte is, which no header can begin with.
            let packed = buffered.fill_buf()?.first() == Some(&GZIP_MAGIC[0]);
            Ok(if packed {
                (
                    Box::new(BufReader::with_capacity(IMPORT_READ_BYTES, MultiGzDecoder::new(buffered))),
                    bytes_total,
                )
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
    pub fn next(&mut self, record: &mut ByteRecord) -> Result<Option<Result<(), RowDefect>>, ImportError> {
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
