//! What a ledger may do that it should not: nothing is guessed, and the feed says what is wrong.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use florin_sqlite::scratch::{Scratch, recharge, user};

use super::*;
use crate::feed::FeedState;
use crate::shard::{Shard, ShardMetrics, ShardSetup};

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
    let setup = ShardSetup { metrics: Arc::clone(&metrics), ..ShardSetup::alone(parking, feed_link) };
    let mut shard = Shard::new(setup);
    let feed = Feed::spawn(&ledger_in(&scratch), clock, vec![outlet], None).unwrap();
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

/// With 200,000 accounts that had come incomplete, a node was ready while they were still quarantined, for 12 s.
#[test]
fn nothing_is_ready_before_each_incomplete_account_was_read_again() {
    const ACCOUNTS: u64 = 1_000;
    let scratch = Scratch::new();
    let connection = scratch.sql(LENIENT);
    connection.execute_batch("BEGIN").unwrap();
    (1..=ACCOUNTS).for_each(|user| insert(&connection, user, 2, 1));
    (1..=ACCOUNTS).for_each(|user| insert(&connection, user, 1, 1));
    connection.execute_batch("COMMIT").unwrap();
    let (feed, [mut consumer]) = start::<1>(&scratch, Clock::new(None));
    let mut to_ask = 1..=ACCOUNTS;
    until("it is warm", || {
        // Taken before the count: what is ready must have been counted by then.
        let is_warm = consumer.is_warm();
        let is_end = |event: &&FeedEvent| matches!(event, FeedEvent::RereadEnd(_));
        let read_again = consumer.events.iter().filter(is_end).count() as u64;
        // The last end may still be in the ring, as everything that is sent before the watermark.
        let on_its_way = consumer.link.events.len() as u64;
        assert!(!is_warm || read_again + on_its_way >= ACCOUNTS, "ready with {read_again} of {ACCOUNTS}");
        let first_row = |event: &FeedEvent| matches!(event, FeedEvent::Row(row) if row.version.0 == 2);
        if consumer.take_one() && consumer.events.last().is_some_and(first_row) {
            let user_id = user(to_ask.next().unwrap());
            consumer.request(FeedRequest::Reread { user_id, reason: Reason::Gap });
        }
        is_warm
    });
    assert_eq!(feed.status().rereads(), ACCOUNTS);
    feed.stop();
}

/// An account of 50,000 rows with a hole in the ledger was read again for each new row of it, on the feed's own path: all
/// others waited for that. `FLORIN_HOLE_ROWS` gives it as many.
#[test]
fn a_large_account_with_a_hole_slows_nobody() {
    let large: u64 = std::env::var("FLORIN_HOLE_ROWS").map_or(50_000, |rows| rows.parse().unwrap());
    let scratch = Scratch::new();
    let connection = scratch.sql(LENIENT);
    connection.execute_batch("CREATE UNIQUE INDEX by_version ON transactions (user_id, version)").unwrap();
    let rows = "INSERT INTO transactions (transaction_id, user_id, version, asset, kind, amount, occurred_at) \
        WITH RECURSIVE versions (version) AS (VALUES (1) UNION ALL SELECT version + 1 FROM versions WHERE version < ?1) \
        SELECT '1-' || version, 1, version, 'COIN', 1, 10, 0 FROM versions WHERE version != ?1 / 2";
    connection.execute(rows, [large]).unwrap();
    let (feed, [mut consumer]) = start::<1>(&scratch, Clock::new(None));
    let deadline = Instant::now() + Duration::from_secs(30 + large / 50_000);
    while !consumer.is_warm() {
        assert!(Instant::now() < deadline, "never: it is warm");
        consumer.take_all();
        consumer.events.clear();
        thread::yield_now();
    }
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    for round in 1..=50 {
        // What a shard does at each new row of an account that is incomplete.
        insert(&connection, 1, large + round, 1);
        consumer.request(FeedRequest::Reread { user_id: user(1), reason: Reason::Gap });
        insert(&connection, 2, round, 1);
        consumer.events.clear();
        let committed = Instant::now();
        until("the other user's row arrives", || {
            consumer.take_one();
            matches!(consumer.events.last(), Some(FeedEvent::Row(row)) if row.user_id == user(2))
        });
        longest = longest.max(committed.elapsed());
        // What was in the ring, the round that was under way, and the next one, which reads the new row at its end.
        let history = consumer.events.iter().filter(|event| matches!(event, FeedEvent::RereadRow(_))).count();
        let most = crate::limits::FEED_RING_SLOTS + 2 * crate::limits::REREAD_ROWS_PER_ROUND;
        assert!(history <= most, "{history} rows of the history went before the other user's row");
    }
    // The pause doubles from a second on: so many fit into the time that has passed.
    let seconds = began.elapsed().as_secs();
    let most = 2 + u64::from((seconds + 1).ilog2());
    assert!((1..=most).contains(&feed.status().rereads()), "{} in {seconds} s", feed.status().rereads());
    println!("beside an account of {large} rows the others' were there within {longest:?}");
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

/// The feed died of a panic and nobody noticed: the node said "following" until its data was too old to answer, for ever.
#[test]
fn a_feed_that_panics_ends_the_process_with_the_reason() {
    let program = std::env::current_exe().unwrap();
    let test = "feed::tests::trouble::a_feed_that_panics";
    let ended = Command::new(program).args(["--exact", "--ignored", "--nocapture", test]).output().unwrap();
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert_eq!(ended.status.signal(), Some(6), "{said}");
    assert!(said.contains("a waker that breaks"), "{said}");
}

#[test]
#[ignore = "dies; the test above runs it in another process"]
fn a_feed_that_panics() {
    let scratch = Scratch::new();
    scratch.writer().append(&[recharge(1, 1)]).unwrap();
    let parking = Arc::new(Parking::new());
    let (outlet, _link) = link(Arc::clone(&parking), Arc::new(|| panic!("a waker that breaks")));
    parking.announce();
    let feed = Feed::spawn(&ledger_in(&scratch), Clock::new(None), vec![outlet], None).unwrap();
    until("it has ended", || feed.thread.as_ref().unwrap().is_finished());
    panic!("the process goes on without its feed");
}
