//! `florin size`: what a node takes, reckoned from what was measured (`measured.rs`).

mod measured;

use clap::Args;

use super::output::{Align, Table, say};
use crate::limits::SHARDS_MAX;
use crate::numbers::grouped;

/// Flags of `florin size`.
#[derive(Args, Clone, Debug)]
pub struct SizeArgs {
    /// Accounts that the ledger has, or will have
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    accounts: u64,
    /// Assets that an account holds on average
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    assets: u64,
    /// Hours of the last day, and days of the last month, in which something happens to one asset of an account
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=55))]
    active: u64,
    /// Transactions in the ledger [default: 20 for each account]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000_000))]
    transactions: Option<u64>,
    /// Requests a second, at the worst time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    qps: u64,
}

/// What callers do, and what one of their requests costs a shard, µs.
const WAYS: [(&str, f64); 3] = [
    ("frames, many under way", measured::PIPELINED_US),
    ("frames, one by one", measured::ONE_BY_ONE_US),
    ("JSON over HTTP", measured::HTTP_US),
];

/// Runs `florin size`.
pub(super) fn run(args: &SizeArgs) {
    say(&describe(args));
}

fn describe(args: &SizeArgs) -> String {
    let SizeArgs { accounts, assets, active, qps, .. } = *args;
    let rows = args.transactions.unwrap_or(accounts.saturating_mul(20));
    let account = account_bytes(assets, active);
    let table = accounts as f64 * account;
    let memory = measured::PROCESS_BYTES + table * measured::RESIDENT_RATIO;
    let mut needs = Table::new(&[
        ("callers send", Align::Left),
        ("shards", Align::Right),
        ("load", Align::Right),
        ("restart from a checkpoint", Align::Right),
    ]);
    for (way, us) in WAYS {
        let shards = shards(qps, us);
        let load = rows as f64 / measured::LOADED_ROWS_PER_S / shards as f64;
        let restart = accounts as f64 / measured::RESTORED_ACCOUNTS_PER_S / shards as f64;
        let count = if shards > u64::from(SHARDS_MAX) {
            format!("{} (several nodes: one has {SHARDS_MAX} at most)", grouped(shards))
        } else {
            grouped(shards)
        };
        needs.row([way.to_owned(), count, seconds(load), seconds(restart)]);
    }
    let Checkpoints { each, all } = checkpoints(table);
    format!(
        "{} accounts of {assets} assets, each active in {active} hours or days; {} transactions; {} requests a second\n\n\
         memory      {}   ({account:.0} bytes an account, and what is free)\n\
         checkpoints {}   ({} each; the newest two, and the one that is being made)\n\n\
         {}\n\n\
         Each shard has a core of its own, busy for {:.0} % of its time; give the node one more core for everything else. Load is a start \
         without a checkpoint, of an SQLite ledger.\n\
         Reckoned from measurements of other machines: docs/capacity.md says which, and how to measure yours.",
        grouped(accounts),
        grouped(rows),
        grouped(qps),
        bytes(memory),
        bytes(all),
        bytes(each),
        needs.render(),
        measured::UTILISATION * 100.0,
    )
}

fn account_bytes(assets: u64, active: u64) -> f64 {
    let of_asset = measured::ASSET_BYTES + active as f64 * measured::BUCKET_BYTES;
    measured::ACCOUNT_BYTES + assets as f64 * of_asset
}

/// What checkpoints take on the disk.
struct Checkpoints {
    each: f64,
    all: f64,
}

fn checkpoints(table: f64) -> Checkpoints {
    let each = table * measured::CHECKPOINT_RATIO;
    Checkpoints { each, all: 3.0 * each }
}

/// Shards for so many requests a second that cost `us` each.
fn shards(qps: u64, us: f64) -> u64 {
    (qps as f64 * us / 1e6 / measured::UTILISATION).ceil().max(1.0) as u64
}

fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 4] = ["MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes / 1024.0 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

fn seconds(seconds: f64) -> String {
    match seconds {
        ..1.0 => "under 1 s".to_owned(),
        1.0..120.0 => format!("{seconds:.0} s"),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was measured as a whole is what the parts add up to, and somewhat more: nobody is told to buy too little.
    #[test]
    fn the_footprint_that_was_measured_is_reckoned() {
        let reckoned = account_bytes(2, 5) * measured::RESIDENT_RATIO + measured::PROCESS_BYTES / 1e6;
        assert!((1.0..1.15).contains(&(reckoned / 356.0)), "{reckoned}");
    }

    #[test]
    fn a_load_is_told_with_what_it_takes() {
        let args = SizeArgs { accounts: 1_000_000, assets: 2, active: 5, transactions: None, qps: 1_000_000 };
        let told = describe(&args);
        assert!(
            told.starts_with("1,000,000 accounts of 2 assets") && told.contains("20,000,000 transactions"),
            "{told}"
        );
        let shards = |way: &str| {
            let line = told.lines().find(|line| line.starts_with(way)).unwrap();
            line[way.len()..].split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!(
            (shards("frames, many under way"), shards("frames, one by one"), shards("JSON over HTTP")),
            ("1".into(), "10".into(), "12".into())
        );
        assert_eq!(seconds(0.2) + &bytes(3e9) + &seconds(600.0), "under 1 s2.8 GiB10 min");
    }
}
