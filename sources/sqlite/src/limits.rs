//! Every bound of this crate, and why it is what it is; what the whole node shares stands in florin-core.

use std::time::Duration;

/// Tries while opening, [`TRY_AGAIN`] apart: 1 s.
pub const OPEN_TRIES: i32 = 500;
/// How often a locked ledger is tried again. SQLite's own intervals grow to 100 ms: whoever waits for a busy writer
/// would rarely find the moment between two of its transactions.
pub const TRY_AGAIN: Duration = Duration::from_millis(2);
/// Rows behind from which reading in parallel is worth its threads.
pub const PARALLEL_ROWS_MIN: usize = 65_536;
/// While readers are at work: how soon to look again, µs. What they have read wakes the feed sooner.
pub const STRIPES_LOOK_US: u64 = 1_000;
/// Rows of one stripe: large enough that handing it over costs nothing, 512 KiB.
pub const STRIPE_ROWS: usize = 8_192;
/// Stripes that were begun and not yet taken: memory is bounded by as many times 512 KiB.
pub const STRIPES_AHEAD: u64 = 12;
/// Threads that read stripes: more would outrun the one thread that routes.
pub const READERS_MAX: usize = 4;
/// Links that are followed at most, as the kernel has it (path_resolution(7)).
pub const LINKS_MAX: usize = 40;
/// How long a writer waits for another one: a few hundred durable appends of others, but not a long import.
pub const WRITE_WAIT: Duration = Duration::from_secs(5);
/// Pages that a writer of many rows keeps, KiB: what does not fit would be written twice.
pub const BULK_CACHE_KIB: i64 = 256 * 1_024;
/// Rows that are read at once for whoever copies them: some ms.
pub const EXPORT_ROWS: usize = 4_096;
