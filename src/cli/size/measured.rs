//! What `florin size` reckons with: each number with the command that measures it again, and where it comes from.

/// Resident bytes of a process without accounts, all its buffers included: `process_resident_memory_bytes` of a node with an empty ledger.
pub(super) const PROCESS_BYTES: f64 = 32.0 * 1024.0 * 1024.0;
/// Of an account, whatever it holds: its places in the index, its balance's head, the head of its statistics.
/// `florin_table_part_bytes` of `/metrics` (index, balances, headers), divided by `florin_accounts`.
pub(super) const ACCOUNT_BYTES: f64 = 80.0;
/// Of each asset that an account holds: its row of the balance, and its totals of the lifetime. The same (balances, lifetimes, slack), for
/// accounts of one, two and four assets.
pub(super) const ASSET_BYTES: f64 = 48.0;
/// Of each hour or day in which something happened to an asset of an account's, of those that are kept. The same (buckets).
pub(super) const BUCKET_BYTES: f64 = 16.0;
/// What is resident, of what those add up to: blocks that are free, an index that grows, memory that the allocator keeps.
/// `cargo run --release --example footprint`: 356 bytes an account of two assets and ten buckets, the process included, where 336 are added
/// up; and a tenth for what a table that grows keeps free.
pub(super) const RESIDENT_RATIO: f64 = 1.1;

/// A shard's CPU time for one balance, µs, with 32 requests under way on each of 64 connections over TCP: docs/performance.md,
/// `make peers`, the slower of the days that it names.
pub(super) const PIPELINED_US: f64 = 0.21;
/// The same with one request under way on each of 64 connections.
pub(super) const ONE_BY_ONE_US: f64 = 6.0;
/// The same as JSON over HTTP: docs/performance.md, `make compare`.
pub(super) const HTTP_US: f64 = 7.2;
/// Of a shard's time, what may be in use on average so that bursts find room: beyond it waiting grows faster than load.
pub(super) const UTILISATION: f64 = 0.6;

/// Rows of an SQLite ledger that a shard loads in a second: `cargo run --release --example feed_speed` and `--example footprint`, the slower of
/// the two (1,191,169 rows/s), which load two shards.
pub(super) const LOADED_ROWS_PER_S: f64 = 595_000.0;
/// Accounts that a shard takes in from a checkpoint in a second: `cargo run --release --example restart_speed`; here by a build for tests, of
/// accounts with one asset.
pub(super) const RESTORED_ACCOUNTS_PER_S: f64 = 1_500_000.0;
/// A checkpoint's bytes, of the table's: the log line of one that was made, and `florin_table_part_bytes`.
pub(super) const CHECKPOINT_RATIO: f64 = 1.0;
