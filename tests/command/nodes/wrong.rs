//! What producers get wrong in a topic that nodes divide, and what whoever compares them with its ledger is told.

use std::net::SocketAddr;
use std::path::Path;

use florin_schema::Partitioner;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::followed;
use super::group::{Group, PARTITIONS, settles, told};
use crate::kafka::broker::Broker;
use crate::kafka::{WRONG, metric, send, send_wrong};
use crate::support::{Server, run, wait_for};

/// Who follows a partition of the map, its owner first.
fn followers(node: SocketAddr, partition: usize) -> Vec<SocketAddr> {
    let map = told(node).expect("it has a map")["map"].take();
    let address = |place: &Value| {
        let node = &map["nodes"][place.as_u64().expect("a place") as usize];
        format!("{}:{}", node["host"].as_str().unwrap(), node["port"]).parse().expect("an address")
    };
    map["partitions"][partition].as_array().expect("a list").iter().map(address).collect()
}

/// The partition that a user's records belong in.
fn partition(user: u64) -> usize {
    Partitioner::Murmur2.partition_of(user.to_string().as_bytes(), PARTITIONS as u32) as usize
}

/// Each node counts and names what lies in partitions that it follows, which are the owner's and the standby's; the accounts that it is about
/// say so, of either; all others go on. What lies astray is known to those who follow the partition that it lies in.
#[test]
fn what_producers_get_wrong_costs_nobody_but_whom_it_names_whichever_node_answers() {
    let Some(broker) = Broker::shared() else { return };
    let folder = TempDir::new().unwrap();
    broker.make_topic("divided-wrong", PARTITIONS as i32);
    send(broker, "divided-wrong", 1..10, 1..=2);
    let ledger = broker.address("divided-wrong");
    let group = Group { folder: folder.path(), ledger, name: "divided-wrong" };
    let nodes: Vec<Server> = (0..3).map(|_| group.start("127.0.0.1:0", &[])).collect();
    let any: Vec<SocketAddr> = nodes.iter().map(|node| node.any).collect();
    settles(&any);
    send_wrong(broker, "divided-wrong", PARTITIONS as i32);
    for (name, count) in WRONG {
        let name = format!("florin_kafka_{name}_total");
        wait_for(&name, || {
            let all = nodes.iter().map(|node| metric(node, &name).expect("it is counted")).sum::<u64>();
            (all == 2 * count).then_some(())
        });
    }
    send(broker, "divided-wrong", 1..10, 3..=3);
    let balance = |node: SocketAddr, user: u64| followed(node, user, "balance").0;
    let is_as_it_should_be = |node: SocketAddr| {
        for user in [1, 3, 4, 6, 7, 8, 9] {
            wait_for("what can be mended is", || {
                let answer = balance(node, user);
                let is_whole = answer.contains("\"version\":\"3\"") && !answer.contains("Florin-Quarantined");
                is_whole.then_some(())
            });
        }
        let own = followers(node, partition(5));
        let answers = if own.contains(&node) { node } else { own[0] };
        let knows_of_strays = followers(node, (partition(5) + 1) % PARTITIONS).contains(&answers);
        for (user, says_so) in [(2, true), (5, knows_of_strays)] {
            let answer = balance(node, user);
            assert_eq!(answer.contains("Florin-Quarantined"), says_so, "{answer}");
        }
    };
    is_as_it_should_be(any[0]);
    // The standbys know the same. Two nodes follow all that there is.
    let gone = followers(any[0], partition(5))[0];
    let left: Vec<SocketAddr> = any.iter().copied().filter(|&node| node != gone).collect();
    let gone = any.iter().position(|&node| node == gone).expect("one of them");
    nodes[gone].signal(Signal::KILL);
    settles(&left);
    left.into_iter().for_each(is_as_it_should_be);
}

/// A user of the ledger's, and how many rows are this one's.
fn rows_of_first(folder: &Path) -> (u64, u64) {
    let ledger = rusqlite::Connection::open(folder.join("bank.db")).expect("the ledger's file");
    let query = "SELECT user_id, count(*) FROM transactions GROUP BY user_id LIMIT 1";
    ledger
        .query_row(query, [], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))
        .expect("a row")
}

/// `florin audit` compares what all of the nodes answer, whichever of them it is told of.
#[test]
fn an_audit_of_any_node_is_one_of_all_of_them() {
    let Some(broker) = Broker::shared() else { return };
    let folder = TempDir::new().unwrap();
    let say = |words: &[&str]| run(folder.path(), words).ok();
    say(&["generate", "--users", "300", "--transactions", "5000", "--ledger", "sqlite:bank.db"]);
    broker.make_topic("audited", PARTITIONS as i32);
    let ledger = broker.address("audited");
    say(&["publish", &ledger, "--from", "sqlite:bank.db"]);
    let group = Group { folder: folder.path(), ledger, name: "audited" };
    let nodes: Vec<Server> = (0..3).map(|_| group.start("127.0.0.1:0", &[])).collect();
    settles(&nodes.iter().map(|node| node.any).collect::<Vec<_>>());
    let audit =
        |node: &Server| run(folder.path(), &["audit", "--ledger", "sqlite:bank.db", "--node", &node.addr()]);
    for node in &nodes {
        let proven = audit(node).ok();
        assert!(proven.starts_with("300 accounts are answered"), "{proven}");
    }
    // A row that only the topic has is a difference, whichever node has its user.
    let user = rows_of_first(folder.path());
    send(broker, "audited", user.0..user.0 + 1, user.1 + 1..=user.1 + 1);
    for node in &nodes {
        wait_for("a difference is named", || {
            let told = audit(node);
            (told.code == Some(1) && told.err.contains("1 of 300 accounts")).then_some(())
        });
    }
}
