//! Setting a host up, and taking it back: the old value is on disk before the new one is written, each value is read
//! back, and what does not hold is reported.

mod files;
mod journal;

use std::path::Path;

use serde::Serialize;

pub use files::Refusal;
pub use journal::{Journal, JournalError};

use crate::host::Irq;
use crate::knobs::Knob;
use crate::plan::{Setting, is_same};

/// What became of a setting.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result", content = "reason")]
pub enum Outcome {
    /// It was so already.
    Ok,
    /// Written, and read back.
    Changed,
    /// It would be written, were this no rehearsal.
    WouldChange,
    /// Not permitted, or the kernel kept another value.
    Refused(String),
    /// It holds after a reboot, once the boot loader has it.
    NeedsReboot,
    /// This host has no such file, or takes no value there.
    NotChangeable(String),
}

impl Outcome {
    /// Whether the host is not as it was asked to be, though it could be now. What cannot be changed is an answer and no
    /// failure: nobody could do better.
    pub fn is_failure(&self) -> bool {
        matches!(self, Outcome::Refused(_))
    }

    fn words(&self) -> String {
        match self {
            Outcome::Ok => "ok".to_owned(),
            Outcome::Changed => "changed".to_owned(),
            Outcome::WouldChange => "would change".to_owned(),
            Outcome::Refused(reason) => format!("refused: {reason}"),
            Outcome::NeedsReboot => "needs reboot".to_owned(),
            Outcome::NotChangeable(reason) => format!("not changeable: {reason}"),
        }
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Outcome {
        match refusal {
            Refusal::Denied(reason) => Outcome::Refused(reason),
            Refusal::Absent(reason) | Refusal::Impossible(reason) => Outcome::NotChangeable(reason),
        }
    }
}

/// A setting and what became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// From the root of the host.
    pub path: String,
    /// What it is about.
    pub knob: Knob,
    /// What it held before.
    pub was: String,
    /// What it was to hold.
    pub value: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Report {
    /// A line for people.
    pub fn line(&self) -> String {
        let Report { path, was, value, outcome, .. } = self;
        match outcome {
            Outcome::NeedsReboot => format!("needs reboot: add to the kernel's command line: {value}"),
            _ => format!("{}: {path}: {was} → {value}", outcome.words()),
        }
    }
}

/// Whether anything is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It is.
    Real,
    /// Only said.
    DryRun,
}

/// A host as settings are written to it.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// Below which everything is.
    pub root: &'a Path,
    /// Its interrupts now, among which those that a setting names are looked for.
    pub irqs: &'a [Irq],
}

/// Says what [`apply`] would do, and touches nothing.
pub fn rehearse(ground: Ground<'_>, settings: &[Setting]) -> Vec<Report> {
    settings.iter().map(|setting| look_at(ground, setting)).collect()
}

/// Writes settings, each after its old value has reached the journal. Goes on where one is refused.
pub fn apply(
    ground: Ground<'_>,
    settings: &[Setting],
    journal: &mut Journal,
) -> Result<Vec<Report>, JournalError> {
    settings.iter().map(|setting| apply_one(ground, setting, journal)).collect()
}

fn apply_one(ground: Ground<'_>, setting: &Setting, journal: &mut Journal) -> Result<Report, JournalError> {
    let root = ground.root;
    let mut report = look_at(ground, setting);
    if !matches!(report.outcome, Outcome::Ok | Outcome::WouldChange) || setting.is_of_boot() {
        return Ok(report);
    }
    let (path, value) = (&report.path, &setting.value);
    let before = journal.entries().iter().find(|entry| entry.path == *path).cloned();
    // What is so already is in the journal as well: verify looks after it, and revert finds nothing to do.
    journal.add(&Setting { path: path.clone(), was: report.was.clone(), ..setting.clone() })?;
    if report.outcome == Outcome::WouldChange {
        report.outcome = match files::write(root, path, value) {
            Ok(()) => Outcome::Changed,
            Err(refusal) => refusal.into(),
        };
    }
    // A refusal that left the old value leaves nothing to undo; one that put a third value there does.
    if !matches!(report.outcome, Outcome::Ok | Outcome::Changed)
        && files::read(root, path).as_deref() == Ok(report.was.as_str())
    {
        match before {
            Some(before) => journal.add(&before)?,
            None => journal.forget(path)?,
        }
    }
    Ok(report)
}

/// What the host holds now, and whether that would have to change.
fn look_at(ground: Ground<'_>, setting: &Setting) -> Report {
    let value = &setting.value;
    let (path, was, outcome) = match setting.place(ground.irqs) {
        Err(reason) => (setting.path.clone(), setting.was.clone(), Outcome::NotChangeable(reason)),
        Ok(path) => {
            let (was, outcome) = match files::read(ground.root, &path) {
                Err(refusal) => (String::new(), refusal.into()),
                Ok(was) if is_same(&path, &was, value) => (was, Outcome::Ok),
                Ok(was) if setting.is_of_boot() => (was, Outcome::NeedsReboot),
                Ok(was) => (was, Outcome::WouldChange),
            };
            (path, was, outcome)
        }
    };
    Report { path, knob: setting.knob, was, value: value.clone(), outcome }
}

/// Puts everything back as the journal has it, the last change first. The journal goes once all is as it was.
pub fn revert(ground: Ground<'_>, mut journal: Journal, mode: Mode) -> Result<Vec<Report>, JournalError> {
    let reports: Vec<Report> =
        journal.entries().iter().rev().map(|entry| restore(ground, entry, mode)).collect();
    let is_done = reports.iter().all(|report| !report.outcome.is_failure());
    if mode == Mode::Real && is_done {
        journal.remove()?;
    }
    Ok(reports)
}

fn restore(ground: Ground<'_>, entry: &Setting, mode: Mode) -> Report {
    // What an entry should hold again is what it held before.
    let back = Setting { value: entry.was.clone(), ..entry.clone() };
    // Gone with its NIC or its interrupt is not changeable: nothing is left to restore.
    let mut report = look_at(ground, &back);
    if report.outcome == Outcome::WouldChange && mode == Mode::Real {
        report.outcome = match files::write(ground.root, &report.path, &back.value) {
            Ok(()) => Outcome::Changed,
            Err(refusal) => Outcome::Refused(refusal.to_string()),
        };
    }
    report
}

/// A setting that no longer holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Drift {
    /// From the root of the host.
    pub path: String,
    /// What it is about.
    pub knob: Knob,
    /// What was written.
    pub wanted: String,
    /// What is there now.
    pub found: String,
}

impl Drift {
    /// A line for people.
    pub fn line(&self) -> String {
        format!("drift: {}: wanted {}, found {} ({})", self.path, self.wanted, self.found, self.knob.page())
    }
}

/// Everything that the journal has and that is otherwise now.
pub fn verify(ground: Ground<'_>, entries: &[Setting]) -> Vec<Drift> {
    let drift = |entry: &Setting| {
        let found = entry
            .place(ground.irqs)
            .and_then(|path| files::read(ground.root, &path).map_err(|refusal| refusal.to_string()));
        let found = found.unwrap_or_else(|reason| reason);
        (!is_same(&entry.path, &found, &entry.value)).then(|| Drift {
            path: entry.path.clone(),
            knob: entry.knob,
            wanted: entry.value.clone(),
            found,
        })
    };
    entries.iter().filter_map(drift).collect()
}
