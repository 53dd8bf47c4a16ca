//! How a node takes part.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use florin_client::Tls;
use florin_core::nodes::Place;
use florin_schema::nodes::{HOST_BYTES_MAX, node_authority};

use crate::callers::SecretSource;
use crate::node::Addresses;
use crate::tls::TlsFiles;

/// How a node divides the users with others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    /// The consumer group that it joins: those in it divide the ledger's partitions.
    pub name: String,
    /// Where callers and the other nodes reach it; none = where it listens.
    pub advertise: Option<Advertise>,
    /// How many nodes follow each partition beside its owner.
    pub standbys: usize,
    /// What proves to the others that it may ask them.
    pub token: Option<SecretSource>,
    /// What it shows the others by TLS.
    pub tls: Option<TlsFiles>,
    /// The file of the authorities of their certificates; none = those of callers' certificates, or else those that this host trusts.
    pub authorities: Option<PathBuf>,
}

impl GroupConfig {
    /// How the others are asked by TLS; `None` where this node has no certificate to show them.
    pub fn asking(&self) -> Option<Tls> {
        let files = self.tls.as_ref()?;
        let tls = Tls::new().identity(&files.certificate, &files.key);
        let authorities = self.authorities.as_ref().or(files.client_ca.as_ref());
        Some(authorities.into_iter().fold(tls, |tls, authorities| tls.authorities(authorities)))
    }
}

/// Where a node is reached, as it is told: what is left out is as it listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advertise {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// Of its any-shard port.
    pub port: Option<u16>,
    /// Of that for TLS.
    pub tls_port: Option<u16>,
}

/// A text that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected HOST[:PORT][,tls=PORT], like node-1.example.com:7400 or [2001:db8::1],tls=7500")]
pub struct NoAddress;

impl FromStr for Advertise {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Advertise, NoAddress> {
        let (place, tls_port) = match text.split_once(",tls=") {
            Some((place, port)) => (place, Some(self::port(port)?)),
            None => (text, None),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => {
                host.parse::<std::net::Ipv6Addr>().map_err(|_| NoAddress)?;
                let port =
                    if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(NoAddress)?) };
                (host, port)
            }
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let is_legal = |letter: char| letter.is_ascii_alphanumeric() || "-._:".contains(letter);
        if !(1..=HOST_BYTES_MAX).contains(&host.len()) || !host.chars().all(is_legal) {
            return Err(NoAddress);
        }
        Ok(Advertise { host: host.to_owned(), port: port.map(self::port).transpose()?, tls_port })
    }
}

fn port(text: &str) -> Result<u16, NoAddress> {
    let port = florin_schema::decimal(text).and_then(|port| u16::try_from(port).ok());
    port.filter(|&port| port > 0).ok_or(NoAddress)
}

/// Where a node is reached that listens there; `None` where it does so for this host's own processes alone.
pub fn place(advertise: Option<&Advertise>, addresses: &Addresses) -> Option<Place> {
    let ip = addresses.listen.or(addresses.tls_listen)?.ip();
    let host = match advertise {
        Some(advertise) => advertise.host.clone(),
        None if ip.is_unspecified() => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        None => ip.to_string(),
    };
    let port = |told: Option<u16>, listens: Option<SocketAddr>| {
        listens.map_or(0, |listens| told.unwrap_or(listens.port()))
    };
    Some(Place {
        host,
        port: port(advertise.and_then(|advertise| advertise.port), addresses.listen),
        tls_port: port(advertise.and_then(|advertise| advertise.tls_port), addresses.tls_listen),
    })
}

/// As `host:port`, for people.
pub fn shown(Place { host, port, tls_port }: &Place) -> String {
    node_authority(host, *port, *tls_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_is_not_as_the_node_listens() {
        let read = |text: &str| text.parse::<Advertise>();
        let told = |host: &str, port, tls_port| Ok(Advertise { host: host.to_owned(), port, tls_port });
        assert_eq!(read("node-1.example.com"), told("node-1.example.com", None, None));
        assert_eq!(read("node-1:7400"), told("node-1", Some(7400), None));
        assert_eq!(read("10.0.0.7,tls=7500"), told("10.0.0.7", None, Some(7500)));
        assert_eq!(read("[2001:db8::1]:7400,tls=7500"), told("2001:db8::1", Some(7400), Some(7500)));
        for wrong in [
            "",
            ":7400",
            "a:0",
            "a:70000",
            "a:b",
            "2001:db8::1",
            "[::1",
            "[a]:1",
            "[::1]7400",
            "a,tls=0",
            "a/b",
            "a b",
        ] {
            assert_eq!(read(wrong), Err(NoAddress), "{wrong}");
        }
    }

    #[test]
    fn a_node_is_reached_where_it_listens_unless_it_says_otherwise() {
        let at = |text: &str| Some(text.parse().unwrap());
        let loopback = Addresses { listen: at("127.0.0.1:7411"), ..Addresses::default() };
        let at_place = |host: &str, port, tls_port| Some(Place { host: host.to_owned(), port, tls_port });
        assert_eq!(place(None, &loopback), at_place("127.0.0.1", 7411, 0));
        let told = Advertise { host: "outside".to_owned(), port: Some(9), tls_port: Some(10) };
        assert_eq!(place(Some(&told), &loopback), at_place("outside", 9, 0));
        let by_tls = Addresses { tls_listen: at("0.0.0.0:7500"), ..Addresses::default() };
        assert_eq!(place(Some(&told), &by_tls), at_place("outside", 0, 10));
        let own = place(None, &by_tls).unwrap();
        assert_eq!((own.host.is_empty(), own.port, own.tls_port), (false, 0, 7500));
        assert_eq!(place(Some(&told), &Addresses::default()), None);
    }
}
