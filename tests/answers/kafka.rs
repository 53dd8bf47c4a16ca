//! The same ledgers in a real Kafka topic: as florin publishes them, and as Debezium would. Half of the records are there when the node
//! starts, the other half comes while it runs.

use std::path::Path;

use florin::drivers::DriverChoice;
use florin::sources::{LedgerAddress, exporter};
use florin_kafka::Publisher;
use florin_record::Entered;

use super::{NOW_US, apply_all, bank, every_account_of, generated, start};
use crate::recomputed::Ledger;

#[path = "../../sources/kafka/tests/live/broker.rs"]
#[allow(dead_code)]
mod broker;

use broker::Broker;

const PARTITIONS: i32 = 6;

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
        broker.make_topic(&topic, PARTITIONS);
        publish(broker, &topic, producer, first, "r");
        let address: LedgerAddress = broker.address(&topic).parse().expect("an address");
        let node = start(DriverChoice::Ring, &address, 2, Some(now_us));
        publish(broker, &topic, producer, second, "c");
        apply_all(&node, rows.len() as u64);
        node.drain();
        node.join().expect("a clean end");
        every_account_of(&address, &Ledger::read(ledger), DriverChoice::Ring, now_us);
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
