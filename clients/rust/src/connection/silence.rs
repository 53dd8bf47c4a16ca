//! Whether a connection on which answers are due is still heard.

use std::time::{Duration, Instant};

/// What the silence so far means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nothing is due.
    Idle,
    /// Too little to mean anything; look again at this time.
    Fine(Instant),
    /// Others should be asked meanwhile; look again at this time.
    Stalled(Instant),
    /// The connection is to be given up.
    Lost,
}

/// A server, or a path, that takes requests and gives nothing back is no error of a socket for a quarter of an hour. The
/// silence is counted from the last byte, or, if that came before anything was due, from the first request that is
/// unanswered: never from when somebody happened to look.
#[derive(Debug)]
pub(super) struct Silence {
    stall_after: Duration,
    most: Duration,
    /// Requests whose reply has not come, whether or not anyone still waits for it.
    unanswered: usize,
    since: Instant,
    /// Until when the server may be holding a request because its caller said so.
    held_until: Instant,
}

impl Silence {
    pub fn new(stall_after: Duration, most: Duration) -> Silence {
        let now = Instant::now();
        Silence { stall_after, most, unanswered: 0, since: now, held_until: now }
    }

    /// A request has been queued, which the server may hold for `wait`.
    pub fn asked(&mut self, wait: Duration) {
        self.unanswered += 1;
        if self.unanswered == 1 || !wait.is_zero() {
            let now = Instant::now();
            if self.unanswered == 1 {
                self.since = now;
            }
            self.held_until = self.held_until.max(now + wait);
        }
    }

    /// A request will not be written, for its caller has left.
    pub fn withdrawn(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// A reply has come, and so many callers wait still.
    pub fn answered(&mut self, waiting: usize) {
        self.unanswered = self.unanswered.saturating_sub(1).max(waiting);
    }

    /// Bytes have come.
    pub fn heard(&mut self, now: Instant) {
        self.since = now;
    }

    pub fn judge(&self, now: Instant) -> Verdict {
        if self.unanswered == 0 {
            return Verdict::Idle;
        }
        let lost_at = self.since + self.most;
        let stalled_at = (self.since + self.stall_after).max(self.held_until);
        if now >= lost_at {
            Verdict::Lost
        } else if now >= stalled_at {
            Verdict::Stalled(lost_at)
        } else {
            Verdict::Fine(stalled_at.min(lost_at))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_counts_from_the_last_byte_or_the_first_unanswered_request() {
        let mut silence = Silence::new(SECOND, 10 * SECOND);
        assert_eq!(silence.judge(Instant::now() + 100 * SECOND), Verdict::Idle);
        silence.asked(Duration::ZERO);
        let since = silence.since;
        assert_eq!(silence.judge(since), Verdict::Fine(since + SECOND));
        // A second request does not begin it anew.
        silence.asked(Duration::ZERO);
        assert_eq!(silence.judge(since + SECOND), Verdict::Stalled(since + 10 * SECOND));
        assert_eq!(silence.judge(since + 10 * SECOND), Verdict::Lost);
        silence.heard(since + 5 * SECOND);
        silence.answered(0);
        assert_eq!(silence.judge(since + 10 * SECOND), Verdict::Stalled(since + 15 * SECOND));
        silence.withdrawn();
        assert_eq!(silence.judge(since + 100 * SECOND), Verdict::Idle);
    }

    #[test]
    fn what_the_server_was_asked_to_hold_is_no_silence() {
        let mut silence = Silence::new(SECOND, 10 * SECOND);
        silence.asked(3 * SECOND);
        let since = silence.since;
        assert!(matches!(silence.judge(since + 2 * SECOND), Verdict::Fine(at) if at <= since + 3 * SECOND));
        assert!(matches!(silence.judge(since + 4 * SECOND), Verdict::Stalled(_)));
    }
}
