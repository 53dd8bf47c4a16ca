//! Several nodes that divide a ledger's users among them: which partition a user belongs to, and which nodes hold it
//! (wire.md, "Partitions").

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use crate::generated as fbs;
use crate::ids::mix;
use crate::{NodeId, UserId};

/// The most nodes of a map: what one consumer group and one page of people's attention hold.
pub const NODES_MAX: usize = 256;
/// The most partitions of a map: 24 for each node of the largest, and a third more.
pub const PARTITIONS_MAX: usize = 8_192;
/// The most nodes that a map names for a partition: its owner, and three standbys.
pub const HOLDERS_MAX: usize = 4;
/// The most bytes of a host's name (RFC 1035).
pub const HOST_BYTES_MAX: usize = 253;

/// In the place of a holder: nobody.
const NOBODY: u16 = u16::MAX;

/// The function that all producers of a topic use to choose a key's partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Partitioner {
    /// Of Java's clients, and so of Kafka Connect and Debezium; librdkafka's `murmur2_random`.
    #[default]
    Murmur2,
    /// Of librdkafka, by default, and so of Python's, Go's and .NET's clients by Confluent; `consistent_random`.
    Crc32,
}

/// A name of none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("partitioner: expected murmur2 (Java's clients) or crc32 (librdkafka's), found {0:?}")]
pub struct UnknownPartitioner(String);

impl Partitioner {
    /// The partition of `partitions`, above 0, that `key` belongs to.
    pub fn partition_of(self, key: &[u8], partitions: u32) -> u32 {
        match self {
            // As org.apache.kafka.common.utils.Utils.toPositive.
            Partitioner::Murmur2 => (murmur2(key) & 0x7FFF_FFFF) % partitions,
            Partitioner::Crc32 => crc32(key) % partitions,
        }
    }

    /// The same of a user, whose key is the id in decimal ASCII.
    pub fn partition_of_user(self, user: UserId, partitions: u32) -> u32 {
        let (mut digits, mut at, mut rest) = ([0; 20], 20, user.get());
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return self.partition_of(&digits[at..], partitions);
            }
        }
    }

    /// As an address has it.
    pub const fn name(self) -> &'static str {
        match self {
            Partitioner::Murmur2 => "murmur2",
            Partitioner::Crc32 => "crc32",
        }
    }
}

impl fmt::Display for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Partitioner {
    type Err = UnknownPartitioner;

    fn from_str(text: &str) -> Result<Partitioner, UnknownPartitioner> {
        [Partitioner::Murmur2, Partitioner::Crc32]
            .into_iter()
            .find(|partitioner| partitioner.name() == text)
            .ok_or_else(|| UnknownPartitioner(text.chars().take(64).collect()))
    }
}

/// Kafka's murmur2, `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(bytes: &[u8]) -> u32 {
    const MIX: u32 = 0x5BD1_E995;
    // A key is shorter than 4 GiB: Kafka's own lengths are 32 bits.
    let mut hash = 0x9747_B28C ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MIX);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MIX) ^ word.wrapping_mul(MIX);
    }
    if !rest.is_empty() {
        for (at, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * at);
        }
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ hash >> 15
}

/// CRC-32 as of zlib, bit by bit: a key has 19 bytes at most.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (crc & 1).wrapping_neg() & 0xEDB8_8320)
    })
}

/// A node that holds partitions, and where it is asked. Its shards' ports says its own Hello.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MapNode {
    /// Which life of it.
    pub id: NodeId,
    /// Its host's name or address; an IPv6 address without brackets.
    pub host: String,
    /// Of its any-shard listener.
    pub port: u16,
    /// Of its listener for TLS; 0 where it has none.
    pub tls_port: u16,
}

/// Whether this may be a node's host: what others say of nodes stands in headers of HTTP, metrics and logs.
pub fn is_host(host: &str) -> bool {
    let is_legal = |letter: u8| letter.is_ascii_alphanumeric() || b"-._:".contains(&letter);
    (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(is_legal)
}

/// `host:port`, with an IPv6 address in brackets.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The same of a node, for people: with its port for TLS where it has no other.
pub fn node_authority(host: &str, port: u16, tls_port: u16) -> String {
    authority(host, if port == 0 { tls_port } else { port })
}

/// Which nodes hold which partition, as the nodes agree on it. Whoever knows one with a higher epoch forgets this one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeMap {
    /// Rises with every change, and never falls.
    pub epoch: u64,
    /// Of the topic's producers.
    pub partitioner: Partitioner,
    nodes: Arc<[MapNode]>,
    /// For each partition as many places among the nodes, or [`NOBODY`]: the owner's, then standbys'.
    holders: Vec<u16>,
    /// How many for each.
    holders_each: usize,
}

/// Why a map is not believed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NodeMapError {
    /// Too many nodes.
    #[error("nodes: expected at most {NODES_MAX} nodes, got {0}")]
    Nodes(usize),
    /// A node that cannot be asked.
    #[error(
        "nodes: expected an id, a host of 1 to {HOST_BYTES_MAX} letters, digits, -, ., _ and : and a port of each, got none of node {0}"
    )]
    Node(usize),
    /// No partitions, too many, or not as many holders of each.
    #[error(
        "nodes: expected 1 to {PARTITIONS_MAX} partitions of 1 to {HOLDERS_MAX} holders each, got {holders} holders, {each} each"
    )]
    Partitions {
        /// In all.
        holders: usize,
        /// Of each, as the map says.
        each: usize,
    },
    /// A holder that is none of the nodes.
    #[error("nodes: expected holders below {nodes}, the nodes there are, got {got}")]
    Holder {
        /// How many nodes there are.
        nodes: usize,
        /// Which was named.
        got: u16,
    },
    /// A function that this build does not know.
    #[error("nodes: {0}")]
    Partitioner(#[from] UnknownPartitioner),
}

impl NodeMap {
    /// A map without partitions, which has room for `holders_each` holders of one.
    ///
    /// # Panics
    /// Where that is none, or above [`HOLDERS_MAX`].
    pub fn new(epoch: u64, partitioner: Partitioner, nodes: Vec<MapNode>, holders_each: usize) -> NodeMap {
        assert!((1..=HOLDERS_MAX).contains(&holders_each) && nodes.len() <= NODES_MAX);
        NodeMap { epoch, partitioner, nodes: nodes.into(), holders: Vec::new(), holders_each }
    }

    /// Adds the next partition: its owner, where it has one, and its standbys, as far as there is room for them.
    pub fn push(&mut self, owner: Option<u16>, standbys: impl IntoIterator<Item = u16>) {
        self.holders.push(owner.unwrap_or(NOBODY));
        let standbys = standbys.into_iter().chain(std::iter::repeat(NOBODY));
        self.holders.extend(standbys.take(self.holders_each - 1));
    }

    /// Says anew who has a partition, as [`NodeMap::push`] does, and by how much that raises the digest, modulo 2⁶⁴.
    ///
    /// # Panics
    /// Where there is no such partition.
    pub fn set(
        &mut self,
        partition: u32,
        owner: Option<u16>,
        standbys: impl IntoIterator<Item = u16>,
    ) -> u64 {
        let mut holders = [NOBODY; HOLDERS_MAX];
        holders[0] = owner.unwrap_or(NOBODY);
        holders[1..].iter_mut().zip(standbys).for_each(|(place, holder)| *place = holder);
        let holders = &holders[..self.holders_each];
        if self.row(partition) == holders {
            return 0;
        }
        let before = self.digest_of(partition);
        let from = partition as usize * self.holders_each;
        self.holders[from..from + self.holders_each].copy_from_slice(holders);
        self.digest_of(partition).wrapping_sub(before)
    }

    /// Others are there: `moved` says at which place each of the former now is, whom it names already.
    pub fn replace_nodes(&mut self, nodes: Vec<MapNode>, moved: impl Fn(u16) -> Option<u16>) {
        assert!(nodes.len() <= NODES_MAX);
        self.nodes = nodes.into();
        for place in self.holders.iter_mut().filter(|place| **place != NOBODY) {
            *place = moved(*place).unwrap_or(NOBODY);
        }
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.holders.len().checked_div(self.holders_each).unwrap_or(0) as u32
    }

    /// How many holders of each there is room for.
    pub fn holders_each(&self) -> usize {
        self.holders_each
    }

    /// Who holds some, or will.
    pub fn nodes(&self) -> &[MapNode] {
        &self.nodes
    }

    /// The partition that a user belongs to.
    ///
    /// # Panics
    /// Where there are no partitions.
    pub fn partition_of(&self, user: UserId) -> u32 {
        self.partitioner.partition_of_user(user, self.partitions())
    }

    /// The place among the nodes of a partition's owner; `None` where nobody has caught up with it.
    pub fn owner(&self, partition: u32) -> Option<u16> {
        Some(self.row(partition)[0]).filter(|&place| place != NOBODY)
    }

    /// Which node a partition's owner is.
    pub fn owner_id(&self, partition: u32) -> Option<NodeId> {
        self.owner(partition).map(|place| self.nodes[usize::from(place)].id)
    }

    /// The partitions that the node at a place owns.
    pub fn owned_by(&self, place: u16) -> impl Iterator<Item = u32> {
        let rows = self.holders.chunks(self.holders_each.max(1)).zip(0..);
        rows.filter(move |(row, _)| row[0] == place).map(|(_, partition)| partition)
    }

    /// How many partitions have no owner.
    pub fn without_owner(&self) -> usize {
        (0..self.partitions()).filter(|&partition| self.owner(partition).is_none()).count()
    }

    /// How many partitions have an owner, and fewer than `standbys` beside it.
    pub fn without_standby(&self, standbys: usize) -> usize {
        let lacks =
            |&partition: &u32| self.owner(partition).is_some() && self.standbys(partition).count() < standbys;
        (0..self.partitions()).filter(lacks).count()
    }

    /// The places of those who answer about a partition as well.
    pub fn standbys(&self, partition: u32) -> impl Iterator<Item = u16> + '_ {
        self.row(partition)[1..].iter().copied().filter(|&place| place != NOBODY)
    }

    /// The places of all who answer about a partition, in the order in which they are asked: its owner, and then its standbys.
    pub fn holders(&self, partition: u32) -> impl Iterator<Item = u16> + '_ {
        self.owner(partition).into_iter().chain(self.standbys(partition))
    }

    /// Whether it says the same, whatever its epoch.
    pub fn says_as(&self, other: &NodeMap) -> bool {
        (self.partitioner, self.holders_each) == (other.partitioner, other.holders_each)
            && self.holders == other.holders
            && self.nodes == other.nodes
    }

    /// What it says, whatever its epoch, as a number: two maps with one digest say the same, but for one chance in 2⁶⁴.
    pub fn digest(&self) -> u64 {
        let text = |digest: u64, text: &str| {
            text.bytes().fold(mix(digest ^ text.len() as u64), |digest, byte| mix(digest ^ u64::from(byte)))
        };
        let node = |digest: u64, MapNode { id, host, port, tls_port }: &MapNode| {
            mix(text(mix(digest ^ id.0), host) ^ u64::from(*port) << 16 ^ u64::from(*tls_port))
        };
        let head =
            text(mix(self.holders_each as u64 ^ u64::from(self.partitions()) << 32), self.partitioner.name());
        let nodes = self.nodes.iter().fold(mix(head ^ self.nodes.len() as u64), node);
        (0..self.partitions()).fold(nodes, |digest, partition| digest.wrapping_add(self.digest_of(partition)))
    }

    /// What the digest has of one partition: it is their sum, and so is kept up where one changes.
    pub fn digest_of(&self, partition: u32) -> u64 {
        self.row(partition)
            .iter()
            .fold(mix(!u64::from(partition)), |digest, &place| mix(digest ^ u64::from(place)))
    }

    fn row(&self, partition: u32) -> &[u16] {
        let from = partition as usize * self.holders_each;
        &self.holders[from..from + self.holders_each]
    }

    /// The same with another epoch.
    #[must_use]
    pub fn at(&self, epoch: u64) -> NodeMap {
        NodeMap { epoch, ..self.clone() }
    }

    /// Writes it into a body that is being built.
    pub fn write<'b>(&self, builder: &mut FlatBufferBuilder<'b>) -> WIPOffset<fbs::NodeMap<'b>> {
        let node = |node: &MapNode| {
            let host = Some(builder.create_string(&node.host));
            let MapNode { id, port, tls_port, .. } = *node;
            fbs::MapNode::create(builder, &fbs::MapNodeArgs { node_id: id.0, host, port, tls_port })
        };
        let nodes: Vec<_> = self.nodes.iter().map(node).collect();
        let args = fbs::NodeMapArgs {
            epoch: self.epoch,
            partitioner: Some(builder.create_string(self.partitioner.name())),
            nodes: Some(builder.create_vector(&nodes)),
            holders: Some(builder.create_vector(&self.holders)),
            holders_each: self.holders_each as u8,
        };
        fbs::NodeMap::create(builder, &args)
    }

    /// Reads one that somebody else wrote.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(map: fbs::NodeMap<'_>) -> Result<NodeMap, NodeMapError> {
        let partitioner = map.partitioner().unwrap_or_default().parse()?;
        let (count, holders) = (map.nodes().map_or(0, |nodes| nodes.len()), map.holders());
        if count > NODES_MAX {
            return Err(NodeMapError::Nodes(count));
        }
        let mut nodes = Vec::with_capacity(count);
        for (place, node) in map.nodes().iter().flatten().enumerate() {
            let host = node.host().unwrap_or_default();
            if !is_host(host) || node.node_id() == 0 || (node.port(), node.tls_port()) == (0, 0) {
                return Err(NodeMapError::Node(place));
            }
            let (id, port, tls_port) = (NodeId(node.node_id()), node.port(), node.tls_port());
            nodes.push(MapNode { id, host: host.to_owned(), port, tls_port });
        }
        let (each, all) = (usize::from(map.holders_each()), holders.map_or(0, |holders| holders.len()));
        let is_whole = (1..=HOLDERS_MAX).contains(&each) && all.is_multiple_of(each);
        if !is_whole || !(1..=PARTITIONS_MAX).contains(&(all / each)) {
            return Err(NodeMapError::Partitions { holders: all, each });
        }
        let holders: Vec<u16> = holders.iter().flatten().collect();
        if let Some(&got) = holders.iter().find(|&&place| place != NOBODY && usize::from(place) >= count) {
            return Err(NodeMapError::Holder { nodes: count, got });
        }
        Ok(NodeMap { epoch: map.epoch(), partitioner, nodes: nodes.into(), holders, holders_each: each })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of Kafka's own UtilsTest and of zlib.
    #[test]
    fn the_functions_are_those_of_the_clients() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
        assert_eq!((crc32(b"123456789"), crc32(b"")), (0xCBF4_3926, 0));
    }

    #[test]
    fn a_partitioner_is_read_as_it_is_written() {
        for partitioner in [Partitioner::Murmur2, Partitioner::Crc32] {
            assert_eq!(partitioner.to_string().parse(), Ok(partitioner));
        }
        assert!("Murmur2".parse::<Partitioner>().is_err());
    }

    #[test]
    fn a_users_key_is_its_id_in_decimal() {
        for id in [0, 9, 10, 42, 1_000_000_007, i64::MAX as u64] {
            let user = UserId::new(id).unwrap();
            for partitioner in [Partitioner::Murmur2, Partitioner::Crc32] {
                let of_key = partitioner.partition_of(id.to_string().as_bytes(), 24);
                assert_eq!(partitioner.partition_of_user(user, 24), of_key, "{id}");
            }
        }
    }

    fn node(id: u64) -> MapNode {
        MapNode { id: NodeId(id), host: format!("node-{id}"), port: 7_400, tls_port: 0 }
    }

    fn there_and_back(map: &NodeMap) -> Result<NodeMap, NodeMapError> {
        let mut builder = FlatBufferBuilder::new();
        let root = map.write(&mut builder);
        builder.finish_minimal(root);
        NodeMap::read(flatbuffers::root::<fbs::NodeMap>(builder.finished_data()).unwrap())
    }

    #[test]
    fn a_map_is_read_as_it_is_written_and_nonsense_is_not_believed() {
        let mut map = NodeMap::new(7, Partitioner::Crc32, vec![node(1), node(2)], 2);
        map.push(Some(1), [0, 1]);
        map.push(None, [1]);
        map.push(Some(0), []);
        assert_eq!(there_and_back(&map), Ok(map.clone()));
        assert_eq!((map.partitions(), map.owner(0), map.owner(1)), (3, Some(1), None));
        assert_eq!((map.owner_id(0), map.owner_id(1)), (Some(NodeId(2)), None));
        assert_eq!((map.owned_by(0).collect(), map.owned_by(1).collect()), (vec![2], vec![0]));
        assert_eq!((map.without_owner(), map.without_standby(1), map.without_standby(0)), (1, 1, 0));
        let holders = |partition| map.holders(partition).collect::<Vec<u16>>();
        assert_eq!((holders(0), holders(1), holders(2)), (vec![1, 0], vec![1], vec![0]));
        let mut later = NodeMap { epoch: 8, ..map.clone() };
        assert!(later.says_as(&map) && later.digest() == map.digest());
        later.holders[0] = 0;
        assert!(!later.says_as(&map) && later.digest() != map.digest());

        let wrong = |change: fn(&mut NodeMap)| {
            let mut wrong = map.clone();
            change(&mut wrong);
            there_and_back(&wrong).unwrap_err()
        };
        assert_eq!(wrong(|map| map.holders[2] = 2), NodeMapError::Holder { nodes: 2, got: 2 });
        assert_eq!(wrong(|map| Arc::make_mut(&mut map.nodes)[1].id = NodeId(0)), NodeMapError::Node(1));
        assert_eq!(wrong(|map| Arc::make_mut(&mut map.nodes)[0].port = 0), NodeMapError::Node(0));
        assert_eq!(
            wrong(|map| Arc::make_mut(&mut map.nodes)[0].host = "x".repeat(254)),
            NodeMapError::Node(0)
        );
        // It would have made a header of its own in the answer that names the owner.
        assert_eq!(
            wrong(|map| Arc::make_mut(&mut map.nodes)[0].host = "x\r\nSet-Cookie: y".to_owned()),
            NodeMapError::Node(0)
        );
        assert_eq!(wrong(|map| map.nodes = vec![node(1); 257].into()), NodeMapError::Nodes(257));
        assert_eq!(wrong(|map| map.holders.clear()), NodeMapError::Partitions { holders: 0, each: 2 });
        assert_eq!(wrong(|map| map.holders_each = 5), NodeMapError::Partitions { holders: 6, each: 5 });
        assert_eq!(wrong(|map| map.holders_each = 0), NodeMapError::Partitions { holders: 6, each: 0 });
    }
}
