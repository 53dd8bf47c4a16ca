//! The call by which a node waits for its callers fails now and then: it is interrupted, or the kernel is short of memory, or wants to be
//! relieved of completions first. It costs nobody an answer.

use std::process::Command;

use super::*;

/// A node under strace, which has every seventh call fail. The node stays the test's child, and is what a signal ends.
fn start_interrupted(folder: &Path, error: &str) -> Server {
    let driver = std::env::var("FLORIN_DRIVER").unwrap_or_else(|_| "ring".to_owned());
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o/dev/null", "--seccomp-bpf", "-etrace=io_uring_enter"]);
    command.arg(format!("-einject=io_uring_enter:error={error}:when=30+7"));
    command.arg(env!("CARGO_BIN_EXE_florin")).args(["serve", "--driver", &driver, "--shards", "2"]);
    command.args(["--shards-per-cpu", "2", "--listen", "127.0.0.1:0", "--shard-listen", "127.0.0.1:0"]);
    command.args(["--admin", "127.0.0.1:0"]).current_dir(folder).stdin(std::process::Stdio::null());
    Server::spawn(command)
}

#[test]
fn no_promise_is_broken_while_the_call_that_waits_fails() {
    if Command::new("strace").arg("--version").output().is_err() {
        println!("strace is not installed: not tried");
        return;
    }
    for error in ["EINTR", "EAGAIN", "EBUSY"] {
        let folder = folder_with_ledger();
        let server = start_interrupted(folder.path(), error);
        let ledger = folder.path().join("florin.db");
        with_callers(into_file(&ledger), (server.any, server.admin), |scene| {
            for _ in 0..variable("FLORIN_ENDS", 2) {
                scene.go_on();
            }
        });
        println!("{error}: held");
        drop(server);
    }
}
