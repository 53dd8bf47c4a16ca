//! A shard's thread makes no system call but `io_uring_enter`.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
};

use super::support::{Caller, REPLY_HEADER, REQUEST_HEADER, ping, start};

/// Set in the child process that strace watches.
const WATCHED: &str = "FLORIN_TEST_WATCHED";
/// A system call that nothing else here makes marks the beginning and the end of the steady state.
const MARK: &str = "getppid(";

#[test]
fn a_shards_thread_makes_no_system_call_but_io_uring_enter() {
    const REQUESTS: u64 = 100_000;
    if env::var_os(WATCHED).is_some() {
        return steady_state(REQUESTS);
    }
    if Command::new("strace").arg("--version").output().is_err() {
        eprintln!("strace is not installed: nothing watches the shards here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let name = "on_ring::quiet::a_shards_thread_makes_no_system_call_but_io_uring_enter";
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "--decode-pids=comm", "-o"]).arg(&trace).arg(env::current_exe().unwrap());
    let output = strace.args(["--exact", name, "--nocapture"]).env(WATCHED, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let trace = fs::read_to_string(&trace).unwrap();
    let marks: Vec<_> = trace.lines().enumerate().filter(|(_, line)| line.contains(MARK)).collect();
    let [(begin, _), (end, _)] = marks[..] else { panic!("two marks, not {marks:?}") };
    let mut calls = BTreeMap::<&str, u64>::new();
    for line in trace.lines().take(end).skip(begin).filter(|line| line.contains("<florin-shard-0>")) {
        // `123<florin-shard-0> io_uring_enter(5, …) = 1`, or the second half of one that others came between.
        let call = line.split_whitespace().nth(1).expect("a thread, then a call");
        let call = if call == "<..." { line.split_whitespace().nth(2).expect("its name") } else { call };
        *calls.entry(call.split('(').next().expect("its name")).or_default() += 1;
    }
    assert!(calls.contains_key("io_uring_enter"), "{calls:?}");
    calls.remove("io_uring_enter");
    assert!(calls.is_empty(), "the shard's thread also called {calls:?}");
}

/// Requests by the hundred, so that calls are shared, and some one by one, so that the shard sleeps in between.
fn steady_state(requests: u64) {
    let node = start(1);
    let mut caller = Caller::connect(node.addresses().listen.unwrap());
    pings(&mut caller, requests / 10);
    let _ = rustix::process::getppid();
    pings(&mut caller, requests);
    let _ = rustix::process::getppid();
}

fn pings(caller: &mut Caller<TcpStream>, requests: u64) {
    const BATCH: u64 = 100;
    let batch: Vec<u8> = (0..BATCH).flat_map(|request_id| ping(request_id, b"steady")).collect();
    (0..BATCH).for_each(|request_id| caller.ping(request_id));
    let mut replies = vec![0; batch.len() + BATCH as usize * (REPLY_HEADER - REQUEST_HEADER)];
    for _ in 0..requests / BATCH {
        caller.0.write_all(&batch).unwrap();
        caller.0.read_exact(&mut replies).unwrap();
    }
}
