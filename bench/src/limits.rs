//! Every bound of the generator, and why it is what it is.

use std::time::Duration;

/// Keys drawn before a run, for each thread; then they come again from the start. 8 bytes each, read in sequence, so
/// they cost nothing to draw and the pre-fetcher hides them; one million users are seen nearly all at four million draws.
pub const KEYS_DRAWN: usize = 1 << 22;
/// Kinds drawn before a run where the mix has several: enough that no pattern aligns with the connections.
pub const KINDS_DRAWN: usize = 1 << 16;
/// Requests in flight on one connection: what a slot's number in a request id can tell apart.
pub const DEPTH_MAX: usize = 1 << 16;
/// Connections of one thread: a completion's token has room for more, but a ring's table of files should stay small.
pub const CONNECTIONS_MAX: usize = 1 << 15;
/// Bytes of one provided buffer: the replies of 32 pipelined balances (32 × 112 bytes) in one piece.
pub const BUFFER_BYTES: u32 = 4_096;
/// Provided buffers at least: 1 MiB, which stays in a second-level cache.
pub const BUFFERS_MIN: usize = 256;
/// Provided buffers at most: 16 MiB; a burst of more arrivals ends multishot receives, which are armed again.
pub const BUFFERS_MAX: usize = 4_096;
/// Operations that can be queued before one has to submit.
pub const SUBMISSIONS: u32 = 1_024;
/// Completions that fit; the kernel keeps the others.
pub const COMPLETIONS: u32 = 16_384;
/// Completions handled before due arrivals are looked at again: above it a burst would delay the schedule.
pub const COMPLETIONS_PER_TURN: usize = 1_024;
/// A reply longer than this is no reply: 1,024 balances of 16 assets in JSON stay far below.
pub const REPLY_BYTES_MAX: usize = 4 << 20;
/// A connection's unanswered requests of fewer bytes than this always fit into its socket's buffers, so that a send
/// completes while it is submitted (Linux starts with 16 KiB of send buffer).
pub const INLINE_SEND_BYTES: usize = 8_192;
/// How long a thread sleeps at most without looking at the time and the flag that ends it.
pub const TICK_NS: u64 = 20_000_000;
/// How long an open loop goes on sending what was due before the end: without it the last few arrivals would count as
/// unsent, one in ten thousand of a short run, which is all that an objective allows.
pub const CATCH_UP_NS: u64 = 100_000_000;
/// How long replies may still come after the last request; what is missing then counts as lost.
pub const DRAIN_NS: u64 = 2_000_000_000;
/// Arrivals that may wait for a free connection, for each thread: one second at 100,000 a second. More are not sent,
/// and counted.
pub const BACKLOG_MAX: usize = 100_000;
/// The longest latency that a histogram tells apart: longer ones count as this.
pub const LATENCY_MAX_NS: u64 = 100_000_000_000;
/// Decimal digits that a latency keeps.
pub const LATENCY_DIGITS: u8 = 3;
/// A generator's thread that was on its CPU for this share of the time may have been the bottleneck.
pub const BUSY_SHARE: f64 = 0.95;
/// An open loop that sends the 99th percentile later than this after it was due may have been the bottleneck.
pub const LAG_MAX_NS: u64 = 1_000_000;
/// A measurement during which somebody else took more than this of a CPU that the server or the generator was pinned to
/// says more about them. The clock's ticks, by which it is counted, are right to some hundredths of a CPU in a second.
pub const FOREIGN_CPU_MAX: f64 = 0.12;
/// How many of those who took CPU meanwhile are named: a stray server is among the first.
pub const STRANGERS_NAMED_MAX: usize = 3;
/// How often a comparison measures the same thing again because of somebody else.
pub const DISTURBED_MAX: u32 = 4;
/// How often the server is sampled and progress is shown.
pub const INTERVAL_MS: u64 = 500;
/// How long a peer may take, after it was loaded, until it has put what it holds in order: memcached takes some seconds a million items.
pub const REST_SECONDS_MAX: u64 = 120;
/// A peer that takes less of a CPU than this works no more: its timers alone take some thousandths.
pub const REST_CPU_MAX: f64 = 0.01;
/// How long a server that the bench starts may take until it answers: an import of a hundred million rows.
pub const START_SECONDS_MAX: u64 = 300;
/// How long an interval of a measurement is, ns.
pub const RECORD_INTERVAL_NS: u64 = 1_000_000_000;
/// How long the kernel may take to let go of cancelled operations.
pub const CANCEL_TIME: Duration = Duration::from_secs(1);
/// Header lines that an answer may have.
pub const HEADERS_MAX: usize = 64;
/// Keys of one MGET or one `get`: as many as common clients put into one.
pub const KEYS_PER_ASK_MAX: u32 = 64;
/// How often a server that is not there yet is asked again.
pub const START_POLL: Duration = Duration::from_millis(20);
/// Where free ports in a row are looked for: below those that the kernel gives to outgoing connections.
pub const PORT_FROM: u16 = 10_000;
/// Where that ends.
pub const PORT_BELOW: u16 = 30_000;
/// Users whose assets are counted, to learn how large a balance is.
pub const SAMPLED_USERS: usize = 10_000;
/// Keys that are loaded before their answers are read.
pub const LOAD_BATCH: usize = 512;
/// How long one attempt to reach a server may take.
pub const PROBE_TIME: Duration = Duration::from_secs(2);
/// Bytes of a file of authorities: those of all that a host trusts have some 200 KiB.
pub const AUTHORITIES_BYTES_MAX: usize = 1_024 * 1_024;
/// Pings in one write of those that keep a calm server awake.
pub const STIR_PINGS: usize = 256;
/// How often a calm shard that is alone is woken: a hundredth of what 20,000 requests cost it in that time under valgrind. Where they
/// take turns, each is slower by as much, and woken as much less often.
pub const CALM_PAUSE: Duration = Duration::from_millis(20);
/// By how much a climb raises the rate before it has seen the objective break.
pub const CLIMB_STRIDE: f64 = 1.5;
/// How often the rung that a climb ends at must have held.
pub const HOLDS_MIN: usize = 2;
/// How far from the wanted share of CPU a load is near enough, in CPUs.
pub const CASE_TOLERANCE: f64 = 0.015;
/// Measurements that the search for a load may take.
pub const CASE_TRIES_MAX: usize = 5;
/// Of its CPUs, the share from which a server counts as full.
pub const FULL_SHARE: f64 = 0.9;
/// Requests before the counted ones under valgrind: so that first-time costs are not counted.
pub const CALLGRIND_WARMUP: u64 = 2_000;
/// Under valgrind a server is some fifty times slower: what a hundred thousand requests may take.
pub const CALLGRIND_TIME: Duration = Duration::from_secs(120);
/// Keys drawn for each measurement: each of 16,384 users comes 16 times, and drawing them takes a few milliseconds.
pub const COMPARE_KEYS_DRAWN: usize = 1 << 18;
/// Where there is no terminal, a line for so many measurements.
pub const LINE_EVERY: u64 = 25;
/// Assets of the average user where no ledger says.
pub const ASSETS_USUAL: usize = 2;
/// A shard that is busy for less than this share of the window has waited for its callers.
pub const SCALE_BUSY_MIN: f64 = 0.9;
/// What a curve is a prediction for.
pub const PREDICTED_SHARDS: u16 = 40;
/// Numbers of shards that a law is fitted to at least: as many as it has constants.
pub const POINTS_MIN: usize = 3;
/// By how many bytes a record of TLS 1.3 is longer than what it holds: its head, its kind, its seal.
pub const TLS_RECORD_BYTES: usize = 5 + 1 + 16;
/// What a principal whose requests are bounded may ask at once, as a share of what it may ask in a second: a hundredth, so that its
/// burst is no part of what it gets in a window.
pub const QUOTA_BURSTS_PER_S: u32 = 100;
/// The most that TLS may cost, as a multiple of the CPU that the same takes in plain: un-pipelined.
pub const TLS_CPU_MOST: f64 = 1.2;
/// The same where several questions are in flight on a connection.
pub const TLS_CPU_MOST_DEEP: f64 = 1.3;
/// The same of a token, which is shown once a connection: nothing, but for what two runs of the same thing differ by.
pub const TOKEN_CPU_MOST: f64 = 1.02;
/// For how long half a handshake is left as it is: half of what a server allows.
pub const HALF_LIFE: Duration = Duration::from_secs(5);
/// From how many of this host's addresses half handshakes come: a server takes 512 of each.
pub const HALF_ADDRESSES: usize = 4;
/// Questions in flight on each connection of one who asks too often.
pub const GREEDY_DEPTH: usize = 4;
/// For so long it asks at most, should nobody end it.
pub const GREEDY_MOST: Duration = Duration::from_secs(600);
/// The most that others' 99th percentile may be beside handshakes, as a multiple of what it is without.
pub const ISOLATED_P99_MOST: f64 = 1.2;
/// The same beside one who asks many times as often as it may.
pub const ISOLATED_P99_MOST_OF_FLOODED: f64 = 2.0;
/// Of what others ask, the share that is served at least beside any trouble.
pub const ISOLATED_SERVED_LEAST: f64 = 0.999;
/// By how much what a bounded caller gets may differ from what it may have.
pub const QUOTA_TOLERANCE: f64 = 0.05;

/// Steps of a round of a chase through memory, of all its chains together: 10 ms where a line takes 10 ns, and four times through 16 MiB.
pub const CHASE_STEPS: usize = 1 << 20;

/// Of these the median counts: whoever else runs for a moment is in one of them.
pub const CHASE_ROUNDS: usize = 5;
