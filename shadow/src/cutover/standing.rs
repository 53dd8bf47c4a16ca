//! What has been decided about the candidate's share, kept in a file: a process that is killed and started again does not
//! forget a breach.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::share::Share;
use crate::files::write_whole;

/// What has been decided.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// The share with which the process was started: another one is a decision of its own.
    pub started_with: u32,
    /// The candidate's share, in hundredths of a percent.
    pub share: u32,
    /// Why the guard has gone back to 0 %, as long as nobody has decided otherwise.
    pub rolled_back: Option<String>,
    /// Somebody has decided about the share: what was scheduled before that does not come any more.
    pub is_schedule_over: bool,
    /// Steps of the schedule that have been taken.
    pub steps: usize,
}

/// Where it is kept.
#[derive(Clone, Debug)]
pub struct StandingFile(PathBuf);

/// Why a decision cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path}: {source}; the candidate's share has to survive a restart: give a --report folder that can be written to"
)]
pub struct StandingError {
    path: String,
    source: io::Error,
}

impl StandingFile {
    /// In a run's outer folder.
    pub fn within(folder: &Path) -> StandingFile {
        StandingFile(folder.join("cutover.json"))
    }

    /// What holds at a start with `share`: what was decided before, unless the share is a new one. A breach holds until somebody
    /// raises the share by hand.
    ///
    /// # Errors
    /// Where the file is there and cannot be read.
    pub fn begin(&self, share: Share) -> Result<Standing, StandingError> {
        let fresh = Standing { started_with: share.parts(), share: share.parts(), ..Standing::default() };
        let text = match fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(fresh),
            text => text.map_err(|source| self.failed(source))?,
        };
        let kept: Standing = serde_json::from_slice(&text).map_err(|error| self.failed(error.into()))?;
        Ok(if kept.rolled_back.is_some() || kept.started_with == fresh.started_with { kept } else { fresh })
    }

    /// Keeps a decision: it is on the disk when this returns.
    ///
    /// # Errors
    /// Where it could not be written.
    pub fn keep(&self, standing: &Standing) -> Result<(), StandingError> {
        let text = serde_json::to_vec_pretty(standing).expect("a standing has string keys");
        write_whole(&self.0, &text).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> StandingError {
        StandingError { path: self.0.display().to_string(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_survives_and_a_new_share_is_a_new_decision_but_for_a_breach() {
        let folder = tempfile::tempdir().unwrap();
        let file = StandingFile::within(folder.path());
        let five = Share::from_parts(500);
        let mut standing = file.begin(five).unwrap();
        assert_eq!((standing.share, standing.steps), (500, 0));
        (standing.share, standing.is_schedule_over) = (2_000, true);
        file.keep(&standing).unwrap();
        assert_eq!(file.begin(five).unwrap(), standing);
        assert_eq!(file.begin(Share::from_parts(700)).unwrap().share, 700);
        (standing.share, standing.rolled_back) = (0, Some("it was wrong".to_owned()));
        file.keep(&standing).unwrap();
        for share in [five, Share::ALL] {
            assert_eq!(file.begin(share).unwrap(), standing, "a breach holds");
        }
        fs::write(folder.path().join("cutover.json"), "{").unwrap();
        assert!(file.begin(five).unwrap_err().to_string().contains("has to survive a restart"));
    }
}
