//! Which Kafka ledger, as `--ledger kafka://…` names it.

use std::fmt;
use std::str::FromStr;

use crate::partition::{Partitioner, UnknownPartitioner};

/// Kafka's port.
const PORT: u16 = 9092;
/// The longest name of a topic that Kafka takes.
const TOPIC_BYTES_MAX: usize = 249;

/// See the module. Displayed as it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// Brokers, at least one, as `HOST:PORT`: whichever answers knows the others.
    pub brokers: Vec<String>,
    /// The topic that is the ledger.
    pub topic: String,
    /// By which keys find their partitions.
    pub partitioner: Partitioner,
}

/// Why a text names no Kafka ledger. The text is not repeated: somebody may have put a password into it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// Another form.
    #[error("expected kafka://HOST:PORT/TOPIC, with commas between several HOST:PORT, found another form")]
    Form,
    /// A login.
    #[error(
        "expected kafka://HOST:PORT/TOPIC without a user or a password: brokers that want one are not spoken to by this florin"
    )]
    Login,
    /// A broker's place.
    #[error("expected HOST:PORT for each broker, with a port from 1 to 65535, found another form")]
    Broker,
    /// The topic's name.
    #[error("expected a topic's name: 1 to 249 letters, digits, dots, underscores and hyphens, found others")]
    Topic,
    /// A parameter.
    #[error("expected ?partitioner=murmur2 or ?partitioner=crc32, found another parameter")]
    Parameter,
    /// The partitioner.
    #[error(transparent)]
    Partitioner(#[from] UnknownPartitioner),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let rest = text.strip_prefix("kafka://").ok_or(AddressError::Form)?;
        if rest.contains('@') {
            return Err(AddressError::Login);
        }
        let (brokers, rest) = rest.split_once('/').ok_or(AddressError::Form)?;
        let (topic, parameters) =
            rest.split_once('?').map_or((rest, None), |(topic, parameters)| (topic, Some(parameters)));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_topic = (1..=TOPIC_BYTES_MAX).contains(&topic.len()) && topic.bytes().all(is_plain);
        if !is_topic || [".", ".."].contains(&topic) {
            return Err(AddressError::Topic);
        }
        let partitioner = match parameters.map(|parameters| parameters.split_once('=')) {
            None => Partitioner::default(),
            Some(Some(("partitioner", name))) => name.parse()?,
            Some(_) => return Err(AddressError::Parameter),
        };
        let brokers = brokers.split(',').map(broker).collect::<Result<_, _>>()?;
        Ok(Address { brokers, topic: topic.to_owned(), partitioner })
    }
}

fn broker(text: &str) -> Result<String, AddressError> {
    let is_bare = text.ends_with(']') || !text.contains(':');
    let (host, port) = if is_bare {
        (text, PORT)
    } else {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::Broker)?;
        (host, port.parse().ok().filter(|&port| port > 0).ok_or(AddressError::Broker)?)
    };
    let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match name {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        }
    };
    is_host.then(|| format!("{host}:{port}")).ok_or(AddressError::Broker)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}/{}", self.brokers.join(","), self.topic)?;
        match self.partitioner {
            Partitioner::Murmur2 => Ok(()),
            other => write!(f, "?partitioner={other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in [
            "kafka://localhost:9092/ledger",
            "kafka://a:1,b.example:65535,[::1]:9092/payments.ledger_v1?partitioner=crc32",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let short: Address = "kafka://broker,[::1]/l?partitioner=murmur2".parse().unwrap();
        assert_eq!(short.to_string(), "kafka://broker:9092,[::1]:9092/l");
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for text in [
            "kafka:broker/l",
            "kafka://broker",
            "kafka:///l",
            "kafka://broker/",
            "kafka://broker/a/b",
            "kafka://broker/..",
            "kafka://broker:0/l",
            "kafka://broker:x/l",
            "kafka://a,,b/l",
            "kafka://[::g]/l",
            "kafka://broker/l?partitioner=geheim",
            "kafka://broker/l?geheim=1",
            "kafka://florin:geheim@broker/l",
            "kafka://::1/l",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(
                error.contains("expected") && (text.contains("partitioner=") || !error.contains("geheim")),
                "{error}"
            );
        }
    }
}
