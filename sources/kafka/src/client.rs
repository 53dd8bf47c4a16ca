//! The brokers, asked with time-outs: what a topic is, where its partitions begin and end, and a reader of some of them.

use std::fs::File;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use florin_record::LedgerError;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::address::{Address, Tls, TlsMode};
use crate::decoder::{Layout, Record};
use crate::failure::{
    Failure, Right, Verdict, forbidden, is_forbidden, is_moving, judge, next_step, unavailable,
};
use crate::limits::{
    AHEAD_KILOBYTES, AHEAD_PAUSE_MS, AHEAD_RECORDS, FETCH_BACKOFF_MS, FETCH_WAIT_MS, LEADER_PAUSE,
    PARTITIONS_MAX, QUERY_TIMEOUT, RECONNECT_MS_MAX, SOCKET_TIMEOUT_MS,
};
use crate::partitions::Change;
use crate::password;
use crate::position::KafkaIdentity;

/// What the client library says goes into our log; its last complaint is remembered, for whoever wonders why nothing comes.
#[derive(Default)]
pub struct Listening {
    complaint: Mutex<String>,
}

impl ClientContext for Listening {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "{message}");
        // Why a connection failed stands nowhere else.
        if (level as i32) <= RDKafkaLogLevel::Error as i32 {
            self.remember(message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("{error}: {reason}");
        self.remember(reason);
    }
}

impl Listening {
    fn remember(&self, complaint: &str) {
        complaint.clone_into(&mut self.complaint.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ConsumerContext for Listening {}

/// Which records a reader sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sees {
    /// Those of transactions that were committed, and of none.
    Committed,
    /// All: its ends are those of the log.
    All,
}

impl Sees {
    fn isolation(self) -> &'static str {
        match self {
            Sees::Committed => "read_committed",
            Sees::All => "read_uncommitted",
        }
    }
}

/// What every client of the brokers is told: who they are, who we are, and how that is kept from others.
pub fn config(address: &Address) -> Result<ClientConfig, Failure> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address.brokers.join(","))
        .set("client.id", "florin")
        .set("socket.timeout.ms", SOCKET_TIMEOUT_MS.to_string())
        .set("reconnect.backoff.max.ms", RECONNECT_MS_MAX.to_string())
        .set("socket.nagle.disable", "true");
    let Tls { mode, root_certificates, identity } = &address.tls;
    let is_encrypted = *mode != TlsMode::Disable;
    let protocol = match (is_encrypted, &address.login) {
        (false, None) => "plaintext",
        (true, None) => "ssl",
        (false, Some(_)) => "sasl_plaintext",
        (true, Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if is_encrypted {
        let names = if *mode == TlsMode::VerifyFull { "https" } else { "none" };
        config
            .set("enable.ssl.certificate.verification", "true")
            .set("ssl.endpoint.identification.algorithm", names);
    }
    let (certificate, key) = identity.as_ref().map(|(certificate, key)| (certificate, key)).unzip();
    for (name, file) in [
        ("ssl.ca.location", root_certificates.as_ref()),
        ("ssl.certificate.location", certificate),
        ("ssl.key.location", key),
    ] {
        let Some(file) = file else { continue };
        // The library's words for a file that is missing do not name it.
        let unreadable = |error| Failure::Unavailable(format!("cannot read {}: {error}", file.display()));
        match key {
            Some(key) if key == file => florin_input::is_secret_kept(file),
            _ => File::open(file).map(drop),
        }
        .map_err(unreadable)?;
        config.set(name, file.to_string_lossy());
    }
    if let Some(login) = &address.login {
        let password = password::find(login).map_err(|error| Failure::Unavailable(error.to_string()))?;
        config
            .set("sasl.mechanism", login.mechanism.name())
            .set("sasl.username", &login.user)
            .set("sasl.password", password);
    }
    Ok(config)
}

/// Opens every file that an address names, and asks nobody.
///
/// # Errors
/// Which cannot be used, and why.
pub fn check_files(address: &Address) -> Result<(), LedgerError> {
    let mut config = config(address)?;
    config.remove("bootstrap.servers");
    config.create::<BaseConsumer>().map(drop).map_err(|error| unstarted(&error).into())
}

fn unstarted(error: &KafkaError) -> Failure {
    unavailable("the Kafka client does not start", error)
}

fn consumer(address: &Address, sees: Sees) -> Result<BaseConsumer<Listening>, Failure> {
    config(address)?
        // The library assigns nothing without a group's name. No group is joined, and no offset is kept there.
        .set("group.id", "florin")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("allow.auto.create.topics", "false")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("isolation.level", sees.isolation())
        .set("fetch.error.backoff.ms", FETCH_BACKOFF_MS.to_string())
        .set("fetch.wait.max.ms", FETCH_WAIT_MS.to_string())
        .set("fetch.queue.backoff.ms", AHEAD_PAUSE_MS.to_string())
        .set("queued.min.messages", AHEAD_RECORDS.to_string())
        .set("queued.max.messages.kbytes", AHEAD_KILOBYTES.to_string())
        .create_with_context(Listening::default())
        .map_err(|error| unstarted(&error))
}

/// Who asks brokers, and reads nothing.
pub struct Asker {
    address: Address,
    consumer: BaseConsumer<Listening>,
}

/// Where a partition begins or ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    /// The first offset that is there.
    First,
    /// Behind the last that is seen: before the first transaction that is open, or behind all that is there.
    Last,
}

impl Asker {
    /// Connects when it is asked. What it `sees` says where a partition's last edge is.
    pub fn new(address: &Address, sees: Sees) -> Result<Asker, Failure> {
        Ok(Asker { address: address.clone(), consumer: consumer(address, sees)? })
    }

    /// Which topic is there.
    pub fn identity(&self) -> Result<KafkaIdentity, Failure> {
        let partitions = self.partitions()?;
        let cluster = self.consumer.client().fetch_cluster_id(QUERY_TIMEOUT);
        let cluster = cluster.ok_or_else(|| self.silent("which cluster this is"))?;
        let Address { topic, partitioner, .. } = &self.address;
        Ok(KafkaIdentity { cluster, topic: topic.clone(), partitions, partitioner: *partitioner })
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> Result<u32, Failure> {
        // As many as PARTITIONS_MAX.
        Ok(self.replicas()?.len() as u32)
    }

    /// Of each of its partitions, on how many brokers it is.
    pub fn replicas(&self) -> Result<Vec<usize>, Failure> {
        let topic = &self.address.topic;
        self.listen();
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), QUERY_TIMEOUT)
            .map_err(|error| self.unanswered(&format!("what topic {topic} is"), &error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.ok_or_else(|| self.silent(&format!("what topic {topic} is")))?;
        if let Some(error) = found.error() {
            let error = RDKafkaErrorCode::from(error);
            if is_forbidden(error) {
                return Err(forbidden(&self.address, Right::Describe));
            }
            return Err(Failure::Unavailable(format!(
                "topic {topic} cannot be read ({error}): florin ledger init makes it where it is not there"
            )));
        }
        match found.partitions().len() {
            0 => Err(self.silent(&format!("which partitions topic {topic} has"))),
            count if count > PARTITIONS_MAX => Err(Failure::Unavailable(format!(
                "topic {topic} has {count} partitions: expected at most {PARTITIONS_MAX}"
            ))),
            _ => Ok(found.partitions().iter().map(|partition| partition.replicas().len()).collect()),
        }
    }

    /// Where each of the first `partitions` begins or ends. While a partition's leader is being found, as it is just after a topic was made
    /// or a broker has ended, it is asked again.
    pub fn edges(&self, edge: Edge, partitions: u32) -> Result<Vec<u64>, Failure> {
        let what = || format!("where the partitions of topic {} begin and end", self.address.topic);
        let deadline = Instant::now() + QUERY_TIMEOUT;
        loop {
            match self.edges_now(edge, partitions) {
                Ok(edges) => return edges.ok_or_else(|| self.silent(&what())),
                Err(error) if may_be_told_soon(&error) => {
                    // The library learns of a new leader here. The broker that it asks may not have heard of the topic, either.
                    let known = self.replicas();
                    if Instant::now() >= deadline {
                        known?;
                        return Err(self.unanswered(&what(), &error));
                    }
                    thread::sleep(LEADER_PAUSE);
                }
                Err(error) => return Err(self.unanswered(&what(), &error)),
            }
        }
    }

    /// `None` where the brokers leave one out.
    fn edges_now(&self, edge: Edge, partitions: u32) -> Result<Option<Vec<u64>>, KafkaError> {
        self.listen();
        let mut asked = TopicPartitionList::with_capacity(partitions as usize);
        for partition in 0..partitions {
            // In place of a time, these ask for the log's ends.
            let offset = if edge == Edge::First { Offset::Beginning } else { Offset::End };
            asked.add_partition_offset(&self.address.topic, partition.cast_signed(), offset)?;
        }
        let told = self.consumer.offsets_for_times(asked, QUERY_TIMEOUT)?;
        let mut edges = vec![None; partitions as usize];
        for element in told.elements() {
            element.error()?;
            if let (Offset::Offset(offset @ 0..), Some(edge)) =
                (element.offset(), edges.get_mut(element.partition() as usize))
            {
                *edge = Some(offset.cast_unsigned());
            }
        }
        Ok(edges.into_iter().collect())
    }

    /// Lets the library say what it has to: nothing is read here.
    fn listen(&self) {
        let _ = self.consumer.poll(Duration::ZERO);
    }

    fn unanswered(&self, what: &str, error: &KafkaError) -> Failure {
        if error.rdkafka_error_code().is_some_and(is_forbidden) {
            return forbidden(&self.address, Right::Describe);
        }
        self.listen();
        Failure::Unavailable(format!(
            "the Kafka brokers {} do not say {what} ({error}){}{}",
            self.address.brokers.join(","),
            complaint(&self.consumer),
            next_step(error)
        ))
    }

    fn silent(&self, what: &str) -> Failure {
        self.listen();
        Failure::Unavailable(format!(
            "the Kafka brokers {} do not say {what}{}",
            self.address.brokers.join(","),
            complaint(&self.consumer)
        ))
    }
}

/// Whether a partition is on its way from broker to broker. One that is to lead it may not have heard of it yet.
fn may_be_told_soon(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| is_moving(code) || code == RDKafkaErrorCode::UnknownTopicOrPartition)
}

fn complaint(consumer: &BaseConsumer<Listening>) -> String {
    let complaint = consumer.context().complaint.lock().unwrap_or_else(PoisonError::into_inner);
    if complaint.is_empty() { String::new() } else { format!(": {complaint}") }
}

/// Reads what was committed, of some partitions from some offsets on.
pub struct Reader {
    address: Address,
    consumer: BaseConsumer<Listening>,
}

impl Reader {
    /// Reads nothing yet.
    pub fn new(address: &Address) -> Result<Reader, Failure> {
        Ok(Reader { address: address.clone(), consumer: consumer(address, Sees::Committed)? })
    }

    /// Begins to read.
    pub fn begin(address: &Address, from: impl Iterator<Item = (u32, u64)>) -> Result<Reader, Failure> {
        let reader = Reader::new(address)?;
        reader.change(&Change { ended: Vec::new(), begun: from.collect() })?;
        Ok(reader)
    }

    /// Reads other partitions. Of those that are read anyway nothing changes.
    pub fn change(&self, change: &Change) -> Result<(), Failure> {
        let Change { ended, begun } = change;
        let refused = |error| unavailable(&format!("topic {} cannot be read", self.address.topic), &error);
        if !ended.is_empty() {
            let mut partitions = TopicPartitionList::new();
            for &partition in ended {
                partitions.add_partition(&self.address.topic, partition.cast_signed());
            }
            self.consumer.incremental_unassign(&partitions).map_err(refused)?;
        }
        if begun.is_empty() {
            return Ok(());
        }
        let mut partitions = TopicPartitionList::new();
        for &(partition, offset) in begun {
            let offset = Offset::Offset(offset.cast_signed());
            partitions
                .add_partition_offset(&self.address.topic, partition.cast_signed(), offset)
                .map_err(refused)?;
        }
        self.consumer.incremental_assign(&partitions).map_err(refused)
    }

    /// The next record, if one comes in this time.
    pub fn next(&self, wait: Duration) -> Result<Option<BorrowedMessage<'_>>, Failure> {
        match self.consumer.poll(wait) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(message)),
            Some(Err(error)) => match judge(&error, &self.address) {
                Verdict::GoesOn => {
                    tracing::debug!("{error}");
                    Ok(None)
                }
                Verdict::Failed(failure) => Err(failure),
            },
        }
    }

    /// Up to where each partition was given out, with what the brokers skip: marks of transactions, and those that were aborted.
    /// Calls back with the partition and the offset; not for those of which nothing has come.
    pub fn reached(&self, mut tell: impl FnMut(u32, u64)) -> Result<(), Failure> {
        let refused = |error| unavailable("the Kafka client does not say how far it is", &error);
        for element in self.consumer.position().map_err(refused)?.elements() {
            if let Offset::Offset(offset @ 0..) = element.offset() {
                tell(element.partition().cast_unsigned(), offset.cast_unsigned());
            }
        }
        Ok(())
    }
}

/// A message as a record. Partitions and offsets of a log are never negative.
pub fn record<'a>(message: &'a BorrowedMessage<'_>) -> Record<'a> {
    Record {
        partition: message.partition().cast_unsigned(),
        offset: message.offset().cast_unsigned(),
        time_ms: message.timestamp().to_millis().unwrap_or(0),
        key: message.key(),
        value: message.payload(),
    }
}

impl KafkaIdentity {
    /// How its records lie.
    pub fn layout(&self) -> Layout {
        Layout { partitions: self.partitions, partitioner: self.partitioner }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;

    /// What a broker may say of a partition that is on its way.
    const MOVING: [RDKafkaRespErr; 10] = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_PREFERRED_LEADER_NOT_AVAILABLE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_LISTENER_NOT_FOUND,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    ];

    #[test]
    fn whoever_asks_a_broker_that_does_not_lead_asks_again() {
        let cluster = MockCluster::new(1).expect("a cluster");
        cluster.create_topic("ledger", 3, 1).expect("a topic");
        let address = format!("kafka://{}/ledger", cluster.bootstrap_servers());
        let asker = Asker::new(&address.parse().expect("an address"), Sees::Committed).expect("a client");
        for error in MOVING {
            // The library tries some of them again by itself, twice.
            cluster.request_errors(RDKafkaApiKey::ListOffsets, &[error; 4]);
            assert_eq!(asker.edges(Edge::Last, 3), Ok(vec![0; 3]), "{error:?}");
        }
        let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        cluster.request_errors(RDKafkaApiKey::ListOffsets, &[denied]);
        assert!(matches!(asker.edges(Edge::Last, 3), Err(Failure::Forbidden(_))));
    }
}
