//! Resident bytes an account: fills one shard's table as the feed would and reads the process's own RSS.
//!
//! `cargo run --release --example footprint [ACCOUNTS]`: two assets and ten transactions each in the last 30 days.

use florin::ledger::{Horizon, Kind, Transaction};
use florin::shard::table::Table;
use florin_schema::{Asset, UserId, Version};

const DAY_US: i64 = 86_400_000_000;
const NOW_US: i64 = 1_795_320_306_000_000;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs is mounted");
    let pages: usize =
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm has a second number");
    pages * rustix::param::page_size()
}

fn main() {
    let accounts: u64 =
        std::env::args().nth(1).map_or(1_000_000, |text| text.parse().expect("a number of accounts"));
    let assets = ["COIN", "USD"].map(|code| Asset::parse(code.as_bytes()).expect("a legal code"));
    let before = resident_bytes();
    let started = std::time::Instant::now();
    let mut table = Table::new();
    let horizon = Horizon::at(NOW_US);
    for n in 0..10u64 {
        for user in 0..accounts {
            let row = Transaction {
                user_id: UserId::new(user).expect("a legal id"),
                version: Version(n + 1),
                asset: assets[n as usize % 2],
                kind: [Kind::Recharge, Kind::GiftSent, Kind::Withdrawal][(n + user) as usize % 3],
                amount: 100,
                // Each on a day of its own, so that no two share a bucket: the worst case.
                occurred_at_us: NOW_US - (28 - 3 * n as i64 + user as i64 % 2) * DAY_US,
            };
            table.apply(&row, &horizon);
        }
    }
    let rate = 10.0 * accounts as f64 / started.elapsed().as_secs_f64();
    let resident = resident_bytes() - before;
    println!(
        "{accounts} accounts: {} bytes each resident, {} by the table's own count; {rate:.0} rows/s",
        resident / accounts as usize,
        table.bytes() / accounts as usize
    );
}
