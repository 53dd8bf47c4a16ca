//! Results as files, of trials and of comparisons: JSON for machines, HTML and Markdown for people, interval logs for histogram
//! tools. Nothing that measures knows of it.

mod comparison;
mod html;
mod interval_log;
pub(crate) mod markdown;
mod plots;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

pub use interval_log::interval_log;
pub use markdown::{knees, table};

use crate::{
    campaign::Summary,
    environment::Environment,
    ramp::{Knee, Objective},
    trial::Trial,
};

/// Everything that a measurement has found.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// What it takes to do it again.
    pub environment: Environment,
    /// CPUs of the servers, as pinned; empty: not pinned.
    pub server_cpus: Vec<usize>,
    /// CPUs of the generator, as pinned; empty: not pinned.
    pub generator_cpus: Vec<usize>,
    /// Users asked about.
    pub users: usize,
    /// A line for each target and load.
    pub summaries: Vec<Summary>,
    /// What was searched for, in a ramp.
    pub objective: Option<Objective>,
    /// What was found, by target.
    pub knees: Vec<(String, Knee)>,
    /// Each trial, in the order of summaries, or of the search.
    pub trials: Vec<Trial>,
}

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", .path.display())]
pub struct ReportError {
    path: PathBuf,
    source: io::Error,
}

impl Report {
    /// Writes `report.json`, `report.html` and `report.md` into `directory`.
    pub fn write(&self, directory: &Path) -> Result<(), ReportError> {
        write(directory, "report.json", &(self.to_json() + "\n"))?;
        write(directory, "report.html", &self.to_html())?;
        write(directory, "report.md", &self.to_markdown())
    }

    /// For machines.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has only names, numbers and lists of them")
    }

    /// For people with a browser: one file, no network.
    pub fn to_html(&self) -> String {
        html::page(self)
    }

    /// For documents.
    pub fn to_markdown(&self) -> String {
        markdown::page(self)
    }
}

/// Writes a file, and the directory before it.
pub fn write(directory: &Path, name: &str, content: &str) -> Result<(), ReportError> {
    let path = directory.join(name);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&path, content))
        .map_err(|source| ReportError { path, source })
}

#[cfg(test)]
mod tests;
