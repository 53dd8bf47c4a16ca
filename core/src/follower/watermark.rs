//! The watermark: the time before which everything that was committed is applied. It never goes back.

use crate::clock::Now;
use crate::limits::CLOCK_STEP_US;

/// The last watermark, and what the clocks showed when they were last looked at.
#[derive(Default)]
pub(super) struct Watermark {
    /// The last that was published; monotonic 0 = none yet.
    published: Now,
    seen: Option<Now>,
}

impl Watermark {
    /// Looks at the clocks; by how much the wall clock was set since the last look, µs, if it was.
    ///
    /// The monotonic clock says how much time has passed. A wall clock that has not moved at all is one that stands still
    /// by order, and was not set.
    pub fn look_at(&mut self, now: Now) -> Option<i64> {
        let last = self.seen.replace(now)?;
        let wall_us = now.wall_us.saturating_sub(last.wall_us);
        let passed_us = now.monotonic_us.saturating_sub(last.monotonic_us).cast_signed();
        let by_us = wall_us.saturating_sub(passed_us);
        (wall_us != 0 && by_us.abs() > CLOCK_STEP_US).then_some(by_us)
    }

    /// What to publish when everything before `complete_before` is applied. While a wall clock that was set back has not
    /// caught up, `as_of` stands; ages go by the monotonic clock and notice nothing.
    pub fn advance(&mut self, complete_before: Now) -> Now {
        self.published = Now {
            wall_us: match self.published.monotonic_us {
                0 => complete_before.wall_us,
                _ => complete_before.wall_us.max(self.published.wall_us),
            },
            // 0 would mean that there is none yet.
            monotonic_us: complete_before.monotonic_us.max(self.published.monotonic_us).max(1),
        };
        self.published
    }

    /// Whether there is one.
    pub fn is_published(&self) -> bool {
        self.published.monotonic_us > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall_us: i64, monotonic_us: u64) -> Now {
        Now { wall_us, monotonic_us }
    }

    #[test]
    fn as_of_waits_for_a_clock_that_was_set_back_and_age_does_not() {
        let mut watermark = Watermark::default();
        assert_eq!(watermark.advance(at(-5, 0)), at(-5, 1), "before 1970, at the very start");
        assert_eq!(watermark.advance(at(1_000, 10)), at(1_000, 10));
        assert_eq!(watermark.advance(at(400, 20)), at(1_000, 20));
        assert_eq!(watermark.advance(at(1_001, 30)), at(1_001, 30));
        assert_eq!(watermark.advance(at(2_000, 25)), at(2_000, 30), "an older time, told later");
    }

    #[test]
    fn a_step_is_told_from_the_passing_of_time() {
        let mut watermark = Watermark::default();
        let second = 1_000_000;
        assert_eq!(watermark.look_at(at(0, 0)), None);
        assert_eq!(watermark.look_at(at(10 * second + 90, 10_000_000)), None, "drift");
        assert_eq!(watermark.look_at(at(71 * second, 11_000_000)), Some(60 * second - 90));
        assert_eq!(watermark.look_at(at(10 * second, 11_000_500)), Some(-61 * second - 500));
        assert_eq!(watermark.look_at(at(10 * second, 99_000_000)), None, "it stands still by order");
        let (wall_us, monotonic_us) = (11 * second + CLOCK_STEP_US, 100_000_000);
        assert_eq!(watermark.look_at(at(wall_us, monotonic_us)), None, "no more than is let pass");
        let by_us = -CLOCK_STEP_US - 1;
        assert_eq!(watermark.look_at(at(wall_us + by_us, monotonic_us)), Some(by_us), "a microsecond more");
    }
}
