//! The time, for the parts that may know it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How far this process is ahead of the host.
static AHEAD_US: AtomicI64 = AtomicI64::new(0);

/// µs since 1970 UTC.
pub fn now_us() -> i64 {
    host_us().saturating_add(AHEAD_US.load(Ordering::Relaxed))
}

/// Lets the clock begin at `us`, and run on from there: to rehearse the end of an hour or a day.
pub fn begin_at(us: i64) {
    AHEAD_US.store(us.saturating_sub(host_us()), Ordering::Relaxed);
}

fn host_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
