//! What `florin ledger` does with a topic: it is made, its settings are asked for, and how much there is of it.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use florin_record::LedgerError;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use tokio::runtime::Builder;

use crate::address::Address;
use crate::client::{Asker, Edge, Sees, config};
use crate::failure::{Failure, Right, forbidden, is_forbidden, refused, unavailable};
use crate::limits::{ADMIN_TIMEOUT, LEADER_PAUSE, PARTITIONS, PARTITIONS_MAX};
use crate::position::KafkaIdentity;

/// What a ledger's topic keeps: all of its records, and none that only one broker has where there are several.
const SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("unclean.leader.election.enable", "false"),
];
/// In-sync replicas that an acknowledged record has, where there are three or more.
const IN_SYNC: (&str, &str) = ("min.insync.replicas", "2");

/// How a topic is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Making {
    /// Partitions, for as long as the topic lives, since keys belong elsewhere once there are more; none = 24.
    pub partitions: Option<u16>,
    /// Of each; none = as many as the brokers say.
    pub replicas: Option<u8>,
}

/// How much there is of a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Which it is.
    pub identity: KafkaIdentity,
    /// Of each partition the first offset that is there, and the one behind the last.
    pub partitions: Vec<(u64, u64)>,
}

/// Makes the topic where it is not there; whether it did.
///
/// # Errors
/// Where the brokers do not answer, or refuse.
pub fn init(address: &Address, making: Making) -> Result<bool, LedgerError> {
    Ok(make(address, making)?)
}

fn make(address: &Address, making: Making) -> Result<bool, Failure> {
    let Making { partitions, replicas } = making;
    let partitions = partitions.unwrap_or(PARTITIONS);
    if partitions == 0 || usize::from(partitions) > PARTITIONS_MAX {
        return Err(Failure::Unavailable(format!(
            "a ledger's topic has 1 to {PARTITIONS_MAX} partitions: say --partitions"
        )));
    }
    let replication = TopicReplication::Fixed(replicas.map_or(-1, i32::from));
    let topic = NewTopic::new(&address.topic, i32::from(partitions), replication);
    let topic = SETTINGS.into_iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let topic =
        if replicas.is_some_and(|replicas| replicas >= 3) { topic.set(IN_SYNC.0, IN_SYNC.1) } else { topic };
    let unmade = |error: &dyn std::fmt::Display| {
        Failure::Unavailable(format!("topic {} was not made: {error}", address.topic))
    };
    let made = wait(admin(address)?.create_topics([&topic], &options()))?.map_err(|error| unmade(&error))?;
    match made.into_iter().next() {
        Some(Ok(_)) => {
            wait_for_leaders(address)?;
            Ok(true)
        }
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) if is_forbidden(code) => Err(forbidden(address, Right::Create)),
        Some(Err((_, code))) => Err(unmade(&code)),
        None => Err(unmade(&"the brokers did not say why")),
    }
}

/// Whoever is told that a topic was made may ask for it at once: by then every broker knows it, and its partitions have leaders.
fn wait_for_leaders(address: &Address) -> Result<(), Failure> {
    let deadline = Instant::now() + ADMIN_TIMEOUT;
    loop {
        match measure(address) {
            Err(Failure::Unavailable(_)) if Instant::now() < deadline => thread::sleep(LEADER_PAUSE),
            // Who may make it may not have to see it.
            Ok(_) | Err(Failure::Forbidden(_)) => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
}

/// Asks how much there is.
///
/// # Errors
/// Where the brokers do not answer, or there is no such topic.
pub fn standing(address: &Address) -> Result<Standing, LedgerError> {
    Ok(measure(address)?)
}

fn measure(address: &Address) -> Result<Standing, Failure> {
    let asker = Asker::new(address, Sees::All)?;
    let identity = asker.identity()?;
    let first = asker.edges(Edge::First, identity.partitions)?;
    let last = asker.edges(Edge::Last, identity.partitions)?;
    Ok(Standing { identity, partitions: first.into_iter().zip(last).collect() })
}

/// The topic's settings, by their names.
pub fn settings(address: &Address) -> Result<BTreeMap<String, String>, Failure> {
    let topic = &address.topic;
    let untold = |error| {
        refused(
            address,
            Right::DescribeConfigs,
            &format!("the settings of topic {topic} are not told"),
            &error,
        )
    };
    let told = wait(admin(address)?.describe_configs([&ResourceSpecifier::Topic(topic)], &options()))?;
    let mut settings = BTreeMap::new();
    for resource in told.map_err(untold)? {
        let resource = resource.map_err(|code| untold(rdkafka::error::KafkaError::AdminOp(code)))?;
        if resource.specifier == OwnedResourceSpecifier::Topic(topic.clone()) {
            settings
                .extend(resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))));
        }
    }
    // The library drops the brokers' reason. Of a topic that is there it is always this one: none is without settings.
    if settings.is_empty() { Err(forbidden(address, Right::DescribeConfigs)) } else { Ok(settings) }
}

fn admin(address: &Address) -> Result<AdminClient<DefaultClientContext>, Failure> {
    config(address)?.create().map_err(|error| unavailable("the Kafka client does not start", &error))
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT)).operation_timeout(Some(ADMIN_TIMEOUT))
}

/// Waits for what the client library's own threads bring about.
fn wait<T>(asked: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread().build();
    let runtime =
        runtime.map_err(|error| Failure::Unavailable(format!("the system gives no event loop: {error}")))?;
    Ok(runtime.block_on(asked))
}
