//! How long a shard polls for the next input before it sleeps. To sleep and to be woken costs a lone caller more time than
//! its answer does; to poll costs the CPU.

use crate::limits::{SPIN_GAP_MAX_US, SPIN_GAP_SEEN_MAX_US};

/// When a shard polls instead of sleeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spin {
    /// For so long after each input, µs; 0 = never.
    For(u32),
    /// While the next input is likely soon, by the distances between those before.
    Auto,
}

impl Default for Spin {
    fn default() -> Spin {
        Spin::For(0)
    }
}

/// A loop's spinning: told of inputs, asked before it sleeps. Pure.
#[derive(Debug)]
pub(super) struct Spinning {
    spin: Spin,
    /// When the last input came.
    active_us: u64,
    /// The mean distance between inputs, µs, the newest counting most; long pauses count as
    /// [`SPIN_GAP_SEEN_MAX_US`], so that they are soon forgotten.
    gap_us: u64,
}

/// An input's distance moves the mean by 1 / 8 of the way.
const GAP_WEIGHT: u64 = 8;

impl Spinning {
    pub(super) fn new(spin: Spin) -> Spinning {
        Spinning { spin, active_us: 0, gap_us: SPIN_GAP_SEEN_MAX_US }
    }

    /// There was input at `now_us`.
    pub(super) fn input(&mut self, now_us: u64) {
        let gap_us = now_us.saturating_sub(self.active_us).min(SPIN_GAP_SEEN_MAX_US);
        self.gap_us = (self.gap_us * (GAP_WEIGHT - 1) + gap_us) / GAP_WEIGHT;
        self.active_us = now_us;
    }

    /// Whether to poll on at `now_us`.
    pub(super) fn is_on(&self, now_us: u64) -> bool {
        now_us < self.active_us + self.window_us()
    }

    /// Twice the mean: of inputs at random times, 86 in 100 come within it.
    fn window_us(&self) -> u64 {
        match self.spin {
            Spin::For(us) => u64::from(us),
            Spin::Auto if self.gap_us <= SPIN_GAP_MAX_US => self.gap_us * 2,
            Spin::Auto => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A caller that asks every `gap_us`: whether the loop polled from the last input to the last but one.
    fn polls_at(spinning: &mut Spinning, from_us: u64, gap_us: u64, inputs: u64) -> bool {
        let last_us = from_us + gap_us * inputs;
        (1..=inputs).for_each(|input| spinning.input(from_us + gap_us * input));
        spinning.is_on(last_us + gap_us)
    }

    #[test]
    fn it_polls_for_whoever_comes_back_soon() {
        for gap_us in [20, 50, 100, 250, 500, SPIN_GAP_MAX_US] {
            assert!(polls_at(&mut Spinning::new(Spin::Auto), 1_000_000, gap_us, 64), "every {gap_us} us");
        }
    }

    #[test]
    fn it_sleeps_at_once_where_inputs_are_rare() {
        for gap_us in [SPIN_GAP_MAX_US + 10, 1_000, 5_000, 1_000_000] {
            assert!(!Spinning::new(Spin::Auto).is_on(0));
            let mut spinning = Spinning::new(Spin::Auto);
            polls_at(&mut spinning, 1_000_000, gap_us, 64);
            assert!(!spinning.is_on(1_000_000 + gap_us * 64), "every {gap_us} us");
        }
    }

    /// Who has gone is waited for no longer than twice the time that it used to take.
    #[test]
    fn it_stops_soon_after_the_last_input() {
        let mut spinning = Spinning::new(Spin::Auto);
        assert!(polls_at(&mut spinning, 1_000_000, 100, 1_000));
        let last_us = 1_000_000 + 100 * 1_000;
        assert!(!spinning.is_on(last_us + 201));
    }

    /// A pause of an hour weighs no more than one of a few milliseconds.
    #[test]
    fn a_pause_is_soon_forgotten() {
        let mut spinning = Spinning::new(Spin::Auto);
        assert!(polls_at(&mut spinning, 0, 100, 1_000));
        assert!(polls_at(&mut spinning, 3_600_000_000, 100, 32));
    }

    #[test]
    fn a_fixed_time_is_kept_whatever_comes() {
        let mut spinning = Spinning::new(Spin::For(50));
        for now_us in [1_000, 900_000] {
            spinning.input(now_us);
            assert!(spinning.is_on(now_us + 49) && !spinning.is_on(now_us + 50));
        }
        let mut never = Spinning::new(Spin::For(0));
        never.input(1_000);
        assert!(!never.is_on(1_000));
    }
}
