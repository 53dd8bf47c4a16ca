//! Bounds of what is shared, and why they are what they are. Those that differ from program to program are given by it.

use core::time::Duration;

/// After how long a silence that was too long is looked at again: a process that was stopped finds its time over before it has looked
/// at what came meanwhile.
pub const SECOND_LOOK: Duration = Duration::from_millis(20);
/// What is read of a connection beyond the request that is being answered: so that its end is seen behind others that it has sent at
/// once, and no more, for it is kept.
pub const AHEAD_BYTES_MAX: usize = 64 << 10;
