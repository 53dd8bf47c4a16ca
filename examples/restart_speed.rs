//! What a restart costs: from the ledger's start, and from a checkpoint.
//!
//! `cargo run --release --example restart_speed [ACCOUNTS] [SHARDS] [FOLDER]`
//!
//! Makes a ledger of so many accounts with two rows each, loads it, makes a checkpoint, commits a thousand rows more, starts again from
//! the checkpoint, and asks for every account: each answer is compared with what its rows add up to. FOLDER (a temporary one) should
//! lie on a disk; its files stay in the page cache where they fit.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use florin::checkpoints::CheckpointConfig;
use florin::node::{Node, NodeConfig};
use florin_client::Client;
use florin_schema::frame::BATCH_USERS_MAX;
use florin_schema::{Asset, UserId};
use rusqlite::Connection;

mod rows;

/// Accounts that get a third row after the checkpoint.
const LATER: u64 = 1_000;
/// Batches that are asked for at once.
const ASKED_AT_ONCE: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let accounts: u64 = arguments.next().map_or(Ok(1_000_000), |accounts| accounts.parse())?;
    let shards: u16 = arguments.next().map_or(Ok(1), |shards| shards.parse())?;
    let temporary = tempfile::tempdir()?;
    let folder = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let ledger = folder.join("ledger.db");
    fill(&ledger, accounts)?;

    let (node, cold) = start(&ledger, &folder, shards)?;
    let rate = |seconds: f64| accounts as f64 / seconds / f64::from(shards) / 1e6;
    println!("cold: {accounts} accounts in {cold:.2} s, {:.2} M accounts/s a shard", rate(cold));
    let (told, made) = mpsc::channel();
    node.checkpoints().ok_or("it makes checkpoints")?.make(move |made| drop(told.send(made)));
    let made = made.recv()??;
    println!("checkpoint: {} bytes in {:.2} s", made.bytes, made.seconds);
    end(node)?;

    Connection::open(&ledger)?.execute(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2)
         INSERT INTO transactions SELECT ?1 * 2 + i + 1, printf('00000000-0000-4000-8000-%012d', ?1 * 2 + i), i, 3, 'COIN', 1, 1000,
             unixepoch() * 1000000 FROM n",
        [accounts, LATER.min(accounts)],
    )?;
    let (node, warm) = start(&ledger, &folder, shards)?;
    let restored = node.checkpoints().ok_or("it makes checkpoints")?.status().restored();
    if restored != accounts {
        return Err(format!("{restored} accounts came from the checkpoint").into());
    }
    println!("warm: {warm:.2} s, {:.2} M accounts/s a shard, {:.1} times as fast", rate(warm), cold / warm);
    let address = node.addresses().listen.ok_or("an any-shard port")?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(compare(address.to_string(), accounts))?;
    println!("{accounts} answers equal what their rows add up to");
    end(node)
}

/// What row `version` adds to a user's balance.
fn amount(user: u64, version: u64) -> i64 {
    if version == 3 { 1_000 } else { 100 + (user % 1_000) as i64 + version as i64 }
}

fn fill(ledger: &Path, accounts: u64) -> Result<(), rusqlite::Error> {
    rows::fill(
        ledger,
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1 * 2)
         INSERT INTO transactions SELECT i + 1, printf('00000000-0000-4000-8000-%012d', i), i % ?1, i / ?1 + 1, 'COIN', 1,
             100 + i % ?1 % 1000 + i / ?1 + 1, (unixepoch() - 86400 * (20 - i / ?1 * 3)) * 1000000
         FROM n",
        [accounts],
    )
}

/// A node that is ready, and how many seconds that took.
fn start(ledger: &Path, folder: &Path, shards: u16) -> Result<(Node, f64), Box<dyn Error>> {
    let checkpoints = CheckpointConfig {
        folder: folder.join("checkpoints"),
        every: Some(Duration::from_secs(1_000_000)),
        every_rows: None,
        at_end: false,
    };
    let begun = Instant::now();
    let node = Node::start(NodeConfig {
        shards: Some(shards),
        checkpoints: Some(checkpoints),
        ..NodeConfig::local(ledger.to_owned())
    })?;
    while !node.obstacles().is_empty() {
        thread::park_timeout(Duration::from_millis(1));
    }
    Ok((node, begun.elapsed().as_secs_f64()))
}

fn end(node: Node) -> Result<(), Box<dyn Error>> {
    node.drain();
    Ok(node.join()?)
}

/// Asks for all accounts in batches, some at once.
async fn compare(address: String, accounts: u64) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(address.as_str()).await?;
    let coin = Asset::parse(b"COIN")?;
    let mut asked = std::collections::VecDeque::new();
    let mut next = 0;
    while next < accounts || !asked.is_empty() {
        while next < accounts && asked.len() < ASKED_AT_ONCE {
            let last = accounts.min(next + BATCH_USERS_MAX as u64);
            let users: Vec<UserId> = (next..last).filter_map(UserId::new).collect();
            let client = client.clone();
            asked.push_back(tokio::spawn(async move {
                client.get_balances(&users).await.map(|reply| (users, reply))
            }));
            next = last;
        }
        let Some(first) = asked.pop_front() else { break };
        let (users, reply) = first.await??;
        for (user, entry) in users.into_iter().zip(reply.iter()) {
            let versions = if user.get() < LATER { 3 } else { 2 };
            let expected: i64 = (1..=versions).map(|version| amount(user.get(), version)).sum();
            let found = (entry.version().map(|version| version.0), entry.of(coin).map(|held| held.available));
            if found != (Some(versions), Some(expected)) {
                return Err(
                    format!("user {user}: {found:?} instead of version {versions}, {expected}").into()
                );
            }
        }
    }
    Ok(())
}
