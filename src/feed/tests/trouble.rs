//! What a ledger may do that it should not: nothing is guessed, and the feed says what is wrong.

use std::fs;

use florin_schema::ShardIndex;

use super::*;
use crate::feed::{FeedError, FeedState};
use crate::shard::{Shard, ShardMetrics, ShardSetup};
use crate::store::StoreError;
use crate::store::scratch::{Scratch, recharge, user};

/// A table without any of the schema's checks, as another program might have made it.
const LENIENT: &str = "PRAGMA journal_mode = WAL; CREATE TABLE transactions (seq INTEGER PRIMARY KEY, \
    transaction_id, user_id, version, asset, kind, amount, occurred_at)";

fn insert(connection: &rusqlite::Connection, user_id: u64, version: u64, kind: u8) {
    let sql = "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
        VALUES (?1, ?2, ?3, 'COIN', ?4, 10, 0)";
    connection.execute(sql, (format!("{user_id}-{version}"), user_id, version, kind)).unwrap();
}

fn failure(feed: &Feed) -> Option<String> {
    match feed.status().state() {
        FeedState::Failing { reason, .. } => Some(reason),
        _ => None,
    }
}

fn warm(consumer: &mut Consumer) {
    until("it is warm", || {
        consumer.take_all();
        consumer.is_warm()
    });
}

#[test]
fn a_gap_is_read_again_and_clears_when_the_ledger_has_the_row() {
    let scratch = Scratch::new();
    let connection = scratch.sql(LENIENT);
    for (user_id, version) in [(1, 1), (2, 1), (1, 3), (2, 2)] {
        insert(&connection, user_id, version, 1);
    }
    let (parking, clock) = (Arc::new(Parking::new()), Clock::new(None));
    let (outlet, feed_link) = link(Arc::clone(&parking), Arc::new(|| {}));
    let metrics = Arc::new(ShardMetrics::default());
    let mut shard = Shard::new(ShardSetup {
        index: ShardIndex(0),
        shards: 1,
        peers: vec![None],
        parking,
        feed: feed_link,
        metrics: Arc::clone(&metrics),
        max_staleness_us: 30_000_000,
        server: "test".to_owned(),
        ports: Vec::new(),
        identity: Default::default(),
    });
    let feed = Feed::spawn(FeedConfig { ledger: scratch.ledger(), clock }, vec![outlet]).unwrap();
    let mut turns_until = |what: &str, done: &dyn Fn() -> bool| {
        until(what, || {
            shard.begin_turn(clock.now());
            shard.work();
            done()
        });
    };
    turns_until("the account is read again", &|| feed.status().rereads() == 1);
    turns_until("it stays quarantined, for the ledger has the gap too", &|| {
        metrics.quarantined.get() == 1
            && metrics.accounts.get() == 2
            && metrics.watermark_monotonic_us.get() > 0
    });
    insert(&connection, 2, 3, 1);
    turns_until("another account's row arrives", &|| metrics.applied.get() == 5);
    assert_eq!(feed.status().rereads(), 1, "what the ledger does not have is not asked for without end");
    insert(&connection, 1, 2, 1);
    turns_until("the row that was missing clears it", &|| metrics.quarantined.get() == 0);
    assert_eq!(feed.status().rereads(), 2);
    feed.stop();
}

#[test]
fn a_row_that_is_no_transaction_quarantines_its_account_alone() {
    let scratch = Scratch::new();
    let connection = scratch.sql(LENIENT);
    insert(&connection, 1, 1, 1);
    insert(&connection, 1, 2, 11);
    insert(&connection, 2, 1, 1);
    connection.execute("INSERT INTO transactions (transaction_id) VALUES ('nobody')", []).unwrap();
    let (feed, [mut consumer]) = start::<1>(&scratch, Clock::new(None));
    warm(&mut consumer);
    let users: Vec<_> = consumer.rows().iter().map(|row| row.user_id.get()).collect();
    assert_eq!(users, [1, 2]);
    assert_eq!(consumer.events[1], FeedEvent::Unreadable(user(1)));
    assert_eq!((feed.status().unreadable(), feed.status().rows()), (2, 4));

    // Read again, the row is still none.
    consumer.events.clear();
    consumer.request(FeedRequest::Reread { user_id: user(1), reason: Reason::Gap });
    until("the history has been sent", || {
        consumer.take_all();
        consumer.events.contains(&FeedEvent::RereadEnd(user(1)))
    });
    assert!(consumer.events.contains(&FeedEvent::RereadBegin(user(1))));
    assert!(consumer.events.contains(&FeedEvent::Unreadable(user(1))));
    feed.stop();
}

#[test]
fn a_ledger_that_cannot_be_read_for_a_while_is_followed_afterwards() {
    let scratch = Scratch::new();
    let connection = scratch.sql(LENIENT);
    let (feed, [mut consumer]) = start::<1>(&scratch, Clock::new(None));
    warm(&mut consumer);
    connection.execute_batch("ALTER TABLE transactions RENAME TO elsewhere").unwrap();
    until("it fails", || failure(&feed).is_some());
    assert!(failure(&feed).unwrap().contains("no such table"), "{:?}", failure(&feed));
    let (as_of_us, _) = consumer.link.watermark.load();
    insert_into_elsewhere(&connection);
    connection.execute_batch("ALTER TABLE elsewhere RENAME TO transactions").unwrap();
    until("it follows again", || {
        consumer.take_all();
        feed.status().state() == FeedState::Following && consumer.count() == 1
    });
    until("the watermark goes on", || {
        consumer.take_all();
        consumer.link.watermark.load().0 > as_of_us
    });
    feed.stop();
}

fn insert_into_elsewhere(connection: &rusqlite::Connection) {
    let sql = "INSERT INTO elsewhere (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
        VALUES ('id', 1, 1, 'COIN', 1, 10, 0)";
    connection.execute(sql, []).unwrap();
}

/// Two rows numbered 1 and 9e18 kept a node from ever being ready, with one CPU busy: the feed read by distances between
/// keys, one stripe of 8,192 of them after the other.
#[test]
fn rows_far_apart_are_loaded_as_fast_as_any() {
    let scratch = Scratch::new();
    let connection = scratch.sql(LENIENT);
    for (seq, version) in [(1_i64, 1), (1_000_000_001, 2), (9_000_000_000_000_000_000, 3)] {
        let sql = "INSERT INTO transactions VALUES (?1, ?1 || '', 7, ?2, 'COIN', 1, 10, 0)";
        connection.execute(sql, (seq, version)).unwrap();
    }
    let (feed, [mut consumer]) = start::<1>(&scratch, Clock::new(None));
    warm(&mut consumer);
    assert_eq!((consumer.count(), feed.status().rows()), (3, 3));
    feed.stop();
}

#[test]
fn a_replaced_ledger_is_not_mixed_with_the_first() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    scratch.writer().append(&[recharge(1, 1)]).unwrap();
    other.writer().append(&[recharge(2, 1), recharge(3, 1)]).unwrap();
    let (feed, [mut consumer]) = start::<1>(&scratch, Clock::new(None));
    warm(&mut consumer);
    fs::rename(other.ledger(), scratch.ledger()).unwrap();
    until("it fails", || failure(&feed).is_some());
    assert!(failure(&feed).unwrap().contains("restart florin"), "{:?}", failure(&feed));
    let watermark = consumer.link.watermark.load();
    consumer.take_all();
    assert_eq!(consumer.count(), 1);
    assert_eq!(consumer.link.watermark.load(), watermark);
    feed.stop();
}

#[test]
fn a_ledger_that_loses_rows_is_not_followed_further() {
    let scratch = Scratch::new();
    scratch.writer().append(&[recharge(1, 1), recharge(2, 1)]).unwrap();
    let (feed, [mut consumer]) = start::<1>(&scratch, Clock::new(None));
    warm(&mut consumer);
    drop(scratch.sql("DROP TRIGGER transactions_never_removed; DELETE FROM transactions WHERE seq = 2"));
    until("it fails", || failure(&feed).is_some());
    assert!(failure(&feed).unwrap().contains("lost rows"), "{:?}", failure(&feed));
    feed.stop();
}

#[test]
fn a_feed_without_a_ledger_does_not_begin() {
    let scratch = Scratch::new();
    let (outlet, _link) = link(Arc::new(Parking::new()), Arc::new(|| {}));
    let config = FeedConfig { ledger: scratch.ledger(), clock: Clock::new(None) };
    let error = Feed::spawn(config, vec![outlet]).map(drop).unwrap_err();
    assert!(matches!(error, FeedError::Ledger(StoreError::Missing { .. })), "{error}");
}
