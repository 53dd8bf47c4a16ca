//! What has been measured, as a file: the terms in its first line, then a line for each measurement, written as soon as there
//! is one. Whoever is interrupted loses the measurement under way and nothing else; what somebody else on the host has
//! disturbed is not taken over, and so measured again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Record, Terms};
use crate::trial::Trial;

/// The file's name in the directory of results.
pub const NAME: &str = "journal.jsonl";

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    records: Vec<Record>,
}

/// Why a journal cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was begun under other terms.
    #[error(
        "{} was begun with other settings: {}. Give the settings as they were, another --out, or --fresh to begin anew",
        .path.display(), .differences.join("; ")
    )]
    OtherTerms {
        /// Which file.
        path: PathBuf,
        /// What differs.
        differences: Vec<String>,
    },
    /// A line that is none of ours.
    #[error("{}, line {line}: {source}. Give another --out, or --fresh to begin anew", .path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

impl Journal {
    /// Opens the journal in `directory`, or begins one; it must have been begun under the same terms.
    pub fn open(directory: &Path, terms: &Terms) -> Result<Journal, JournalError> {
        let path = directory.join(NAME);
        let failed = |source| JournalError::File { path: path.clone(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        // A line without its end was being written when somebody pulled the plug.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        let mut lines = text[..whole].lines().enumerate();
        let broken = |line| {
            let path = path.clone();
            move |source| JournalError::Line { path, line, source }
        };
        match lines.next() {
            None => {
                let line = serde_json::to_string(terms).expect("terms are names and numbers");
                file.write_all(format!("{line}\n").as_bytes()).map_err(failed)?;
            }
            Some((_, first)) => {
                let before: Value = florin_input::json(first.as_bytes()).map_err(broken(1))?;
                let now = serde_json::to_value(terms).expect("terms are names and numbers");
                let differences = differences(&before, &now);
                if !differences.is_empty() {
                    return Err(JournalError::OtherTerms { path, differences });
                }
            }
        }
        let records =
            lines.map(|(index, line)| florin_input::json(line.as_bytes()).map_err(broken(index + 1)));
        let mut records = records.collect::<Result<Vec<Record>, _>>()?;
        records.retain(|record| !record.trial().is_some_and(Trial::is_disturbed));
        Ok(Journal { path, file, records })
    }

    /// Forgets what is in `directory`, so that the next journal there begins anew.
    pub fn discard(directory: &Path) -> Result<(), JournalError> {
        let path = directory.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(JournalError::File { path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// In the order in which they were measured.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Adds one.
    pub fn add(&mut self, record: Record) -> Result<(), JournalError> {
        let line =
            serde_json::to_string(&record).expect("a record has only names, numbers and lists of them");
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|source| JournalError::File { path: self.path.clone(), source })?;
        self.records.push(record);
        Ok(())
    }
}

/// Which settings differ, and how.
fn differences(before: &Value, now: &Value) -> Vec<String> {
    let (Some(before), Some(now)) = (before.as_object(), now.as_object()) else {
        return vec!["its first line is no settings".to_owned()];
    };
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    let differing = names.into_iter().filter(|&name| before.get(name) != now.get(name));
    differing
        .map(|name| format!("{name} was {}, now {}", shown(before.get(name)), shown(now.get(name))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{
        Outcome,
        schedule::tests::{complete, terms},
    };

    #[test]
    fn what_was_written_is_there_again() {
        let directory = tempfile::tempdir().unwrap();
        let (terms, records) = (terms(), complete(&terms()));
        let mut journal = Journal::open(directory.path(), &terms).unwrap();
        for record in &records[..20] {
            journal.add(record.clone()).unwrap();
        }
        drop(journal);
        let mut journal = Journal::open(directory.path(), &terms).unwrap();
        assert_eq!(journal.records(), &records[..20]);
        journal.add(records[20].clone()).unwrap();
        drop(journal);
        assert_eq!(Journal::open(directory.path(), &terms).unwrap().records(), &records[..21]);
        Journal::discard(directory.path()).unwrap();
        Journal::discard(directory.path()).unwrap();
        assert!(Journal::open(directory.path(), &terms).unwrap().records().is_empty());
    }

    #[test]
    fn a_line_that_was_cut_short_is_measured_again() {
        let directory = tempfile::tempdir().unwrap();
        let (terms, records) = (terms(), complete(&terms()));
        let mut journal = Journal::open(directory.path(), &terms).unwrap();
        records[..3].iter().for_each(|record| journal.add(record.clone()).unwrap());
        drop(journal);
        let path = directory.path().join(NAME);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 7]).unwrap();
        let mut journal = Journal::open(directory.path(), &terms).unwrap();
        assert_eq!(journal.records(), &records[..2]);
        journal.add(records[2].clone()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    /// Serde reads a struct from an array as well: values without names were taken for a measurement.
    #[test]
    fn values_without_names_are_no_record() {
        let directory = tempfile::tempdir().unwrap();
        let (terms, records) = (terms(), complete(&terms()));
        drop(Journal::open(directory.path(), &terms).unwrap());
        let path = directory.path().join(NAME);
        let mut line = serde_json::to_value(&records[0]).unwrap();
        let job = line["job"].clone();
        line["job"] = serde_json::json!([job["endpoint"], job["target"], job["purpose"]]);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{line}\n")).unwrap();
        let error = Journal::open(directory.path(), &terms).unwrap_err().to_string();
        assert!(error.contains("line 2: ") && error.contains("whose fields have names"), "{error}");
    }

    #[test]
    fn what_was_disturbed_is_not_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let (terms, mut records) = (terms(), complete(&terms()));
        let Outcome::Trial(trial) = &mut records[1].outcome else { panic!("a climb comes first") };
        trial.foreign_cpu = Some(0.7);
        let mut journal = Journal::open(directory.path(), &terms).unwrap();
        records[..3].iter().for_each(|record| journal.add(record.clone()).unwrap());
        assert_eq!(journal.records().len(), 3);
        drop(journal);
        let journal = Journal::open(directory.path(), &terms).unwrap();
        assert_eq!(journal.records(), [records[0].clone(), records[2].clone()]);
    }

    #[test]
    fn other_settings_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        drop(Journal::open(directory.path(), &terms()).unwrap());
        let other = Terms { climbs: 7, users: 5, ..terms() };
        let error = Journal::open(directory.path(), &other).unwrap_err().to_string();
        assert!(error.contains("climbs was 4, now 7") && error.contains("users was 100, now 5"), "{error}");
        assert!(error.contains("--fresh") && !error.contains("seed"), "{error}");
    }

    #[test]
    fn what_is_no_journal_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(NAME), "hello\n").unwrap();
        let error = Journal::open(directory.path(), &terms()).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}
