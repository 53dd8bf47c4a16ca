//! Where a node listens.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;
use crate::limits::ADDRESSES_MAX;

/// A node's address: `host:port` or `[::1]:port`, with `florin://` before it or, for TLS, `florins://`; or `unix:/path`.
///
/// ```
/// use florin_client::Address;
///
/// let address: Address = "127.0.0.1:7400".parse()?;
/// assert_eq!(address.to_string(), "127.0.0.1:7400");
/// let address: Address = "unix:/run/florin/florin.sock".parse()?;
/// assert_eq!(address, Address::Unix("/run/florin/florin.sock".into()));
/// let address: Address = "florins://florin.internal:7500".parse()?;
/// assert_eq!(address.to_string(), "florins://florin.internal:7500");
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
    /// A port for TLS.
    Tls {
        /// A name or an IP address, without brackets.
        host: String,
        /// Of the node's any-shard listener for TLS, or of its admin port's.
        port: u16,
    },
    /// A unix stream socket.
    Unix(PathBuf),
}

/// What stands before an address of TCP.
const PLAIN: &str = "florin://";
const SECURE: &str = "florins://";
/// What ends a host, or begins another.
const NEVER_IN_HOST: [char; 5] = ['/', ',', '[', ']', '@'];

/// Why a text is no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("address: expected {expected}, got {found:?}")]
pub struct AddressError {
    expected: &'static str,
    found: String,
}

/// What a text is that names one node.
const ONE: &str = "one node's address: host:port, [ipv6]:port, florins:// before it for TLS, or unix:/path";
/// What a text is that names some.
const SOME: &str = "host:port, [ipv6]:port, up to 64 of them with commas between, florins:// before them for TLS, or unix:/path";

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let found = match text.strip_prefix("unix:") {
            Some(path) => (!path.is_empty()).then(|| Address::Unix(path.into())),
            None => {
                let (scheme, rest) = split_scheme(text);
                Address::of_port(scheme, rest)
            }
        };
        found.ok_or_else(|| AddressError { expected: ONE, found: text.to_owned() })
    }
}

impl Address {
    /// Another port of the same node's.
    pub(crate) fn neighbour(&self, address: SocketAddr) -> Address {
        match self {
            Address::Tls { .. } => Address::Tls { host: address.ip().to_string(), port: address.port() },
            Address::Tcp { .. } | Address::Unix(_) => address.into(),
        }
    }

    /// The name by which it is reached; a unix socket has none.
    pub(crate) fn host(&self) -> Option<&str> {
        match self {
            Address::Tcp { host, .. } | Address::Tls { host, .. } => Some(host),
            Address::Unix(_) => None,
        }
    }

    /// `host:port`, as what stood before it says.
    fn of_port(scheme: Scheme, text: &str) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host).to_owned();
        if host.is_empty() || host.contains(NEVER_IN_HOST) || (bracketed.is_none() && host.contains(':')) {
            return None;
        }
        Some(match scheme {
            Scheme::Secure => Address::Tls { host, port },
            Scheme::Plain => Address::Tcp { host, port },
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Plain,
    Secure,
}

/// What stands before an address, and the rest of it.
fn split_scheme(text: &str) -> (Scheme, &str) {
    match text.strip_prefix(SECURE) {
        Some(rest) => (Scheme::Secure, rest),
        None => (Scheme::Plain, text.strip_prefix(PLAIN).unwrap_or(text)),
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
        let (scheme, host, port) = match self {
            // Bare, it would be a unix socket.
            Address::Tcp { host, port } if host == "unix" => (PLAIN, host, port),
            Address::Tcp { host, port } => ("", host, port),
            Address::Tls { host, port } => (SECURE, host, port),
            Address::Unix(path) => return write!(f, "unix:{}", path.display()),
        };
        match host.contains(':') {
            true => write!(f, "{scheme}[{host}]:{port}"),
            false => write!(f, "{scheme}{host}:{port}"),
        }
    }
}

/// The addresses of nodes that follow the same ledger: one, or several with commas between them; before all of them
/// `florin://` or nothing, or `florins://` where they are reached by TLS.
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
        let wrong = || AddressError { expected: SOME, found: text.to_owned() };
        // The path of a unix socket may have a comma.
        if text.starts_with("unix:") {
            return Ok(Addresses(vec![text.parse().map_err(|_| wrong())?]));
        }
        let (scheme, rest) = split_scheme(text);
        let one = |listed: &str| match listed.starts_with("unix:") && scheme == Scheme::Plain {
            // Behind florin:// stands a port, where it can be one: so reads what names one node alone.
            true if text.starts_with(PLAIN) => {
                Address::of_port(scheme, listed).or_else(|| listed.parse().ok())
            }
            true => listed.parse().ok(),
            false => Address::of_port(scheme, listed),
        };
        let addresses = rest.split(',').map(one).collect::<Option<Vec<Address>>>().ok_or_else(wrong)?;
        let is_twice = |place: usize| addresses[..place].contains(&addresses[place]);
        if addresses.len() > ADDRESSES_MAX || (0..addresses.len()).any(is_twice) {
            return Err(wrong());
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
        for text in [
            "localhost:1",
            "127.0.0.1:7400",
            "[::1]:65535",
            "unix:/a",
            "unix:relative",
            "florins://[::1]:7500",
            "florin://unix:1",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let several: Addresses = "florin://a:1,[::1]:2".parse().unwrap();
        assert_eq!(several.as_slice(), ["a:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
        assert_eq!("unix:/a,b".parse::<Addresses>().unwrap().as_slice().len(), 1);
        let port: Address = "florin://unix:1".parse().unwrap();
        assert_eq!("florin://unix:1".parse::<Addresses>().unwrap().as_slice(), [port]);
        let secure: Addresses = "florins://a:1,[::1]:2".parse().unwrap();
        assert_eq!(
            secure.as_slice(),
            ["florins://a:1".parse().unwrap(), "florins://[::1]:2".parse().unwrap()]
        );
        // Whoever has asked for TLS once is never led to a port without.
        for wrong in [
            "",
            "a:1,",
            ",a:1",
            "a:1,a:1",
            "florin://",
            "a:1;b:1",
            "florins://a:1,florin://b:1",
            "a:1,florins://b:1",
        ] {
            assert!(wrong.parse::<Addresses>().is_err(), "{wrong:?}");
        }
        // Whoever may name one node was told to name several with commas between, which is what they had done.
        let refused = "a:1,b:2".parse::<Address>().unwrap_err().to_string();
        assert!(refused.contains("one node's address") && !refused.contains("comma"), "{refused}");
        assert!("a:1,a:1".parse::<Addresses>().unwrap_err().to_string().contains("commas between"));
        let six: SocketAddr = "[::1]:7400".parse().unwrap();
        assert_eq!(Address::from(six).to_string(), "[::1]:7400");
        for wrong in [
            "",
            "localhost",
            ":7400",
            "host:",
            "host:65536",
            "::1:7400",
            "unix:",
            "host:-1",
            "[]:1",
            "[[a]]:1",
            "a,b:1",
            "user@host:1",
            "florins://",
            "https://a:1",
            "florin://florins://a:1",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong:?}");
        }
    }
}
