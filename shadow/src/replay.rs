//! Runs a recording against two targets, and judges what they answer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use crate::evidence::Evidence;
use crate::mirror::{Comparer, Exchange};
use crate::proxy::Scope;
use crate::record::{Defect, Entry, FormatError, read_file};

/// How fast.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Speed {
    /// So many times as fast as it was recorded.
    Times(f64),
    /// As fast as both sides answer.
    Max,
}

/// Why a text is no speed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected recorded, max, or a factor like 2x or 0.5x, got {0:?}")]
pub struct SpeedError(String);

impl FromStr for Speed {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Speed, SpeedError> {
        match text {
            "recorded" => Ok(Speed::Times(1.0)),
            "max" => Ok(Speed::Max),
            _ => {
                let factor = text.strip_suffix('x').and_then(|factor| factor.parse::<f64>().ok());
                let factor = factor.filter(|factor| factor.is_finite() && *factor > 0.0);
                factor.map(Speed::Times).ok_or_else(|| SpeedError(text.to_owned()))
            }
        }
    }
}

/// What is run again.
#[derive(Clone, Debug)]
pub struct ReplaySettings {
    /// The recordings, in order.
    pub files: Vec<PathBuf>,
    /// How fast.
    pub speed: Speed,
    /// Requests being compared at a time.
    pub in_flight_max: usize,
}

/// What a thread that reads recordings has found.
enum Found {
    Entry(Entry),
    /// A run of the recorder has ended, and had taken so many requests.
    End(u64, u64),
}

/// Asks both sides everything that was recorded. Returns when the last verdict has fallen, with what of the recording is not there.
///
/// # Errors
/// Where a file is no recording: what comes before has been asked.
pub async fn replay(
    settings: ReplaySettings,
    comparer: Arc<Comparer>,
    evidence: Arc<Evidence>,
    scope: Scope,
) -> Result<Vec<FormatError>, FormatError> {
    let permits = Arc::new(Semaphore::new(settings.in_flight_max));
    let started = Instant::now();
    let mut first_us = None;
    let mut outcome = Ok(());
    let mut damages = Vec::new();
    let mut numbers = Numbers::default();
    let (read, mut found) = mpsc::channel(settings.in_flight_max);
    // Of a pipe the next line may be long in coming, and a signal must end the replay meanwhile.
    tokio::task::spawn_blocking(move || read_all(&settings.files, &read));
    while let Some(found) = found.recv().await {
        let entry = match found {
            Ok(Found::Entry(entry)) => entry,
            Ok(Found::End(run, taken)) => {
                numbers.end(run, taken);
                continue;
            }
            // What comes before it can be compared, and is: it is not all that there was.
            Err(error) if error.is_partial() => {
                damages.push(error);
                continue;
            }
            Err(error) => {
                outcome = Err(error);
                break;
            }
        };
        numbers.note(entry.number);
        if let Some(why) = scope.leaves_out(&entry.request) {
            evidence.not_mirrored(why);
            continue;
        }
        if let Speed::Times(factor) = settings.speed {
            let since_us = entry.at_us - *first_us.get_or_insert(entry.at_us);
            let due = Duration::from_secs_f64(since_us.max(0) as f64 / 1e6 / factor);
            tokio::time::sleep_until((started + due).into()).await;
        }
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        evidence.offer(entry.request.question.endpoint());
        let comparer = Arc::clone(&comparer);
        tokio::spawn(async move {
            comparer.compare(Exchange::asked_anew(entry.request)).await;
            drop(permit);
        });
    }
    let all = u32::try_from(settings.in_flight_max).expect("in-flight is checked to be small");
    let _ = permits.acquire_many(all).await;
    let missing = numbers.missing();
    if missing > 0 {
        tracing::error!("{missing} requests are missing in the recording: it is not complete");
        evidence.cut_short();
    }
    for damage in &damages {
        tracing::error!("{damage}");
        evidence.cut_short();
    }
    outcome.map(|()| damages)
}

/// Reads recordings in order, until one is none or nobody wants more.
fn read_all(files: &[PathBuf], found: &mpsc::Sender<Result<Found, FormatError>>) -> Option<()> {
    let say = |what| found.blocking_send(what).ok();
    for (at, file) in files.iter().enumerate() {
        let mut entries = match read_file(file) {
            Ok(entries) => entries,
            Err(error) => return say(Err(error)),
        };
        let mut is_broken = false;
        for entry in &mut entries {
            is_broken |= entry.is_err();
            say(entry.map(Found::Entry))?;
        }
        match entries.ended() {
            Some((run, taken)) => say(Ok(Found::End(run, taken)))?,
            None if at + 1 == files.len() && !is_broken => {
                say(Err(FormatError::of(file, Defect::GoesOn)))?;
            }
            None => {}
        }
    }
    Some(())
}

/// Which requests of each run of the recorder have been read: from which to which, and how many.
#[derive(Default)]
struct Numbers(HashMap<u64, (u64, u64, u64)>);

impl Numbers {
    fn note(&mut self, (run, number): (u64, u64)) {
        let (first, last, count) = self.0.entry(run).or_insert((number, number, 0));
        (*first, *last, *count) = ((*first).min(number), (*last).max(number), *count + 1);
    }

    /// The recorder's run had taken so many when it ended: the last of them may never have been written.
    fn end(&mut self, run: u64, taken: u64) {
        if let Some((_, last, _)) = self.0.get_mut(&run) {
            *last = (*last).max(taken);
        } else if taken > 0 {
            self.0.insert(run, (1, taken, 0));
        }
    }

    /// Those between the first and the last that have not come. A recording's oldest files may have been rotated away.
    fn missing(&self) -> u64 {
        self.0.values().map(|(first, last, count)| (last - first + 1).saturating_sub(*count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_missing_is_counted_in_each_run() {
        let mut numbers = Numbers::default();
        for number in [(1, 5), (1, 7), (1, 6), (2, 1), (2, 4)] {
            numbers.note(number);
        }
        assert_eq!(numbers.missing(), 2);
        // The last of them, and all of a run.
        numbers.end(1, 9);
        numbers.end(3, 2);
        numbers.end(4, 0);
        assert_eq!(numbers.missing(), 6);
    }

    #[test]
    fn speeds_are_read() {
        for (text, speed) in
            [("recorded", Speed::Times(1.0)), ("max", Speed::Max), ("0.5x", Speed::Times(0.5))]
        {
            assert_eq!(text.parse(), Ok(speed));
        }
        for text in ["", "2", "x", "0x", "-1x", "infx", "NaNx"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
    }
}
