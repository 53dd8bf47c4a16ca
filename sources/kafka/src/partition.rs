//! Which partition a key belongs to. Producers decide that, each kind of client by a function of its own: a record that lies
//! elsewhere is one whose account may have rows in two partitions, which have no order.

use std::fmt;
use std::str::FromStr;

/// The function that all producers of a topic use.
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
}
