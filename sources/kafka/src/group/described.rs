//! What a group's description says of a member. Pure, and fails closed: a member that is read wrongly would be a node that nobody
//! finds, or partitions that nobody has.

use std::collections::BTreeSet;

use florin_core::nodes::Place;
use florin_schema::nodes::{HOST_BYTES_MAX, is_host};

use crate::limits::PARTITIONS_MAX;

/// A node in the group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Where it is asked.
    pub place: Place,
    /// The partitions that it is to have.
    pub assigned: BTreeSet<u32>,
}

/// Why a member is none of ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Strange {
    /// It says another client id.
    #[error("expected client.id florin/PORT/TLS-PORT/HOST, found {0:?}")]
    Client(String),
    /// It is assigned something of another topic, or something that cannot be read.
    #[error("expected partitions of topic {topic} assigned to it, found {found}")]
    Assignment {
        /// The ledger's.
        topic: String,
        /// What is wrong with it.
        found: &'static str,
    },
}

/// As a node calls itself as a client of the brokers, which the group's description repeats: nobody else has to be asked where it is.
pub(super) fn client_id(Place { host, port, tls_port }: &Place) -> String {
    format!("florin/{port}/{tls_port}/{host}")
}

/// How the group tells it from the other members: the same of all lives here, in the letters that Kafka has for names.
pub(super) fn instance(place: &Place) -> String {
    let is_legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-');
    client_id(place).replace(|letter| !is_legal(letter), "_")
}

fn place(found: &str) -> Option<Place> {
    let mut parts = found.strip_prefix("florin/")?.splitn(3, '/');
    let (port, tls_port) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let host = parts.next().filter(|host| is_host(host))?.to_owned();
    let place = Place { host, port, tls_port };
    // As it is written, and in no other way.
    ((port, tls_port) != (0, 0) && client_id(&place) == found).then_some(place)
}

impl Member {
    /// From a member's client id and its assignment, as Kafka's ConsumerProtocolAssignment lays it out.
    pub fn read(found: &str, assignment: &[u8], topic: &str) -> Result<Member, Strange> {
        let place =
            place(found).ok_or_else(|| Strange::Client(found.chars().take(2 * HOST_BYTES_MAX).collect()))?;
        let assigned = partitions(assignment, topic)
            .map_err(|found| Strange::Assignment { topic: topic.to_owned(), found })?;
        Ok(Member { place, assigned })
    }
}

/// The partitions of an assignment; nothing at all is none.
fn partitions(bytes: &[u8], topic: &str) -> Result<BTreeSet<u32>, &'static str> {
    const SHORT: &str = "one that breaks off";
    let mut assigned = BTreeSet::new();
    if bytes.is_empty() {
        return Ok(assigned);
    }
    let mut rest = Rest(bytes);
    let version = rest.i16().ok_or(SHORT)?;
    if version < 0 {
        return Err("one of a negative version");
    }
    for _ in 0..rest.i32().ok_or(SHORT)? {
        let length = usize::try_from(rest.i16().ok_or(SHORT)?).map_err(|_| "a topic without a name")?;
        if rest.take(length).ok_or(SHORT)? != topic.as_bytes() {
            return Err("another topic's");
        }
        for _ in 0..rest.i32().ok_or(SHORT)? {
            let partition = u32::try_from(rest.i32().ok_or(SHORT)?).map_err(|_| "a negative partition")?;
            if partition as usize >= PARTITIONS_MAX {
                return Err("more partitions than a ledger has");
            }
            if !assigned.insert(partition) {
                return Err("a partition twice");
            }
        }
    }
    // What the assignor added for itself follows, and what later versions add.
    Ok(assigned)
}

/// What of some bytes is not read yet. Kafka's numbers are big-endian.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i16::from_be_bytes(*taken))
    }

    fn i32(&mut self) -> Option<i32> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*taken))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assignment(topics: &[(&str, &[i32])]) -> Vec<u8> {
        let mut bytes = [&1_i16.to_be_bytes()[..], &(topics.len() as i32).to_be_bytes()].concat();
        for (topic, partitions) in topics {
            bytes.extend((topic.len() as i16).to_be_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend((partitions.len() as i32).to_be_bytes());
            partitions.iter().for_each(|partition| bytes.extend(partition.to_be_bytes()));
        }
        bytes.extend((-1_i32).to_be_bytes());
        bytes
    }

    fn found(bytes: &[u8]) -> Result<BTreeSet<u32>, &'static str> {
        partitions(bytes, "ledger")
    }

    #[test]
    fn a_node_is_read_as_it_calls_itself_and_nobody_else_is_one() {
        for (host, port, tls_port) in [
            ("10.0.0.7", 7400, 0),
            ("2001:db8::2", 7400, 7500),
            ("node-1.example.org", 0, 7500),
            ("a_b", 7400, 0),
        ] {
            let place = Place { host: host.to_owned(), port, tls_port };
            let member = Member::read(&client_id(&place), &assignment(&[("ledger", &[0, 7])]), "ledger");
            assert_eq!(member, Ok(Member { place, assigned: BTreeSet::from([0, 7]) }));
        }
        for strange in [
            "rdkafka",
            "florin",
            "florin/7400/0/",
            "florin/7400/0/a/b",
            "florin/7400/0/a\r\nb",
            "florin/7400/host",
            "florin/0/0/host",
            "florin/+7400/0/host",
            "florin/07400/0/host",
            "florin/74000/0/host",
        ] {
            assert_eq!(Member::read(strange, &[], "ledger"), Err(Strange::Client(strange.to_owned())));
        }
    }

    #[test]
    fn an_assignment_is_read_whole_or_refused() {
        let whole = assignment(&[("ledger", &[3, 1]), ("ledger", &[2])]);
        assert_eq!(found(&whole), Ok(BTreeSet::from([1, 2, 3])));
        assert_eq!(found(&[]), Ok(BTreeSet::new()));
        assert_eq!(found(&assignment(&[])), Ok(BTreeSet::new()));
        // The assignor's own are the last four bytes, and none of ours.
        for length in 1..whole.len() - 4 {
            assert!(found(&whole[..length]).is_err(), "{length}");
        }
        assert_eq!(found(&assignment(&[("other", &[1])])), Err("another topic's"));
        assert_eq!(found(&assignment(&[("ledger", &[1, 1])])), Err("a partition twice"));
        assert_eq!(found(&assignment(&[("ledger", &[-1])])), Err("a negative partition"));
        assert_eq!(
            found(&assignment(&[("ledger", &[PARTITIONS_MAX as i32])])),
            Err("more partitions than a ledger has")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), id in ".{0,64}") {
            let _ = Member::read(&id, &bytes, "ledger");
        }
    }
}
