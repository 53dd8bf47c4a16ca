//! Every bound of a ledger in a PostgreSQL database, and why it is what it is. What a node has whatever its ledger is, stands in
//! [`florin_core::limits`].

use std::time::Duration;

// A connection.

/// How long a connection may take, from its first packet to the server's readiness: a network's worst retries, and a login.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer to a query may take that is answered at once.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that is silent for so long is asked whether it is still there; after [`KEEPALIVE_RETRIES`] silent answers it is not:
/// half a minute, in which nothing is lost, for the feed has its own and shorter limit.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// Between two such asks.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Asks that may stay without an answer.
pub const KEEPALIVE_RETRIES: u32 = 3;
/// The longest message that is taken for one: a row of a ledger is some hundred bytes, an error some thousand.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Room for what a read brings: what a socket's buffer holds.
pub const READ_BYTES: usize = 256 << 10;
/// Bytes of a file of passwords that are read: some ten thousand lines.
pub const PASSWORD_FILE_BYTES_MAX: usize = 1 << 20;
/// Reading it, and a key: a file is there at once; a FIFO may have somebody who writes it.
pub const PASSWORD_FILE_READ: Duration = Duration::from_secs(5);
/// A private key in PEM.
pub const KEY_BYTES_MAX: usize = 1 << 16;
/// Bytes of a name that PostgreSQL keeps; a longer one would be cut in silence.
pub const NAME_BYTES_MAX: usize = 63;
/// The most columns that a table of PostgreSQL can have.
pub const COLUMNS_MAX: u16 = 1_600;

// Loading.

/// How long the making of a slot may take: it waits for every transaction that writes and is open.
pub const SLOT_TIMEOUT: Duration = Duration::from_secs(3_600);
/// After how long it is said whom it waits for: before somebody wonders.
pub const SLOT_SILENCE: Duration = Duration::from_secs(3);
/// Pages of a range: 4 MiB, some 40,000 rows; large enough that beginning a COPY costs nothing.
pub const RANGE_PAGES: u64 = 512;
/// Ranges that are begun and not yet taken: memory is bounded by as many times 3 MiB.
pub const RANGES_AHEAD: usize = 8;
/// Sessions that copy: more would outrun the one thread that reads them.
pub const COPY_SESSIONS: usize = 2;
/// How long a COPY may send nothing: longer than the coldest disk takes for a range.
pub const COPY_SILENCE: Duration = Duration::from_secs(60);
/// Rows that are held back at most: 512 MiB. A table whose pages are in no order at all is to be read by its index.
pub const HELD_ROWS_MAX: usize = 4_194_304;
/// For how long it is asked whether a checkpoint can be gone on from, where the server does not say so: it may be about to start, or
/// hold a connection of before. After it everything is loaded.
pub const RESUME_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two such asks.
pub const RESUME_PAUSE: Duration = Duration::from_millis(100);

// Following.

/// The first pause before a server is tried again; it doubles with each failure.
pub const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause before a server is tried again that has failed time after time.
pub const PAUSE_MAX: Duration = Duration::from_secs(5);
/// For how long messages are let come together where they come one right after the other: a fifteenth of what a commit may take to be
/// seen. Busier servers than 5,000 messages a second cost no more wake-ups than that.
pub const GATHER: Duration = Duration::from_micros(200);
/// A wait for the next message that is no longer than this is none.
pub const GATHER_WITHIN: Duration = Duration::from_micros(100);
/// Such waits in a row from which on it is done: more than the messages of a usual commit.
pub const GATHER_AFTER: u32 = 16;
/// How often the server hears what was applied: it keeps its log for so much longer.
pub const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How often it is asked to answer that.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// After how long without a word the connection is given up: three such asks without an answer.
pub const STREAM_SILENCE: Duration = Duration::from_secs(20);
/// Events that lie between the two threads: with batches of 4,096 rows, 16 MiB.
pub const EVENTS_MAX: usize = 64;
/// Rows that were delivered last and are remembered, to tell another history from the same.
pub const JOURNAL_ROWS_MAX: usize = 262_144;
/// Between two asks while nothing is committed, µs: an idle node costs its server next to nothing, and its watermark is at
/// most so much older than the network makes it.
pub const IDLE_POLL_US: u64 = 25_000;
/// For how long after a row asks come as often as from any feed, µs: one commit is seldom alone.
pub const BUSY_US: u64 = 1_000_000;
/// How soon to look again while the server is waited for, µs. What comes wakes the feed sooner.
pub const AWAIT_US: u64 = 5_000;
/// After a look at the catalogues, how many times as long as it took until the next: the server spends a tenth of one of its cores on
/// them at most, however many partitions there are.
pub const LOOK_PAUSE: u32 = 9;
/// And the longest such pause: a watermark is at most so much older for it.
pub const LOOK_PAUSE_MAX: Duration = Duration::from_millis(100);
/// How often is looked at least: what an administrator sets moves no log.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Within which time a server has counted what its sessions have changed: an idle session of PostgreSQL tells within ten seconds.
pub const COUNTED_WITHIN: Duration = Duration::from_secs(12);
/// For how long it is tried to give a slot back that nothing is read from any more.
pub const DROP_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries: the server notices soon that a connection is closed.
pub const DROP_PAUSE: Duration = Duration::from_millis(50);
/// How often the slot is looked at: a look costs the server a query.
pub const WATCH_EVERY: Duration = Duration::from_secs(5);
/// Log that is kept for the slot from which a warning is given, bytes: 64 of PostgreSQL's segments.
pub const RETAINED_WARN_BYTES: u64 = 1 << 30;
/// How often a page is read again that has not a row yet that the stream had: a commit is in the log before it is visible.
pub const VISIBLE_TRIES: u32 = 200;
/// How often it is asked whether a commit is visible: for a minute.
pub const COMMIT_TRIES: u32 = 6_000;
/// How long between two such reads.
pub const VISIBLE_PAUSE: Duration = Duration::from_millis(10);

// Writing.

/// Times that a batch is begun anew because somebody added the same id or version meanwhile.
pub const APPEND_TRIES_MAX: u32 = 3;
/// For a commit that has been sent: longer than a disk takes, also where it waits for a standby.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// For how long a writer asks what became of a commit whose answer was lost. A server that restarts is back within it, and a
/// caller's patience ([`florin_core::limits::CALL`]) lasts for this and two commits.
pub const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two such asks.
pub const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// How long a short question of a bulk's may take: its server is busy with the bulk.
pub const BULK_ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what takes as long as there are rows may: a billion of them.
pub const BULK_WORK_TIMEOUT: Duration = Duration::from_secs(6 * 3_600);
/// What a bulk sends at once, bytes: what a socket's buffer holds.
pub const BULK_PIECE_BYTES: usize = 256 << 10;

// `florin ledger check`.

/// Rows that are looked at for words and signs.
pub const ROWS_LOOKED_AT: u32 = 100_000;
/// Accounts that are looked at for gaps.
pub const ACCOUNTS_LOOKED_AT: u32 = 1_000;
/// How long a look at rows may take, on a table without an index.
pub const LOOK_TIMEOUT: Duration = Duration::from_secs(120);

// A server of one's own, for demonstrations and tests.

/// How long such a server may take to take connections, on a busy machine.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to end: it writes what it has in memory.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at whether it has.
pub const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Where its port lies: below those that the kernel gives to outgoing connections.
pub const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// Ports that are tried where another process takes one in between.
pub const PORTS_TRIED: u32 = 5;
/// How long the audit waits for a thousand rows: they are read by an index, and whoever follows does not wait for them.
pub const SCAN_PATIENCE: Duration = Duration::from_secs(60);
/// Rows that are read at once for whoever copies them: by an index, in some ms.
pub const EXPORT_ROWS: usize = 4_096;
/// How long they may take.
pub const EXPORT_TIMEOUT: Duration = Duration::from_secs(60);
