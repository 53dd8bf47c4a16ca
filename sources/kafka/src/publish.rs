//! `florin publish`: a ledger's rows into a topic, in the order of each account's versions, by an idempotent producer that waits until all
//! replicas that are in sync have them.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use florin_core::ledger::Transaction;
use florin_record::{Entered, LedgerError, NewTransaction, time};
use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use crate::address::Address;
use crate::client::{Asker, Edge, Reader, Sees, config, record};
use crate::decoder::{self, Said};
use crate::failure::{Failure, Right, refused, unavailable};
use crate::ledger::check_first;
use crate::limits::{POLL_PAUSE, PUBLISH_PAUSE, PUBLISH_TIMEOUT, SILENCE};
use crate::position::KafkaIdentity;
use crate::published::{Offer, Published};

/// See the module.
pub struct Publisher {
    address: Address,
    identity: KafkaIdentity,
    producer: BaseProducer<Deliveries>,
    published: Published,
    /// The record that is being written.
    key: String,
    value: String,
}

/// What became of records that were sent.
#[derive(Default)]
struct Deliveries {
    /// Why the first that was not taken was not.
    refused: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}

impl Publisher {
    /// Reads what the topic has. `read` is told how many records that were, again and again.
    ///
    /// # Errors
    /// Where it cannot be read, or not be written to.
    pub fn begin(address: &Address, read: &mut dyn FnMut(u64)) -> Result<Publisher, LedgerError> {
        Ok(begin(address, read)?)
    }

    /// Publishes a row, if the topic lacks it; whether it does. Of an account the rows before it were offered before.
    ///
    /// # Errors
    /// That the topic is another ledger's; that the brokers do not take records.
    pub fn offer(&mut self, row: &Entered) -> Result<bool, LedgerError> {
        let NewTransaction { user_id, asset, kind, amount, occurred_at_us, .. } = row.transaction;
        let known = Transaction { user_id, version: row.version, asset, kind, amount, occurred_at_us };
        match self.published.offer(&known) {
            Offer::There => Ok(false),
            Offer::Missing => Ok(self.send(row).map(|()| true)?),
            Offer::Other => Err(Failure::Replaced(format!(
                "{} has another row of user {user_id} than this ledger has as version {}, or before it: it is another ledger's, or was \
                 written to by somebody else. Publish into a topic of its own",
                self.identity, row.version
            ))
            .into()),
        }
    }

    /// Waits until everything that was sent is there.
    ///
    /// # Errors
    /// Why something is not: what is missing is sent by the next publication.
    pub fn finish(&mut self) -> Result<(), LedgerError> {
        let flushed = self.producer.flush(PUBLISH_TIMEOUT);
        self.check()?;
        Ok(flushed.map_err(|error| self.untaken(&error))?)
    }

    fn send(&mut self, row: &Entered) -> Result<(), Failure> {
        self.key.clear();
        self.value.clear();
        let _ = write!(self.key, "{}", row.transaction.user_id);
        write_json(&mut self.value, row);
        let KafkaIdentity { topic, partitions, partitioner, .. } = &self.identity;
        let partition = partitioner.partition_of(self.key.as_bytes(), *partitions).cast_signed();
        let mut record = BaseRecord::to(topic).partition(partition).key(&self.key).payload(&self.value);
        let deadline = Instant::now() + PUBLISH_TIMEOUT;
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                // Brokers are slower than the ledger: some records have to be taken first.
                Err((error, same)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    if Instant::now() > deadline {
                        return Err(self.untaken(&error));
                    }
                    self.producer.poll(PUBLISH_PAUSE);
                    record = same;
                }
                Err((error, _)) => return Err(self.untaken(&error)),
            }
        }
        self.producer.poll(Duration::ZERO);
        self.check()
    }

    fn check(&self) -> Result<(), Failure> {
        let refused = self.producer.context().refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.as_ref().map_or(Ok(()), |error| Err(self.untaken(error)))
    }

    fn untaken(&self, error: &KafkaError) -> Failure {
        let what = format!("the brokers do not take records of topic {}", self.identity.topic);
        refused(&self.address, Right::Write, &what, error)
    }
}

fn begin(address: &Address, read: &mut dyn FnMut(u64)) -> Result<Publisher, Failure> {
    let asker = Asker::new(address, Sees::Committed)?;
    let identity = asker.identity()?;
    let first = asker.edges(Edge::First, identity.partitions)?;
    check_first(&identity, (0..).zip(first.iter().copied()))?;
    let ends = asker.edges(Edge::Last, identity.partitions)?;
    let published = what_is_there(address, &identity, first, &ends, read)?;
    let producer = config(address)?
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .set("message.timeout.ms", PUBLISH_TIMEOUT.as_millis().to_string())
        .create_with_context(Deliveries::default())
        .map_err(|error| unavailable("the Kafka client does not start", &error))?;
    Ok(Publisher {
        address: address.clone(),
        identity,
        producer,
        published,
        key: String::new(),
        value: String::new(),
    })
}

fn what_is_there(
    address: &Address,
    identity: &KafkaIdentity,
    mut reached: Vec<u64>,
    ends: &[u64],
    read: &mut dyn FnMut(u64),
) -> Result<Published, Failure> {
    let reader = Reader::begin(address, (0..).zip(reached.clone()))?;
    let (mut published, mut records, mut deadline) = (Published::default(), 0, Instant::now() + SILENCE);
    while reached.iter().zip(ends).any(|(reached, end)| reached < end) {
        match reader.next(POLL_PAUSE)? {
            Some(message) => {
                let record = record(&message);
                if let Some(reached) = reached.get_mut(record.partition as usize) {
                    *reached = record.offset + 1;
                }
                // What is none of a ledger's rows a node names, and nothing here makes it one.
                if let Said::Row(row) = decoder::read(&record, identity.layout()) {
                    published.note(&row);
                }
                records += 1;
                deadline = Instant::now() + SILENCE;
            }
            None => {
                read(records);
                reader.reached(|partition, offset| {
                    if let Some(reached) = reached.get_mut(partition as usize) {
                        *reached = offset.max(*reached);
                    }
                })?;
            }
        }
        if Instant::now() > deadline {
            return Err(Failure::Unavailable(format!(
                "topic {} does not give out its records within {} s",
                identity.topic,
                SILENCE.as_secs()
            )));
        }
    }
    read(records);
    Ok(published)
}

/// As [`decoder`] reads it: names of assets and kinds, ids and times have no sign that JSON would escape.
fn write_json(value: &mut String, row: &Entered) {
    let NewTransaction { transaction_id, user_id, asset, kind, amount, occurred_at_us } = &row.transaction;
    let (version, occurred_at) = (row.version, time::text(*occurred_at_us));
    let _ = write!(
        value,
        r#"{{"transaction_id":"{transaction_id}","user_id":"{user_id}","version":"{version}","asset":"{asset}","kind":"{kind}","amount":"{amount}","occurred_at":"{occurred_at}"}}"#
    );
}

#[cfg(test)]
mod tests {
    use florin_core::ledger::Kind;
    use florin_record::TransactionId;
    use florin_schema::{Asset, UserId, Version};
    use proptest::prelude::*;

    use super::*;
    use crate::decoder::{Layout, Record};
    use florin_schema::Partitioner;

    proptest! {
        #[test]
        fn what_is_written_is_read_as_what_it_was(
            (user, version) in (0..=i64::MAX as u64, 1..=i64::MAX as u64),
            (kind, amount) in (1_i64..=10, 1..=i64::MAX),
            occurred_at_us in Transaction::OCCURRED_AT_US,
            random in any::<[u8; 10]>(),
        ) {
            let transaction = NewTransaction {
                transaction_id: TransactionId::at(0, random),
                user_id: UserId::new(user).unwrap(),
                asset: Asset::parse(b"A_9Z0123").unwrap(),
                kind: Kind::from_number(kind).unwrap(),
                amount,
                occurred_at_us,
            };
            let mut value = String::new();
            write_json(&mut value, &Entered { transaction, version: Version(version) });
            let key = user.to_string();
            let record = Record {
                partition: 0,
                offset: 0,
                time_ms: 0,
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
            };
            let NewTransaction { user_id, asset, kind, amount, occurred_at_us, .. } = transaction;
            let expected = Transaction { user_id, version: Version(version), asset, kind, amount, occurred_at_us };
            let layout = Layout { partitions: 1, partitioner: Partitioner::Murmur2 };
            prop_assert_eq!(decoder::read(&record, layout), Said::Row(expected));
        }
    }
}
