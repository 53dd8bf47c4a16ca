//! Latencies of one thread, in intervals of a second.

use hdrhistogram::Histogram;

use super::Window;
use crate::limits;
use crate::limits::RECORD_INTERVAL_NS;

/// A histogram of ns with this crate's bounds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(limits::LATENCY_MAX_NS, limits::LATENCY_DIGITS)
        .expect("the bounds are those of a histogram")
}

#[derive(Debug)]
pub(super) struct Recorder {
    window: Window,
    current: Histogram<u64>,
    current_ends: u64,
    finished: Vec<Histogram<u64>>,
    /// Equal latencies in a row, as the answers of one burst have them: recorded at once.
    run: (u64, u64),
}

impl Recorder {
    pub(super) fn new(window: Window) -> Recorder {
        let current_ends = window.begins + RECORD_INTERVAL_NS;
        Recorder { window, current: histogram(), current_ends, finished: Vec::new(), run: (0, 0) }
    }

    /// An answer. `counted_at` decides whether it lies in the window.
    #[inline]
    pub(super) fn record(&mut self, latency_ns: u64, counted_at: u64) {
        if !self.window.holds(counted_at) {
            return;
        }
        if self.run.0 == latency_ns {
            self.run.1 += 1;
            return;
        }
        self.flush();
        self.run = (latency_ns, 1);
    }

    #[inline]
    fn flush(&mut self) {
        let (latency_ns, count) = self.run;
        if count > 0 {
            self.current
                .record_n(latency_ns.clamp(1, limits::LATENCY_MAX_NS), count)
                .expect("clamped to the bounds");
        }
        self.run = (0, 0);
    }

    /// Begins a new interval where one has ended; what comes after the window still belongs to its last.
    #[inline]
    pub(super) fn keep_time(&mut self, now_ns: u64) {
        while now_ns >= self.current_ends && self.current_ends < self.window.ends {
            self.flush();
            self.finished.push(std::mem::replace(&mut self.current, histogram()));
            self.current_ends += RECORD_INTERVAL_NS;
        }
    }

    pub(super) fn finish(mut self) -> Vec<Histogram<u64>> {
        self.flush();
        self.finished.push(self.current);
        self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_and_its_intervals_hold_what_belongs_to_them() {
        let window = Window { begins: RECORD_INTERVAL_NS, ends: 3 * RECORD_INTERVAL_NS };
        let mut recorder = Recorder::new(window);
        for (now_ns, latency_ns) in [
            (RECORD_INTERVAL_NS - 1, 7_000),
            (RECORD_INTERVAL_NS, 5_000),
            (RECORD_INTERVAL_NS + 1, 5_000),
            (2 * RECORD_INTERVAL_NS, 6_000),
            (3 * RECORD_INTERVAL_NS - 1, 0),
            (3 * RECORD_INTERVAL_NS, 8_000),
        ] {
            recorder.keep_time(now_ns);
            recorder.record(latency_ns, now_ns);
        }
        let intervals = recorder.finish();
        assert_eq!(intervals.iter().map(Histogram::len).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(intervals[0].count_at(5_000), 2);
        assert_eq!((intervals[1].count_at(6_000), intervals[1].min()), (1, 1));
    }
}
