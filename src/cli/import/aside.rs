//! The file for rows that cannot enter the ledger.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use csv::ByteRecord;
use florin_record::Field;

use super::{ImportError, RowDefect};

/// Where bad rows go: the same columns, then the line and the reason.
pub(super) struct Aside {
    path: PathBuf,
    csv: csv::Writer<File>,
    /// A file that this import has made.
    is_new: bool,
}

impl Aside {
    /// In a new file: whatever is there, by any of its names, is left alone. A terminal, `/dev/null` or a pipe holds nothing to
    /// lose.
    pub fn create(path: &Path) -> Result<Aside, ImportError> {
        let holds_nothing =
            fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.file_type().is_block_device());
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
    pub fn remove(self) {
        if self.is_new {
            let _ = fs::remove_file(&self.path);
        }
    }

    pub fn put(&mut self, record: &ByteRecord, line: u64, defect: &RowDefect) -> Result<(), ImportError> {
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
    pub fn finish(&mut self) -> Result<(), ImportError> {
        let synced = |file: &File| if self.is_new { file.sync_data() } else { Ok(()) };
        let flushed = self.csv.flush().and_then(|()| synced(self.csv.get_ref()));
        flushed.map_err(|error| self.error(error))
    }

    fn error(&self, source: io::Error) -> ImportError {
        ImportError::Aside { path: self.path.clone(), source }
    }
}
