//! The time: read at the beginning of a turn by whoever drives a shard, and handed down from there; the monotonic half again where input may
//! have come since, and at the turn's end.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

pub use florin_core::clock::Now;

/// Where [`Now`] comes from. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started_us: u64,
    fixed_wall_us: Option<i64>,
    /// By how much a fixed wall goes on with each second.
    leap_us: i64,
}

impl Clock {
    /// A clock that follows the system's, or whose wall stands still at `fixed_wall_us` (to replay history).
    pub fn new(fixed_wall_us: Option<i64>) -> Clock {
        Clock { started_us: since_boot_us(), fixed_wall_us, leap_us: 0 }
    }

    /// The same, but a fixed wall goes on by `leap_us` at once with each second: hours and days end while a test looks on.
    #[must_use]
    pub fn with_leaps(self, leap_us: i64) -> Clock {
        Clock { leap_us, ..self }
    }

    /// Reads both. No system call: the vDSO answers.
    pub fn now(&self) -> Now {
        let monotonic_us = self.monotonic_us();
        let wall_us = match self.fixed_wall_us {
            Some(fixed_us) => fixed_us + self.leap_us * (monotonic_us / 1_000_000).cast_signed(),
            None => system_wall_us(),
        };
        #[cfg(test)]
        stand_still::stand();
        Now { wall_us, monotonic_us }
    }

    /// The monotonic half alone. It goes on while the host sleeps, for what is known grows old meanwhile.
    pub fn monotonic_us(&self) -> u64 {
        since_boot_us().saturating_sub(self.started_us)
    }
}

/// `CLOCK_BOOTTIME`, µs.
fn since_boot_us() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    (time.tv_sec * 1_000_000 + time.tv_nsec / 1_000).cast_unsigned()
}

/// The system's wall clock, µs since 1970 UTC, which no setting fixes: for what nodes of several hosts compare.
pub fn system_wall_us() -> i64 {
    let since =
        SystemTime::now().duration_since(UNIX_EPOCH).expect("the system's clock stands before 1970: set it");
    i64::try_from(since.as_micros()).expect("the system's clock stands beyond the year 292,000: set it")
}

/// A host lets a thread stand still whenever it likes, and a test just after a look at the clock.
#[cfg(test)]
pub mod stand_still {
    use std::cell::RefCell;

    thread_local! {
        static STANDS: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
    }

    /// Has the calling thread do this after each look at both clocks.
    pub fn after_each_look(stands: impl FnMut() + 'static) {
        STANDS.set(Some(Box::new(stands)));
    }

    pub(super) fn stand() {
        STANDS.with_borrow_mut(|stands| {
            if let Some(stands) = stands {
                stands();
            }
        });
    }
}
