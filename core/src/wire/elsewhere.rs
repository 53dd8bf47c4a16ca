//! What is said of a user whom another node has.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

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
        format!(
            "user_id: {user} belongs to partition {partition}, which {} has",
            authority(owner, owner.port)
        )
    }

    /// To the same path on the owner.
    pub fn redirect(&self, way: Way, request: &Request<'_>) -> Redirect {
        let MapNode { port, tls_port, .. } = *self.owner;
        let (scheme, port) = match way {
            Way::Plain => ("http", port),
            Way::Tls => ("https", tls_port),
            // It is known here as a process, and would be nobody at a port.
            Way::Unix => ("http", 0),
        };
        let owner = authority(self.owner, if port == 0 { self.owner.port } else { port });
        let path = path(request).filter(|_| port != 0);
        Redirect { location: path.map(|path| format!("{scheme}://{owner}{path}")), owner }
    }
}

/// `host:port`, with an IPv6 address in brackets.
fn authority(node: &MapNode, port: u16) -> String {
    let host = &node.host;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
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
