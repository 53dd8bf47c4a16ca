//! Every bound of the client, and why it is what it is. Those that a caller may choose are in the builder.

use std::time::Duration;

use florin_schema::nodes::NODES_MAX;

/// How long an address may take before the next one is tried beside it (RFC 8305 calls it the connection attempt delay):
/// one that swallows packets must not use up the time of those behind the same name that answer.
pub const ATTEMPT_AFTER: Duration = Duration::from_millis(250);
/// The most addresses that a client takes: who has more nodes names some of them, and they tell of the others.
pub const ADDRESSES_MAX: usize = 64;
/// The most nodes that a client knows of: those that it was given, and those of a map.
pub const PLACES_MAX: usize = ADDRESSES_MAX + NODES_MAX;
/// How often a node is asked for its map by a client whose calls go to others than the owners, which are gone: a change is noticed
/// within a second, and a thousand clients cost their nodes a thousand Hellos.
pub const LEARN_EVERY: Duration = Duration::from_secs(1);
/// How often by a client that goes on losing connections: once for all those of a node, and more often than nodes can end one after
/// the other.
pub const LOST_EVERY: Duration = Duration::from_millis(100);
/// After how long a node that was away is tried again where it is needed, or said to be there, whatever the settings' pause is: some
/// half of this time or more after the last attempt, so that a call finds within a second who has come back, and a thousand
/// clients of a node that is gone make some thousands of attempts a second at most.
pub const WANTED_AFTER: Duration = Duration::from_millis(250);
/// How often by a client whose calls go to the owners: nodes that were added must be known before those that are known have gone.
pub const RENEW_EVERY: Duration = Duration::from_secs(10);
/// The most shards that are believed: each port takes a connection, or several.
pub const SHARDS_MAX: u16 = 256;
/// The longest reply that is believed: 1,024 entries of 16 assets take 450 KiB in rkyv, less than this in FlatBuffers.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;
/// Room offered to each read.
pub const READ_BYTES: usize = 64 * 1024;
/// Less room than this is not worth a system call.
pub const READ_BYTES_MIN: usize = 8 * 1024;
/// What the writer's buffer may keep between two writes.
pub const OUTPUT_BYTES_KEPT: usize = 256 * 1024;
/// Bytes of requests that wait for a server that reads nothing; callers beyond them wait. Another share as large may be
/// under way in a write.
pub const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// So much of a reply is heard like a whole one: a long one over a slow path takes its time, and a byte a second is silence.
pub const PROGRESS_BYTES: usize = 1024;
/// How many durations tell what requests take, and after how many new ones they are looked at again: enough for 95 of 100 to be 13
/// away from the slowest, and for a change to show within some hundred requests.
pub const OBSERVED_MAX: usize = 256;
pub const OBSERVED_EVERY: usize = 64;
/// The least delay that is observed: below it a timer is no better than the wait.
pub const HEDGE_AFTER_MIN: Duration = Duration::from_millis(1);
/// How many second requests can be saved up: enough to meet a node that stands still for a moment, and nothing that a node would
/// feel.
pub const HEDGES_KEPT: i64 = 100;
/// After how long a silence that was too long is looked at again.
pub const SECOND_LOOK: Duration = Duration::from_millis(20);
/// Bytes of a file of certificates or of a key: those of all authorities that a host trusts have some 200 KiB.
pub const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// Characters that are kept of what a server says: its own sentences have some hundred, and what a stranger says ends in logs.
pub const MESSAGE_CHARS_MAX: usize = 1024;
/// Users that each half remembers: some 4 MiB in all.
pub const SEEN_USERS_MAX: usize = 32 * 1024;
