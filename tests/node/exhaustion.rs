//! Too little of everything: buffers, completions, slots; and thousands who say nothing.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
};

use florin::{
    drivers::{Spin, ring::RingSizes},
    node::{Node, NodeConfig},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::support::{Caller, config, connections, ping, shard_counts, start, start_tiny, until};
use super::{FILES_PER_CONNECTION, IDLE, IDLE_BYTES_MAX};

/// Many callers that each send a burst at once and then read all answers.
fn bursts(address: SocketAddr, callers: usize, pings: u64) {
    let frames: Vec<u8> = (0..pings).flat_map(|request_id| ping(request_id, &[7; 300])).collect();
    let mut callers: Vec<_> = (0..callers).map(|_| Caller::connect(address)).collect();
    thread::scope(|scope| {
        for caller in &mut callers {
            let frames = &frames;
            scope.spawn(move || {
                let mut writer = caller.0.try_clone().unwrap();
                thread::scope(|inner| {
                    inner.spawn(move || writer.write_all(frames).unwrap());
                    for request_id in 0..pings {
                        assert_eq!(caller.read_reply().unwrap(), (request_id, vec![7; 300]));
                    }
                });
            });
        }
    });
}

#[test]
fn running_out_of_provided_buffers_delays_and_loses_nothing() {
    let node = start_tiny(RingSizes { buffers: 2, buffer_bytes: 64, ..RingSizes::default() });
    bursts(node.addresses().listen.unwrap(), 48, 50);
}

#[test]
fn running_out_of_completions_delays_and_loses_nothing() {
    let node = start_tiny(RingSizes { submissions: 2, completions: 4, ..RingSizes::default() });
    bursts(node.addresses().listen.unwrap(), 48, 50);
}

#[test]
fn running_out_of_both_delays_and_loses_nothing() {
    let sizes = RingSizes {
        submissions: 1,
        completions: 2,
        buffers: 1,
        buffer_bytes: 32,
        connections: 64,
        spin: Spin::default(),
    };
    let node = start_tiny(sizes);
    bursts(node.addresses().listen.unwrap(), 24, 20);
}

#[test]
fn who_finds_no_slot_waits_until_one_is_free() {
    let node = start_tiny(RingSizes { connections: 4, ..RingSizes::default() });
    let address = node.addresses().listen.unwrap();
    for round in 0..50 {
        let mut callers: Vec<_> = (0..4).map(|_| Caller::connect(address)).collect();
        callers.iter_mut().for_each(|caller| caller.ping(round));
        assert_eq!(connections(&node), 4);
        // The kernel takes the connection and the bytes; no shard does.
        let mut waiting = Caller::connect(address);
        waiting.0.write_all(&ping(round, b"when there is room")).unwrap();
        callers[0].ping(round);
        assert_eq!(connections(&node), 4);
        assert!(node.shards()[0].metrics.connections_full.get() > 0, "nobody is told that callers wait");
        drop(callers.pop());
        assert_eq!(waiting.read_reply().unwrap(), (round, b"when there is room".to_vec()));
    }
}

#[test]
fn a_full_shard_leaves_the_unix_socket_to_the_others() {
    let shards = shard_counts().last().unwrap();
    if shards < 2 {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("florin.sock");
    let config = NodeConfig { unix: Some(path.clone()), listen: None, ..config(shards) };
    let node = Node::start_sized(config, RingSizes { connections: 4, ..RingSizes::default() }).unwrap();
    let own_port = node.addresses().shard_listen[0];
    let mut of_the_first: Vec<_> = (0..4).map(|_| Caller::connect(own_port)).collect();
    of_the_first.iter_mut().for_each(|caller| caller.ping(1));
    // Not four: the last slot may be kept for the other listener.
    let mut of_the_second: Vec<_> = (0..3).map(|_| Caller::connect_unix(&path)).collect();
    of_the_second.iter_mut().for_each(|caller| caller.ping(2));
    assert_eq!(node.shards()[1].metrics.connections.get(), 3);
    // Whoever has room by then lets the next in.
    let mut next = Caller::connect_unix(&path);
    of_the_first.truncate(2);
    next.ping(3);
}

/// Set in a child process that runs one test alone, because it measures its own memory.
const ALONE: &str = "FLORIN_TEST_ALONE";

#[test]
fn thousands_of_idle_connections_cost_next_to_nothing() {
    if env::var_os(ALONE).is_some() {
        return idle_connections();
    }
    let (_crate, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::thousands_of_idle_connections_cost_next_to_nothing");
    let mut child = Command::new(env::current_exe().unwrap());
    let output = child.args(["--exact", &name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn idle_connections() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    let needed = IDLE as u64 * FILES_PER_CONNECTION + 500;
    assert!(allowed >= needed, "this test opens {needed} files; the hard limit is {allowed} (ulimit -Hn)");

    let node = start(1);
    let address = node.addresses().listen.unwrap();
    let mut witness = Caller::connect(address);
    witness.ping(0);
    let mut idle = Vec::with_capacity(IDLE);
    let before = resident_bytes();
    for _ in 0..IDLE {
        idle.push(TcpStream::connect(address).unwrap());
    }
    until("all are accepted", || connections(&node) == IDLE as u64 + 1);
    witness.ping(1);
    let each = resident_bytes().saturating_sub(before) / IDLE as u64;
    println!("an idle connection costs {each} bytes of the process");
    assert!(each <= IDLE_BYTES_MAX, "an idle connection costs {each} bytes");
    // Each of them can still talk, and costs as little once it has.
    for (stream, request_id) in idle.iter().zip(0..) {
        Caller::new(stream.try_clone().unwrap()).ping(request_id);
    }
    let each = resident_bytes().saturating_sub(before) / IDLE as u64;
    println!("and {each} bytes after it has talked");
    assert!(each <= IDLE_BYTES_MAX, "a connection that has talked costs {each} bytes");
}

/// What of this process lies in memory, its files aside.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux says so");
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1_024
}

/// Callers took the last descriptors: a node on glommio ended, on monoio the control plane could open nothing more. The
/// node runs in a child process under a low limit, its callers here.
#[test]
fn callers_leave_descriptors_for_the_rest_of_the_node() {
    const FILES: u64 = 300;
    if env::var_os(ALONE).is_some() {
        return node_with_few_files(FILES);
    }
    let (_crate, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::callers_leave_descriptors_for_the_rest_of_the_node");
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &name, "--nocapture"]).env(ALONE, "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut line = |begin: &str| {
        let found = lines.by_ref().find_map(|line| line.strip_prefix(begin).map(str::to_owned));
        found.unwrap_or_else(|| panic!("the node's process says no {begin:?}"))
    };
    let address: SocketAddr = line("listens on ").parse().unwrap();
    let callers: Vec<_> = (0..FILES).map(|_| TcpStream::connect(address).unwrap()).collect();
    line("has opened files");
    drop(callers);
    Caller::connect(address).ping(1);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

fn node_with_few_files(files: u64) {
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: Some(files) }).unwrap();
    let node = start(1);
    println!("\nlistens on {}", node.addresses().listen.unwrap());
    until("callers have what they may have", || connections(&node) >= files / 2 - 10);
    // Everyone who may come in has: each of the rest waits.
    let opened: Vec<_> = (0..20).map(|_| fs::File::open("/dev/null").expect("some are kept")).collect();
    println!("has opened files: {}", opened.len());
    let mut end = String::new();
    io::stdin().read_line(&mut end).unwrap();
}
