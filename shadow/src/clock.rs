//! The time, for the parts that may know it.

use std::time::{SystemTime, UNIX_EPOCH};

/// µs since 1970 UTC.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
