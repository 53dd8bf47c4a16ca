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
pub struct Decision {
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
pub struct DecisionFile(PathBuf);

/// Why a decision cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    /// The folder takes or gives no file.
    #[error(
        "{path}: {source}; the candidate's share has to survive a restart: give a --report folder that can be written to"
    )]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// What is there is no decision.
    #[error(
        "{path} is damaged: {why}; it held the candidate's share, and whether that was taken back. See in the last run's \
         verdict.json what had happened, and remove the damaged file: the share then begins at --serve"
    )]
    Damaged {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl DecisionFile {
    /// In a run's outer folder.
    pub fn within(folder: &Path) -> DecisionFile {
        DecisionFile(folder.join("cutover.json"))
    }

    /// What holds at a start with `share`: what was decided before, unless the share is a new one. A breach holds until somebody
    /// raises the share by hand.
    ///
    /// # Errors
    /// Where the file is there and cannot be read, or is damaged.
    pub fn begin(&self, share: Share) -> Result<Decision, DecisionError> {
        let fresh = Decision { started_with: share.parts(), share: share.parts(), ..Decision::default() };
        let text = match fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(fresh),
            text => text.map_err(|source| self.failed(source))?,
        };
        let kept = parse(&text).map_err(|why| DecisionError::Damaged { path: self.path(), why })?;
        Ok(if kept.rolled_back.is_some() || kept.started_with == fresh.started_with { kept } else { fresh })
    }

    /// Keeps a decision: it is on the disk when this returns.
    ///
    /// # Errors
    /// Where it could not be written.
    pub fn keep(&self, decision: &Decision) -> Result<(), DecisionError> {
        let text = serde_json::to_vec_pretty(decision).expect("a decision has string keys");
        write_whole(&self.0, &text).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> DecisionError {
        DecisionError::File { path: self.path(), source }
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

fn parse(text: &[u8]) -> Result<Decision, String> {
    let kept: Decision = florin_input::json(text).map_err(|error| error.to_string())?;
    let most = Share::ALL.parts();
    if kept.share > most || kept.started_with > most {
        return Err(format!(
            "expected shares from 0 to {most}, got {} and {}",
            kept.share, kept.started_with
        ));
    }
    if kept.rolled_back.is_some() && kept.share > 0 {
        return Err(format!("expected a share of 0 after a breach, got {}", kept.share));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_survives_and_a_new_share_is_a_new_decision_but_for_a_breach() {
        let folder = tempfile::tempdir().unwrap();
        let file = DecisionFile::within(folder.path());
        let five = Share::from_parts(500);
        let mut decision = file.begin(five).unwrap();
        assert_eq!((decision.share, decision.steps), (500, 0));
        (decision.share, decision.is_schedule_over) = (2_000, true);
        file.keep(&decision).unwrap();
        assert_eq!(file.begin(five).unwrap(), decision);
        assert_eq!(file.begin(Share::from_parts(700)).unwrap().share, 700);
        (decision.share, decision.rolled_back) = (0, Some("it was wrong".to_owned()));
        file.keep(&decision).unwrap();
        for share in [five, Share::ALL] {
            assert_eq!(file.begin(share).unwrap(), decision, "a breach holds");
        }
    }

    /// An array of a state's values was taken for the state, a share of more than all for all, and of a file that had been cut
    /// somebody was told to give a folder that can be written to.
    #[test]
    fn what_is_no_decision_is_damaged_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = DecisionFile::within(folder.path());
        let five = Share::from_parts(500);
        let whole =
            r#"{"started_with":500,"share":500,"rolled_back":null,"is_schedule_over":false,"steps":0}"#;
        let begun = |text: &str| {
            fs::write(folder.path().join("cutover.json"), text).unwrap();
            file.begin(five).map(|decision| decision.share)
        };
        assert_eq!(begun(whole).unwrap(), 500);
        for text in [
            "",
            "{",
            &whole[..whole.len() - 1],
            "[500,10000,null,false,0]",
            &whole.replace("500,", "10001,"),
            &whole.replace("null", "\"it was wrong\""),
            &whole.replace("\"steps\":0", "\"steps\":0,\"steps\":1"),
            &whole.replace("\"steps\":0", "\"steps\":0,\"more\":1"),
            &whole.replace(",\"steps\":0", ""),
            &format!("{whole}{whole}"),
        ] {
            let error = begun(text).unwrap_err().to_string();
            assert!(
                error.contains("cutover.json is damaged: ") && error.contains("remove the damaged"),
                "{error}"
            );
        }
    }
}
