//! Everything arrives, once, in order, and the watermark never runs ahead of it.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;

use florin_record::{NewTransaction, TransactionId};
use florin_sqlite::Writer;
use florin_sqlite::scratch::{Scratch, recharge, user};

use super::*;
use crate::cli::generate::{GenerateOptions, Platform, generate};
use crate::cli::progress::Silent;
use crate::feed::FeedState;
use crate::limits::FEED_RING_SLOTS;

const LEDGER: &str = "FLORIN_TEST_LEDGER";

fn clock() -> Clock {
    Clock::new(None)
}

/// Transactions like [`recharge`], with ids that nobody else has.
fn many(users: &[u64], count: u16) -> Vec<NewTransaction> {
    let row = |at: u16| {
        let [high, low] = at.to_be_bytes();
        let id = TransactionId::at(1, [0, 0, 0, 0, 0, 0, 0, high, low, users[0] as u8]);
        let user_id = users[usize::from(at) % users.len()];
        NewTransaction { transaction_id: id, ..recharge(0, user_id) }
    };
    (0..count).map(row).collect()
}

/// Each consumer holds exactly its users' rows of the ledger, in the ledger's order.
fn assert_complete<const SHARDS: usize>(scratch: &Scratch, consumers: &[Consumer; SHARDS]) {
    for (index, consumer) in (0..).zip(consumers) {
        let mut expected = scratch.rows();
        expected.retain(|row| row.user_id.shard(SHARDS as u16).0 == index);
        assert!(consumer.rows() == expected, "shard {index} holds something else than the ledger");
    }
}

#[test]
fn a_large_ledger_is_loaded_in_order_by_several_readers() {
    let scratch = Scratch::new();
    let options = GenerateOptions {
        ledger: scratch.ledger().into(),
        users: 1_000,
        transactions: 100_000,
        seed: 7,
        until_us: 1_700_000_000_000_000,
    };
    generate(&options, &mut Silent).unwrap();
    let (feed, mut consumers) = start::<3>(&scratch, clock());
    assert!(matches!(feed.status().state(), FeedState::Loading { .. }));
    until("the ledger is loaded", || {
        consumers.iter_mut().for_each(Consumer::take_all);
        consumers.iter().all(Consumer::is_warm)
    });
    assert_complete(&scratch, &consumers);
    until("it says so", || feed.status().state() == FeedState::Following);
    assert_eq!(feed.status().rows(), 100_000);
    feed.stop();
}

#[test]
fn what_several_writers_append_meanwhile_arrives_too() {
    let scratch = Scratch::new();
    scratch.writer().append(&many(&[1, 2, 3], 300)).unwrap();
    let (feed, mut consumers) = start::<2>(&scratch, clock());
    let program = std::env::current_exe().unwrap();
    let mut other_process = Command::new(program)
        .args(["--exact", "--ignored", "feed::tests::following::append_as_another_process"])
        .env(LEDGER, scratch.ledger())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut writer, mut platform) = (scratch.writer(), Platform::new(50, 8));
            for at_us in 0..300 {
                writer.append(&platform.next_event(at_us).rows().collect::<Vec<_>>()).unwrap();
            }
        });
        let mut ended = false;
        until("the other process ends", || {
            consumers.iter_mut().for_each(Consumer::take_all);
            ended = ended || other_process.try_wait().unwrap().is_some();
            ended
        });
    });
    assert!(other_process.wait().unwrap().success());
    let total = scratch.rows().len();
    assert!(total > 300 + 300 + 300, "both wrote: {total}");
    until("everything has arrived", || {
        consumers.iter_mut().for_each(Consumer::take_all);
        consumers.iter().map(Consumer::count).sum::<usize>() == total
    });
    assert_complete(&scratch, &consumers);
    feed.stop();
}

#[test]
#[ignore = "the other process of the test above"]
fn append_as_another_process() {
    let ledger = std::env::var_os(LEDGER).expect("run by the test above");
    let mut writer = Writer::open(ledger.as_ref()).unwrap();
    for rows in many(&[4, 2, 1], 900).chunks(3) {
        writer.append(rows).unwrap();
    }
}

#[test]
fn the_watermark_never_passes_a_row_that_is_not_applied() {
    let scratch = Scratch::new();
    let (mut writer, clock) = (scratch.writer(), clock());
    let (feed, [mut one, mut other]) = start::<2>(&scratch, clock);
    // When each row was committed at the latest, in the ledger's order.
    let mut committed: VecDeque<i64> = VecDeque::new();
    let mut applied = 0;
    let mut rows = many(&[1, 2, 3, 4, 5], 400).into_iter();
    let mut checks = 0;
    until("all rows are applied and the watermark is past them", || {
        if let Some(row) = rows.next() {
            writer.append(&[row]).unwrap();
            committed.push_back(clock.now().wall_us);
        }
        // One event a look, so that every state in between is seen.
        for _ in 0..3 {
            let (as_of_us, taken_us) = one.link.watermark.load();
            let covered = committed.iter().filter(|&&time_us| time_us < as_of_us).count();
            assert!(
                taken_us == 0 || covered <= applied,
                "as_of covers {covered} rows, applied are {applied}"
            );
            checks += usize::from(covered > 0);
            one.take_one();
            other.take_one();
            applied = one.count() + other.count();
        }
        applied == 400 && one.link.watermark.load().0 > *committed.back().unwrap()
    });
    assert!(checks > 0);
    feed.stop();
}

#[test]
fn a_slow_shard_makes_the_feed_wait_and_loses_nothing() {
    let scratch = Scratch::new();
    let users: Vec<u64> = (0..64).collect();
    scratch.writer().append(&many(&users, 20_000)).unwrap();
    let (feed, mut consumers) = start::<2>(&scratch, clock());
    let full = |consumer: &Consumer| consumer.link.events.len() == FEED_RING_SLOTS;
    until("the slow shard's ring is full", || {
        consumers[1].take_all();
        full(&consumers[0])
    });
    assert!(!consumers[1].is_warm(), "the other shard does not run ahead");
    assert!(matches!(feed.status().state(), FeedState::Loading { .. }));
    until("it is warm", || {
        consumers[0].take_one();
        consumers[1].take_all();
        consumers.iter().all(Consumer::is_warm)
    });
    assert_complete(&scratch, &consumers);
    feed.stop();
}

#[test]
fn a_full_ring_does_not_keep_the_feed_from_ending() {
    let scratch = Scratch::new();
    scratch.writer().append(&many(&[1], 10_000)).unwrap();
    let (feed, [consumer]) = start::<1>(&scratch, clock());
    until("the ring is full", || consumer.link.events.len() == FEED_RING_SLOTS);
    feed.stop();
}

#[test]
fn a_sleeping_shard_is_woken_once() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    let (feed, [mut consumer]) = start::<1>(&scratch, clock());
    until("it is warm", || consumer.is_warm());
    assert_eq!(consumer.wakes.load(Relaxed), 0, "nobody is woken for a watermark");
    consumer.parking.announce();
    writer.append(&[recharge(1, 1), recharge(2, 1)]).unwrap();
    until("it is woken", || consumer.wakes.load(Relaxed) > 0);
    until("both rows are there", || {
        consumer.take_all();
        consumer.count() == 2
    });
    feed.stop();
    assert_eq!(consumer.wakes.load(Relaxed), 1);
}

#[test]
fn an_account_is_sent_again_when_asked_for_wholly() {
    let scratch = Scratch::new();
    let mut writer = scratch.writer();
    // More than one page, between the rows of another account.
    writer.append(&many(&[1, 2], 10_000)).unwrap();
    let (feed, [mut consumer]) = start::<1>(&scratch, clock());
    until("it is warm", || {
        consumer.take_all();
        consumer.is_warm()
    });
    consumer.events.clear();
    consumer.request(FeedRequest::Reread { user_id: user(1), reason: Reason::Gap });
    writer.append(&[recharge(255, 2)]).unwrap();
    let end = FeedEvent::RereadEnd(user(1));
    until("the history and the new row are there", || {
        consumer.take_all();
        consumer.events.contains(&end) && consumer.rows().iter().any(|row| row.user_id == user(2))
    });
    let begin = consumer.events.iter().position(|event| *event == FeedEvent::RereadBegin(user(1))).unwrap();
    let end = consumer.events.iter().position(|event| *event == end).unwrap();
    let mut expected = scratch.rows();
    expected.retain(|row| row.user_id == user(1));
    let history = |event: &FeedEvent| if let FeedEvent::RereadRow(row) = event { Some(*row) } else { None };
    let history: Vec<_> = consumer.events[begin + 1..end].iter().filter_map(history).collect();
    assert!(history == expected, "something else than the account's history");
    assert_eq!(feed.status().rereads(), 1);
    feed.stop();
}
