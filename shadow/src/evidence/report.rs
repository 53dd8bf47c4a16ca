//! The folder that stays behind: `verdict.json`, `mismatches.jsonl`, `report.html`, and a recording of each mismatch.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use super::finding::Finding;
use super::redact::Redaction;
use super::summary::{CutRun, Summary};
use crate::address::TargetAddress;
use crate::files::{private, write_whole};
use crate::judge::Sides;
use crate::limits::{EVIDENCE_BYTES_MAX, EXPORTS_MAX};
use crate::record;

/// The page, live and as a file: it shows the state that stands in it, or, where none does, asks for it.
const PAGE: &str = include_str!("page.html");
/// Where in the page the state stands.
const PLACE: &str = "<!--state-->";

/// A summary's state once its run is over.
pub const ENDED: &str = "ended";
/// The file with the verdict.
const VERDICT: &str = "verdict.json";
/// The folder of recordings of single mismatches.
const EXPORTS: &str = "mismatches";

/// Why a report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder takes none.
    #[error("cannot write {path}: {source}; give a --report folder that can be written to")]
    Write {
        /// What.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Something else stands under a name that a report needs.
    #[error(
        "{path} is there already and is not of a shadow's: it is left as it is. Give another --report folder"
    )]
    Foreign {
        /// Which.
        path: String,
    },
    /// Somebody else's.
    #[error("another shadow writes into {path}: end it, or give another --report folder")]
    Taken {
        /// Which.
        path: String,
    },
}

/// A run's folder, within the one that was named.
pub struct Report {
    folder: PathBuf,
    /// Runs before this one that were killed, back to the last that was not.
    pub cut_runs: Vec<CutRun>,
    /// Held as long as this is: two shadows in one folder would take each other's evidence for their own.
    _lock: File,
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
    /// Makes a folder for this run in `outer`, with an empty `mismatches.jsonl`; `latest` leads to it. What earlier runs have left
    /// stays as it is.
    ///
    /// # Errors
    /// Where it takes no files, or another shadow has it.
    pub fn open(outer: &Path) -> Result<Report, ReportError> {
        fs::create_dir_all(outer).map_err(failed(outer))?;
        let lock = lock(&outer.join("lock"))?;
        for link in ["latest", "latest.new"].map(|name| outer.join(name)) {
            if fs::symlink_metadata(&link).is_ok_and(|found| !found.is_symlink()) {
                return Err(ReportError::Foreign { path: link.display().to_string() });
            }
        }
        let runs = runs(outer).map_err(failed(outer))?;
        let cut_runs = runs.iter().rev().map_while(|number| cut_run(outer, *number)).collect();
        let name = run_name(runs.last().map_or(1, |last| last + 1));
        let folder = outer.join(&name);
        fs::create_dir(&folder).map_err(failed(&folder))?;
        let (beside, latest) = (outer.join("latest.new"), outer.join("latest"));
        let link = || {
            if beside.is_symlink() {
                fs::remove_file(&beside)?;
            }
            std::os::unix::fs::symlink(&name, &beside)?;
            fs::rename(&beside, &latest)
        };
        link().map_err(failed(&latest))?;
        let path = folder.join("mismatches.jsonl");
        let file = BufWriter::new(private(&path).map_err(failed(&path))?);
        let mismatches = Mismatches { file, bytes: 0, written: 0, not_written: 0, is_failing: false };
        Ok(Report { folder, cut_runs, _lock: lock, mismatches: Mutex::new(mismatches) })
    }

    /// Mismatches for which there was no room.
    pub fn not_written(&self) -> u64 {
        self.mismatches.lock().unwrap_or_else(PoisonError::into_inner).not_written
    }

    /// Adds a mismatch, as a line and as a recording of one request.
    pub fn write(&self, finding: &Finding<'_>, redaction: &Redaction, sides: &Sides<TargetAddress>) {
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

    /// Writes the verdict as it stands, so that a process that is killed leaves it behind; once the run has ended, the page as well.
    ///
    /// # Errors
    /// Where the folder takes no files.
    pub fn keep(&self, summary: &Summary) -> Result<(), ReportError> {
        if summary.state == ENDED {
            self.write_file("report.html", &page(Some(summary)))?;
        }
        let mut json = serde_json::to_string_pretty(summary).expect("a summary has string keys");
        json.push('\n');
        self.write_file(VERDICT, &json)
    }

    fn write_file(&self, name: &str, text: &str) -> Result<(), ReportError> {
        let path = self.folder.join(name);
        write_whole(&path, text.as_bytes()).map_err(failed(&path))
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> ReportError + use<> {
    let path = path.display().to_string();
    move |source| ReportError::Write { path: path.clone(), source }
}

fn lock(path: &Path) -> Result<File, ReportError> {
    // Whatever stands there is not ours to empty.
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(failed(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let folder = path.parent().unwrap_or(path);
            Err(ReportError::Taken { path: folder.display().to_string() })
        }
        Err(TryLockError::Error(source)) => Err(failed(path)(source)),
    }
}

fn run_name(number: u64) -> String {
    format!("run-{number:06}")
}

/// The numbers of the runs in a folder, in order.
fn runs(outer: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(outer)? {
        let name = entry?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| name.strip_prefix("run-")?.parse().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

/// What a run has left that was killed; nothing where it ended by itself.
fn cut_run(outer: &Path, number: u64) -> Option<CutRun> {
    #[derive(Deserialize)]
    struct State {
        state: String,
    }
    let run = run_name(number);
    let folder = outer.join(&run);
    let verdict = fs::read(folder.join(VERDICT)).unwrap_or_default();
    let has_ended = florin_input::json(&verdict).is_ok_and(|verdict: State| verdict.state == ENDED);
    let lines = || fs::read(folder.join("mismatches.jsonl")).unwrap_or_default();
    let mismatches = || lines().iter().filter(|byte| **byte == b'\n').count() as u64;
    (!has_ended).then(|| CutRun { run, mismatches: mismatches() })
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
