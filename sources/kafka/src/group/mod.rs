//! A node's place in a consumer group. It is a member so that Kafka says which nodes there are, and which partitions each of them
//! is to have; nothing is read by it, and no offset is kept with the brokers.
//!
//! The group knows a member by its address (static membership): a node that is started anew there has what it had before, and the
//! others load nothing for it; of two with one address the former is told that it is out. Which life of a node it is the group does
//! not say, for brokers go on telling of a static member what it said when it first joined. That the node says itself.
//!
//! Brokers that stood still take a request to join that was given up, and the next one, for two members with one address, and tell the
//! only one that there is that it is out. So whoever is told so joins again, and is out where that is said again and again.

mod described;

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use florin_core::nodes::Place;
use florin_record::LedgerError;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::address::Address;
use crate::client::config;
use crate::failure::{Failure, forbidden_group, unavailable};
use crate::limits::{
    GROUP_FENCED_MAX, GROUP_FENCED_WITHIN, GROUP_FETCH_KILOBYTES, GROUP_HEARTBEAT_MS, GROUP_SESSION_MS,
    QUERY_TIMEOUT,
};

pub use described::Member;

/// What the client library says goes into our log. What is assigned is not read.
struct Idle;

impl ClientContext for Idle {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("{error}: {reason}");
    }
}

impl ConsumerContext for Idle {
    fn post_rebalance(&self, consumer: &BaseConsumer<Idle>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance
            && let Err(error) = consumer.pause(partitions)
        {
            // Then some records are fetched, up to a bound, and dropped.
            tracing::debug!("{error}");
        }
    }
}

/// Never ended: where the group takes partitions back while the client library ends, the library waits for itself, and for ever. One in
/// whose place another has come stays behind, and does nothing.
type Joined = ManuallyDrop<BaseConsumer<Idle>>;

/// See the module. A process has one, and it is there for as long as the process: without [`Membership::leave`] the group waits for it for
/// as long as for one that has died.
pub struct Membership {
    consumer: RefCell<Joined>,
    address: Address,
    group: String,
    place: Place,
    /// How often it was said to be out, and when that was last.
    fenced: Cell<Option<(u32, Instant)>>,
    is_leaving: Cell<bool>,
    /// Whether the brokers have refused this user since they were last asked who is there.
    is_forbidden: AtomicBool,
}

impl Membership {
    /// Joins a group, once [`Membership::turn`] is called: again and again from then on, at least every minute.
    ///
    /// # Errors
    /// Where the settings are none that the client library takes.
    pub fn join(address: &Address, group: &str, place: &Place) -> Result<Membership, LedgerError> {
        Ok(Membership {
            consumer: RefCell::new(subscribed(address, group, place)?),
            address: address.clone(),
            group: group.to_owned(),
            place: place.clone(),
            fenced: Cell::new(None),
            is_leaving: Cell::new(false),
            is_forbidden: AtomicBool::new(false),
        })
    }

    /// Lets the library do what it has to, for at most so long.
    ///
    /// # Errors
    /// Where this is a member no more, and will not be again.
    pub fn turn(&self, wait: Duration) -> Result<(), LedgerError> {
        if let Some(Err(error)) = self.consumer.borrow().poll(wait) {
            tracing::debug!("{error}");
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
                self.is_forbidden.store(true, Relaxed);
            }
        }
        let fatal = self.consumer.borrow().client().fatal_error();
        match fatal {
            None => Ok(()),
            Some(_) if self.is_leaving.get() => Ok(()),
            Some((RDKafkaErrorCode::FencedInstanceId, _)) if self.joins_again() => {
                tracing::warn!(group = self.group, "the group has taken this node for another; it joins again");
                *self.consumer.borrow_mut() = subscribed(&self.address, &self.group, &self.place)?;
                Ok(())
            }
            Some((code, reason)) => Err(Failure::Replaced(format!(
                "this node is in group {} no more ({code}: {reason}): see that no two nodes have one address, and restart it",
                self.group
            ))
            .into()),
        }
    }

    /// Whether what it was told may be the brokers' own doing. Two with one address tell each other so by turns, and the former first.
    fn joins_again(&self) -> bool {
        let now = Instant::now();
        let before = self.fenced.get().filter(|(_, at)| now.duration_since(*at) < GROUP_FENCED_WITHIN);
        let times = before.map_or(0, |(times, _)| times) + 1;
        self.fenced.set(Some((times, now)));
        times < GROUP_FENCED_MAX
    }

    /// Asks who is in the group, and what each is assigned; `None` while that is being decided.
    ///
    /// # Errors
    /// Where the brokers do not say, do not let this user join, or name a member that is no node.
    pub fn described(&self) -> Result<Option<Vec<Member>>, LedgerError> {
        Ok(self.ask()?)
    }

    fn ask(&self) -> Result<Option<Vec<Member>>, Failure> {
        // A group that one may not join looks like one that nobody has joined. The library goes on trying.
        if self.is_forbidden.swap(false, Relaxed) {
            return Err(forbidden_group(&self.address, &self.group));
        }
        let what = || format!("the Kafka brokers do not say who is in group {}", self.group);
        let consumer = self.consumer.borrow();
        let groups = consumer
            .fetch_group_list(Some(&self.group), QUERY_TIMEOUT)
            .map_err(|error| unavailable(&what(), &error))?;
        let Some(group) = groups.groups().iter().find(|group| group.name() == self.group) else {
            return Err(Failure::Unavailable(what()));
        };
        if group.state() != "Stable" {
            return Ok(None);
        }
        let members = group.members().iter().map(|member| {
            let assignment = member.assignment().unwrap_or_default();
            Member::read(member.client_id(), assignment, &self.address.topic).map_err(|strange| {
                Failure::Unavailable(format!(
                    "group {} has a member at {} that is no node of this ledger's: {strange}. A group is for nodes alone: name another",
                    self.group,
                    member.client_host()
                ))
            })
        });
        members.collect::<Result<_, _>>().map(Some)
    }

    /// Leaves the group, so that the others have its partitions at once; to be turned until it is [`Membership::has_left`].
    pub fn leave(&self) {
        self.is_leaving.set(true);
        self.consumer.borrow().unsubscribe();
    }

    /// Whether nothing is assigned to it any more.
    pub fn has_left(&self) -> bool {
        self.consumer.borrow().assignment().is_ok_and(|assigned| assigned.count() == 0)
    }
}

fn subscribed(address: &Address, group: &str, place: &Place) -> Result<Joined, Failure> {
    let mut config: ClientConfig = config(address)?;
    let refused = |error: &KafkaError| unavailable(&format!("group {group} cannot be joined"), error);
    let consumer: BaseConsumer<Idle> = config
        .set("client.id", described::client_id(place))
        .set("group.id", group)
        .set("group.instance.id", described::instance(place))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", GROUP_SESSION_MS.to_string())
        .set("heartbeat.interval.ms", GROUP_HEARTBEAT_MS.to_string())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("allow.auto.create.topics", "false")
        .set("auto.offset.reset", "latest")
        .set("queued.max.messages.kbytes", GROUP_FETCH_KILOBYTES.to_string())
        .create_with_context(Idle)
        .map_err(|error| refused(&error))?;
    consumer.subscribe(&[&address.topic]).map_err(|error| refused(&error))?;
    Ok(ManuallyDrop::new(consumer))
}
