//! Resident bytes an account of a whole node: `cargo run --release --example footprint [ACCOUNTS]`.
//!
//! Makes a ledger in which each account has two assets and ten transactions within the last 30 days, each on a day of
//! its own (the worst case: no two share a bucket), in the order of time; serves it on two shards in a process of its
//! own, and prints what that process has resident, all included.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use florin::node::{Node, NodeConfig};

mod rows;

const ROWS_PER_ACCOUNT: u64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("--serve"), Some(ledger)) => serve(ledger.into()),
        (accounts, _) => {
            let accounts = accounts.map_or(Ok(1_000_000), str::parse)?;
            let directory = tempfile::tempdir()?;
            let ledger = directory.path().join("ledger.db");
            fill(&ledger, accounts)?;
            let status = Command::new(std::env::current_exe()?).arg("--serve").arg(&ledger).status()?;
            if status.success() { Ok(()) } else { Err(format!("the node ended with {status}").into()) }
        }
    }
}

fn fill(ledger: &Path, accounts: u64) -> Result<(), rusqlite::Error> {
    rows::fill(
        ledger,
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1 * ?2)
         INSERT INTO transactions SELECT i + 1, printf('%036d', i), i % ?1, i / ?1 + 1,
             CASE i / ?1 % 2 WHEN 0 THEN 'COIN' ELSE 'USD' END, (i + i / ?1) % 3 * 2 + 1, 100,
             (unixepoch() - 86400 * (28 - i / ?1 * 3)) * 1000000
         FROM n",
        [accounts, ROWS_PER_ACCOUNT],
    )
}

fn serve(ledger: PathBuf) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let node = Node::start(NodeConfig { shards: Some(2), shard_listen: None, ..NodeConfig::local(ledger) })?;
    while !node.obstacles().is_empty() {
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let sum = |count: fn(&florin::shard::ShardMetrics) -> u64| -> u64 {
        node.shards().iter().map(|shard| count(&shard.metrics)).sum()
    };
    let (accounts, applied, table) =
        (sum(|m| m.accounts.get()), sum(|m| m.applied.get()), sum(|m| m.table_bytes.get()));
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("statm has a second number")?.parse()?;
    let resident = pages * rustix::param::page_size() as u64;
    println!(
        "{accounts} accounts: {} bytes each resident, {} of them the tables",
        resident / accounts,
        table / accounts
    );
    println!("loaded {applied} rows in {seconds:.1} s: {:.0} rows/s", applied as f64 / seconds);
    Ok(())
}
