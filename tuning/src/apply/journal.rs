//! What the host held before: a line of JSON for each setting, on disk before the setting is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::plan::Setting;

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    /// The first: which run of the host this is about.
    Boot(String),
    /// About to be written.
    Set(Setting),
    /// Was not written after all.
    Forget(String),
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system.
    #[error("cannot use the journal {}: {source}; --journal names another file", path.display())]
    File {
        /// The journal.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another `florin tune` is at it.
    #[error("the journal {} is in use by another florin tune: wait for it", .0.display())]
    Locked(PathBuf),
    /// There is none.
    #[error("there is no journal {}: nothing was applied, or it was reverted", .0.display())]
    Missing(PathBuf),
    /// The values went with the reboot.
    #[error(
        "the journal {} is from before this host's last start: what it set has gone with it. Remove it, and apply again",
        .0.display()
    )]
    OtherBoot(PathBuf),
    /// Somebody else's file.
    #[error("{} is no journal, at line {line}: {reason}", path.display())]
    NotAJournal {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why.
        reason: String,
    },
}

/// An open journal, locked against others until it is dropped.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Setting>,
}

impl Journal {
    /// Opens the journal at `path`, and makes one where there is none; `boot` names this run of the host.
    pub fn open(path: &Path, boot: &str) -> Result<Journal, JournalError> {
        let failed = |source| JournalError::File { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path).map_err(failed)?;
        let mut journal = Journal::lock(path, file)?;
        if journal.load(boot)? == Content::Nothing {
            journal.append(&Line::Boot(boot.to_owned()))?;
            // The name must last as long as what is in it.
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        Ok(journal)
    }

    /// Opens the journal at `path`, which must be there.
    pub fn open_existing(path: &Path, boot: &str) -> Result<Journal, JournalError> {
        let file = OpenOptions::new().read(true).append(true).open(path);
        let file = file.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => JournalError::Missing(path.to_owned()),
            _ => JournalError::File { path: path.to_owned(), source },
        })?;
        let mut journal = Journal::lock(path, file)?;
        journal.load(boot)?;
        Ok(journal)
    }

    /// What it holds, for readers that change nothing: needs no permission to write, and waits for nobody.
    pub fn read(path: &Path, boot: &str) -> Result<Vec<Setting>, JournalError> {
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => JournalError::Missing(path.to_owned()),
            _ => JournalError::File { path: path.to_owned(), source },
        })?;
        let mut journal = Journal { path: path.to_owned(), file, entries: Vec::new() };
        journal.load(boot)?;
        Ok(journal.entries)
    }

    /// A setting each, in the order in which they were first changed.
    pub fn entries(&self) -> &[Setting] {
        &self.entries
    }

    /// Notes what is about to be written, and returns once it is on disk.
    pub(super) fn add(&mut self, entry: &Setting) -> Result<(), JournalError> {
        self.append(&Line::Set(entry.clone()))?;
        self.merge(entry.clone());
        Ok(())
    }

    /// Notes that it was not written after all.
    pub(super) fn forget(&mut self, path: &str) -> Result<(), JournalError> {
        self.append(&Line::Forget(path.to_owned()))?;
        self.entries.retain(|entry| entry.path != path);
        Ok(())
    }

    /// Removes the file.
    pub(super) fn remove(&mut self) -> Result<(), JournalError> {
        fs::remove_file(&self.path).map_err(|source| JournalError::File { path: self.path.clone(), source })
    }

    fn lock(path: &Path, file: File) -> Result<Journal, JournalError> {
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| JournalError::Locked(path.to_owned()))?;
        Ok(Journal { path: path.to_owned(), file, entries: Vec::new() })
    }

    /// A setting that is changed again keeps the value from before the first change.
    fn merge(&mut self, entry: Setting) {
        match self.entries.iter_mut().find(|known| known.path == entry.path) {
            Some(known) => known.value = entry.value,
            None => self.entries.push(entry),
        }
    }

    fn append(&mut self, line: &Line) -> Result<(), JournalError> {
        let text = serde_json::to_string(line).expect("a line has only texts");
        let written = self.file.write_all(format!("{text}\n").as_bytes()).and_then(|()| self.file.sync_all());
        written.map_err(|source| JournalError::File { path: self.path.clone(), source })
    }

    fn load(&mut self, boot: &str) -> Result<Content, JournalError> {
        let mut text = String::new();
        let read = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_string(&mut text));
        read.map_err(|source| JournalError::File { path: self.path.clone(), source })?;
        // A last line without its end was cut by a crash, before what it announces was written.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for (index, line) in text[..whole].lines().enumerate() {
            let not_a_journal = |reason: String| JournalError::NotAJournal {
                path: self.path.clone(),
                line: index + 1,
                reason,
            };
            match florin_input::json(line.as_bytes()).map_err(|error| not_a_journal(error.to_string()))? {
                Line::Boot(other) if other != boot => return Err(JournalError::OtherBoot(self.path.clone())),
                Line::Boot(_) => {}
                Line::Set(entry) => self.merge(entry),
                Line::Forget(path) => self.entries.retain(|entry| entry.path != path),
            }
        }
        if whole < text.len() {
            let cut = self.file.set_len(whole as u64);
            // A reader without permission leaves it to the next writer.
            let _ = cut;
        }
        Ok(if whole == 0 { Content::Nothing } else { Content::Something })
    }
}

/// What a journal's file held.
#[derive(PartialEq, Eq)]
enum Content {
    Nothing,
    Something,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knobs::Knob;

    fn entry(path: &str, was: &str, value: &str) -> Setting {
        let (path, was, value) = (path.to_owned(), was.to_owned(), value.to_owned());
        Setting { path, was, value, knob: Knob::Tcp, interrupt: None }
    }

    #[test]
    fn the_first_old_value_and_the_last_new_one_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/journal");
        let mut journal = Journal::open(&path, "boot").unwrap();
        journal.add(&entry("/a", "1", "2")).unwrap();
        journal.add(&entry("/b", "5", "6")).unwrap();
        journal.add(&entry("/a", "2", "3")).unwrap();
        journal.forget("/b").unwrap();
        drop(journal);
        assert_eq!(Journal::read(&path, "boot").unwrap(), [entry("/a", "1", "3")]);
    }

    #[test]
    fn a_line_that_a_crash_has_cut_was_never_carried_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, "boot").unwrap();
        journal.add(&entry("/a", "1", "2")).unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole, &whole[whole.len() - 9..whole.len() - 1]].concat()).unwrap();
        let mut journal = Journal::open(&path, "boot").unwrap();
        journal.add(&entry("/b", "1", "2")).unwrap();
        drop(journal);
        let entries = Journal::read(&path, "boot").unwrap();
        assert_eq!(entries, [entry("/a", "1", "2"), entry("/b", "1", "2")]);
    }

    #[test]
    fn other_files_other_boots_and_other_processes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert!(matches!(Journal::open_existing(&path, "boot"), Err(JournalError::Missing(_))));
        let journal = Journal::open(&path, "boot").unwrap();
        assert!(matches!(Journal::open(&path, "boot"), Err(JournalError::Locked(_))));
        drop(journal);
        assert!(matches!(Journal::open_existing(&path, "later"), Err(JournalError::OtherBoot(_))));
        // An array of a setting's values once was a setting.
        let known = r#"{"set":{"path":"/a","was":"1","value":"2","knob":"tcp","more":1}}"#;
        for text in ["hello\n", "{\"set\":[\"/a\",\"1\",\"2\",\"tcp\",null]}\n", &format!("{known}\n")] {
            fs::write(&path, text).unwrap();
            let read = Journal::read(&path, "boot");
            assert!(matches!(read, Err(JournalError::NotAJournal { line: 1, .. })), "{text}: {read:?}");
        }
    }
}
