//! Whole nodes on a topic, as an operator has them. All tests share one broker, which `scripts/kafka` fetches; without it they say so
//! and do nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rdkafka::producer::Producer;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Server, florin, get, run, run_until_fresh, run_with_input, transaction, wait_for};

#[path = "../../sources/kafka/tests/live/broker.rs"]
#[allow(dead_code)]
pub mod broker;

use broker::{Broker, put};

const LONG: Duration = Duration::from_secs(60);

/// A recharge, as florin writes it.
pub fn json(user: u64, version: u64, amount: u64) -> String {
    format!(
        r#"{{"transaction_id":"00000000-0000-4000-8000-{user:06x}{version:06x}","user_id":"{user}","version":"{version}","asset":"COIN","kind":"recharge","amount":"{amount}","occurred_at":"2026-11-22T04:05:06Z"}}"#
    )
}

/// Version after version of some users, each with an amount of 1.
pub fn send(
    broker: &Broker,
    topic: &str,
    users: std::ops::Range<u64>,
    versions: std::ops::RangeInclusive<u64>,
) {
    let rows = versions
        .flat_map(|version| users.clone().map(move |user| (user.to_string(), json(user, version, 1))));
    let rows: Vec<(String, String)> = rows.collect();
    broker.send(topic, rows.iter().map(|(key, value)| (-1, key.as_bytes(), Some(value.as_bytes()))));
}

/// What producers may get wrong, of users 1 to 7 who have two rows each: a duplicate, garbage, another content under a version that is taken, a
/// value that is none, a tombstone, a record where no producer should put it, and a transaction that never was.
pub fn send_wrong(broker: &Broker, topic: &str, partitions: i32) {
    let (again, other, astray) = (json(1, 2, 1), json(2, 2, 5), json(5, 3, 1));
    let long = "x".repeat(1 << 20);
    let partition = |user: &str| {
        let partitioner = florin_schema::Partitioner::Murmur2;
        partitioner.partition_of(user.as_bytes(), partitions as u32).cast_signed()
    };
    broker.send(
        topic,
        [
            (-1, &b"1"[..], Some(again.as_bytes())),
            (-1, b"1", Some(b"garbage")),
            (-1, b"2", Some(other.as_bytes())),
            (-1, b"4", Some(long.as_bytes())),
            ((partition("5") + 1) % partitions, b"5", Some(astray.as_bytes())),
            (-1, b"6", None),
        ],
    );
    let producer = broker.producer(&[("transactional.id", topic)]);
    producer.init_transactions(LONG).unwrap();
    producer.begin_transaction().unwrap();
    put(&producer, topic, -1, b"7", Some(json(7, 3, 9).as_bytes()));
    producer.flush(LONG).unwrap();
    producer.abort_transaction(LONG).unwrap();
}

/// How a node that follows all of that counts it.
pub const WRONG: [(&str, u64); 5] =
    [("unreadable", 4), ("oversize", 1), ("misplaced", 1), ("contradicting", 1), ("changes", 1)];

/// A counter or gauge of a node's.
pub fn metric(server: &Server, name: &str) -> Option<u64> {
    let page = get(server.admin, "/metrics");
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn reaches(server: &Server, name: &str, value: u64) {
    wait_for(name, || (metric(server, name) == Some(value)).then_some(()));
}

fn balance(folder: &TempDir, server: &Server, user: u64, version: u64) -> String {
    let (user, version) = (user.to_string(), version.to_string());
    let asked =
        ["get", "balance", &user, "--min-version", &version, "--wait-ms", "1000", "--addr", &server.addr()];
    run_until_fresh(folder.path(), &asked).ok()
}

/// What a POST is answered.
fn post(admin: SocketAddr, body: &str) -> String {
    let mut stream = TcpStream::connect(admin).expect("somebody listens");
    write!(
        stream,
        "POST /v1/transactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .expect("a connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("florin writes UTF-8");
    answer
}

#[test]
fn a_topic_is_made_checked_and_followed_and_what_is_wrong_in_it_is_counted() {
    let Some(broker) = Broker::shared() else { return };
    let folder = TempDir::new().unwrap();
    let address = broker.address("served");
    let ledger = |command: &str| run(folder.path(), &["ledger", command, &address]);
    wait_for("the brokers say that it is not there", || {
        ledger("check").refused(21).contains("florin ledger init").then_some(())
    });
    let init = ["ledger", "init", &address, "--partitions", "3", "--replicas", "1"];
    assert!(run(folder.path(), &init).ok().starts_with("made kafka://"));
    assert!(run(folder.path(), &init).ok().starts_with("there already: kafka://"));
    assert!(
        run(folder.path(), &["ledger", "init", "--partitions", "3"]).refused(2).contains("for a Kafka topic")
    );
    send(broker, "served", 1..10, 1..=2);
    assert!(ledger("check").ok().contains("right  the last 18 records lie where murmur2 says"));
    assert!(ledger("status").ok().contains("18 offsets"));

    let server = Server::start(folder.path(), &["--ledger", &address, "--shards", "1", "--audit", "1%"]);
    assert!(balance(&folder, &server, 3, 2).starts_with("user 3, version 2"));
    let refused = post(server.admin, &transaction(1, 3, "1"));
    assert!(
        refused.starts_with("HTTP/1.1 501") && refused.contains("into which its producers write"),
        "{refused}"
    );
    let audited = get(server.admin, "/v1/audit");
    assert!(audited.contains("in the order in which they came"), "{audited}");

    send_wrong(broker, "served", 3);
    for (name, count) in WRONG {
        reaches(&server, &format!("florin_kafka_{name}_total"), count);
    }
    // The accounts that they name say so, all others go on, and what comes next mends what can be mended.
    send(broker, "served", 1..10, 3..=3);
    for user in [3, 6, 7, 8, 9] {
        let answer = balance(&folder, &server, user, 3);
        assert!(
            !answer.contains("quarantined") && answer.starts_with(&format!("user {user}, version 3")),
            "{answer}"
        );
    }
    let plain = |user: &str| run(folder.path(), &["get", "balance", user, "--addr", &server.addr()]).ok();
    wait_for("user 1 is whole again", || {
        let answer = plain("1");
        (answer.starts_with("user 1, version 3") && !answer.contains("quarantined")).then_some(())
    });
    for user in ["2", "5"] {
        assert!(plain(user).contains("quarantined"), "{user}");
    }
    assert!(get(server.admin, "/readyz").starts_with("HTTP/1.1 200"));
    let wrong = run(folder.path(), &["ledger", "check", &address]);
    assert!(wrong.out.contains("WRONG  of the last 33 records 1 lie elsewhere"), "{wrong:?}");
}

/// A platform's ledger in two kinds of databases, published: a node that follows the topic answers every account and every window to the
/// byte as the ledger's rows amount to, as `florin audit` recomputes them. A publication that is killed goes on where it stopped, and one
/// that was made again adds nothing.
#[test]
fn a_ledger_is_published_once_however_often_and_the_topics_answers_are_the_ledgers() {
    let Some(broker) = Broker::shared() else { return };
    let folder = TempDir::new().unwrap();
    let say = |words: &[&str]| run(folder.path(), words).ok();
    say(&["generate", "--users", "300", "--transactions", "20000", "--ledger", "sqlite:bank.db"]);
    let address = broker.address("published");
    say(&["ledger", "init", &address, "--partitions", "6", "--replicas", "1"]);
    let publish = ["publish", &address, "--from", "sqlite:bank.db"];
    let offsets = || florin_kafka::admin::standing(&address.parse().unwrap()).unwrap().partitions;
    let records = || offsets().iter().map(|(_, end)| end).sum::<u64>();
    let mut killed = florin(folder.path(), &publish).spawn().unwrap();
    wait_for("some of it", || (0..6).any(|partition| broker.has_any("published", partition)).then_some(()));
    killed.kill().unwrap();
    killed.wait().unwrap();
    say(&publish);
    assert_eq!(records(), 20_000, "nothing is missing, and nothing is there twice");
    assert!(say(&publish).contains("published 0 transactions"));

    let server =
        Server::start(folder.path(), &["--ledger", &address, "--shards", "2", "--shards-per-cpu", "2"]);
    let audit = ["audit", "--ledger", "sqlite:bank.db", "--node", &server.addr()];
    let proven = say(&audit);
    assert!(proven.starts_with("300 accounts are answered"), "{proven}");

    // What is committed while it goes on follows, through the topic, to whoever asks.
    let writer = Server::start(folder.path(), &["--ledger", "sqlite:bank.db", "--shards", "1"]);
    let mut follower = florin(folder.path(), &[&publish[..], &["--follow"]].concat()).spawn().unwrap();
    let admin = writer.admin.to_string();
    for version in 1..=20 {
        let line = transaction(version, 4_000_000_000, "7");
        run_with_input(folder.path(), &["apply", "-", "--admin", &admin], &line).ok();
    }
    assert!(balance(&folder, &server, 4_000_000_000, 20).contains("140"));
    say(&audit);
    follower.kill().unwrap();
    follower.wait().unwrap();

    // Another ledger has other rows of the same accounts.
    say(&[
        "generate",
        "--users",
        "300",
        "--transactions",
        "5000",
        "--seed",
        "5",
        "--ledger",
        "sqlite:other.db",
    ]);
    let refused = run(folder.path(), &["publish", &address, "--from", "sqlite:other.db"]).refused(21);
    assert!(refused.contains("into a topic of its own"), "{refused}");
    assert_eq!(records(), 20_020, "nothing of it was published");
    assert!(
        run(folder.path(), &["publish", "sqlite:x.db", "--from", &address])
            .refused(2)
            .contains("expected a Kafka topic")
    );
}

/// The state of a node that was killed is gone on with: from its offsets, and in the very topic that it is of.
#[test]
fn a_node_that_is_killed_goes_on_from_its_checkpoint_and_in_no_other_topic() {
    let Some(broker) = Broker::shared() else { return };
    let folder = TempDir::new().unwrap();
    let started = |topic: &str, shards: &str| {
        let keeps = ["--checkpoint", "checkpoints", "--checkpoint-every-s", "off", "--shards-per-cpu", "3"];
        Server::start(
            folder.path(),
            &[&keeps[..], &["--ledger", &broker.address(topic), "--shards", shards]].concat(),
        )
    };
    for topic in ["killed", "other"] {
        broker.make_topic(topic, 3);
        send(broker, topic, 0..7, 1..=10);
    }
    let mut server = started("killed", "2");
    reaches(&server, "florin_checkpoints_total", 1);
    for (version, shards) in [(11, "3"), (12, "1")] {
        send(broker, "killed", 0..4, version..=version);
        server.signal(Signal::KILL);
        server.ended();
        send(broker, "killed", 4..7, version..=version);
        server = started("killed", shards);
        assert_eq!(metric(&server, "florin_restored_accounts"), Some(7));
        for user in [0, 6] {
            let answer = balance(&folder, &server, user, version);
            assert!(answer.starts_with(&format!("user {user}, version {version}")), "{answer}");
        }
    }
    server.signal(Signal::KILL);
    server.ended();
    let server = started("other", "1");
    assert_eq!(metric(&server, "florin_checkpoint_refused"), Some(1));
    let reasons = get(server.admin, "/readyz");
    assert!(reasons.contains("kafka"), "{reasons}");
    assert!(balance(&folder, &server, 0, 10).starts_with("user 0, version 10"));
}

/// What becomes of a broker.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Absence {
    /// It takes connections, and answers nothing.
    Frozen,
    /// It is killed, and started again.
    Crashed,
    /// It is ended as an operator would, and started again.
    Ended,
}

/// While its brokers are away a node answers what it held and says how old that is, why in `/readyz`, and refuses those who want it newer; a
/// node that may not answer anything so old refuses everybody. Once they are back both have what was written meanwhile, once.
/// `FLORIN_BROKER_ENDS=50` takes the broker away so often.
#[test]
fn a_node_whose_broker_is_away_says_so_and_lacks_nothing_afterwards() {
    let Some(mut broker) = Broker::start() else { return };
    let rounds = std::env::var("FLORIN_BROKER_ENDS").map_or(2, |rounds| rounds.parse().expect("a number"));
    let folder = TempDir::new().unwrap();
    broker.make_topic("away", 3);
    send(&broker, "away", 1..10, 1..=1);
    let address = broker.address("away");
    let start = |staleness_ms: &str| {
        let stale = ["--max-staleness-ms", staleness_ms];
        Server::start(folder.path(), &[&["--ledger", &address, "--shards", "1"], &stale[..]].concat())
    };
    // Minutes, and next to nothing.
    let (patient, strict) = (start("600000"), start("500"));
    let plain = |server: &Server, user: u64| get(server.any, &format!("/v1/users/{user}/balance"));
    let is = |answer: &str, status: &str| answer.starts_with(&format!("HTTP/1.1 {status} ")).then_some(());
    let has = |answer: &str, version: u64| {
        is(answer, "200").filter(|()| answer.contains(&format!("\"version\":\"{version}\"")))
    };
    for round in 0..rounds {
        let version = round + 1;
        for server in [&patient, &strict] {
            wait_for("it has all", || has(&plain(server, 3), version));
            wait_for("it is ready", || is(&get(server.admin, "/readyz"), "200"));
        }
        let absence = [Absence::Frozen, Absence::Crashed, Absence::Ended][round as usize % 3];
        match absence {
            Absence::Frozen => broker.freeze(),
            Absence::Crashed => broker.crash(),
            Absence::Ended => broker.end(),
        }
        let newer = "/v1/users/3/balance?max_age_ms=50";
        wait_for("who wants it newer is refused", || is(&get(patient.any, newer), "412"));
        wait_for("nobody is answered what is too old", || is(&plain(&strict, 3), "503"));
        for (server, says) in [
            (&patient, "the ledger cannot be read: the Kafka brokers"),
            (&strict, "has not heard from the ledger"),
        ] {
            wait_for(says, || {
                let reasons = get(server.admin, "/readyz");
                (reasons.starts_with("HTTP/1.1 503") && reasons.contains(says)).then_some(())
            });
        }
        let held = plain(&patient, 3);
        assert!(has(&held, version).is_some(), "{held}");
        let lag = get(patient.admin, "/metrics");
        let lag =
            lag.lines().find_map(|line| line.strip_prefix("florin_watermark_lag_seconds{shard=\"0\"} "));
        assert!(lag.is_some_and(|lag| lag.parse::<f64>().unwrap() > 0.05), "{absence:?}: {lag:?}");
        match absence {
            Absence::Frozen => broker.thaw(),
            Absence::Crashed | Absence::Ended => broker.resume(),
        }
        send(&broker, "away", 1..10, version + 1..=version + 1);
    }
    for server in [&patient, &strict] {
        for user in 1..10 {
            wait_for("what was written meanwhile", || has(&plain(server, user), rounds + 1));
        }
        wait_for("it is ready", || is(&get(server.admin, "/readyz"), "200"));
        assert_eq!(metric(server, "florin_feed_rows_total"), Some(9 * (rounds + 1)));
        assert_eq!(metric(server, "florin_feed_rereads_total"), Some(0));
        assert!(metric(server, "florin_kafka_sessions_total") > Some(1));
    }
}
