//! `florin get` of any of the nodes: what another has it asks of that one.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use florin_schema::Partitioner;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::group::{Group, PARTITIONS, settles, told};
use super::{USERS, followed};
use crate::kafka::broker::Broker;
use crate::kafka::send;
use crate::support::{Server, get, run, wait_for};

/// Waits until each of so many nodes is some of the users' owner.
fn divide(node: SocketAddr, users: &[u64], nodes: usize) {
    wait_for("each node has some of the users", || {
        let map = told(node)?["map"].take();
        let owner = |user: &u64| {
            let key = user.to_string();
            let partition = Partitioner::Murmur2.partition_of(key.as_bytes(), PARTITIONS as u32);
            map["partitions"][partition as usize][0].as_u64()
        };
        (users.iter().map(owner).collect::<BTreeSet<_>>().len() == nodes).then_some(())
    });
}

#[test]
fn florin_get_asks_each_node_for_what_it_has() {
    let Some(broker) = Broker::shared() else { return };
    let folder = TempDir::new().unwrap();
    broker.make_topic("asked", PARTITIONS as i32);
    send(broker, "asked", USERS, 1..=2);
    let group = Group { folder: folder.path(), ledger: broker.address("asked"), name: "asked" };
    let nodes: Vec<Server> = (0..3).map(|_| group.start("127.0.0.1:0", &[])).collect();
    let any: Vec<SocketAddr> = nodes.iter().map(|node| node.any).collect();
    settles(&any);
    let asked = |node: &str, arguments: &[&str]| {
        run(folder.path(), &[&["get"], arguments, &["--addr", node]].concat()).ok()
    };
    let users: Vec<u64> = USERS.take(30).collect();
    divide(any[0], &users, 3);

    // By HTTP and by frames, whichever node is asked.
    for user in &users[..6] {
        let of_owner = |what: &str| {
            let (whole, _) = followed(any[0], *user, what);
            assert!(whole.starts_with("HTTP/1.1 200 "), "{whole}");
            whole.split_once("\r\n\r\n").expect("a body").1.to_owned()
        };
        let (balance, statistics) = (of_owner("balance"), of_owner("statistics?window=lifetime"));
        let user = user.to_string();
        for node in &nodes {
            let node = node.addr();
            assert_eq!(asked(&node, &["balance", &user, "--json"]).trim_end(), balance);
            let of_lifetime = ["statistics", &user, "--window", "lifetime"];
            assert_eq!(asked(&node, &[&of_lifetime[..], &["--json"]].concat()).trim_end(), statistics);
            assert!(asked(&node, &["balance", &user]).starts_with(&format!("user {user}, version 2, ")));
            assert!(asked(&node, &of_lifetime).starts_with(&format!("user {user}, version 2, ")));
        }
    }

    // A batch, with one twice and one whom nobody knows.
    let mut names: Vec<String> = users.iter().map(u64::to_string).collect();
    names.extend(["999999".to_owned(), "1".to_owned()]);
    let of_all: Vec<&str> = ["balances"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let by_json = |node: &str| -> Value {
        serde_json::from_str(&asked(node, &[&of_all[..], &["--json"]].concat())).expect("JSON")
    };
    let holds = |node: &str| {
        let told = by_json(node);
        let entries = told["balances"].as_array().expect("a list");
        assert_eq!(entries.len(), names.len());
        for (entry, name) in entries.iter().zip(&names) {
            assert_eq!(entry["user_id"].as_str(), Some(name.as_str()));
            let (status, version) = if name == "999999" { ("NOT_FOUND", None) } else { ("OK", Some("2")) };
            assert_eq!(
                (entry["status"].as_str(), entry["balance"]["version"].as_str()),
                (Some(status), version)
            );
        }
        let table = asked(node, &of_all);
        assert_eq!(table.matches("  OK").count(), names.len() - 1, "{table}");
        assert!(table.contains("  NOT_FOUND"), "{table}");
    };
    for node in &nodes {
        holds(&node.addr());
    }

    // What nobody has yet is refused in the owner's own words.
    let node = nodes[0].addr();
    for json in [&["--json"][..], &[]] {
        let late = ["get", "balance", "1", "--min-version", "3", "--addr", &node];
        let refused = run(folder.path(), &[&late[..], json].concat()).refused(1);
        assert!(refused.contains("version"), "{refused}");
    }

    // A node that has just died: those that stand by for it are asked at once.
    // One of the other two may stand by for it, and answers by itself.
    let of_the_third = |user: &&u64| {
        any[..2].iter().any(|&other| {
            let answer = get(other, &format!("/v1/users/{user}/balance"));
            answer.contains(&format!("Location: http://{}/", nodes[2].addr()))
        })
    };
    let user = users.iter().find(of_the_third).expect("each has some of the users").to_string();
    nodes[2].signal(Signal::KILL);
    for what in [&["balance", &user][..], &["statistics", &user, "--window", "lifetime"]] {
        let told: Value = serde_json::from_str(&asked(&node, &[what, &["--json"]].concat())).expect("JSON");
        assert_eq!(told["version"].as_str(), Some("2"), "{told}");
    }
    holds(&node);
}
