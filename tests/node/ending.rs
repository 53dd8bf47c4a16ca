//! How a node ends: what has come is answered, and nothing stays behind.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use florin::node::{Node, NodeConfig, Obstacle};
use florin_core::limits;

use super::support::{Caller, config, ping, shard_counts, start, until};

/// When a node ends that has not come to its end by itself.
const CUT_OFF: Duration = Duration::from_micros(limits::DRAIN_US);

#[test]
fn a_drain_answers_what_has_arrived_and_then_closes() {
    for shards in shard_counts() {
        let node = start(shards);
        let address = node.addresses().listen.unwrap();
        let mut callers: Vec<_> = (0..8).map(|_| Caller::connect(address)).collect();
        let frames: Vec<u8> = (0..1_000).flat_map(|request_id| ping(request_id, b"before the end")).collect();
        for caller in &mut callers {
            caller.0.write_all(&frames).unwrap();
        }
        node.drain();
        assert!(node.obstacles().contains(&Obstacle::Draining));
        let readers = callers.into_iter().map(|mut caller| {
            thread::spawn(move || {
                (0..1_000).for_each(|request_id| assert_eq!(caller.read_reply().unwrap().0, request_id));
                caller.expect_end();
            })
        });
        let readers: Vec<_> = readers.collect();
        node.join().unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        let refusal = TcpStream::connect(address).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn a_draining_node_closes_its_ports_before_its_last_connection() {
    let node = start(1);
    let address = node.addresses().listen.unwrap();
    let mut caller = Caller::connect(address);
    caller.ping(1);
    node.drain();
    until("the port is closed", || {
        TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    node.join().unwrap();
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    let node = start(shard_counts().last().unwrap());
    let address = node.addresses().listen.unwrap();
    let mut callers: Vec<_> = (0..100).map(|_| Caller::connect(address)).collect();
    callers.iter_mut().for_each(|caller| caller.ping(1));
    let began = Instant::now();
    node.drain();
    node.join().unwrap();
    assert!(began.elapsed() < CUT_OFF, "{:?}", began.elapsed());
    callers.iter_mut().for_each(Caller::expect_end);
}

#[test]
fn a_successor_takes_the_ports_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = NodeConfig { unix: Some(folder.path().join("florin.sock")), ..config(1) };
    for _ in 0..10 {
        let node = Node::start(config.clone()).unwrap();
        config.listen = node.addresses().listen;
        config.shard_listen = node.addresses().shard_listen.first().copied();
        Caller::connect(config.listen.unwrap()).ping(1);
        Caller::connect_unix(config.unix.as_ref().unwrap()).ping(2);
    }
}

#[test]
fn many_nodes_live_beside_each_other() {
    let nodes: Vec<_> = (0..6).map(|_| start(1)).collect();
    for node in &nodes {
        Caller::connect(node.addresses().listen.unwrap()).ping(1);
    }
}

/// At SIGTERM the last answer on each busy keep-alive connection said that it stays, and the next request was never
/// answered: 16 of 16, on every driver.
#[test]
fn the_last_answer_over_http_announces_the_end() {
    const GET: &[u8] = b"GET /v1/users/7/balance HTTP/1.1\r\nHost: florin\r\n\r\n";
    let node = start(shard_counts().last().unwrap());
    let address = node.addresses().listen.unwrap();
    let callers = (0..16).map(|_| {
        let mut caller = Caller::connect(address).0;
        ask(&mut caller, GET);
        thread::spawn(move || {
            while !ask(&mut caller, GET).contains("\r\nConnection: close\r\n") {}
            let mut rest = Vec::new();
            caller.read_to_end(&mut rest).unwrap();
            assert!(rest.is_empty());
        })
    });
    let callers: Vec<_> = callers.collect();
    node.drain();
    node.join().unwrap();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
}

/// One request and the head and body of its answer.
fn ask(caller: &mut TcpStream, request: &[u8]) -> String {
    caller.write_all(request).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        caller.read_exact(&mut byte).expect("every request is answered");
        answer.extend_from_slice(&byte);
    }
    let head = String::from_utf8(answer).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    caller.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
    head
}

/// One half-sent request, or one caller that never read, stretched every stop to ten seconds.
#[test]
fn half_a_request_and_a_caller_that_never_reads_hold_up_no_end() {
    let node = start(1);
    let address = node.addresses().listen.unwrap();
    let mut half = Caller::connect(address);
    half.ping(1);
    half.0.write_all(&ping(2, b"half of this")[..10]).unwrap();
    let never = Caller::connect(address);
    let mut writer = never.0.try_clone().unwrap();
    let frames: Vec<u8> = (0..1_000).flat_map(|request_id| ping(request_id, &[7; 1_024])).collect();
    let writer = thread::spawn(move || while writer.write_all(&frames).is_ok() {});
    until("the shard stops reading a caller that does not read", || {
        node.shards()[0].metrics.paused.get() > 0
    });
    let began = Instant::now();
    node.drain();
    node.join().unwrap();
    assert!(began.elapsed() < CUT_OFF, "{:?}", began.elapsed());
    writer.join().unwrap();
}
