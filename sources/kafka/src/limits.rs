//! Every bound of a ledger in a Kafka topic, and why it is what it is. What a node has whatever its ledger is, stands in
//! [`florin_core::limits`].

use std::time::Duration;

// The topic.

/// Partitions of a topic: a position has an entry for each, and a checkpoint keeps two positions.
pub const PARTITIONS_MAX: usize = 4_096;
/// Of one that is made and of which nothing is said: more than most clusters have nodes, and as many for each of 2, 3, 4, 6, 8 or 12.
pub const PARTITIONS: u16 = 24;
/// Bytes of a record's value: florin's own has some 250, an envelope with its schema some 10,000. A longer one is no transaction.
pub const VALUE_BYTES_MAX: usize = 65_536;
/// Bytes of a record's key that are looked at: a user's id has 19 at most, and what is longer is shown up to here.
pub const KEY_SHOWN_BYTES_MAX: usize = 64;

// The brokers.

/// Bytes of a file that holds a password: one line. What is longer is another file.
pub const PASSWORD_BYTES_MAX: usize = 4_096;
/// How long that file may take to be read: a pipe is waited for.
pub const PASSWORD_READ: Duration = Duration::from_secs(5);

/// How long brokers may take to answer a question, connecting included: an election and a reconnection.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two asks while a partition has no leader yet: an election takes some tens of ms.
pub const LEADER_PAUSE: Duration = Duration::from_millis(50);
/// How long they may take to make a topic or to tell its settings, which the controller is asked for.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request may stay without an answer before its connection is given up, ms.
pub const SOCKET_TIMEOUT_MS: u32 = 10_000;
/// The longest pause before a broker is connected to again, ms: it is what a restarted broker is waited for at most.
pub const RECONNECT_MS_MAX: u32 = 500;
/// How long brokers keep a fetch to which they have nothing to say, ms: a partition that is taken up is asked for with the next one.
pub const FETCH_WAIT_MS: u32 = 100;
/// Between two fetches after one has failed, ms.
pub const FETCH_BACKOFF_MS: u32 = 50;
/// How long the reading of a partition pauses that has read far ahead, ms: less than the follower takes for what is there.
pub const AHEAD_PAUSE_MS: u32 = 10;
/// Records that are read ahead, of each partition: 10 ms of the follower's.
pub const AHEAD_RECORDS: u32 = 10_000;
/// Kilobytes that are read ahead, of each partition.
pub const AHEAD_KILOBYTES: u32 = 4_096;

// Following.

/// Batches that are read and not yet taken: as many times [`florin_core::limits::FEED_BATCH_ROWS`] rows of memory.
pub const BATCHES_AHEAD: usize = 4;
/// Records of partitions that are loaded in a batch, where others are followed: with all batches ahead full of them, what is read of the
/// others waits some 15 ms for the shards. A partition that is as near to its end joins the others.
pub const LOADING_RECORDS: usize = 1_024;
/// How long a record is waited for before other work is looked at.
pub const POLL_PAUSE: Duration = Duration::from_millis(5);
/// How long after a record the ends of the partitions are asked for often, µs.
pub const BUSY_US: u64 = 1_000_000;
/// Between two asks where records come, µs: two small requests each.
pub const BUSY_ASK_US: u64 = 10_000;
/// Between two asks where none come, µs: a watermark is as old as that, and the brokers have 40 small requests a second.
pub const IDLE_ASK_US: u64 = 50_000;
/// When the follower looks again by itself, µs; the thread that reads wakes it before.
pub const AWAIT_US: u64 = 100_000;
/// Rows that are remembered to tell a duplicate from another record with the same version: 8 MiB, and what a producer that
/// retries may have under way.
pub const RECENT_ROWS: usize = 65_536;
/// How long the reading of an account, or of a checkpoint's last records, may go without a record.
pub const SILENCE: Duration = Duration::from_secs(10);
/// Records that `florin ledger check` looks at: a second's.
pub const RECORDS_LOOKED_AT: u64 = 10_000;

// Publishing.

/// How long brokers may take for a record, before it is told that they do not take it: an election, and a disk that is slow.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it is waited for room where as many records as the client library keeps are under way.
pub const PUBLISH_PAUSE: Duration = Duration::from_millis(20);

// The group.

/// How long a member that says nothing belongs to the group, ms: the least that brokers allow unless told otherwise. Callers do not
/// wait for it.
pub const GROUP_SESSION_MS: u32 = 6_000;
/// Between two signs of life of a member, ms: five may be lost.
pub const GROUP_HEARTBEAT_MS: u32 = 1_000;
/// How often a member may be told that another with its address has joined until it believes it: brokers that stood still say so of one
/// and the same, once or twice.
pub const GROUP_FENCED_MAX: u32 = 3;
/// How long after it was told so once that counts: nodes with one address tell each other within a sign of life or two.
pub const GROUP_FENCED_WITHIN: Duration = Duration::from_secs(60);
/// Kilobytes of records that a member may have been sent before it has said that it reads none, the least that the library takes.
pub const GROUP_FETCH_KILOBYTES: u32 = 1;
