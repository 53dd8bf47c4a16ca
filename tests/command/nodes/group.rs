//! Nodes of one consumer group, each a process, and what they tell of themselves.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Server, florin, get, wait_for};

/// Of the topics that they divide.
pub const PARTITIONS: usize = 24;

/// Who divides a topic's users among them.
pub struct Group<'a> {
    pub folder: &'a Path,
    /// As `--ledger` names it.
    pub ledger: String,
    pub name: &'a str,
}

impl Group<'_> {
    /// A node that will listen there; `off` for one that is reached by TLS alone.
    pub fn command(&self, listen: &str, more: &[&str]) -> Command {
        let (ledger, group) = (self.ledger.as_str(), self.name);
        let shards = listen.rsplit_once(':').map_or("off".to_owned(), |(ip, _)| format!("{ip}:0"));
        let on = ["serve", "--listen", listen, "--shard-listen", &shards, "--admin", "127.0.0.1:0"];
        let of = ["--ledger", ledger, "--group", group, "--shards", "1"];
        florin(self.folder, &[&on[..], &of, more].concat())
    }

    /// A node on a port of its own, or on that of a former life.
    pub fn start(&self, listen: &str, more: &[&str]) -> Server {
        Server::spawn(self.command(listen, more))
    }
}

/// What a node tells of all of them, on whichever port; `None` while it has no map.
pub fn told(node: SocketAddr) -> Option<Value> {
    let answer = get(node, "/v1/nodes");
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let told: Value = serde_json::from_str(body).ok()?;
    (!told["map"].is_null()).then_some(told)
}

/// Waits until all of these nodes tell that they are who there is, and that each partition has an owner and a standby, which both say that
/// they have it.
pub fn settles(nodes: &[SocketAddr]) -> Value {
    settles_as(nodes, told)
}

/// The same, where `told` says how a node is asked. One without a port in plain is known by that for TLS.
pub fn settles_as(nodes: &[SocketAddr], told: impl Fn(SocketAddr) -> Option<Value>) -> Value {
    let is_settled = |told: &Value| {
        let map = &told["map"];
        let partitions = map["partitions"].as_array().expect("a list");
        let ports = |nodes: &Value| {
            let port = |node: &Value| {
                let ports = ["port", "tls_port"].map(|of| node[of].as_u64().expect("a port"));
                ports.into_iter().find(|&port| port != 0).expect("one of both")
            };
            nodes.as_array().expect("a list").iter().map(port).collect::<BTreeSet<_>>()
        };
        let there: BTreeSet<u64> = nodes.iter().map(|node| u64::from(node.port())).collect();
        let holders = 2.min(nodes.len());
        partitions.len() == PARTITIONS
            && ports(&map["nodes"]) == there
            && partitions.iter().all(|row| row.as_array().unwrap().len() == holders && !row[0].is_null())
    };
    for &node in nodes {
        wait_for("a node's map is whole", || told(node).filter(&is_settled).map(drop));
    }
    told(nodes[0]).expect("it was there")
}
