//! Which ledger this is, and how far it has been read.

use std::cmp::Ordering;
use std::fmt;

use florin_core::follower::Position;
use florin_schema::Partitioner;
use florin_schema::ids::mix;

use crate::decoder::Record;
use crate::limits::PARTITIONS_MAX;

/// Which ledger this is. A topic that was removed and made again has the same: that is told by the records that were read last,
/// see [`Anchor`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KafkaIdentity {
    /// Of the cluster, as it drew it.
    pub cluster: String,
    /// The topic's name.
    pub topic: String,
    /// How many it has. With more of them, keys belong elsewhere.
    pub partitions: u32,
    /// By which keys find theirs.
    pub partitioner: Partitioner,
}

impl fmt::Display for KafkaIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KafkaIdentity { cluster, topic, partitions, partitioner } = self;
        write!(f, "topic {topic} of {partitions} partitions by {partitioner} in the Kafka cluster {cluster}")
    }
}

/// A record, as far as it takes to see that a topic still has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// Where.
    pub offset: u64,
    /// Mixed from its time, its key and its value.
    pub digest: u64,
}

impl Anchor {
    /// Of a record.
    pub fn of(record: &Record<'_>) -> Anchor {
        let mixed = |hash: u64, bytes: Option<&[u8]>| {
            let bytes = bytes.unwrap_or(b"\0none");
            let (words, rest) = bytes.as_chunks::<8>();
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            let hash = words.iter().fold(hash, |hash, word| mix(hash ^ u64::from_le_bytes(*word)));
            mix(mix(hash ^ u64::from_le_bytes(last)) ^ bytes.len() as u64)
        };
        let hash = mix(record.time_ms.cast_unsigned());
        Anchor { offset: record.offset, digest: mixed(mixed(hash, record.key), record.value) }
    }
}

/// How far a partition has been read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reached {
    /// Everything before this offset was read.
    pub next: u64,
    /// The record that was read last; none = none was.
    pub anchor: Option<Anchor>,
}

/// How far the topic has been read: of each partition, in their order. Of two positions neither lies further on where one is
/// ahead in some partition and behind in another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KafkaPosition {
    /// By partition.
    pub partitions: Vec<Reached>,
}

impl KafkaPosition {
    /// Where so many partitions begin.
    pub fn beginning(partitions: u32) -> KafkaPosition {
        KafkaPosition { partitions: vec![Reached::default(); partitions as usize] }
    }
}

impl PartialOrd for KafkaPosition {
    fn partial_cmp(&self, other: &KafkaPosition) -> Option<Ordering> {
        if self.partitions.len() != other.partitions.len() {
            return None;
        }
        let each =
            self.partitions.iter().zip(&other.partitions).map(|(one, other)| one.next.cmp(&other.next));
        let mut whole = Ordering::Equal;
        for one in each {
            match (whole, one) {
                (Ordering::Less, Ordering::Greater) | (Ordering::Greater, Ordering::Less) => return None,
                (Ordering::Equal, one) => whole = one,
                _ => {}
            }
        }
        Some(whole)
    }
}

const MARK: [u8; 4] = *b"KA01";
const HEAD_BYTES: usize = 8;
const ENTRY_BYTES: usize = 24;
/// No record has this offset: offsets are 63 bits.
const NO_ANCHOR: Anchor = Anchor { offset: u64::MAX, digest: 0 };

impl Position for KafkaPosition {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + ENTRY_BYTES * self.partitions.len());
        bytes.extend(MARK);
        bytes.extend((self.partitions.len() as u32).to_le_bytes());
        for Reached { next, anchor } in &self.partitions {
            let Anchor { offset, digest } = anchor.unwrap_or(NO_ANCHOR);
            [*next, offset, digest].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<KafkaPosition> {
        let entries = bytes.get(HEAD_BYTES..)?;
        let count = u32::from_le_bytes(*bytes[MARK.len()..].first_chunk()?) as usize;
        let is_whole = bytes.starts_with(&MARK) && (1..=PARTITIONS_MAX).contains(&count);
        if !is_whole || entries.len() != count * ENTRY_BYTES {
            return None;
        }
        let read = |entry: &[u8; ENTRY_BYTES]| {
            let number = |at: usize| entry[8 * at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            let (next, anchor) = (number(0)?, Anchor { offset: number(1)?, digest: number(2)? });
            let anchor = (anchor != NO_ANCHOR).then_some(anchor);
            let is_sound = next <= i64::MAX as u64 && anchor.is_none_or(|anchor| anchor.offset < next);
            is_sound.then_some(Reached { next, anchor })
        };
        let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
        Some(KafkaPosition { partitions: entries.iter().map(read).collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offsets: &[u64]) -> KafkaPosition {
        let reached = |&next| Reached { next, anchor: None };
        KafkaPosition { partitions: offsets.iter().map(reached).collect() }
    }

    #[test]
    fn a_position_survives_as_bytes_and_nothing_else_is_one() {
        let mut position = at(&[0, 7, i64::MAX as u64]);
        position.partitions[1].anchor = Some(Anchor { offset: 6, digest: u64::MAX });
        let bytes = position.encode();
        assert_eq!(KafkaPosition::decode(&bytes), Some(position.clone()));
        for length in 0..bytes.len() {
            assert_eq!(KafkaPosition::decode(&bytes[..length]), None, "{length}");
        }
        assert_eq!(KafkaPosition::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(KafkaPosition::decode(&at(&[]).encode()), None);
        position.partitions[1].anchor = Some(Anchor { offset: 7, digest: 1 });
        assert_eq!(
            KafkaPosition::decode(&position.encode()),
            None,
            "what was read lies before what comes next"
        );
    }

    #[test]
    fn of_two_positions_one_is_further_on_or_neither() {
        assert_eq!(at(&[1, 2]).partial_cmp(&at(&[1, 2])), Some(Ordering::Equal));
        assert!(at(&[1, 2]) < at(&[1, 3]) && at(&[2, 3]) > at(&[1, 3]));
        assert_eq!(at(&[1, 3]).partial_cmp(&at(&[2, 2])), None);
        assert_eq!(at(&[1, 2, 3]).partial_cmp(&at(&[1, 2])), None);
    }

    #[test]
    fn a_record_is_told_from_every_other() {
        let record = |key, value, time_ms| Record { partition: 0, offset: 5, time_ms, key, value };
        let digests: Vec<u64> = [
            record(Some(&b"1"[..]), Some(&b"23"[..]), 0),
            record(Some(b"12"), Some(b"3"), 0),
            record(Some(b"1"), Some(b"23\0"), 0),
            record(Some(b"1"), None, 0),
            record(None, Some(b"23"), 0),
            record(Some(b""), Some(b"23"), 0),
            record(Some(b"1"), Some(b"23"), 1),
        ]
        .iter()
        .map(|record| Anchor::of(record).digest)
        .collect();
        assert!(
            digests.iter().enumerate().all(|(at, digest)| !digests[..at].contains(digest)),
            "{digests:?}"
        );
    }
}
