//! What the shard has taken, been given and ended, and whether it had a reason.

use super::*;

impl Client {
    /// The shard's driver has taken `bytes` of answers for it.
    pub fn note_taken(&mut self, bytes: usize, step: u64) {
        self.taken_bytes += bytes;
        self.taken.push_back((self.taken_bytes, step));
    }

    /// `bytes` of its stream have reached the shard.
    pub fn note_delivered(&mut self, bytes: usize, mark: Mark) {
        self.delivered += bytes;
        for segment in self.segments.iter_mut().rev() {
            if segment.begins < self.delivered {
                segment.first.get_or_insert(mark);
            }
            if segment.ends <= self.delivered {
                if segment.last.is_some() {
                    break;
                }
                segment.last = Some(mark);
            }
        }
    }

    /// The server has closed the connection at `mark`: it must have had a reason, and have answered all it owed.
    pub fn note_closed(&mut self, mark: Mark, draining_since_us: Option<u64>, seen: &mut Seen) -> Verdict {
        let was_ended = self.state == State::InputEnded;
        self.state = State::Gone;
        if self.babbles || self.was_told_to_close {
            return Ok(());
        }
        // From then on half a request is not waited for, and a second later none is read.
        let gives_up_us = if self.was_timed_out { DRAIN_ANSWER_US } else { 2 * DRAIN_ANSWER_US };
        if draining_since_us.is_some_and(|since_us| mark.monotonic_us >= since_us + gives_up_us) {
            seen.note("closed while draining", 1);
            return Ok(());
        }
        let late = |since: &Mark, until: u64| until >= since.monotonic_us + PARTIAL_REQUEST_US;
        let is_silent = |segment: &Segment| {
            let until = segment.last.map_or(mark.monotonic_us, |last| last.monotonic_us);
            segment.first.is_some_and(|first| late(&first, until))
        };
        let silent = self.segments.iter().position(is_silent);
        let owed_before = silent.unwrap_or(self.segments.len());
        let is_owed = |pending: &&Pending| {
            pending.segment < owed_before && self.segments[pending.segment].last.is_some()
        };
        if let Some(owed) = self.pending.iter().find(is_owed) {
            return Err(format!("closed while an answer was owed: {:?}", owed.request));
        }
        let is_draining = draining_since_us.is_some_and(|since| mark.monotonic_us >= since + DRAIN_QUIET_US);
        seen.note("closed for silence", u64::from(silent.is_some()));
        seen.note("closed while draining", u64::from(is_draining));
        if silent.is_some() || was_ended || is_draining {
            return Ok(());
        }
        Err(format!("closed for no reason at {mark:?}: {:?}, {}", self.segments, self.describe()))
    }

    /// The server has cut it off at `mark`: it must have read nothing for a while, in a drain.
    pub fn note_cut(&mut self, mark: Mark, draining_since_us: Option<u64>, seen: &mut Seen) -> Verdict {
        self.state = State::Gone;
        seen.note("cut off while draining", 1);
        match draining_since_us {
            Some(since_us) if mark.monotonic_us >= since_us + DRAIN_STALL_US => Ok(()),
            _ => Err(format!("cut off for no reason at {mark:?}: {}", self.describe())),
        }
    }
}
