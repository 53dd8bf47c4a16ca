//! Bounds of what is shared, and why they are what they are. Those that differ from program to program are given by it.

use core::time::Duration;

/// After how long a silence that was too long is looked at again: a process that was stopped finds its time over before it has looked
/// at what came meanwhile.
pub const SECOND_LOOK: Duration = Duration::from_millis(20);
