//! The same ledgers in a real Kafka topic: as florin publishes them, as Debezium would, and as it does. Half of the records are there when
//! the node starts, the other half comes while it runs. Then nodes that load all of it answer: one, and three that divide the users.

use std::net::SocketAddr;
use std::path::Path;
#[cfg(feature = "postgres")]
use std::process::{Command, Stdio};

use florin::drivers::DriverChoice;
use florin::sources::{LedgerAddress, exporter};
use florin_kafka::Publisher;
use florin_record::Entered;

use super::{NOW_US, apply_all, bank, every_account_of, generated, start};
use crate::callers::{ClientCaller, HttpCaller};
use crate::group::{Group, PARTITIONS, settles};
use crate::recomputed::{self, Ledger};

#[path = "../../sources/kafka/tests/live/broker.rs"]
#[allow(dead_code)]
mod broker;

use broker::Broker;

/// Who writes the topic.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Producer {
    Florin,
    /// Its envelopes, without a schema, of a PostgreSQL's table: of rows that were there before it, and of those that came later.
    Debezium,
}

/// All rows of a ledger's file, in the order in which they were committed.
fn rows(ledger: &Path) -> Vec<Entered> {
    let mut reader = exporter(&ledger.to_owned().into()).expect("the ledger's file");
    let mut rows = Vec::new();
    loop {
        let before = rows.len();
        reader.next(&mut rows).expect("its rows");
        if rows.len() == before {
            return rows;
        }
    }
}

fn publish(broker: &Broker, topic: &str, producer: Producer, rows: &[Entered], op: &str) {
    match producer {
        Producer::Florin => {
            let address = broker.address(topic).parse().expect("an address");
            let mut publisher = Publisher::begin(&address, &mut |_| {}).expect("a topic");
            rows.iter().for_each(|row| assert!(publisher.offer(row).expect("a broker")));
            publisher.finish().expect("all of it");
        }
        Producer::Debezium => {
            let records: Vec<_> = rows.iter().map(|row| envelope(row, op)).collect();
            let parts = records.iter().map(|(key, value)| (-1, key.as_bytes(), Some(value.as_bytes())));
            broker.send(topic, parts);
        }
    }
}

fn envelope(row: &Entered, op: &str) -> (String, String) {
    let Entered { transaction, version } = row;
    let (user, kind) = (transaction.user_id, transaction.kind.number());
    let (asset, amount, at) = (transaction.asset, transaction.amount, transaction.occurred_at_us);
    let columns = format!(
        r#"{{"seq":1,"transaction_id":"{}","user_id":{user},"version":{version},"asset":"{asset}","kind":{kind},"amount":{amount},"occurred_at":{at}}}"#,
        transaction.transaction_id
    );
    let value = format!(
        r#"{{"before":null,"after":{columns},"source":{{"connector":"postgresql"}},"op":"{op}","ts_ms":1}}"#
    );
    (user.to_string(), value)
}

fn is_answered_exactly(ledger: &Path, name: &str, now_us: i64) {
    let Some(broker) = Broker::shared() else { return };
    let rows = rows(ledger);
    let (first, second) = rows.split_at(rows.len() / 2);
    for producer in [Producer::Florin, Producer::Debezium] {
        let topic = format!("{name}-{producer:?}");
        broker.make_topic(&topic, PARTITIONS as i32);
        publish(broker, &topic, producer, first, "r");
        let publish_more = || publish(broker, &topic, producer, second, "c");
        follow(broker, &topic, rows.len() as u64, now_us, publish_more);
        nodes_answer_exactly(broker, &topic, &Ledger::read(ledger), now_us);
    }
}

/// A node that has some of the rows when it starts has all of them once more have come.
fn follow(broker: &Broker, topic: &str, rows: u64, now_us: i64, more: impl FnOnce()) {
    let address: LedgerAddress = broker.address(topic).parse().expect("an address");
    let node = start(DriverChoice::Ring, &address, 2, Some(now_us));
    more();
    apply_all(&node, rows);
    node.drain();
    node.join().expect("a clean end");
}

/// One node, and three that divide the users.
fn nodes_answer_exactly(broker: &Broker, topic: &str, ledger: &Ledger, now_us: i64) {
    let address = broker.address(topic);
    every_account_of(&address.parse().expect("an address"), ledger, DriverChoice::Ring, now_us);

    let folder = tempfile::tempdir().expect("a directory");
    let group = Group { folder: folder.path(), ledger: address, name: topic };
    let now = jiff::Timestamp::from_microsecond(now_us).expect("a time").to_string();
    let nodes = [(); 3].map(|()| group.start("127.0.0.1:0", &["--now", &now]));
    let any: Vec<SocketAddr> = nodes.iter().map(|node| node.any).collect();
    settles(&any);
    let client = ClientCaller::connect(any[0]);
    let mut http: Vec<HttpCaller> = any.iter().map(|&node| HttpCaller::connect(node)).collect();
    for (&user, rows) in &ledger.accounts {
        let expected = recomputed::account(user, rows, now_us);
        assert_eq!(client.account(user), expected, "by the client");
        for caller in &mut http {
            assert_eq!(caller.account(user), expected, "JSON");
        }
    }
    let sent_on = http.iter().map(|caller| caller.sent_on).sum::<usize>();
    assert!(sent_on > 0, "each of them would have all users");
    let users: Vec<u64> = ledger.accounts.keys().copied().chain([4_000_000_000]).collect();
    for ids in users.chunks(1_024) {
        let balance =
            |user| ledger.accounts.get(user).map(|rows| recomputed::account(*user, rows, now_us).balance);
        let expected: Vec<_> = ids.iter().map(balance).collect();
        assert_eq!(client.batch(ids), expected, "the client's batch");
        // Over HTTP each node answers about its own, and says of others that they are not.
        let mut answered = vec![None; ids.len()];
        for caller in &mut http {
            for (answered, came) in answered.iter_mut().zip(caller.batch(ids)) {
                *answered = came.or(answered.take());
            }
        }
        assert_eq!(answered, expected, "JSON batches");
    }
}

#[test]
fn a_generated_platform_is_answered_exactly() {
    let directory = tempfile::tempdir().expect("a directory");
    is_answered_exactly(&generated(directory.path()), "platform", NOW_US);
}

#[test]
fn a_banks_transactions_are_answered_exactly() {
    let directory = tempfile::tempdir().expect("a directory");
    for (ledger, name) in bank::ledgers(directory.path()).into_iter().zip(["bank", "real-bank"]) {
        is_answered_exactly(&ledger, name, bank::NOW_US);
    }
}

/// Debezium's own embedded engine reads a PostgreSQL, first a snapshot and then its log, and Kafka's own Java client says the partitions.
/// `make debezium` fetches them, and names their folder in `FLORIN_DEBEZIUM`.
#[cfg(feature = "postgres")]
#[test]
fn what_debezium_publishes_is_answered_exactly() {
    let (Some(jars), Some(broker)) = (std::env::var_os("FLORIN_DEBEZIUM"), Broker::shared()) else {
        eprintln!("skipped: make debezium fetches it");
        return;
    };
    let directory = tempfile::tempdir().expect("a directory");
    let florin = |words: &[&str]| crate::support::run(directory.path(), words).ok();
    let banks = bank::ledgers(directory.path()).into_iter().zip(["bank", "real-bank"]);
    let platform = (generated(directory.path()), "platform", NOW_US);
    let ledgers = banks.map(|(ledger, name)| (ledger, name, bank::NOW_US)).chain([platform]);
    for ((ledger, name, now_us), schema) in ledgers.zip(["without-schema", "with-schema"].into_iter().cycle())
    {
        let (topic, rows) = (format!("debezium-{name}"), super::postgres::rows(&ledger));
        let (first, second) = rows.split_at(rows.len() / 2);
        let postgres = super::postgres::server::Server::start();
        florin(&["ledger", "init", &format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port)]);
        super::postgres::copy(&postgres, first);
        broker.make_topic(&topic, PARTITIONS as i32);
        let offsets = directory.path().join(&topic);
        std::fs::create_dir(&offsets).expect("a folder");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/sources/kafka/tests/debezium/Publish.java");
        let mut engine = Command::new("java");
        engine.arg("-cp").arg(Path::new(&jars).join("*")).arg(source);
        engine.args(["127.0.0.1", &postgres.port.to_string(), "postgres", "postgres"]);
        engine.args([&broker.bootstrap(), &topic]).arg(&offsets).arg(schema);
        let mut engine = engine.stdin(Stdio::piped()).spawn().expect("a Java");
        follow(broker, &topic, rows.len() as u64, now_us, || super::postgres::copy(&postgres, second));
        drop(engine.stdin.take());
        assert!(engine.wait().expect("its end").success());
        let checked = florin(&["ledger", "check", &broker.address(&topic)]);
        assert!(checked.contains("lie where murmur2 says"), "{checked}");
        nodes_answer_exactly(broker, &topic, &Ledger::read(&ledger), now_us);
        eprintln!("{name}, {schema}: {} rows are answered exactly, by one node and by three", rows.len());
    }
}
