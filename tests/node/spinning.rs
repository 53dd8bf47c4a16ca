//! A shard that was told to spin polls for a while after its last input, and then sleeps like any other.

use std::fs;

use florin::node::{Node, NodeConfig};

use super::support::{Caller, config, until};

#[test]
fn it_polls_after_an_input_and_then_sleeps() {
    let node = Node::start(NodeConfig { spin_us: 300_000, ..config(1) }).unwrap();
    let shard = node.shards()[0].clone();
    let mut caller = Caller::connect(node.addresses().listen.unwrap());
    caller.ping(1);
    let answered = shard.metrics.turns.get();
    until("the shard goes on turning without any input", || shard.metrics.turns.get() > answered + 100);
    let status = format!("/proc/self/task/{}/status", shard.thread_id);
    until("the shard sleeps", || fs::read_to_string(&status).unwrap().contains("State:\tS"));
    caller.ping(2);
    drop(caller);
    node.drain();
    node.join().unwrap();
}
