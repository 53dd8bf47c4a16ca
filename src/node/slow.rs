//! What was answered slowly, as lines of the log: so many a second, and how many more there were.

use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::limits::{SLOW_LINES_PER_S, SLOW_QUEUED_MAX};
use crate::mesh::Receiver;
use crate::shard::metrics::Work;
use crate::shard::{ShardMetrics, SlowAnswers, Waited};

/// What the shards tell of slow answers; nothing where none is asked for.
pub struct SlowLog {
    /// By shard.
    shards: Vec<(Receiver<SlowAnswers>, Arc<ShardMetrics>)>,
    /// When this second began, the lines that it has had, and the answers that had none.
    second: Instant,
    lines: usize,
    omitted: u64,
    /// Of those that shards could not tell, the ones that are in `omitted` already.
    untold: u64,
}

impl SlowLog {
    /// Of these shards.
    pub(super) fn new(shards: Vec<(Receiver<SlowAnswers>, Arc<ShardMetrics>)>) -> SlowLog {
        SlowLog { shards, second: Instant::now(), lines: 0, omitted: 0, untold: 0 }
    }

    /// Logs what has been told since.
    pub fn look(&mut self) {
        for (shard, (told, _)) in self.shards.iter_mut().enumerate() {
            for answers in iter::from_fn(|| told.pop()).take(SLOW_QUEUED_MAX) {
                if self.lines < SLOW_LINES_PER_S {
                    self.lines += 1;
                    let SlowAnswers { count, took_us, waited } = answers;
                    tracing::info!(shard, took_us, answers = count, "slow: {}", words(waited));
                } else {
                    self.omitted += answers.count;
                }
            }
        }
        if self.second.elapsed() >= Duration::from_secs(1) {
            let omitted = self.begin_second();
            if omitted > 0 {
                tracing::info!(answers = omitted, "slow: further answers, which have no line of their own");
            }
        }
    }

    /// How many answers of the one before had no line.
    fn begin_second(&mut self) -> u64 {
        let untold: u64 = self.shards.iter().map(|(_, metrics)| metrics.slow_untold.get()).sum();
        let omitted = self.omitted + (untold - self.untold);
        (self.second, self.lines, self.omitted, self.untold) = (Instant::now(), 0, 0, untold);
        omitted
    }
}

fn words(waited: Waited) -> String {
    match waited {
        Waited::Turn(Work::Growth) => "waited for their turn, which made room for more accounts".to_owned(),
        Waited::Turn(Work::Checkpoint) => {
            "waited for their turn, which copied accounts for a checkpoint".to_owned()
        }
        Waited::Turn(Work::Feed) => "waited for their turn, which caught up with the ledger".to_owned(),
        Waited::Turn(Work::Answers) => {
            "waited for their turn, which did nothing else: much came at once, or the CPU was taken away"
                .to_owned()
        }
        Waited::Neighbour(shard) => {
            format!("forwarded, and waited for shard {}, whose accounts they are of", shard.0)
        }
        Waited::Freshness { opcode, min_version, max_age, in_vain, asker } => {
            let what = match (min_version, max_age) {
                (true, true) => "min_version and max_age_ms",
                (true, false) => "min_version",
                (false, _) => "max_age_ms",
            };
            let outcome = if in_vain { ", in vain" } else { "" };
            let asker = asker.map_or_else(String::new, |shard| format!("; forwarded by shard {}", shard.0));
            format!("{opcode:?} waited for {what}{outcome}{asker}")
        }
    }
}

#[cfg(test)]
mod tests {
    use florin_schema::{Opcode, ShardIndex};

    use super::*;
    use crate::mesh;

    #[test]
    fn beyond_so_many_lines_a_second_answers_are_counted_and_none_is_forgotten() {
        let (mut told, heard) = mesh::ring(SLOW_QUEUED_MAX);
        let metrics = Arc::new(ShardMetrics::default());
        let mut log = SlowLog::new(vec![(heard, Arc::clone(&metrics))]);
        let answers = SlowAnswers { count: 2, took_us: 1, waited: Waited::Turn(Work::Feed) };
        (0..SLOW_LINES_PER_S + 7).for_each(|_| told.push(answers).unwrap());
        // Of which the shard could not even tell.
        metrics.slow_untold.add(5);
        log.look();
        assert_eq!((log.lines, log.begin_second()), (SLOW_LINES_PER_S, 7 * 2 + 5));
        told.push(answers).unwrap();
        metrics.slow_untold.add(1);
        log.look();
        assert_eq!((log.lines, log.begin_second(), log.begin_second()), (1, 1, 0));
    }

    #[test]
    fn what_was_waited_for_is_said() {
        let freshness = |in_vain, asker| Waited::Freshness {
            opcode: Opcode::GetBalance,
            min_version: true,
            max_age: false,
            in_vain,
            asker,
        };
        assert_eq!(words(freshness(false, None)), "GetBalance waited for min_version");
        assert_eq!(
            words(freshness(true, Some(ShardIndex(3)))),
            "GetBalance waited for min_version, in vain; forwarded by shard 3"
        );
        assert!(words(Waited::Turn(Work::Feed)).contains("caught up"));
    }
}
