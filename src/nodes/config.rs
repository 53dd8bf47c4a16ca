//! How a node takes part.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use florin_client::Tls;
use florin_core::nodes::Place;
use florin_schema::nodes::{is_host, node_authority};

use super::NodesError;
use crate::callers::{SecretError, SecretSource};
use crate::limits::{CERTIFICATES_BYTES_MAX, CONFIG_READ};
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
    /// Whether whoever says that it is one of them may be shown the token and believed, and whoever is on the way read it.
    pub is_open: bool,
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
        Some(self.own_authorities().into_iter().fold(tls, |tls, authorities| tls.authorities(authorities)))
    }

    /// The file of the authorities whose certificates the others must have, and no stranger has; `None` where this host's are believed.
    fn own_authorities(&self) -> Option<&PathBuf> {
        let files = self.tls.as_ref()?;
        self.authorities.as_ref().or(files.client_ca.as_ref())
    }

    /// Whether a peer at an address may be asked. Where peers are whoever joins the group says; so what keeps strangers out, the token or
    /// an authority of the group's own, is of use on this host, and by TLS with a certificate of that authority.
    pub fn may_ask(&self, peer: IpAddr, by_tls: bool) -> bool {
        let has_authority = self.own_authorities().is_some();
        let is_open = self.is_open || (self.token.is_none() && !has_authority);
        is_open || (by_tls && has_authority) || peer.to_canonical().is_loopback()
    }

    /// Opens the file with the token, where there is one, and that of the authorities to whose nodes it is shown.
    ///
    /// # Errors
    /// Where they cannot be had, or others may write the latter.
    pub fn check_files(&self) -> Result<(), NodesError> {
        if let Some(path) = self.own_authorities() {
            let read = florin_input::read_trusted(path, CERTIFICATES_BYTES_MAX, CONFIG_READ);
            let unreadable = |source| SecretError::Unreadable { path: path.clone(), source };
            read.map_err(|source| NodesError::Authorities(unreadable(source)))?;
        }
        self.token.as_ref().map(SecretSource::read).transpose()?;
        Ok(())
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
        if !is_host(host) {
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
    fn a_token_is_shown_on_this_host_and_by_tls_to_who_has_a_certificate_of_the_groups_authority() {
        let files = |client_ca: Option<&str>| TlsFiles {
            certificate: "a".into(),
            key: "b".into(),
            client_ca: client_ca.map(Into::into),
        };
        let group = |is_open, tls| GroupConfig {
            name: "g".to_owned(),
            advertise: None,
            standbys: 1,
            token: Some(SecretSource::Environment("T".to_owned())),
            is_open,
            tls,
            authorities: None,
        };
        let plain = group(false, None);
        for (peer, may) in
            [("127.0.0.2", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.7", false)]
        {
            assert_eq!(plain.may_ask(peer.parse().unwrap(), false), may, "{peer}");
        }
        let elsewhere = "2001:db8::7".parse().unwrap();
        assert!(group(true, None).may_ask(elsewhere, false));
        let of_anybody = group(false, Some(files(None)));
        assert!(!of_anybody.may_ask(elsewhere, true));
        let of_its_own = group(false, Some(files(Some("c"))));
        assert!(of_its_own.may_ask(elsewhere, true) && !of_its_own.may_ask(elsewhere, false));
        // Who has no token is believed by its certificate, and asks nobody without one.
        let without = GroupConfig { token: None, ..of_its_own };
        assert!(without.may_ask(elsewhere, true) && !without.may_ask(elsewhere, false));
        assert!(
            GroupConfig { token: None, ..plain }.may_ask(elsewhere, false),
            "nothing keeps strangers out"
        );
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
