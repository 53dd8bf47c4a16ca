//! Each refusal to start, with its exit code and what its message names.

use std::{
    env,
    net::TcpListener,
    process::{Command, Output},
};

use florin::node::{Node, NodeConfig, StartError};

use super::support::{config, shard_counts, start};

fn refusal(config: NodeConfig) -> StartError {
    Node::start(config).expect_err("this must be refused")
}

#[test]
fn a_taken_port_is_refused() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = stranger.local_addr().unwrap();
    let any = NodeConfig { listen: Some(taken), ..config(1) };
    let shard = NodeConfig { shard_listen: Some(taken), ..config(1) };
    for config in [any, shard] {
        let refusal = refusal(config);
        assert_eq!(refusal.exit_code(), 13);
        assert!(refusal.to_string().contains(&taken.to_string()), "{refusal}");
    }
}

#[test]
fn a_port_of_another_node_is_refused() {
    for shards in shard_counts() {
        let node = start(shards);
        let refusal = refusal(NodeConfig { listen: node.addresses().listen, ..config(shards) });
        assert_eq!(refusal.exit_code(), 13, "{refusal}");
    }
}

#[test]
fn an_address_that_cannot_be_listened_on_is_refused() {
    let elsewhere = Some("192.0.2.1:0".parse().unwrap());
    assert_eq!(refusal(NodeConfig { listen: elsewhere, ..config(1) }).exit_code(), 18);
    let nowhere = Some("/nonexistent/florin.sock".into());
    assert_eq!(refusal(NodeConfig { unix: nowhere, ..config(1) }).exit_code(), 18);
}

#[test]
fn a_node_that_listens_nowhere_is_refused() {
    let refusal = refusal(NodeConfig { listen: None, shard_listen: None, ..config(1) });
    assert_eq!(refusal.exit_code(), 2);
    assert!(refusal.to_string().contains("--listen"), "{refusal}");
}

#[test]
fn more_shards_than_cpus_are_refused() {
    let refusal = refusal(config(250));
    assert_eq!(refusal.exit_code(), 14);
    assert!(
        refusal.to_string().contains("250 shards") && refusal.to_string().contains("--shards"),
        "{refusal}"
    );
}

#[test]
fn a_cpu_that_is_not_there_is_refused() {
    let refusal = refusal(NodeConfig { cpus: Some(vec![999]), ..config(1) });
    assert_eq!(refusal.exit_code(), 14);
    assert!(refusal.to_string().contains("CPU 999") && refusal.to_string().contains("--cpus"), "{refusal}");
}

#[test]
fn a_ledger_that_cannot_be_used_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = refusal(NodeConfig { ledger: folder.path().join("missing.db").into(), ..config(1) });
    assert_eq!(missing.exit_code(), 15);
    assert!(missing.to_string().contains("missing.db"), "{missing}");

    let other = folder.path().join("other.db");
    std::fs::write(&other, "no database at all, though long enough to be looked at as one").unwrap();
    assert_eq!(refusal(NodeConfig { ledger: other.into(), ..config(1) }).exit_code(), 17);

    let locked = folder.path().join("locked.db");
    drop(florin_sqlite::Writer::open_or_create(&locked).unwrap());
    let locker = rusqlite::Connection::open(&locked).unwrap();
    locker.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    assert_eq!(refusal(NodeConfig { ledger: locked.into(), ..config(1) }).exit_code(), 16);
}

/// Set in a child process in which a node is to be started under restraints.
const CHILD: &str = "FLORIN_TEST_START";

/// Not a test of its own: what a child process runs, which then ends with the refusal's exit code.
#[test]
fn start_in_a_child() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    match Node::start(config(1)) {
        Ok(_) => std::process::exit(0),
        Err(refusal) => {
            println!("{refusal}");
            std::process::exit(i32::from(refusal.exit_code()));
        }
    }
}

/// Starts a node in a child process, by way of `wrapper`.
fn start_under(wrapper: &[&str]) -> Output {
    let this = env::current_exe().unwrap();
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(this).args([
        "--exact",
        "on_ring::refusals::start_in_a_child",
        "--nocapture",
    ]);
    command.env(CHILD, "1").output().unwrap_or_else(|error| panic!("{}: {error}", wrapper[0]))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn too_little_lockable_memory_is_refused_with_the_bytes_needed() {
    // Whoever may lock as much as it likes must first lose that right.
    let limited = start_under(&["setpriv", "--bounding-set=-ipc_lock", "prlimit", "--memlock=4096:4096"]);
    let limited = match limited.status.code() {
        Some(12) => limited,
        // Without privileges there is no bounding set to narrow, and none of that right either.
        _ => start_under(&["prlimit", "--memlock=4096:4096"]),
    };
    let said = said(&limited);
    assert_eq!(limited.status.code(), Some(12), "{said}");
    for word in ["ulimit -l", "LimitMEMLOCK", "4096", "bytes"] {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
}

#[test]
fn a_forbidden_io_uring_is_refused_with_what_may_forbid_it() {
    if Command::new("strace").arg("--version").output().is_err() {
        eprintln!(
            "skipped: strace is not installed, and only the unit tests of drivers::ring::setup cover this here"
        );
        return;
    }
    for (errno, exit_code) in [("EPERM", 11), ("ENOSYS", 11), ("EINVAL", 10), ("ENOMEM", 12)] {
        let inject = format!("inject=io_uring_setup:error={errno}");
        let output = start_under(&["strace", "-f", "-qq", "-o/dev/null", "-e", &inject]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(exit_code), "{errno}: {said}");
        let word = match exit_code {
            10 => "6.1",
            11 => "/proc/sys/kernel/io_uring_disabled",
            _ => "LimitMEMLOCK",
        };
        assert!(said.contains(word), "{errno}: {said}");
    }
}
