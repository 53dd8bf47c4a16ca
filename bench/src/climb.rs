//! The search for a knee, the highest rate that a server keeps its objective at: which rate comes next, and where it has ended. A
//! climb is nothing but what it has measured, so that one which was interrupted goes on by reading its results again.
//!
//! The rates are the rungs of a ladder, each a little above the one below. A climb takes many rungs at a time until the
//! objective breaks, and halves the gap until the rung that holds and the one that breaks are neighbours. No single look decides:
//! the rung that holds must have held twice, what broke in a stride is looked at again, and where two looks at a rung do not
//! agree a third one decides. So a rung that held once by luck, above where the server breaks, is no knee.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{CLIMB_STRIDE, HOLDS_MIN};

/// Rates in equal proportions.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ladder {
    /// The lowest rung's rate.
    pub from: f64,
    /// Each rung above the one below it, in %: the precision of a knee.
    pub rung_percent: f64,
    /// No rung has a higher rate.
    pub to: f64,
}

impl Ladder {
    /// The rate of a rung, a whole number so that it is written and read alike.
    pub fn rate(&self, rung: u32) -> f64 {
        let rate = self.from * (1.0 + self.rung_percent / 100.0).powi(rung.try_into().unwrap_or(i32::MAX));
        rate.min(self.to).round()
    }

    /// Rungs that a climb takes at a time.
    fn stride(&self) -> u32 {
        (CLIMB_STRIDE.ln() / (1.0 + self.rung_percent / 100.0).ln()).floor().max(1.0) as u32
    }

    /// Where the next climb of the same server begins: a stride below, so that the first rung holds.
    pub fn start_below(&self, end: End) -> u32 {
        match end {
            End::Knee(rung) | End::AtLeast(rung) => (rung + 1).saturating_sub(self.stride()),
            End::Nothing => 0,
        }
    }

    /// The highest rung.
    pub(crate) fn top(&self) -> u32 {
        ((self.to / self.from).ln() / (1.0 + self.rung_percent / 100.0).ln()).ceil().max(0.0) as u32
    }
}

/// What a rung has shown, once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Which rung.
    pub rung: u32,
    /// How it went.
    pub verdict: Verdict,
}

/// What a measurement says of an objective.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The objective holds.
    Holds,
    /// It does not.
    Breaks,
    /// It does not, but the generator may be the reason.
    Unclear,
}

/// How a climb goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// With a measurement of this rung.
    Measure(u32),
    /// Not at all: it has ended.
    Ended(End),
}

/// Where a climb has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// This rung holds, and the server breaks on the next.
    Knee(u32),
    /// This rung holds; above it the generator was at its own end, or the ladder is.
    AtLeast(u32),
    /// Not even the lowest rung holds.
    Nothing,
}

/// How a climb that began at rung `start`, and has found `probes` so far, goes on.
pub fn next(ladder: &Ladder, start: u32, probes: &[Probe]) -> Next {
    let (top, stride) = (ladder.top(), ladder.stride());
    let mut rungs: BTreeMap<u32, Looks> = BTreeMap::new();
    probes.iter().for_each(|probe| rungs.entry(probe.rung).or_default().add(probe.verdict));
    if let Some((&rung, _)) = rungs.iter().find(|(_, looks)| looks.is_undecided()) {
        return Next::Measure(rung);
    }
    let breaks = rungs.iter().find(|(_, looks)| !looks.holds()).map(|(&rung, looks)| (rung, looks));
    let below = rungs.iter().rev().filter(|(rung, _)| breaks.is_none_or(|(breaks, _)| **rung < breaks));
    let holds = below.map(|(&rung, looks)| (rung, looks)).next();
    match (holds, breaks) {
        (None, None) => Next::Measure(start.min(top)),
        (Some((rung, _)), None) if rung < top => Next::Measure((rung + stride).min(top)),
        (_, Some((rung, looks))) if looks.is_hasty(holds.is_none_or(|(holds, _)| rung - holds >= stride)) => {
            Next::Measure(rung)
        }
        (None, Some((0, _))) => Next::Ended(End::Nothing),
        (None, Some((rung, _))) => Next::Measure(rung.saturating_sub(stride)),
        (Some((holds, _)), Some((breaks, _))) if breaks - holds > 1 => {
            Next::Measure(holds + (breaks - holds) / 2)
        }
        (Some((rung, looks)), _) if looks.held < HOLDS_MIN => Next::Measure(rung),
        (Some((rung, _)), Some((_, looks))) if looks.broke > 0 => Next::Ended(End::Knee(rung)),
        (Some((rung, _)), _) => Next::Ended(End::AtLeast(rung)),
    }
}

/// What all looks at a rung have shown.
#[derive(Clone, Copy, Default)]
struct Looks {
    held: usize,
    broke: usize,
    /// Neither: the generator was at its end.
    unclear: usize,
}

impl Looks {
    fn add(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Holds => self.held += 1,
            Verdict::Breaks => self.broke += 1,
            Verdict::Unclear => self.unclear += 1,
        }
    }

    fn holds(&self) -> bool {
        self.held > self.broke + self.unclear
    }

    fn is_undecided(&self) -> bool {
        self.held == self.broke + self.unclear
    }

    /// Whether a rung that does not hold has been looked at only once, and another look is worth its time: one that was met in
    /// strides may have broken by chance, and one that broke while the generator was at its end may have been the host's. While
    /// the gap is halved, a clear break is enough: a mistake costs no more than the gap.
    fn is_hasty(&self, is_stride: bool) -> bool {
        (is_stride || self.broke == 0) && self.broke + self.unclear == 1 && self.held == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LADDER: Ladder = Ladder { from: 1_000.0, rung_percent: 2.5, to: 1e6 };

    /// Climbs a server that breaks above rung `knee`, with a generator that gives out above rung `generator`.
    fn climb(ladder: &Ladder, start: u32, verdict: impl Fn(u32, usize) -> Verdict) -> (End, Vec<Probe>) {
        let mut probes = Vec::new();
        loop {
            match next(ladder, start, &probes) {
                Next::Ended(end) => return (end, probes),
                Next::Measure(rung) => {
                    let times = probes.iter().filter(|probe: &&Probe| probe.rung == rung).count();
                    probes.push(Probe { rung, verdict: verdict(rung, times) });
                }
            }
            assert!(probes.len() < 100, "the climb does not end: {probes:?}");
        }
    }

    fn breaks_above(knee: u32) -> impl Fn(u32, usize) -> Verdict {
        move |rung, _| if rung > knee { Verdict::Breaks } else { Verdict::Holds }
    }

    #[test]
    fn a_climb_ends_where_the_server_breaks() {
        for knee in 0..=200 {
            for start in [0, 5, 100] {
                let (end, probes) = climb(&LADDER, start, breaks_above(knee));
                assert_eq!(end, End::Knee(knee), "from {start}: {probes:?}");
            }
            let (_, probes) = climb(&LADDER, LADDER.start_below(End::Knee(knee)), breaks_above(knee));
            assert!(probes.len() <= 11, "{knee}: {probes:?}");
        }
    }

    #[test]
    fn a_generator_at_its_end_leaves_a_lower_bound() {
        let (end, _) = climb(&LADDER, 0, |rung, _| if rung > 50 { Verdict::Unclear } else { Verdict::Holds });
        assert_eq!(end, End::AtLeast(50));
        let low = Ladder { to: 2_000.0, ..LADDER };
        let (end, probes) = climb(&low, 0, |_, _| Verdict::Holds);
        assert_eq!(end, End::AtLeast(29));
        assert_eq!(low.rate(probes.last().unwrap().rung), 2_000.0);
    }

    #[test]
    fn a_stumble_does_not_end_a_climb() {
        // The first look at rung 32 is spoiled by something else on the host.
        let (end, probes) = climb(&LADDER, 0, |rung, times| {
            if rung == 32 && times == 0 { Verdict::Breaks } else { breaks_above(77)(rung, times) }
        });
        assert_eq!(end, End::Knee(77), "{probes:?}");
    }

    #[test]
    fn a_generator_that_was_late_once_does_not_blur_a_knee() {
        let (end, probes) = climb(&LADDER, 0, |rung, times| match breaks_above(77)(rung, times) {
            Verdict::Breaks if times == 0 => Verdict::Unclear,
            verdict => verdict,
        });
        assert_eq!(end, End::Knee(77), "{probes:?}");
    }

    #[test]
    fn a_rate_that_held_by_luck_is_not_the_knee() {
        // The highest rung that ever held was once the knee: here every rung up to 84 holds the first time that it is tried.
        let (end, probes) = climb(&LADDER, 0, |rung, times| match rung {
            0..=77 => Verdict::Holds,
            78..=84 if times == 0 => Verdict::Holds,
            _ => Verdict::Breaks,
        });
        assert_eq!(end, End::Knee(77), "{probes:?}");
        // Nor is one where two looks of three broke.
        let (end, probes) = climb(&LADDER, 0, |rung, times| match breaks_above(77)(rung, times) {
            Verdict::Breaks if times == 1 => Verdict::Holds,
            verdict => verdict,
        });
        assert_eq!(end, End::Knee(77), "{probes:?}");
    }

    #[test]
    fn a_server_that_never_holds_has_no_knee() {
        let (end, probes) = climb(&LADDER, 30, |_, _| Verdict::Breaks);
        assert_eq!(end, End::Nothing);
        assert_eq!(probes.last().unwrap().rung, 0);
    }

    #[test]
    fn a_climb_that_was_interrupted_goes_on_as_it_would_have() {
        let (end, probes) = climb(&LADDER, 0, breaks_above(91));
        for cut in 0..probes.len() {
            assert_eq!(next(&LADDER, 0, &probes[..cut]), Next::Measure(probes[cut].rung));
        }
        assert_eq!(next(&LADDER, 0, &probes), Next::Ended(end));
    }

    #[test]
    fn rungs_are_whole_rates_in_equal_proportions() {
        assert_eq!((LADDER.rate(0), LADDER.rate(1)), (1_000.0, 1_025.0));
        assert!((LADDER.rate(101) / LADDER.rate(100) - 1.025).abs() < 1e-3);
        assert_eq!(LADDER.rate(u32::MAX), 1e6);
    }
}
