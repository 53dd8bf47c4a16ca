//! A shard that was told to spin polls for a while after its last input, and then sleeps like any other; one that decides by
//! itself polls only for whoever comes back soon.

use std::fs;

use florin::{
    drivers::Spin,
    node::{Node, NodeConfig},
};

use super::support::{Caller, config, until};

#[test]
fn it_polls_after_an_input_and_then_sleeps() {
    let node = Node::start(NodeConfig { spin: Spin::For(300_000), ..config(1) }).unwrap();
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

/// A caller that asks again at once is polled for: turns go by between its requests. Without it the shard sleeps, though the
/// feed wakes it all the time.
#[test]
fn left_to_itself_it_polls_while_somebody_asks() {
    let node = Node::start(NodeConfig { spin: Spin::Auto, ..config(1) }).unwrap();
    let shard = node.shards()[0].clone();
    let mut caller = Caller::connect(node.addresses().listen.unwrap());
    let mut request_id = 0;
    until("it polls between requests", || {
        let before = shard.metrics.turns.get();
        for _ in 0..100 {
            request_id += 1;
            caller.ping(request_id);
        }
        shard.metrics.turns.get() > before + 1_000
    });
    until("it does no more than it is woken for", || {
        let before = shard.metrics.turns.get();
        std::thread::sleep(std::time::Duration::from_millis(20));
        shard.metrics.turns.get() < before + 20
    });
    drop(caller);
    node.drain();
    node.join().unwrap();
}
