//! Where a node listens.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;
use crate::fleet::NODES_MAX;

/// A node's address: `host:port`, `[::1]:port` or `unix:/path`.
///
/// ```
/// use florin_client::Address;
///
/// let address: Address = "127.0.0.1:7400".parse()?;
/// assert_eq!(address.to_string(), "127.0.0.1:7400");
/// let address: Address = "unix:/run/florin/florin.sock".parse()?;
/// assert_eq!(address, Address::Unix("/run/florin/florin.sock".into()));
/// # Ok::<(), florin_client::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// A TCP port.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// Of the any-shard listener.
        port: u16,
    },
    /// A unix stream socket.
    Unix(PathBuf),
}

/// Why a text is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "address: expected host:port, [ipv6]:port, up to 64 of them with commas between, or unix:/path, got {0:?}"
)]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let wrong = || AddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong()) } else { Ok(Address::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        if host.is_empty() || (bracketed.is_none() && host.contains(':')) {
            return Err(wrong());
        }
        Ok(Address::Tcp { host: host.to_owned(), port })
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Address, AddressError> {
        text.parse()
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Tcp { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The addresses of nodes that follow the same ledger: one, or several with commas between them, `florin://` before them
/// or not.
///
/// ```
/// use florin_client::Addresses;
///
/// let addresses: Addresses = "florin://a:7400,b:7400".parse()?;
/// assert_eq!(addresses.as_slice().len(), 2);
/// # Ok::<(), florin_client::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addresses(Vec<Address>);

impl Addresses {
    /// At least one, each once.
    pub fn as_slice(&self) -> &[Address] {
        &self.0
    }
}

impl FromStr for Addresses {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Addresses, AddressError> {
        // The path of a unix socket may have a comma.
        if text.starts_with("unix:") {
            return Ok(Addresses(vec![text.parse()?]));
        }
        let listed = text.strip_prefix("florin://").unwrap_or(text).split(',');
        let addresses = listed.map(str::parse).collect::<Result<Vec<Address>, AddressError>>()?;
        let is_twice = |place: usize| addresses[..place].contains(&addresses[place]);
        if addresses.len() > NODES_MAX || (0..addresses.len()).any(is_twice) {
            return Err(AddressError(text.to_owned()));
        }
        Ok(Addresses(addresses))
    }
}

impl TryFrom<&str> for Addresses {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Addresses, AddressError> {
        text.parse()
    }
}

impl From<Address> for Addresses {
    fn from(address: Address) -> Addresses {
        Addresses(vec![address])
    }
}

impl From<SocketAddr> for Addresses {
    fn from(address: SocketAddr) -> Addresses {
        Addresses(vec![address.into()])
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Error {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_their_text_and_nonsense_does_not_pass() {
        for text in ["localhost:1", "127.0.0.1:7400", "[::1]:65535", "unix:/a", "unix:relative"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let several: Addresses = "florin://a:1,[::1]:2".parse().unwrap();
        assert_eq!(several.as_slice(), ["a:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
        assert_eq!("unix:/a,b".parse::<Addresses>().unwrap().as_slice().len(), 1);
        for wrong in ["", "a:1,", ",a:1", "a:1,a:1", "florin://", "a:1;b:1"] {
            assert!(wrong.parse::<Addresses>().is_err(), "{wrong:?}");
        }
        let six: SocketAddr = "[::1]:7400".parse().unwrap();
        assert_eq!(Address::from(six).to_string(), "[::1]:7400");
        for wrong in ["", "localhost", ":7400", "host:", "host:65536", "::1:7400", "unix:", "host:-1", "[]:1"]
        {
            assert!(wrong.parse::<Address>().is_err(), "{wrong:?}");
        }
    }
}
