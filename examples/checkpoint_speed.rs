//! How fast one shard's accounts are copied out, checked and taken in again, without disks: what a checkpoint and a restart from
//! one can reach at most.
//!
//! `cargo run --release --example checkpoint_speed [ACCOUNTS]`

use std::collections::BTreeMap;
use std::time::Instant;

use florin::checkpoint::{Records, bucket_of, checksum, record};
use florin::ledger::{Horizon, Kind, Transaction};
use florin::shard::table::{Table, Walk};
use florin_schema::{Asset, UserId, Version};

/// 2026-11-22T04:05:06Z.
const NOW_US: i64 = 1_795_320_306_000_000;
const TRANSACTIONS: u64 = 10;

fn main() {
    let accounts =
        std::env::args().nth(1).map_or(1_000_000, |count| count.parse().expect("a number of accounts"));
    let horizon = Horizon::at(NOW_US);
    let assets = [&b"COIN"[..], b"DIAMOND"].map(|code| Asset::parse(code).expect("a code"));
    let mut table = Table::new();
    for version in 1..=TRANSACTIONS {
        for user in 0..accounts {
            let row = Transaction {
                user_id: UserId::new(user).expect("an id"),
                version: Version(version),
                asset: assets[(version % 2) as usize],
                kind: Kind::ALL[(user + version) as usize % Kind::ALL.len()],
                amount: 1 + (user % 1_000) as i64,
                occurred_at_us: NOW_US - ((user * 31 + version * 97) % 2_000) as i64 * 3_600_000_000,
            };
            table.apply(&row, &horizon);
        }
    }
    let (mut walk, mut pieces, mut longest_us) = (Walk::new(), Vec::new(), 0);
    let begun = Instant::now();
    while !walk.is_over() {
        let mut piece = Vec::with_capacity(2 << 20);
        while !walk.is_over() && piece.len() < 1 << 20 {
            let turn = Instant::now();
            table.walk(&mut walk, 256, &mut piece);
            longest_us = longest_us.max(turn.elapsed().as_micros());
        }
        pieces.push(piece);
    }
    let copied = begun.elapsed().as_secs_f64();
    let bytes: usize = pieces.iter().map(Vec::len).sum();
    let rate = |seconds: f64| accounts as f64 / seconds / 1e6;
    println!("{accounts} accounts, {} bytes each in a checkpoint", bytes as u64 / accounts);
    println!("copied out   {:.2} M accounts/s, the longest turn {longest_us} µs", rate(copied));

    let mut blocks: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
    for piece in &pieces {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let found = record::peek(rest);
            let (own, after) = rest.split_at(found.bytes);
            let of_bucket = blocks.entry(bucket_of(found.user.hashed())).or_default();
            if of_bucket.last().is_none_or(|block| block.len() >= 64 << 10) {
                of_bucket.push(Vec::with_capacity(66 << 10));
            }
            of_bucket.last_mut().expect("one was opened").extend_from_slice(own);
            rest = after;
        }
    }
    let begun = Instant::now();
    let sums = blocks.values().flatten().fold(0, |sum, block| sum ^ checksum(block));
    println!("checked      {:.2} M accounts/s ({sums:x})", rate(begun.elapsed().as_secs_f64()));
    let mut other = Table::new();
    other.reserve(accounts as usize);
    let begun = Instant::now();
    for (&bucket, of_bucket) in &blocks {
        for record in of_bucket.iter().flat_map(|block| Records::of(block, bucket)) {
            other.restore(&record.expect("a record")).expect("an account");
        }
    }
    println!("taken in     {:.2} M accounts/s", rate(begun.elapsed().as_secs_f64()));
    assert_eq!(other.accounts(), table.accounts());
}
