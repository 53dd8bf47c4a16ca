//! Nodes that divide a topic's users among them, as an operator has them: started, killed, ended, started again. All tests share one
//! broker; without it they say so and do nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::kafka::broker::Broker;
use crate::kafka::send;
use crate::support::{Server, get, run};

mod asked;
mod ended;
pub mod group;
mod load;
mod readers;
mod secured;
mod troubles;
mod wrong;

use group::{Group, PARTITIONS, settles, told};
use readers::{Caller, Reader};

const USERS: std::ops::Range<u64> = 1..201;

/// What an operator sees of a user: the console is shown to this host by its own name.
fn looked_at(admin: SocketAddr, user: u64) -> String {
    let mut stream = TcpStream::connect(admin).expect("somebody listens");
    write!(stream, "GET /v1/users/{user}/balance HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("a connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("florin writes UTF-8");
    answer
}

/// What the console shows of a node.
fn activity(admin: SocketAddr) -> Value {
    let mut stream = TcpStream::connect(admin).expect("somebody listens");
    write!(stream, "GET /v1/activity HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a connection");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("florin writes UTF-8"));
    let told = lines.find_map(|line| line.strip_prefix("data:").map(str::to_owned)).expect("an event");
    serde_json::from_str(&told).expect("JSON")
}

/// What is answered over HTTP by whoever has the user, beginning with any node.
fn followed(mut node: SocketAddr, user: u64, what: &str) -> (String, usize) {
    for sent_on in 0..3 {
        let answer = get(node, &format!("/v1/users/{user}/{what}"));
        if !answer.starts_with("HTTP/1.1 307 ") {
            return (answer, sent_on);
        }
        let location =
            answer.lines().find_map(|line| line.strip_prefix("Location: http://")).expect("a place");
        node = location.split('/').next().unwrap().parse().expect("an address");
    }
    panic!("user {user} is sent around in a circle");
}

#[test]
fn three_nodes_divide_a_topic_and_no_read_fails_whatever_becomes_of_one() {
    let Some(broker) = Broker::shared() else { return };
    let folder = TempDir::new().unwrap();
    broker.make_topic("divided", PARTITIONS as i32);
    send(broker, "divided", USERS, 1..=2);
    let group = Group { folder: folder.path(), ledger: broker.address("divided"), name: "divided" };
    let mut nodes: Vec<Server> = (0..3).map(|_| group.start("127.0.0.1:0", &[])).collect();
    let any: Vec<SocketAddr> = nodes.iter().map(|node| node.any).collect();
    settles(&any);

    // By HTTP, from each of them, whoever has the user.
    let mut sent_on = 0;
    for user in USERS {
        for &node in &any {
            let (answer, ways) = followed(node, user, "balance");
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"version\":\"2\""), "{answer}");
            sent_on += ways;
        }
    }
    assert!(sent_on > 0, "each of them would have all users");

    // As an operator looks, and where it is asked for by the command.
    let elsewhere = USERS.map(|user| looked_at(nodes[0].admin, user));
    let elsewhere: Vec<String> = elsewhere.filter(|answer| !answer.starts_with("HTTP/1.1 200 ")).collect();
    assert!(!elsewhere.is_empty() && elsewhere.len() < USERS.count());
    for answer in &elsewhere {
        assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains("which 127.0.0.1:"), "{answer}");
    }
    let node = nodes[0].addr();
    for user in 1..6 {
        let user = user.to_string();
        for json in [&["--json"][..], &[]] {
            let asked = [&["get", "balance", &user, "--addr", &node][..], json].concat();
            let shown = run(folder.path(), &asked).ok();
            assert!(shown.contains("version 2") || shown.contains("\"version\":\"2\""), "{shown}");
        }
    }
    let page = get(nodes[0].admin, "/metrics");
    for series in
        ["florin_nodes 3\n", "florin_partitions_without_owner 0\n", "florin_partitions_without_standby 0\n"]
    {
        assert!(page.contains(&format!("\n{series}")), "{series}: {page}");
    }
    for role in ["as=\"owner\"", "as=\"standby\""] {
        let is_of = |line: &&str| line.starts_with("florin_partition_held{") && line.contains(role);
        // Who stands by for what is by chance, for ports are.
        assert!((1..PARTITIONS).contains(&page.lines().filter(is_of).count()), "{role}: {page}");
    }
    let activity = activity(nodes[0].admin);
    let owned =
        activity["nodes"].as_array().expect("a list").iter().map(|node| node["owns"].as_u64().unwrap());
    assert_eq!((owned.len(), owned.sum::<u64>()), (3, PARTITIONS as u64), "{activity}");
    let here = activity["partitions"].as_array().expect("a list");
    let is_at_end = |of: &Value| of["lag_records"].as_u64().unwrap_or(0) == 0 && of["role"].is_string();
    assert!(!here.is_empty() && here.iter().all(is_at_end), "{activity}");
    let map = |port| told(port).expect("there is one")["map"]["partitions"].clone();
    assert_eq!(map(any[0]), map(nodes[0].admin));
    // What is new since a version is asked of both ports alike; the admin port left the question out and told everything.
    for port in [any[0], nodes[0].admin] {
        let news = get(port, &format!("/v1/nodes?since={}", u64::MAX));
        let (head, body) = news.split_once("\r\n\r\n").expect("a body");
        let news: Value = serde_json::from_str(body).expect("JSON");
        let is_empty = news["nodes"].as_array().is_some_and(Vec::is_empty);
        assert!(head.starts_with("HTTP/1.1 200 ") && is_empty, "{head}: {news}");
        assert!(news["map"]["partitions"].is_null() && news["map"]["epoch"].is_string(), "{news}");
        for wrong in ["since=x", "since=-1", "until=1"] {
            let refused = get(port, &format!("/v1/nodes?{wrong}"));
            assert!(refused.starts_with("HTTP/1.1 400 "), "{wrong}: {refused}");
        }
    }

    // By frames, of clients that were told of one of them.
    let readers = Reader::all(folder.path(), &Caller::of(any[0]));
    let go_on = || readers.iter().for_each(Reader::goes_on);
    go_on();
    nodes[1].signal(Signal::KILL);
    go_on();
    settles(&[any[0], any[2]]);
    send(broker, "divided", USERS, 3..=3);
    go_on();
    nodes[1] = group.start(&any[1].to_string(), &[]);
    settles(&any);
    go_on();

    // Ended as an operator does, one after the other, and started again.
    for place in [2, 0] {
        let ending = nodes.remove(place);
        ending.signal(Signal::TERM);
        assert_eq!(ending.ended().0, Some(0));
        go_on();
        nodes.insert(place, group.start(&any[place].to_string(), &[]));
        settles(&any);
        go_on();
    }
    readers.into_iter().for_each(Reader::ends);
    for user in USERS {
        let (answer, _) = followed(any[0], user, "balance");
        assert!(answer.contains("\"version\":\"3\""), "{answer}");
    }
}

/// Of two nodes that say that they are reached at one place the former would be asked for what the latter was given.
#[test]
fn of_two_nodes_with_one_address_the_former_ends_and_says_why() {
    let Some(broker) = Broker::shared() else { return };
    let folder = TempDir::new().unwrap();
    broker.make_topic("doubled", 3);
    let group = Group { folder: folder.path(), ledger: broker.address("doubled"), name: "doubled" };
    let said = folder.path().join("said");
    let mut command = group.command("127.0.0.1:0", &[]);
    command.stderr(File::create(&said).unwrap());
    let former = Server::spawn(command);
    let place = former.any.to_string();
    let _latter = Server::spawn(group.command("127.0.0.1:0", &["--advertise", &place]));
    assert_eq!(former.ended().0, Some(24));
    let said = std::fs::read_to_string(said).unwrap();
    assert!(
        said.contains("this node is in group doubled no more")
            && said.contains("no two nodes have one address"),
        "{said}"
    );
}
