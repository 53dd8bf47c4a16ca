//! How a node ends: what has come is answered, and nothing stays behind.

use std::{
    io::{ErrorKind, Write},
    net::TcpStream,
    thread,
    time::Instant,
};

use florin::node::{Node, NodeConfig, Readiness};

use super::support::{Caller, PATIENCE, config, ping, shard_counts, start, until};

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
        assert_eq!(node.ready(), Readiness::Draining);
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
    assert!(began.elapsed() < PATIENCE / 4, "{:?}", began.elapsed());
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
