//! `florin ledger check`: what a node would miss of a topic, in sentences that say what to do. It changes nothing, and of a topic of any
//! size looks at the last records.

use std::collections::BTreeMap;
use std::time::Instant;

use florin_record::{Finding, Findings, LedgerError};

use crate::address::Address;
use crate::admin;
use crate::client::{Asker, Edge, Reader, Sees, record};
use crate::decoder::{self, Record, Refused, Said};
use crate::failure::Failure;
use crate::limits::{POLL_PAUSE, RECORDS_LOOKED_AT, SILENCE};
use crate::position::KafkaIdentity;
use florin_schema::Partitioner;

/// Looks at the brokers, the topic's settings and its last records.
///
/// # Errors
/// Where the brokers do not answer, or there is no such topic.
pub fn check(address: &Address) -> Result<Vec<Finding>, LedgerError> {
    Ok(look(address)?)
}

fn look(address: &Address) -> Result<Vec<Finding>, Failure> {
    let mut found = Findings::default();
    let asker = Asker::new(address, Sees::All)?;
    let identity = asker.identity()?;
    found.right(format!("it is there: {identity}"));
    replicas(&asker, &mut found)?;
    match admin::settings(address) {
        Ok(settings) => judge_settings(&settings, &mut found),
        Err(error) => found.notable(format!("{error}: whether it keeps all of its records is not known")),
    }
    let first = asker.edges(Edge::First, identity.partitions)?;
    let last = asker.edges(Edge::Last, identity.partitions)?;
    match first.iter().position(|&first| first > 0) {
        None => found.right("it begins with its first record in every partition"),
        Some(partition) => found.wrong(format!(
            "partition {partition} begins at offset {}: records before it were removed. Write the ledger to a new topic",
            first[partition]
        )),
    }
    Seen::look(address, &identity, &first, &last)?.judge(&identity, &mut found);
    Ok(found.into_vec())
}

fn replicas(asker: &Asker, found: &mut Findings) -> Result<(), Failure> {
    match asker.replicas()?.into_iter().min().unwrap_or_default() {
        0 | 1 => found.notable(
            "each record is on one broker only: a disk that breaks takes a part of the ledger with it (--replicas 3 of ledger init)",
        ),
        replicas => found.right(format!("each record is on {replicas} brokers")),
    }
    Ok(())
}

fn judge_settings(settings: &BTreeMap<String, String>, found: &mut Findings) {
    let value = |name: &str| settings.get(name).map(String::as_str);
    let mut is_kept = true;
    let mut lost = |found: &mut Findings, sentence: String| {
        is_kept = false;
        found.wrong(sentence);
    };
    if value("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        lost(
            found,
            "cleanup.policy compacts: of each account only the last record would be kept. Set it to delete"
                .to_owned(),
        );
    }
    for name in ["retention.ms", "retention.bytes"] {
        if let Some(limit) = value(name).filter(|limit| *limit != "-1") {
            lost(
                found,
                format!(
                    "{name} is {limit}: old records are removed, and accounts are answered without them. Set it to -1"
                ),
            );
        }
    }
    if is_kept {
        found.right("it keeps all of its records");
    }
    if value("unclean.leader.election.enable") == Some("true") {
        found.notable(
            "unclean.leader.election.enable is true: acknowledged records may be lost with a broker, and nodes that had read them stand \
             still. Set it to false",
        );
    }
}

/// What the last records say.
#[derive(Default)]
struct Seen {
    records: usize,
    rows: usize,
    changes: usize,
    refused: usize,
    /// Of those with a key.
    keyed: usize,
    /// How many of them lie where each partitioner says.
    murmur2: usize,
    crc32: usize,
    /// The first that was refused.
    why: Option<String>,
}

impl Seen {
    fn look(
        address: &Address,
        identity: &KafkaIdentity,
        first: &[u64],
        last: &[u64],
    ) -> Result<Seen, Failure> {
        let each = (RECORDS_LOOKED_AT / first.len().max(1) as u64).max(1);
        let mut reached: Vec<u64> =
            first.iter().zip(last).map(|(&first, &last)| first.max(last.saturating_sub(each))).collect();
        let reader = Reader::begin(address, (0..).zip(reached.clone()))?;
        let (mut seen, mut deadline) = (Seen::default(), Instant::now() + SILENCE);
        while reached.iter().zip(last).any(|(reached, last)| reached < last) {
            match reader.next(POLL_PAUSE)? {
                Some(message) => {
                    let record = record(&message);
                    if let Some(reached) = reached.get_mut(record.partition as usize) {
                        *reached = record.offset + 1;
                    }
                    seen.take(&record, identity);
                    deadline = Instant::now() + SILENCE;
                }
                None => reader.reached(|partition, offset| {
                    if let Some(reached) = reached.get_mut(partition as usize) {
                        *reached = offset.max(*reached);
                    }
                })?,
            }
            // What waits behind an open transaction is not given out: what came before has been looked at.
            if Instant::now() > deadline {
                break;
            }
        }
        Ok(seen)
    }

    fn take(&mut self, record: &Record<'_>, identity: &KafkaIdentity) {
        self.records += 1;
        if let Some(key) = record.key {
            let is_in = |partitioner: Partitioner| {
                usize::from(partitioner.partition_of(key, identity.partitions) == record.partition)
            };
            self.keyed += 1;
            self.murmur2 += is_in(Partitioner::Murmur2);
            self.crc32 += is_in(Partitioner::Crc32);
        }
        match decoder::read(record, identity.layout()) {
            Said::Row(_) => self.rows += 1,
            Said::Refused(Refused { why, .. }) => {
                self.refused += 1;
                self.why.get_or_insert_with(|| why.to_string());
            }
            Said::Changed { .. } | Said::Removed { .. } | Said::Tombstone(_) | Said::Truncated => {
                self.changes += 1
            }
        }
    }

    fn judge(self, identity: &KafkaIdentity, found: &mut Findings) {
        if self.records == 0 {
            return found.notable("it has no record yet: whether its producers partition alike will be seen");
        }
        let (own, other) = match identity.partitioner {
            Partitioner::Murmur2 => (self.murmur2, (self.crc32, Partitioner::Crc32)),
            Partitioner::Crc32 => (self.crc32, (self.murmur2, Partitioner::Murmur2)),
        };
        let partitioner = identity.partitioner;
        if own == self.keyed {
            found.right(format!("the last {} records lie where {partitioner} says", self.records));
        } else if other.0 == self.keyed {
            found.wrong(format!(
                "its records lie where {0} says, and not {partitioner}: say ?partitioner={0}",
                other.1
            ));
        } else {
            found.wrong(format!(
                "of the last {} records {} lie elsewhere than {partitioner} says: its producers do not partition alike",
                self.records,
                self.keyed - own
            ));
        }
        match self.why {
            None => found.right(format!("the last {} records are transactions", self.rows)),
            Some(why) => found.wrong(format!(
                "{} of the last {} records are no transactions: {why}",
                self.refused, self.records
            )),
        }
        if self.changes > 0 {
            found.notable(format!(
                "{} of the last {} records change or remove what was there: such accounts are read again",
                self.changes, self.records
            ));
        }
    }
}
