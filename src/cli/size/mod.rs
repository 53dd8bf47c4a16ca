//! `florin size`: what a node takes, reckoned from what was measured (`measured.rs`).

mod measured;

use std::ops::RangeInclusive;

use clap::Args;

use super::output::{Align, Table, say};
use crate::limits::SHARDS_MAX;
use crate::numbers::{counted, grouped};

/// Flags of `florin size`.
#[derive(Args, Clone, Debug)]
pub struct SizeArgs {
    /// Accounts that the ledger has, or will have, as 20000000 or 20,000,000
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = |text: &str| count(text, 1..=1_000_000_000_000))]
    accounts: u64,
    /// Assets that an account holds on average, as 2 or 1.5
    #[arg(long, value_name = "N", default_value_t = 2.0, allow_negative_numbers = true, value_parser = assets)]
    assets: f64,
    /// Hours of the last day, and days of the last month, in which something happens to one asset of an account: 54 at most
    #[arg(long, value_name = "N", default_value_t = 5, allow_negative_numbers = true, value_parser = |text: &str| count(text, 0..=54))]
    active: u64,
    /// Transactions in the ledger [default: 20 for each account]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = |text: &str| count(text, 1..=1_000_000_000_000_000))]
    transactions: Option<u64>,
    /// Requests a second, at the worst time
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = |text: &str| count(text, 1..=1_000_000_000_000))]
    qps: u64,
}

/// A whole number, whose digits may be grouped by three.
fn count(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = [',', '_'].iter().find(|sign| text.contains(**sign)).map_or_else(
        || text.parse().ok(),
        |sign| {
            let mut groups = text.split(*sign);
            let is_first = groups.next().is_some_and(|first| (1..=3).contains(&first.len()));
            let is_grouped = is_first && groups.all(|group| group.len() == 3);
            is_grouped.then(|| text.replace(*sign, "").parse().ok()).flatten()
        },
    );
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        let [first, last] = [*range.start(), *range.end()].map(grouped);
        format!("expected a whole number from {first} to {last}, as 20000000, 20_000_000 or 20,000,000")
    })
}

fn assets(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (1.0..=64.0).contains(number));
    number.ok_or_else(|| "expected a number from 1 to 64, as 2 or 1.5".to_owned())
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
        ("nodes", Align::Right),
        ("shards of each", Align::Right),
        ("load", Align::Right),
        ("restart from a checkpoint", Align::Right),
    ]);
    let mut has_several = false;
    for (way, us) in WAYS {
        let Nodes { nodes, shards } = nodes(qps, us);
        // Each node loads the whole ledger, by its own shards alone.
        let load = rows as f64 / measured::LOADED_ROWS_PER_S / shards as f64;
        let restart = accounts as f64 / measured::RESTORED_ACCOUNTS_PER_S / shards as f64;
        has_several |= nodes > 1;
        needs.row([way.to_owned(), grouped(nodes), grouped(shards), seconds(load), seconds(restart)]);
    }
    let several = if has_several {
        format!(
            "A node has {SHARDS_MAX} shards at most. Several follow one ledger; memory and checkpoints are each one's. "
        )
    } else {
        String::new()
    };
    let Checkpoints { each, all } = checkpoints(table);
    format!(
        "{} of {assets} {}, each active in {}; {}; {} a second\n\n\
         memory      {}   ({account:.0} bytes an account, and what is free)\n\
         checkpoints {}   ({} each; the newest two, and the one that is being made)\n\n\
         {}\n\n\
         {several}Each shard has a core of its own, busy for {:.0} % of its time; give the node one more core for everything else. Load is \
         a start without a checkpoint, of an SQLite ledger.\n\
         Reckoned from measurements of other machines: docs/capacity.md says which, and how to measure yours.",
        counted(accounts, "account"),
        if assets == 1.0 { "asset" } else { "assets" },
        if active == 1 { "1 hour or day".to_owned() } else { format!("{active} hours or days") },
        counted(rows, "transaction"),
        counted(qps, "request"),
        bytes(memory),
        bytes(all),
        bytes(each),
        needs.render(),
        measured::UTILISATION * 100.0,
    )
}

fn account_bytes(assets: f64, active: u64) -> f64 {
    let of_asset = measured::ASSET_BYTES + active as f64 * measured::BUCKET_BYTES;
    measured::ACCOUNT_BYTES + assets * of_asset
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

/// Nodes, and how many shards each of them has.
struct Nodes {
    nodes: u64,
    shards: u64,
}

/// For so many requests a second that cost `us` each.
fn nodes(qps: u64, us: f64) -> Nodes {
    let shards = (qps as f64 * us / 1e6 / measured::UTILISATION).ceil().max(1.0) as u64;
    let nodes = shards.div_ceil(u64::from(SHARDS_MAX));
    Nodes { nodes, shards: shards.div_ceil(nodes) }
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
        let reckoned = account_bytes(2.0, 5) * measured::RESIDENT_RATIO + measured::PROCESS_BYTES / 1e6;
        assert!((1.0..1.15).contains(&(reckoned / 356.0)), "{reckoned}");
    }

    fn args(accounts: u64, qps: u64) -> SizeArgs {
        SizeArgs { accounts, assets: 2.0, active: 5, transactions: None, qps }
    }

    /// The cells of a way's row behind its name.
    fn row(told: &str, way: &str) -> Vec<String> {
        let line = told.lines().find(|line| line.starts_with(way)).unwrap();
        line[way.len()..].split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_load_is_told_with_what_it_takes() {
        let told = describe(&args(1_000_000, 1_000_000));
        assert!(
            told.starts_with("1,000,000 accounts of 2 assets") && told.contains("20,000,000 transactions"),
            "{told}"
        );
        let shards = WAYS.map(|(way, _)| row(&told, way)[..2].join(" "));
        assert_eq!(shards, ["1 1", "1 10", "1 12"]);
        assert!(!told.contains("Several"), "{told}");
        assert_eq!(seconds(0.2) + &bytes(3e9) + &seconds(600.0), "under 1 s2.8 GiB10 min");
    }

    /// It said "1 accounts", and of several nodes neither how many nor how long each of them loads: as if all loaded for one another.
    #[test]
    fn one_and_several_are_told_as_such() {
        let one = SizeArgs { assets: 1.0, active: 1, transactions: Some(1), ..args(1, 1) };
        let told = describe(&one);
        let begin = "1 account of 1 asset, each active in 1 hour or day; 1 transaction; 1 request a second\n";
        assert!(told.starts_with(begin), "{told}");
        assert!(describe(&SizeArgs { assets: 1.5, ..one }).starts_with("1 account of 1.5 assets"));
        let told = describe(&args(1_000_000_000, 100_000_000));
        let [cheap, dear] = [WAYS[0].0, WAYS[2].0].map(|way| row(&told, way));
        assert_eq!(
            (&cheap[..2], &dear[..2]),
            (&["1".into(), "35".into()][..], &["5".into(), "240".into()][..])
        );
        assert!(told.contains("Several follow one ledger"), "{told}");
        let head = told.lines().find(|line| line.starts_with("callers send")).unwrap();
        let last = told.lines().find(|line| line.starts_with(WAYS[2].0)).unwrap();
        assert_eq!(head.chars().count(), last.chars().count(), "{told}");
    }

    #[test]
    fn a_number_may_be_grouped_and_what_is_expected_is_said() {
        let million = |text| count(text, 1..=1_000_000);
        for text in ["1000000", "1_000_000", "1,000,000"] {
            assert_eq!(million(text), Ok(1_000_000));
        }
        for text in ["1e6", "1,0000", ",100", "1_000,000", "0", "-1", "2000000", "", "1.5"] {
            let refused = million(text).unwrap_err();
            assert!(refused.starts_with("expected a whole number from 1 to 1,000,000"), "{refused}");
        }
        assert_eq!((assets("1.5"), assets("64")), (Ok(1.5), Ok(64.0)));
        assert!(["0.9", "65", "NaN", "-1", "many"].iter().all(|text| assets(text).is_err()));
    }
}
