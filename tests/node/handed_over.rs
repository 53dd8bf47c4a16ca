//! Sockets that somebody else holds, as systemd does: callers wait in them while no node runs.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixListener},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use florin::{
    drivers::{DriverChoice, inherited::Inherited},
    node::{Node, NodeConfig},
};

use super::on_ring::support::{Caller, config, connections_opened, ping, shard_counts, until};

const RESTARTS: usize = 20;
/// A draining node keeps a connection for so long, for what is on its way to it: who asks later is not promised an answer.
const DRAIN_QUIET: Duration = Duration::from_millis(50);

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

/// A connection that was accepted in the very instant of a drain used to be closed unread, and its request with it.
#[test]
fn restarts_under_load_lose_no_connection_and_no_request_that_was_sent_before() {
    for shards in shard_counts() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let inherited = Inherited::new([OwnedFd::from(held)]);
        let config = NodeConfig { listen: Some(address), shard_listen: None, inherited, ..config(shards) };
        let (is_over, mut drains) = (AtomicBool::new(false), Vec::new());
        let unanswered: Vec<Unanswered> = thread::scope(|scope| {
            let callers: Vec<_> = (0..32).map(|_| scope.spawn(|| call_until(&is_over, address))).collect();
            for _ in 0..RESTARTS {
                let node = Node::start(config.clone()).unwrap();
                until("the node has had callers", || connections_opened(&node) > 20);
                let began = Instant::now();
                node.drain();
                node.join().unwrap();
                drains.push((began, Instant::now()));
            }
            let _last = Node::start(config).unwrap();
            is_over.store(true, Ordering::Release);
            callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
        });
        let is_excused = |request: &Unanswered, (began, ended)| {
            request.sent >= began + DRAIN_QUIET / 2 && request.connected <= ended
        };
        let is_lost = |request: &&Unanswered| !drains.iter().any(|&drain| is_excused(request, drain));
        let lost = unanswered.iter().filter(is_lost).count();
        assert_eq!(lost, 0, "of {} unanswered requests", unanswered.len());
    }
}

/// A request that had been sent completely when its connection ended.
struct Unanswered {
    connected: Instant,
    sent: Instant,
}

/// Connects, asks once, and begins anew: so that there is always somebody who is just being accepted.
fn call_until(is_over: &AtomicBool, address: SocketAddr) -> Vec<Unanswered> {
    let mut unanswered = Vec::new();
    while !is_over.load(Ordering::Acquire) {
        let mut caller = Caller::connect(address);
        let connected = Instant::now();
        if caller.0.write_all(&ping(1, b"")).is_ok() {
            let sent = Instant::now();
            if caller.read_reply().is_err() {
                unanswered.push(Unanswered { connected, sent });
            }
        }
    }
    unanswered
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
