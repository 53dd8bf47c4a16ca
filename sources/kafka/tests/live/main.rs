//! A real broker, and what the follower makes of its topics. `scripts/kafka` fetches one; without it these tests say so and do
//! nothing.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use florin_core::follower::{Position, Source, SourceError};
use florin_kafka::admin::{self, Making};
use florin_kafka::check;
use florin_kafka::{Address, KafkaLedger, KafkaSource, KafkaStatus, Publisher};
use florin_record::{Entered, LedgerError, TransactionText, Weight};
use florin_schema::{Partitioner, Version};
use rdkafka::producer::Producer;

#[allow(dead_code)]
mod broker;
mod group;
#[path = "../../../record/tests/mirror/mod.rs"]
mod mirror;
mod share;

use broker::{Broker, Operation, Resource, put};
use mirror::{Mirror, eventually};

const LONG: Duration = Duration::from_secs(60);

fn ledger(broker: &Broker, topic: &str) -> KafkaLedger {
    let address = broker.address(topic);
    let mut opened = None;
    eventually("the brokers are asked what the topic is", || {
        opened = KafkaLedger::open(address.parse().unwrap()).inspect_err(|error| eprintln!("{error}")).ok();
        opened.is_some()
    });
    opened.unwrap()
}

fn follow(broker: &Broker, topic: &str) -> Mirror<Arc<KafkaStatus>> {
    let source = KafkaSource::new(&ledger(broker, topic));
    let status = source.status();
    Mirror::over(source, status)
}

fn json(user: u64, version: u64, amount: u64) -> String {
    format!(
        r#"{{"transaction_id":"00000000-0000-4000-8000-{user:06x}{version:06x}","user_id":"{user}","version":"{version}","asset":"COIN","kind":"recharge","amount":"{amount}","occurred_at":"2026-11-22T04:05:06Z"}}"#
    )
}

fn envelope(user: u64, version: u64, amount: u64, op: &str) -> String {
    let columns = format!(
        r#"{{"seq":1,"user_id":{user},"version":{version},"asset":"COIN","kind":1,"amount":{amount},"occurred_at":1795320306000000}}"#
    );
    let (before, after) = if op == "d" { (columns.as_str(), "null") } else { ("null", columns.as_str()) };
    format!(r#"{{"before":{before},"after":{after},"op":"{op}"}}"#)
}

/// As [`Mirror::told`] says it.
fn told(rows: impl IntoIterator<Item = (u64, u64, u64)>) -> String {
    let mut told = String::new();
    for (user, version, amount) in rows {
        let newline = if told.is_empty() { "" } else { "\n" };
        write!(told, "{newline}{user}|{version}|COIN|1|{amount}").unwrap();
    }
    told
}

fn send(broker: &Broker, topic: &str, rows: impl IntoIterator<Item = (u64, String)>) {
    let records: Vec<_> = rows.into_iter().map(|(user, value)| (user.to_string(), value)).collect();
    broker.send(topic, records.iter().map(|(user, value)| (-1, user.as_bytes(), Some(value.as_bytes()))));
}

fn figure(mirror: &Mirror<Arc<KafkaStatus>>, name: &str) -> u64 {
    let figures = mirror.status.figures();
    figures.iter().find(|figure| figure.name == format!("florin_kafka_{name}")).unwrap().value
}

fn is_quarantined(mirror: &Mirror<Arc<KafkaStatus>>, user: u64) -> bool {
    mirror.view.lock().unwrap().quarantined.contains(&user)
}

#[test]
fn a_topic_of_both_kinds_of_records_is_loaded_and_followed_and_duplicates_change_nothing() {
    const USERS: u64 = 40;
    let Some(broker) = Broker::shared() else { return };
    let topic = "both";
    broker.make_topic(topic, 6);
    let row = |user, version| match user % 2 {
        0 => (user, json(user, version, user + version)),
        _ => (user, envelope(user, version, user + version, if version < 20 { "r" } else { "c" })),
    };
    let all = |versions: std::ops::RangeInclusive<u64>| {
        versions.flat_map(move |version| (0..USERS).map(move |user| row(user, version)))
    };
    send(broker, topic, all(1..=100));
    let mirror = follow(broker, topic);
    mirror.catch_up();
    let expected = |last| {
        told((0..USERS).flat_map(|user| (1..=last).map(move |version| (user, version, user + version))))
    };
    assert_eq!(mirror.told(), expected(100));
    // What a producer sends again after it has lost an answer; and to one partition alone, while the others are idle.
    send(broker, topic, all(90..=110));
    send(broker, topic, (111..=120).map(|version| row(7, version)));
    mirror.catch_up();
    assert_eq!(mirror.versions_of(7), 120);
    send(broker, topic, all(111..=120));
    mirror.catch_up();
    assert_eq!(mirror.told(), expected(120));
    let view = mirror.view.lock().unwrap();
    assert!(view.gaps == 0 && view.quarantined.is_empty() && !view.went_back, "{:?}", view.notes);
}

/// What a transaction holds that was aborted never was; and where it is all that a partition's end has, the watermark passes it.
#[test]
fn of_a_transaction_that_is_aborted_nothing_is_seen_and_nothing_waits() {
    let Some(broker) = Broker::shared() else { return };
    let topic = "aborted";
    broker.make_topic(topic, 2);
    send(broker, topic, [(1, json(1, 1, 5)), (2, json(2, 1, 5))]);
    let mirror = follow(broker, topic);
    mirror.catch_up();
    let producer = broker.producer(&[("transactional.id", "aborted")]);
    producer.init_transactions(LONG).unwrap();
    let within = |rows: &[(u64, u64)]| {
        producer.begin_transaction().unwrap();
        for &(user, version) in rows {
            put(&producer, topic, -1, user.to_string().as_bytes(), Some(json(user, version, 7).as_bytes()));
        }
        producer.flush(LONG).unwrap();
    };
    within(&[(1, 2), (2, 2), (2, 3)]);
    producer.abort_transaction(LONG).unwrap();
    mirror.catch_up();
    assert_eq!(mirror.told(), told([(1, 1, 5), (2, 1, 5)]));
    within(&[(1, 2), (2, 2)]);
    assert_eq!(mirror.rows(), 2, "it is open");
    producer.commit_transaction(LONG).unwrap();
    mirror.catch_up();
    assert_eq!(mirror.told(), told([(1, 1, 5), (1, 2, 7), (2, 1, 5), (2, 2, 7)]));
    within(&[(1, 9)]);
    producer.abort_transaction(LONG).unwrap();
    // Loaded from nothing, with what was aborted at both ends.
    let second = follow(broker, topic);
    second.catch_up();
    assert_eq!(second.told(), mirror.told());
}

#[test]
fn what_is_no_transaction_is_counted_and_named_and_its_account_waits() {
    let Some(broker) = Broker::shared() else { return };
    let topic = "trouble";
    broker.make_topic(topic, 3);
    send(broker, topic, (1..=9).map(|user| (user, json(user, 1, 5))));
    let mirror = follow(broker, topic);
    mirror.catch_up();
    let partition =
        |user: u64| Partitioner::Murmur2.partition_of(user.to_string().as_bytes(), 3).cast_signed();
    let long = "x".repeat(1 << 20);
    let (good, other) = (json(4, 2, 5), json(5, 1, 6));
    broker.send(
        topic,
        [
            (-1, &b"1"[..], Some(&b"garbage"[..])),
            (-1, b"2", Some(long.as_bytes())),
            (-1, b"nobody", Some(b"garbage")),
            ((partition(4) + 1) % 3, b"4", Some(good.as_bytes())),
            (-1, b"5", Some(other.as_bytes())),
            (-1, b"6", None),
        ],
    );
    mirror.catch_up();
    for (name, count) in [
        ("unreadable_total", 5),
        ("oversize_total", 1),
        ("misplaced_total", 1),
        ("contradicting_total", 1),
        ("changes_total", 1),
    ] {
        assert_eq!(figure(&mirror, name), count, "{name}");
    }
    for said in [
        "in 7 bytes",
        "1048576 bytes",
        "all producers of a ledger partition alike",
        "with another content",
        "Changed",
    ] {
        eventually(said, || mirror.said(said));
    }
    eventually("a tombstone hides nothing that is still there", || !is_quarantined(&mirror, 6));
    for user in [1, 2, 4, 5] {
        assert!(is_quarantined(&mirror, user), "{user}");
    }
    assert!([3, 7, 8, 9].iter().all(|&user| !is_quarantined(&mirror, user)));
    // What should have been there comes: its account is whole again.
    send(broker, topic, [(1, json(1, 2, 5)), (2, json(2, 3, 5)), (2, json(2, 2, 5))]);
    for user in [1, 2] {
        eventually("the account is whole", || !is_quarantined(&mirror, user));
    }
    assert_eq!((mirror.versions_of(1), mirror.versions_of(2), mirror.versions_of(4)), (2, 3, 1));
    assert!(is_quarantined(&mirror, 4) && is_quarantined(&mirror, 5));
}

#[test]
fn a_row_that_an_envelope_changes_or_removes_is_read_again_as_it_is_now() {
    let Some(broker) = Broker::shared() else { return };
    let topic = "changes";
    broker.make_topic(topic, 1);
    send(broker, topic, (1..=3).map(|version| (1, envelope(1, version, 5, "c"))));
    send(broker, topic, (1..=3).map(|version| (2, envelope(2, version, 5, "c"))));
    let mirror = follow(broker, topic);
    mirror.catch_up();
    send(broker, topic, [(1, envelope(1, 2, 50, "u")), (2, envelope(2, 2, 5, "d"))]);
    eventually("the row is the new one", || {
        mirror.told().contains("1|2|COIN|1|50") && !is_quarantined(&mirror, 1)
    });
    eventually("a row is missing", || mirror.said("Changed") && is_quarantined(&mirror, 2));
}

#[test]
fn a_broker_that_is_restarted_or_crashes_is_followed_again_and_nothing_is_lost() {
    let Some(mut broker) = Broker::start() else { return };
    let topic = "restarted";
    broker.make_topic(topic, 3);
    let rows = |version| (0..30).map(move |user| (user, json(user, version, version)));
    send(&broker, topic, rows(1));
    let mirror = follow(&broker, topic);
    mirror.catch_up();
    broker.end();
    eventually("it says that it cannot ask", || mirror.doing().contains("do not say"));
    broker.resume();
    send(&broker, topic, rows(2));
    mirror.catch_up();
    broker.crash();
    broker.resume();
    send(&broker, topic, rows(3));
    mirror.catch_up();
    assert_eq!(
        mirror.told(),
        told((0..30).flat_map(|user| (1..=3).map(move |version| (user, version, version))))
    );
    assert!(figure(&mirror, "sessions_total") > 1 && !mirror.view.lock().unwrap().went_back);
    assert_eq!(mirror.view.lock().unwrap().gaps, 0);
}

#[test]
fn a_topic_is_made_once_and_what_would_lose_its_records_is_named() {
    let Some(broker) = Broker::shared() else { return };
    let address = |topic: &str| -> Address { broker.address(topic).parse().unwrap() };
    let sentences = |address: &Address, weight: Weight| -> Vec<String> {
        let found = check::check(address).unwrap().into_iter();
        found.filter(|finding| finding.weight == weight).map(|finding| finding.sentence).collect()
    };
    let made = address("made");
    eventually("the brokers say that it is not there", || {
        check::check(&made).is_err_and(|error| error.to_string().contains("florin ledger init"))
    });
    let making = Making { partitions: Some(5), replicas: Some(1) };
    assert_eq!((admin::init(&made, making), admin::init(&made, making)), (Ok(true), Ok(false)));
    // A publication right behind the making failed, for partitions had no leaders yet.
    for topic in ["made", "made-2", "made-3", "made-4", "made-5", "made-6"] {
        assert_eq!(admin::init(&address(topic), making), Ok(topic != "made"));
        assert_eq!(admin::standing(&address(topic)).unwrap().partitions, [(0, 0); 5]);
    }
    assert_eq!(sentences(&made, Weight::Wrong), <[&str; 0]>::default());
    let notes = sentences(&made, Weight::Notable).join("; ");
    assert!(notes.contains("on one broker only") && notes.contains("no record yet"), "{notes}");
    send(broker, "made", (0..50).map(|user| (user, json(user, 1, 5))));
    assert_eq!(sentences(&made, Weight::Wrong), <[&str; 0]>::default());
    assert_eq!(admin::standing(&made).unwrap().partitions.iter().map(|edges| edges.1).sum::<u64>(), 50);
    let other: Address = format!("{made}?partitioner=crc32").parse().unwrap();
    let wrong = sentences(&other, Weight::Wrong).join("; ");
    assert!(wrong.contains("say ?partitioner=murmur2"), "{wrong}");

    broker.make_topic_with("lossy", 1, &[("cleanup.policy", "compact,delete"), ("retention.ms", "86400000")]);
    broker.send("lossy", [(-1, &b"1"[..], Some(&b"garbage"[..]))]);
    let wrong = sentences(&address("lossy"), Weight::Wrong).join("; ");
    for says in
        ["cleanup.policy compacts", "retention.ms is 86400000", "1 of the last 1 records are no transactions"]
    {
        assert!(wrong.contains(says), "{wrong}");
    }
}

/// Nobody who is not let in reads a topic, and nobody who is in the way is taken for a broker.
#[test]
fn who_logs_in_by_tls_is_let_in_and_no_other() {
    let Some(broker) = Broker::shared() else { return };
    broker.make_topic("secret", 1);
    send(broker, "secret", [(1, json(1, 1, 5))]);
    let password = tempfile::NamedTempFile::new().unwrap();
    let wrong = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), broker::PASSWORD).unwrap();
    std::fs::write(wrong.path(), "wrong").unwrap();
    let secure = |parameters: &str| -> Address {
        let text = format!("kafka://{}@{}/secret?{parameters}", broker::USER, broker.secure());
        text.parse().unwrap()
    };
    let authority = format!("sslmode=verify-full&sslrootcert={}", broker.authority().display());
    let file = |file: &tempfile::NamedTempFile| format!("passfile={}", file.path().display());
    for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
        let address = secure(&format!("{authority}&sasl={mechanism}&{}", file(&password)));
        assert_eq!(KafkaLedger::check_files(&address), Ok(()));
        let mut opened = None;
        eventually("who logs in is let in", || {
            opened = KafkaLedger::open(address.clone()).ok();
            opened.is_some()
        });
        let source = KafkaSource::new(&opened.unwrap());
        let status = source.status();
        let mirror = Mirror::over(source, status);
        mirror.catch_up();
        assert_eq!(mirror.told(), told([(1, 1, 5)]), "{mechanism}");
    }
    let refused = |parameters: String, says: &str| {
        eventually(&parameters, || {
            let error = KafkaLedger::open(secure(&parameters)).unwrap_err().to_string();
            assert!(!error.contains(broker::PASSWORD), "{error}");
            error.contains(says)
        });
    };
    // Each is tried for as long as brokers may take.
    std::thread::scope(|scope| {
        scope.spawn(|| refused(format!("{authority}&{}", file(&wrong)), "uthentication"));
        scope.spawn(|| refused(format!("sslmode=verify-full&{}", file(&password)), "certificate"));
        scope.spawn(|| refused(format!("{authority}&passfile=/nowhere"), "cannot read the password"));
    });
}

/// A topic as one names it who logs in by TLS, and the file with his password.
fn login(broker: &Broker, topic: &str) -> (tempfile::NamedTempFile, Address) {
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), broker::PASSWORD).unwrap();
    let parameters =
        format!("sslrootcert={}&passfile={}", broker.authority().display(), password.path().display());
    let text =
        format!("kafka://{}@{}/{topic}?sslmode=verify-full&{parameters}", broker::USER, broker.secure());
    (password, text.parse().unwrap())
}

/// Each right that a node, a look, a publication and the making of a topic take: where it is missing they say which, with an exit code of
/// its own, and a node goes on once it is there. Of a group no right is needed.
#[test]
fn a_right_that_is_missing_is_named_and_a_node_goes_on_once_it_is_there() {
    let Some(broker) = Broker::shared() else { return };
    let (_password, guarded) = login(broker, "guarded");
    let lacks = |error: &LedgerError, right: &str| {
        let sentence = format!("--allow-principal User:florin --operation {right} --topic ");
        error.exit_code == 20 && error.to_string().contains(&sentence)
    };
    broker.make_topic("guarded", 1);
    send(broker, "guarded", [(1, json(1, 1, 5))]);
    // From its first rule on nobody may do anything with a topic who is not named in one.
    broker.allow("somebody-else", Operation::Read, Resource::Topic("guarded"));
    eventually("it may not be seen", || {
        KafkaLedger::open(guarded.clone()).is_err_and(|error| lacks(&error, "Describe"))
    });

    broker.allow(broker::USER, Operation::Describe, Resource::Topic("guarded"));
    let mut opened = None;
    eventually("it may be seen", || {
        opened = KafkaLedger::open(guarded.clone()).ok();
        opened.is_some()
    });
    eventually("it may not be read", || check::check(&guarded).is_err_and(|error| lacks(&error, "Read")));
    let source = KafkaSource::new(&opened.unwrap());
    let status = source.status();
    let mirror = Mirror::over(source, status);
    eventually("a node says why", || mirror.doing().contains("--operation Read --topic guarded"));
    broker.allow(broker::USER, Operation::Read, Resource::Topic("guarded"));
    mirror.catch_up();
    assert_eq!(mirror.told(), told([(1, 1, 5)]));

    // Whoever was not told the settings was told that they are right.
    let found = check::check(&guarded).unwrap();
    assert!(!found.iter().any(|found| found.sentence == "it keeps all of its records"), "{found:?}");
    assert!(found.iter().any(|found| found.sentence.contains("--operation DescribeConfigs")), "{found:?}");
    let text = json(1, 2, 5);
    let publish = || {
        let mut publisher = Publisher::begin(&guarded, &mut |_| {})?;
        let transaction = TransactionText {
            transaction_id: &text[19..55],
            user_id: "1",
            asset: "COIN",
            kind: "recharge",
            amount: "5",
            occurred_at: "2026-11-22T04:05:06Z",
        };
        publisher.offer(&Entered { transaction: transaction.parse().unwrap(), version: Version(2) })?;
        publisher.finish()
    };
    eventually("it may not be written to", || publish().is_err_and(|error| lacks(&error, "Write")));
    broker.allow(broker::USER, Operation::Write, Resource::Topic("guarded"));
    eventually("it may be written to", || publish().is_ok());
    mirror.catch_up();
    assert_eq!(mirror.versions_of(1), 2);

    for resource in [Resource::Topic("unmade"), Resource::Cluster] {
        broker.allow("somebody-else", Operation::Create, resource);
    }
    let making = Making { partitions: Some(1), replicas: Some(1) };
    let (_password, unmade) = login(broker, "unmade");
    eventually("it may not be made", || {
        let made = admin::init(&unmade, making);
        made.is_err_and(|error| lacks(&error, "Create"))
    });
}

/// A topic that was removed and made again has the same name, the same cluster and, soon, as many records.
#[test]
fn another_topic_under_the_same_name_is_noticed() {
    let Some(broker) = Broker::shared() else { return };
    let topic = "anew";
    broker.make_topic(topic, 2);
    send(broker, topic, (0..9).map(|user| (user, json(user, 1, 5))));
    let mut source = KafkaSource::new(&ledger(broker, topic));
    let position = position_of(&mut source);
    assert_eq!(source.resume(&position, &position), Ok(()));
    let encoded = position.encode();
    let mirror = follow(broker, topic);
    mirror.catch_up();
    broker.remove_topic(topic);
    eventually("a topic that is gone can be made again", || {
        std::panic::catch_unwind(|| broker.make_topic(topic, 2)).is_ok()
    });
    send(broker, topic, (0..9).map(|user| (user, json(user, 1, 6))));
    eventually("it is noticed", || mirror.said("was made anew"));
    assert_eq!(mirror.told(), told((0..9).map(|user| (user, 1, 5))), "nothing of it is applied");
    let position = florin_kafka::KafkaPosition::decode(&encoded).unwrap();
    let mut later = KafkaSource::new(&ledger(broker, topic));
    eventually("the checkpoint is refused", || match later.resume(&position, &position) {
        Err(SourceError::Replaced(reason)) => reason.contains("is another one"),
        _ => false,
    });
}

/// Reads all that there is.
fn position_of(source: &mut KafkaSource) -> florin_kafka::KafkaPosition {
    source.load(None).unwrap();
    let (mut last, mut rows, mut us) = (None, Vec::new(), 0);
    eventually("everything is read", || {
        us += 1_000_000;
        let now = florin_core::clock::Now { wall_us: 0, monotonic_us: us };
        let progress = source.next(now, &mut rows).unwrap();
        last = progress.position.or(last.take());
        progress.complete_before.is_some()
    });
    last.unwrap()
}
