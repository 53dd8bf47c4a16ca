//! Sockets that somebody else holds, as systemd does: callers wait in them while no node runs.

use std::{
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixListener},
};

use florin::{
    drivers::{DriverChoice, inherited::Inherited},
    node::{Node, NodeConfig},
};

use super::on_ring::support::{Caller, config, shard_counts};

#[test]
fn who_connects_while_no_node_runs_is_answered_by_the_next() {
    for shards in shard_counts() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let inherited = Inherited::new([OwnedFd::from(held.try_clone().unwrap())]);
        let config = NodeConfig { listen: Some(address), shard_listen: None, inherited, ..config(shards) };
        let mut early: Vec<_> = (0..4).map(|_| Caller::connect(address)).collect();
        for _ in 0..5 {
            let node = Node::start(config.clone()).unwrap();
            assert_eq!(node.addresses().listen, Some(address));
            early.iter_mut().for_each(|caller| caller.ping(1));
            (0..8).for_each(|_| Caller::connect(address).ping(2));
            node.drain();
            node.join().unwrap();
            // Nobody accepts now, and nobody is refused.
            early = (0..4).map(|_| Caller::connect(address)).collect();
        }
    }
}

#[test]
fn a_unix_socket_that_is_handed_over_is_left_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("florin.sock");
    let held = UnixListener::bind(&path).unwrap();
    let inherited = Inherited::new([OwnedFd::from(held)]);
    let config = NodeConfig { unix: Some(path.clone()), inherited, ..config(1) };
    let node = Node::start(config).unwrap();
    assert_eq!(node.addresses().unix.as_deref(), Some(path.as_path()));
    drop(node);
    assert!(path.exists());
}

#[test]
fn another_driver_would_close_them_for_good_and_is_refused() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let inherited = Inherited::new([OwnedFd::from(held)]);
    let refusal =
        Node::start(NodeConfig { inherited, driver: DriverChoice::MonoioEpoll, ..config(1) }).unwrap_err();
    assert!(refusal.to_string().contains("need the ring driver"), "{refusal}");
    assert_eq!(refusal.exit_code(), 2);
}
