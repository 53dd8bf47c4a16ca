//! A node's answers against a plain recomputation from its ledger's rows: every account, every window, over rkyv,
//! FlatBuffers and JSON, by any port, with one shard and with several; and what readers see while rows keep coming.
//!
//! The recomputation reads the SQLite file itself and knows nothing of the server's code. It runs on a generated
//! platform, on a made-up bank, and, where a bank's real transactions lie beside the checkout (`../shared/data`), on those
//! too. All of it on every driver.

mod audit;
mod bank;
mod callers;
mod checkpoints;
#[cfg(feature = "kafka")]
#[path = "../command/nodes/group.rs"]
mod group;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_audit;
#[cfg(feature = "postgres")]
mod postgres_checkpoints;
mod recomputed;
#[cfg(feature = "kafka")]
#[path = "../command/support.rs"]
#[allow(dead_code)]
mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use callers::{Answer, HttpCaller, NativeCaller};
use florin::cli::generate::{GenerateOptions, generate};
use florin::cli::progress::Silent;
use florin::drivers::DriverChoice;
use florin::node::{Node, NodeConfig};
use florin::sources::LedgerAddress;
use florin_schema::{Encoding, ShardIndex, UserId};
use florin_sqlite::Writer;
use recomputed::Ledger;

/// 2026-11-22T04:05:06Z.
const NOW_US: i64 = 1_795_320_306_000_000;

fn start(driver: DriverChoice, ledger: &LedgerAddress, shards: u16, fixed_wall_us: Option<i64>) -> Node {
    let config =
        NodeConfig { shards: Some(shards), driver, fixed_wall_us, ..NodeConfig::local(ledger.clone()) };
    let node = Node::start(config).expect("a node");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !node.obstacles().is_empty() {
        assert!(Instant::now() < deadline, "it loads within a minute: {:?}", node.obstacles());
        std::thread::park_timeout(Duration::from_millis(1));
    }
    node
}

/// Waits until a node has applied so many rows, and no more. With the clock standing still only the monotonic half of the watermark
/// moves: the count says when all is there.
#[cfg(any(feature = "kafka", feature = "postgres"))]
fn apply_all(node: &Node, rows: u64) {
    let applied = || node.shards().iter().map(|shard| shard.metrics.applied.get()).sum::<u64>();
    let deadline = Instant::now() + Duration::from_secs(60);
    while applied() < rows {
        assert!(Instant::now() < deadline, "{} of {rows} rows within a minute", applied());
        std::thread::park_timeout(Duration::from_millis(1));
    }
    assert_eq!(applied(), rows);
}

fn generated(directory: &Path) -> PathBuf {
    let ledger = directory.join("ledger.db");
    let options = GenerateOptions {
        ledger: ledger.clone().into(),
        users: 500,
        transactions: 20_000,
        seed: 7,
        until_us: NOW_US,
    };
    generate(&options, &mut Silent).expect("a platform");
    ledger
}

fn every_account_is_answered_exactly(driver: DriverChoice, path: &Path, now_us: i64) {
    every_account_of(&path.to_owned().into(), &Ledger::read(path), driver, now_us);
}

fn every_account_of(address: &LedgerAddress, ledger: &Ledger, driver: DriverChoice, now_us: i64) {
    for shards in [1, 2] {
        let node = start(driver, address, shards, Some(now_us));
        let mut ports = vec![node.addresses().listen.expect("an any-port")];
        ports.extend(&node.addresses().shard_listen);
        for port in ports {
            let mut http = HttpCaller::connect(port);
            let mut native = NativeCaller::connect(port);
            for (&user, rows) in &ledger.accounts {
                let expected = recomputed::account(user, rows, now_us);
                assert_eq!(http.account(user), expected, "JSON, {shards} shards, {port}");
                for &encoding in Encoding::ALL {
                    let Answer { account, header } = native.account(user, encoding);
                    assert_eq!(account, expected, "{encoding:?}, {shards} shards, {port}");
                    assert_eq!(header.as_of_us.get(), now_us);
                    let owner = UserId::new(user).expect("a legal id").shard(shards);
                    assert_eq!(ShardIndex(header.shard.get()), owner);
                }
            }
            let users: Vec<u64> = ledger.accounts.keys().copied().chain([4_000_000_000]).collect();
            for ids in users.chunks(1_024) {
                let expected: Vec<_> = ids
                    .iter()
                    .map(|&user| {
                        ledger.accounts.get(&user).map(|rows| recomputed::account(user, rows, now_us).balance)
                    })
                    .collect();
                assert_eq!(http.batch(ids), expected, "JSON batch");
                for &encoding in Encoding::ALL {
                    assert_eq!(native.batch(ids, encoding), expected, "{encoding:?} batch");
                }
            }
        }
        node.drain();
        node.join().expect("a clean end");
    }
}

fn a_generated_platform_is_answered_exactly(driver: DriverChoice) {
    let directory = tempfile::tempdir().expect("a directory");
    every_account_is_answered_exactly(driver, &generated(directory.path()), NOW_US);
}

fn a_banks_transactions_are_answered_exactly(driver: DriverChoice) {
    let directory = tempfile::tempdir().expect("a directory");
    for ledger in bank::ledgers(directory.path()) {
        every_account_is_answered_exactly(driver, &ledger, bank::NOW_US);
    }
}

/// While a writer appends, readers on every port see versions that never go back, and only balances that some prefix
/// of the account's rows has; and a writer reads its own writes by `min_version`.
fn readers_see_only_prefixes_while_rows_keep_coming(driver: DriverChoice) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = generated(directory.path());
    let node = start(driver, &path.clone().into(), 2, None);
    let mut ports = node.addresses().shard_listen.clone();
    ports.extend(node.addresses().listen);
    let users: Vec<u64> = Ledger::read(&path).accounts.keys().copied().take(40).collect();

    let (appended, seen) = std::thread::scope(|scope| {
        let readers: Vec<_> = ports
            .iter()
            .zip([Encoding::Rkyv, Encoding::FlatBuffers, Encoding::Rkyv])
            .map(|(&port, encoding)| {
                let users = &users;
                scope.spawn(move || {
                    let mut native = NativeCaller::connect(port);
                    let until = Instant::now() + Duration::from_secs(3);
                    let mut seen = Vec::new();
                    while Instant::now() < until {
                        for &user in users {
                            seen.push(native.balance(user, encoding));
                        }
                    }
                    seen
                })
            })
            .collect();
        let writer = scope.spawn(|| {
            let mut writer = Writer::open(&path).expect("a writer");
            let mut native = NativeCaller::connect(ports[0]);
            let until = Instant::now() + Duration::from_secs(2);
            let mut appended = 0;
            while Instant::now() < until {
                for &user in &users {
                    let row = recomputed::recharge(user, appended, NOW_US);
                    let version = writer.append(&[row]).expect("an append")[0].version.0;
                    let balance = native.balance_at_least(user, version);
                    assert!(balance.version >= version, "a writer reads its own write");
                    appended += 1;
                }
            }
            appended
        });
        let appended = writer.join().expect("a writer");
        (
            appended,
            readers
                .into_iter()
                .flat_map(|reader| {
                    let seen = reader.join().expect("a reader");
                    let mut last: HashMap<u64, u64> = HashMap::new();
                    for balance in &seen {
                        let version = last.entry(balance.user_id).or_default();
                        assert!(balance.version >= *version, "user {} went back", balance.user_id);
                        *version = balance.version;
                    }
                    seen
                })
                .collect::<Vec<_>>(),
        )
    });

    let ledger = Ledger::read(&path);
    assert!(appended >= users.len() as u64, "it wrote to each account: {appended}");
    let moved = seen.iter().any(|balance| ledger.accounts[&balance.user_id].len() as u64 > balance.version);
    assert!(moved, "readers read while rows came");
    for balance in seen {
        let rows = &ledger.accounts[&balance.user_id][..balance.version as usize];
        assert_eq!(balance, recomputed::account(balance.user_id, rows, NOW_US).balance);
    }
}

/// The tests, on each driver by the name of a module.
macro_rules! on_every_driver {
    ($($(#[$condition:meta])? $name:ident: $driver:ident,)*) => {
        $($(#[$condition])? mod $name {
            use florin::drivers::DriverChoice;

            #[test]
            fn a_generated_platform_is_answered_exactly() {
                super::a_generated_platform_is_answered_exactly(DriverChoice::$driver);
            }

            #[test]
            fn a_banks_transactions_are_answered_exactly() {
                super::a_banks_transactions_are_answered_exactly(DriverChoice::$driver);
            }

            #[test]
            fn readers_see_only_prefixes_while_rows_keep_coming() {
                super::readers_see_only_prefixes_while_rows_keep_coming(DriverChoice::$driver);
            }
        })*
    };
}

on_every_driver! {
    on_ring: Ring,
    #[cfg(feature = "monoio")]
    on_monoio: Monoio,
    #[cfg(feature = "monoio")]
    on_epoll: MonoioEpoll,
    #[cfg(feature = "glommio")]
    on_glommio: Glommio,
}
