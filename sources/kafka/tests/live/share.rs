//! A node that follows some of a real topic's partitions, and others soon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use florin_core::clock::Now;
use florin_core::follower::{Page, Position, Source};
use florin_kafka::{KafkaPosition, KafkaSource, KafkaStatus, Share};
use florin_schema::{Partitioner, UserId};
use rdkafka::producer::{BaseProducer, Producer};

use super::broker::{Broker, put};
use super::mirror::{Mirror, eventually};
use super::{LONG, figure, json, ledger, send, told};

fn partition_of(user: u64, partitions: u32) -> u32 {
    Partitioner::Murmur2.partition_of(user.to_string().as_bytes(), partitions)
}

/// The first so many users of a partition.
fn users_of(partition: u32, partitions: u32, count: usize) -> Vec<u64> {
    (1..).filter(|&user| partition_of(user, partitions) == partition).take(count).collect()
}

fn source(broker: &Broker, topic: &str, partitions: u32) -> (KafkaSource, Arc<Share>) {
    let share = Share::new(partitions);
    (KafkaSource::new(&ledger(broker, topic).divided(Arc::clone(&share))), share)
}

fn follow(broker: &Broker, topic: &str, partitions: u32) -> (Mirror<Arc<KafkaStatus>>, Arc<Share>) {
    let (source, share) = source(broker, topic, partitions);
    let status = source.status();
    (Mirror::over(source, status), share)
}

fn want(share: &Share, wanted: &[u32]) {
    share.want(&wanted.iter().copied().collect());
}

/// Waits until the watermark says that all that is wanted is in.
fn is_in(mirror: &Mirror<Arc<KafkaStatus>>, share: &Share) {
    eventually("all that is wanted is in", || {
        let watermark_us = mirror.view.lock().unwrap().watermark.1;
        let is_in = |since: &Option<Now>| since.is_some_and(|since| since.monotonic_us <= watermark_us);
        share.standings().values().all(is_in)
    });
}

fn is_sound(mirror: &Mirror<Arc<KafkaStatus>>) {
    let view = mirror.view.lock().unwrap();
    let trouble = (view.duplicates, view.gaps, view.went_back, view.quarantined.len());
    assert_eq!(trouble, (0, 0, false, 0), "{:?}", view.notes);
    drop(view);
    assert_eq!(figure(mirror, "sessions_total"), 1);
}

#[test]
fn what_is_taken_up_let_go_of_and_taken_up_again_has_every_row_once() {
    const PARTITIONS: u32 = 4;
    let Some(broker) = Broker::shared() else { return };
    let topic = "taken-up";
    broker.make_topic(topic, PARTITIONS.cast_signed());
    let rows = |versions: std::ops::RangeInclusive<u64>| {
        versions.flat_map(|version| (1..=40).map(move |user| (user, json(user, version, user + version))))
    };
    let expected = |last: [u64; PARTITIONS as usize]| {
        let last = move |user| last[partition_of(user, PARTITIONS) as usize];
        told((1..=40).flat_map(|user| (1..=last(user)).map(move |version| (user, version, user + version))))
    };
    send(broker, topic, rows(1..=50));
    let (mirror, share) = follow(broker, topic, PARTITIONS);
    mirror.catch_up();
    assert_eq!(
        (mirror.rows(), share.standings().len()),
        (0, 0),
        "nothing is wanted, and there is a watermark"
    );

    want(&share, &[0, 2]);
    is_in(&mirror, &share);
    assert_eq!(mirror.told(), expected([50, 0, 50, 0]));
    send(broker, topic, rows(51..=60));
    mirror.catch_up();
    assert_eq!(mirror.told(), expected([60, 0, 60, 0]));
    assert_eq!(share.lags(), BTreeMap::from([(0, 0), (2, 0)]));

    let since = share.standings()[&2];
    want(&share, &[2, 3]);
    is_in(&mirror, &share);
    send(broker, topic, rows(61..=70));
    mirror.catch_up();
    assert_eq!(mirror.told(), expected([60, 0, 70, 70]));
    assert_eq!(share.standings()[&2], since, "nothing happened to it");

    want(&share, &[0, 1, 2, 3]);
    is_in(&mirror, &share);
    assert_eq!(mirror.told(), expected([70; PARTITIONS as usize]));
    is_sound(&mirror);
}

/// What is in a transaction that is open keeps a partition from its end for as long as this test likes: a few records, which it reads
/// with those that are followed, and more than are read beside those.
#[test]
fn a_partition_that_is_being_loaded_holds_nothing_up_and_can_be_let_go_of() {
    const PARTITIONS: u32 = 3;
    let Some(broker) = Broker::shared() else { return };
    let topic = "held-up";
    broker.make_topic(topic, PARTITIONS.cast_signed());
    let user = |partition| users_of(partition, PARTITIONS, 1)[0];
    let (followed, near, far) = (user(0), user(1), user(2));
    send(broker, topic, [followed, near, far].map(|user| (user, json(user, 1, 5))));
    let (mirror, share) = follow(broker, topic, PARTITIONS);
    want(&share, &[0]);
    is_in(&mirror, &share);

    let producer = broker.producer(&[("transactional.id", topic)]);
    producer.init_transactions(LONG).unwrap();
    producer.begin_transaction().unwrap();
    for (user, last) in [(near, 3), (far, 3_000)] {
        (2..=last).for_each(|version| {
            let value = json(user, version, 5);
            put(&producer, topic, -1, user.to_string().as_bytes(), Some(value.as_bytes()));
        });
    }
    producer.flush(LONG).unwrap();
    want(&share, &[0, 1, 2]);
    eventually("what is committed is read", || mirror.versions_of(near) == 1 && mirror.versions_of(far) == 1);
    for version in 2..=20 {
        send(broker, topic, [(followed, json(followed, version, 5))]);
        mirror.catch_up();
        assert_eq!(mirror.versions_of(followed), version);
    }
    let standings = share.standings();
    assert!(standings[&0].is_some() && standings[&1].is_none() && standings[&2].is_none(), "{standings:?}");
    want(&share, &[0]);
    send(broker, topic, [(followed, json(followed, 21, 5))]);
    mirror.catch_up();
    producer.commit_transaction(LONG).unwrap();
    send(broker, topic, [(followed, json(followed, 22, 5))]);
    mirror.catch_up();
    let versions = || [followed, near, far].map(|user| mirror.versions_of(user));
    assert_eq!(versions(), [22, 1, 1], "they were let go of before it was committed");
    want(&share, &[1, 2]);
    is_in(&mirror, &share);
    assert_eq!(versions(), [22, 3, 3_000]);
    is_sound(&mirror);
}

/// Writes one version of each user after the other until it is told to stop; the last of them.
fn write_on(producer: &BaseProducer, topic: &str, users: &[u64], stop: &AtomicBool) -> u64 {
    for version in 1.. {
        for &user in users {
            let value = json(user, version, version);
            put(producer, topic, -1, user.to_string().as_bytes(), Some(value.as_bytes()));
        }
        producer.poll(Duration::from_millis(5));
        if stop.load(Relaxed) {
            producer.flush(LONG).unwrap();
            return version;
        }
    }
    unreachable!("versions do not end")
}

#[test]
fn a_share_that_changes_a_hundred_times_while_rows_come_has_every_row_once() {
    const PARTITIONS: u32 = 5;
    let Some(broker) = Broker::shared() else { return };
    let topic = "flapping";
    broker.make_topic(topic, PARTITIONS.cast_signed());
    let users: Vec<u64> = (1..=50).collect();
    let (stop, producer) = (AtomicBool::new(false), broker.producer(&[]));
    let (mirror, share) = follow(broker, topic, PARTITIONS);
    let last = thread::scope(|scope| {
        let written = scope.spawn(|| write_on(&producer, topic, &users, &stop));
        let mut drawn = 7_u64;
        for change in 0..100 {
            drawn = florin_schema::ids::mix(drawn);
            let wanted: BTreeSet<u32> =
                (0..PARTITIONS).filter(|partition| drawn >> partition & 1 == 1).collect();
            share.want(&wanted);
            match change % 4 {
                // The next change comes before this one was heard of, while it is under way, or once all is in.
                0 => {}
                1 => mirror.catch_up(),
                2 => eventually("it is read", || share.lags().len() == wanted.len()),
                _ => is_in(&mirror, &share),
            }
        }
        stop.store(true, Relaxed);
        written.join().unwrap()
    });
    share.want(&(0..PARTITIONS).collect());
    is_in(&mirror, &share);
    let rows = users.iter().flat_map(|&user| (1..=last).map(move |version| (user, version, version)));
    assert_eq!(mirror.told(), told(rows));
    is_sound(&mirror);
}

#[test]
fn a_broker_that_crashes_while_a_partition_is_loaded_costs_no_row() {
    const PARTITIONS: u32 = 3;
    let Some(mut broker) = Broker::start() else { return };
    let topic = "crashed";
    broker.make_topic(topic, PARTITIONS.cast_signed());
    let [followed, loaded, moved] = [0, 1, 2].map(|partition| users_of(partition, PARTITIONS, 1)[0]);
    let rows = |user, versions: std::ops::RangeInclusive<u64>| {
        versions.map(move |version| (user, json(user, version, version)))
    };
    send(&broker, topic, rows(followed, 1..=9).chain(rows(loaded, 1..=100_000)).chain(rows(moved, 1..=9)));
    let (mirror, share) = follow(&broker, topic, PARTITIONS);
    want(&share, &[0, 2]);
    is_in(&mirror, &share);
    want(&share, &[0, 1]);
    eventually("it is being loaded", || mirror.versions_of(loaded) > 0);
    let standings = share.standings();
    broker.crash();
    eventually("it says that it cannot ask", || mirror.doing().contains("do not say"));
    assert_eq!(share.standings()[&0], standings[&0], "what was in stays in, as of its watermark");
    broker.resume();
    send(&broker, topic, rows(followed, 10..=19).chain(rows(moved, 10..=19)));
    is_in(&mirror, &share);
    mirror.catch_up();
    let versions = || [followed, loaded, moved].map(|user| mirror.versions_of(user));
    assert_eq!(versions(), [19, 100_000, 9]);
    want(&share, &[0, 1, 2]);
    is_in(&mirror, &share);
    assert_eq!(versions(), [19, 100_000, 19]);
    let view = mirror.view.lock().unwrap();
    assert!(view.gaps == 0 && view.quarantined.is_empty() && !view.went_back, "{:?}", view.notes);
}

/// Turns a source until all that is wanted is in; its rows, as (user, version), and where it stands then.
fn read_all(source: &mut KafkaSource, share: &Share) -> (BTreeSet<(u64, u64)>, Option<KafkaPosition>) {
    let (mut all, mut position, mut us) = (BTreeSet::new(), None, 0);
    eventually("all that is wanted is in", || {
        us += 1_000_000;
        let mut rows = Vec::new();
        let progress = source.next(Now { wall_us: 0, monotonic_us: us }, &mut rows).unwrap();
        position = progress.position.or(position.take());
        for row in rows.into_iter().map(Result::unwrap) {
            assert!(all.insert((row.user_id.get(), row.version.0)), "{row:?} came twice");
        }
        let is_in = |since: &Option<Now>| {
            since.is_some_and(|since| {
                progress.complete_before.is_some_and(|at| at.monotonic_us >= since.monotonic_us)
            })
        };
        share.standings().values().all(is_in)
    });
    (all, position)
}

#[test]
fn a_position_of_one_share_is_gone_on_from_with_another() {
    const PARTITIONS: u32 = 3;
    let Some(broker) = Broker::shared() else { return };
    let topic = "another-share";
    broker.make_topic(topic, PARTITIONS.cast_signed());
    let rows = |version| (1..=30).map(move |user| (user, json(user, version, 5)));
    let of = |partition, version| {
        (1..=30)
            .filter(move |&user| partition_of(user, PARTITIONS) == partition)
            .map(move |user| (user, version))
    };
    send(broker, topic, rows(1));
    let (mut one, share) = source(broker, topic, PARTITIONS);
    want(&share, &[0, 1]);
    one.load(None).unwrap();
    let (read, position) = read_all(&mut one, &share);
    assert_eq!(read, of(0, 1).chain(of(1, 1)).collect());
    let position = KafkaPosition::decode(&position.unwrap().encode()).unwrap();

    send(broker, topic, rows(2));
    let (mut other, share) = source(broker, topic, PARTITIONS);
    assert_eq!(other.resume(&position, &position), Ok(()));
    want(&share, &[1, 2]);
    other.load(Some(&position)).unwrap();
    let (read, position) = read_all(&mut other, &share);
    assert_eq!(read, of(1, 2).chain(of(2, 1)).chain(of(2, 2)).collect());

    // As after an error: what was in is what the watermark waits for.
    send(broker, topic, rows(3));
    let mut later = KafkaSource::new(&ledger(broker, topic).divided(Arc::clone(&share)));
    later.load(position.as_ref()).unwrap();
    let mut read = BTreeSet::new();
    eventually("the first watermark", || {
        let mut rows = Vec::new();
        let progress = later.next(Now { wall_us: 0, monotonic_us: 1 }, &mut rows).unwrap();
        read.extend(rows.into_iter().flatten().map(|row| (row.user_id.get(), row.version.0)));
        progress.complete_before.is_some()
    });
    assert_eq!(read, of(1, 3).chain(of(2, 3)).collect());
}

#[test]
fn a_topic_that_was_made_anew_while_a_partition_was_let_go_of_is_noticed_when_it_is_taken_up() {
    let Some(broker) = Broker::shared() else { return };
    let topic = "anew-meanwhile";
    broker.make_topic(topic, 2);
    let rows = |amount| (1..=20).map(move |user| (user, json(user, 1, amount)));
    send(broker, topic, rows(5));
    let (mirror, share) = follow(broker, topic, 2);
    want(&share, &[0, 1]);
    is_in(&mirror, &share);
    want(&share, &[]);
    mirror.catch_up();
    broker.remove_topic(topic);
    eventually("a topic that is gone can be made again", || {
        std::panic::catch_unwind(|| broker.make_topic(topic, 2)).is_ok()
    });
    send(broker, topic, rows(6));
    mirror.catch_up();
    assert!(!mirror.said("was made anew"), "nothing of it is followed");
    want(&share, &[1]);
    eventually("it is noticed", || mirror.said("of partition 1 of topic anew-meanwhile is another one"));
    assert_eq!(mirror.told(), told((1..=20).map(|user| (user, 1, 5))), "nothing of it is applied");
}

#[test]
fn a_partition_that_has_lost_its_beginning_is_refused_by_name() {
    let Some(broker) = Broker::shared() else { return };
    let topic = "beheaded";
    broker.make_topic(topic, 2);
    send(broker, topic, (1..=20).map(|user| (user, json(user, 1, 5))));
    let (mirror, share) = follow(broker, topic, 2);
    want(&share, &[0]);
    is_in(&mirror, &share);
    broker.remove_records(topic, 1, 3);
    want(&share, &[0, 1]);
    eventually("it is refused", || mirror.said("topic beheaded begins at offset 3 in partition 1"));
    let of_first = (1..=20).filter(|&user| partition_of(user, 2) == 0).map(|user| (user, 1, 5));
    assert_eq!(mirror.told(), told(of_first));
    want(&share, &[0]);
    mirror.catch_up();
}

#[test]
fn an_account_is_read_again_once_its_partition_is_followed_again() {
    let Some(broker) = Broker::shared() else { return };
    let topic = "put-off";
    broker.make_topic(topic, 2);
    let user = users_of(1, 2, 1)[0];
    send(broker, topic, [(user, json(user, 1, 5))]);
    let (mut source, share) = source(broker, topic, 2);
    want(&share, &[1]);
    source.load(None).unwrap();
    read_all(&mut source, &share);
    let read = |source: &mut KafkaSource| {
        let mut rows = Vec::new();
        source.reread(UserId::new(user).unwrap(), None);
        eventually("it is read", || source.page(&mut rows) != Ok(Page::Awaited));
        rows.len()
    };
    assert_eq!(read(&mut source), 1);
    want(&share, &[0]);
    assert_eq!(read(&mut source), 0, "it is another's");
    read_all(&mut source, &share);
    assert_eq!(source.next_changed(), None);
    want(&share, &[0, 1]);
    read_all(&mut source, &share);
    assert_eq!(source.next_changed(), UserId::new(user));
    assert_eq!(read(&mut source), 1);
}
