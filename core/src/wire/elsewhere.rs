//! What is said of a user whom another node has.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use florin_schema::nodes::{authority, node_authority};
use florin_schema::{MapNode, UserId, Version};

use super::{Query, Request, Way};

/// Whose a user is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotOwner<'a> {
    /// Of the map that says so.
    pub epoch: u64,
    /// Who was asked about.
    pub user: UserId,
    /// To which the user belongs.
    pub partition: u32,
    /// Who has that.
    pub owner: &'a MapNode,
}

/// Where an HTTP caller is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// The owner, as `host:port`.
    pub owner: String,
    /// The whole address of what was asked for; `None` where the owner does not listen in the way in which the caller has come.
    pub location: Option<String>,
}

impl NotOwner<'_> {
    /// In words.
    pub fn message(&self) -> String {
        let NotOwner { user, partition, owner, .. } = self;
        let owner = node_authority(&owner.host, owner.port, owner.tls_port);
        format!("user_id: {user} belongs to partition {partition}, which {owner} has")
    }

    /// To the same path on the owner.
    pub fn redirect(&self, way: Way, request: &Request<'_>) -> Redirect {
        let MapNode { host, port, tls_port, .. } = self.owner;
        let (scheme, to) = match way {
            Way::Plain => ("http", *port),
            Way::Tls => ("https", *tls_port),
            // It is known here as a process, and would be nobody at a port.
            Way::Unix => ("http", 0),
        };
        let owner = if to == 0 { node_authority(host, *port, *tls_port) } else { authority(host, to) };
        let path = path(request).filter(|_| to != 0);
        Redirect { location: path.map(|path| format!("{scheme}://{owner}{path}")), owner }
    }
}

/// What was asked for, as its path says it.
fn path(request: &Request<'_>) -> Option<String> {
    let mut parameters: Vec<String> = Vec::new();
    let (user, of) = match request.query {
        Query::Balance(user) => (user, "balance"),
        Query::Statistics(user, windows) => {
            let names: Vec<&str> = windows.iter().map(|window| window.name()).collect();
            parameters.push(format!("window={}", names.join(",")));
            (user, "statistics")
        }
        _ => return None,
    };
    let freshness = &request.freshness;
    if freshness.min_version != Version(0) {
        parameters.push(format!("min_version={}", freshness.min_version));
    }
    for (name, ms) in [("max_age_ms", freshness.max_age_ms), ("wait_ms", freshness.wait_ms)] {
        if ms != 0 {
            parameters.push(format!("{name}={ms}"));
        }
    }
    let question = if parameters.is_empty() { "" } else { "?" };
    Some(format!("/v1/users/{user}/{of}{question}{}", parameters.join("&")))
}

#[cfg(test)]
mod tests {
    use florin_schema::NodeId;

    use super::*;
    use crate::wire::{Parsed, http};

    /// Nobody listens at port 0.
    #[test]
    fn an_owner_is_named_by_a_port_that_it_has() {
        let node = |port, tls_port| MapNode { id: NodeId(1), host: "::1".to_owned(), port, tls_port };
        let asked = "GET /v1/users/7/balance HTTP/1.1\r\nHost: h\r\n\r\n";
        let mut users = Vec::new();
        let Parsed::Request(request, _) = http::parse(asked.as_bytes(), &mut users) else {
            panic!("a request")
        };
        let told = |owner: &MapNode, way| {
            let answer = NotOwner { epoch: 1, user: UserId::default(), partition: 3, owner };
            let Redirect { owner, location } = answer.redirect(way, &request);
            (answer.message().rsplit_once(", which ").expect("whose").1.to_owned(), owner, location)
        };
        let named = |message: &str, owner: &str, location: Option<&str>| {
            (message.to_owned(), owner.to_owned(), location.map(str::to_owned))
        };
        let both = node(7400, 7500);
        let to = |scheme: &str, port| format!("{scheme}://[::1]:{port}/v1/users/7/balance");
        assert_eq!(told(&both, Way::Plain), named("[::1]:7400 has", "[::1]:7400", Some(&to("http", 7400))));
        assert_eq!(told(&both, Way::Tls), named("[::1]:7400 has", "[::1]:7500", Some(&to("https", 7500))));
        assert_eq!(told(&both, Way::Unix), named("[::1]:7400 has", "[::1]:7400", None));
        let by_tls = node(0, 7500);
        for way in [Way::Plain, Way::Unix] {
            assert_eq!(told(&by_tls, way), named("[::1]:7500 has", "[::1]:7500", None));
        }
        assert_eq!(told(&node(7400, 0), Way::Tls), named("[::1]:7400 has", "[::1]:7400", None));
    }
}
