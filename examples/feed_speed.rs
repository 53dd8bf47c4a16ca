//! How fast the feed is on this machine: `cargo run --release --example feed_speed [ROWS]`.
//!
//! Prints rows a second of the initial load into two shards, applying included; and how long after a commit its rows
//! are applied, and the watermark past it, with a commit every 5 to 10 ms.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use florin::cli::generate::{GenerateOptions, Platform, generate};
use florin::cli::progress::Silent;
use florin::clock::Clock;
use florin::feed::{Feed, FeedState, Outlet, link};
use florin::mesh::Parking;
use florin::shard::{Park, Shard, ShardMetrics, ShardSetup, mesh};
use florin::sources::Ledger;
use florin_schema::ShardIndex;
use florin_sqlite::Writer;

const SHARDS: u16 = 2;
const COMMITS: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let rows: u64 = std::env::args().nth(1).map_or(Ok(2_000_000), |rows| rows.parse())?;
    let directory = tempfile::tempdir()?;
    let ledger = directory.path().join("ledger.db");
    let clock = Clock::new(None);
    let until_us = clock.now().wall_us;
    let options = GenerateOptions {
        ledger: ledger.clone().into(),
        users: 16_384,
        transactions: rows,
        seed: 7,
        until_us,
    };
    let platform = generate(&options, &mut Silent)?;

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let parkings = [(); SHARDS as usize].map(|()| Arc::new(Parking::new()));
        let mut outlets = Vec::new();
        let mut metrics = Vec::new();
        for ((index, peers), parking) in (0..SHARDS).zip(mesh(&parkings)).zip(parkings) {
            let sleeper: Arc<OnceLock<Thread>> = Arc::default();
            let woken = Arc::clone(&sleeper);
            let waker = Arc::new(move || {
                if let Some(thread) = woken.get() {
                    thread.unpark();
                }
            });
            let (outlet, feed) = link(Arc::clone(&parking), waker);
            let counters = Arc::new(ShardMetrics::default());
            outlets.push(outlet);
            metrics.push(Arc::clone(&counters));
            let (index, alone) = (ShardIndex(index), ShardSetup::alone(parking, feed));
            let setup = ShardSetup { index, shards: SHARDS, peers, metrics: counters, ..alone };
            let stop = &stop;
            let thread = scope.spawn(move || turns(Shard::new(setup), clock, stop));
            sleeper.set(thread.thread().clone()).expect("set once");
        }
        let result = load(&ledger, clock, outlets, rows, &metrics)
            .and_then(|_feed| follow(&ledger, platform, clock, &metrics));
        stop.store(true, Relaxed);
        result
    })
}

fn load(
    ledger: &Path,
    clock: Clock,
    outlets: Vec<Outlet>,
    rows: u64,
    metrics: &[Arc<ShardMetrics>],
) -> Result<Feed, Box<dyn Error>> {
    let begun = Instant::now();
    let feed = Feed::spawn(&Ledger::open(&ledger.to_owned().into())?, clock, outlets, None)?;
    while feed.status().state() != FeedState::Following {
        thread::sleep(Duration::from_millis(1));
    }
    let seconds = begun.elapsed().as_secs_f64();
    if applied(metrics) != rows {
        return Err("the feed follows, but not every row is applied".into());
    }
    println!(
        "load: {:.0} rows/s over {SHARDS} shards ({rows} rows in {seconds:.2} s)",
        rows as f64 / seconds
    );
    Ok(feed)
}

fn applied(metrics: &[Arc<ShardMetrics>]) -> u64 {
    metrics.iter().map(|metrics| metrics.applied.get()).sum()
}

/// A driver without sockets.
fn turns(mut shard: Shard, clock: Clock, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        shard.begin_turn(clock.now());
        shard.work();
        shard.end_turn(clock.monotonic_us());
        if shard.park() != Park::Busy {
            // Not for ever, so that the metrics show the watermark.
            thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// Commits, and waits for each until it is seen.
fn follow(
    ledger: &Path,
    mut platform: Platform,
    clock: Clock,
    metrics: &[Arc<ShardMetrics>],
) -> Result<(), Box<dyn Error>> {
    let mut writer = Writer::open(ledger)?;
    let mut expected = applied(metrics);
    let (mut visible_ms, mut covered_ms) = (Vec::new(), Vec::new());
    for at in 0..COMMITS {
        let rows: Vec<_> = platform.next_event(clock.now().wall_us).rows().collect();
        writer.append(&rows)?;
        expected += rows.len() as u64;
        let (committed, committed_us) = (Instant::now(), clock.now().wall_us);
        wait(|| applied(metrics) == expected);
        visible_ms.push(committed.elapsed().as_secs_f64() * 1e3);
        wait(|| metrics.iter().all(|metrics| metrics.watermark_us.get() >= committed_us));
        covered_ms.push(committed.elapsed().as_secs_f64() * 1e3);
        // Commits fall at every phase of the feed's interval.
        thread::sleep(Duration::from_micros(at as u64 * 4_999 % 5_000));
    }
    for (what, mut times) in [("commit applied", visible_ms), ("watermark past it", covered_ms)] {
        times.sort_by(f64::total_cmp);
        println!("{what}: median {:.1} ms, p99 {:.1} ms", times[COMMITS / 2], times[COMMITS * 99 / 100]);
    }
    Ok(())
}

fn wait(done: impl Fn() -> bool) {
    while !done() {
        thread::sleep(Duration::from_micros(100));
    }
}
