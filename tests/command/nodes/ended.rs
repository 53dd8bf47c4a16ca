//! Nodes that are ended one beside the other, where nobody stands by.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use rustix::process::Signal;
use tempfile::TempDir;

use super::USERS;
use super::group::{Group, PARTITIONS, told};
use super::readers::{Caller, PAUSE, Reader};
use crate::kafka::broker::Broker;
use crate::kafka::send;
use crate::support::{Server, wait_for};

/// What is answered by whoever is named; `None` where that one is there no more, or two name each other.
fn tried(mut node: SocketAddr, user: u64) -> Option<String> {
    for _ in 0..3 {
        let mut stream = TcpStream::connect(node).ok()?;
        let asked = format!("GET /v1/users/{user}/balance HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(asked.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        if !answer.starts_with("HTTP/1.1 307 ") {
            return (!answer.is_empty()).then_some(answer);
        }
        let location = answer.lines().find_map(|line| line.strip_prefix("Location: http://"))?;
        node = location.split('/').next()?.parse().ok()?;
    }
    None
}

/// Waits until all of these say that they are so many, and that each partition has an owner.
fn divide(nodes: &[SocketAddr]) {
    let is_settled = |map: &serde_json::Value| {
        let rows = map["partitions"].as_array().expect("a list");
        let are_owned =
            rows.iter().all(|row| row.as_array().is_some_and(|row| row.len() == 1 && !row[0].is_null()));
        are_owned && rows.len() == PARTITIONS && map["nodes"].as_array().expect("a list").len() == nodes.len()
    };
    for &node in nodes {
        wait_for("a node's map is whole", || told(node).filter(|told| is_settled(&told["map"])).map(drop));
    }
}

/// Who is told to end stays until others have loaded what it has, and answers until they all know of it: a caller over HTTP, who is sent to
/// the owner and tries nobody else, is told of nobody that there is nothing to be had.
#[test]
fn two_nodes_without_standbys_are_ended_at_once_and_nobody_is_told_to_wait() {
    let Some(broker) = Broker::shared() else { return };
    let folder = TempDir::new().unwrap();
    broker.make_topic("handed", PARTITIONS as i32);
    send(broker, "handed", USERS, 1..=2);
    let group = Group { folder: folder.path(), ledger: broker.address("handed"), name: "handed" };
    let mut nodes: Vec<Server> = (0..3).map(|_| group.start("127.0.0.1:0", &["--standbys", "0"])).collect();
    let any: Vec<SocketAddr> = nodes.iter().map(|node| node.any).collect();
    divide(&any);
    let (stays, is_over) = (any[0], Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&is_over);
    let by_http = std::thread::spawn(move || {
        while !over.load(SeqCst) {
            for user in USERS {
                let answer = wait_for("who is named is there", || tried(stays, user));
                assert!(answer.starts_with("HTTP/1.1 200 "), "user {user}: {answer}");
                std::thread::sleep(PAUSE);
            }
        }
    });
    let reader = Reader::in_rust(&Caller::of(stays));
    reader.goes_on();
    for node in &nodes[1..] {
        node.signal(Signal::TERM);
    }
    for node in nodes.drain(1..) {
        assert_eq!(node.ended().0, Some(0));
    }
    reader.goes_on();
    is_over.store(true, SeqCst);
    by_http.join().expect("nobody was told to wait");
    divide(&any[..1]);
    reader.ends();
}
