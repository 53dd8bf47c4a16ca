//! The folder that stays behind: `verdict.json`, `mismatches.jsonl`, `report.html`, and a recording of each mismatch.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::finding::{Finding, Sides};
use super::redact::Redaction;
use super::summary::Summary;
use crate::limits::{EVIDENCE_BYTES_MAX, EXPORTS_MAX};
use crate::record;

/// The page, live and as a file: it shows the state that stands in it, or, where none does, asks for it.
const PAGE: &str = include_str!("page.html");
/// Where in the page the state stands.
const PLACE: &str = "<!--state-->";

/// The folder of recordings of single mismatches.
const EXPORTS: &str = "mismatches";

/// Why a report cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}; give a --report folder that can be written to")]
pub struct ReportError {
    path: String,
    source: io::Error,
}

/// A run's folder.
pub struct Report {
    folder: PathBuf,
    mismatches: Mutex<Mismatches>,
}

struct Mismatches {
    file: BufWriter<File>,
    bytes: u64,
    written: u64,
    not_written: u64,
    is_failing: bool,
}

impl Report {
    /// Makes the folder, and an empty `mismatches.jsonl` in it. A report that lies there already is replaced.
    ///
    /// # Errors
    /// Where it takes no files.
    pub fn open(folder: &Path) -> Result<Report, ReportError> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |source| ReportError { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        for old in ["verdict.json", "report.html"] {
            match fs::remove_file(folder.join(old)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&folder.join(old))(error));
                }
                _ => {}
            }
        }
        remove_exports(&folder.join(EXPORTS)).map_err(failed(&folder.join(EXPORTS)))?;
        let path = folder.join("mismatches.jsonl");
        let file = BufWriter::new(File::create(&path).map_err(failed(&path))?);
        let mismatches = Mismatches { file, bytes: 0, written: 0, not_written: 0, is_failing: false };
        Ok(Report { folder: folder.to_owned(), mismatches: Mutex::new(mismatches) })
    }

    /// Mismatches for which there was no room.
    pub fn not_written(&self) -> u64 {
        self.mismatches.lock().unwrap_or_else(PoisonError::into_inner).not_written
    }

    /// Adds a mismatch, as a line and as a recording of one request.
    pub fn write(&self, finding: &Finding<'_>, redaction: &Redaction, sides: &Sides) {
        let mut mismatches = self.mismatches.lock().unwrap_or_else(PoisonError::into_inner);
        if mismatches.bytes >= EVIDENCE_BYTES_MAX || mismatches.is_failing {
            mismatches.not_written += 1;
            return;
        }
        let number = mismatches.written + 1;
        // A recording has to name its user, or it could not be replayed.
        let exported = (number <= EXPORTS_MAX && !redaction.hides())
            .then(|| self.folder.join(EXPORTS).join(format!("{number:06}.jsonl")))
            .filter(|path| record::export(path, finding.request, finding.primary).is_ok());
        let line = finding.line(redaction, sides, exported.as_deref());
        let mut text = serde_json::to_string(&line).expect("a line has string keys");
        text.push('\n');
        let written = mismatches.file.write_all(text.as_bytes()).and_then(|()| mismatches.file.flush());
        match written {
            Ok(()) => {
                mismatches.bytes += text.len() as u64;
                mismatches.written = number;
            }
            Err(error) => {
                tracing::error!("cannot write {}/mismatches.jsonl: {error}", self.folder.display());
                mismatches.is_failing = true;
                mismatches.not_written += 1;
            }
        }
    }

    /// Writes the verdict and the page.
    ///
    /// # Errors
    /// Where the folder takes no files.
    pub fn finish(&self, summary: &Summary) -> Result<(), ReportError> {
        let mut json = serde_json::to_string_pretty(summary).expect("a summary has string keys");
        json.push('\n');
        for (name, text) in [("verdict.json", json), ("report.html", page(Some(summary)))] {
            let path = self.folder.join(name);
            fs::write(&path, text)
                .map_err(|source| ReportError { path: path.display().to_string(), source })?;
        }
        Ok(())
    }
}

/// Removes what an earlier run has exported: it is another run's, and may name users where this one must not.
fn remove_exports(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let is_ours = path.extension().is_some_and(|kind| kind == "jsonl")
            && name.len() == 6
            && name.bytes().all(|b| b.is_ascii_digit());
        if is_ours {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The page: with a state in it, or one that asks for it.
pub fn page(summary: Option<&Summary>) -> String {
    let state = summary.map(|summary| {
        let json = serde_json::to_string(summary).expect("a summary has string keys");
        // Nothing that a service has answered may end the script element.
        let json = json.replace('<', "\\u003c");
        format!("<script id=\"state\" type=\"application/json\">{json}</script>")
    });
    PAGE.replacen(PLACE, &state.unwrap_or_default(), 1)
}
