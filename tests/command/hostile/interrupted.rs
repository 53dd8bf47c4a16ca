//! The call by which a node waits for its callers fails now and then: it is interrupted, or the kernel is short of memory, or wants to be
//! relieved of completions first. It costs nobody an answer. Where it fails for good, the node ends aloud.

use std::process::Command;

use super::*;

/// Which calls strace let fail, in the node's folder.
const FAILED: &str = "failed";

/// A node under strace, which has calls fail with `error`: and when says `error`, too. The node stays the
/// test's child, and is what a signal ends.
fn failing(folder: &Path, error: &str) -> Command {
    let driver = std::env::var("FLORIN_DRIVER").unwrap_or_else(|_| "ring".to_owned());
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-Z", "-o", FAILED, "--seccomp-bpf", "-etrace=io_uring_enter"]);
    command.arg(format!("-einject=io_uring_enter:error={error}"));
    command.arg(env!("CARGO_BIN_EXE_florin")).args(["serve", "--driver", &driver, "--shards", "2"]);
    command.args(["--shards-per-cpu", "2", "--listen", "127.0.0.1:0", "--shard-listen", "127.0.0.1:0"]);
    command.args(["--admin", "127.0.0.1:0"]).current_dir(folder).stdin(std::process::Stdio::null());
    command
}

fn has_strace() -> bool {
    let is_there = Command::new("strace").arg("--version").output().is_ok();
    if !is_there {
        println!("skipped: strace is not installed");
    }
    is_there
}

#[test]
fn no_promise_is_broken_while_the_call_that_waits_fails() {
    if !has_strace() {
        return;
    }
    for error in ["EINTR", "EAGAIN", "EBUSY", "ENOMEM"] {
        let folder = folder_with_ledger();
        // Every seventh.
        let server = Server::spawn(failing(folder.path(), &format!("{error}:when=30+7")));
        let ledger = folder.path().join("florin.db");
        with_callers(into_file(&ledger), (server.any, server.admin), |scene| {
            for _ in 0..variable("FLORIN_ENDS", 2) {
                scene.go_on();
            }
            // A driver that waits by another call would be tried with nothing.
            wait_for("calls that were made to fail", || {
                let failed = std::fs::read_to_string(folder.path().join(FAILED)).unwrap_or_default();
                let is_ours = |line: &str| line.contains(error) && line.contains("INJECTED");
                failed.lines().any(is_ours).then_some(())
            });
        });
        println!("{error}: held");
        drop(server);
    }
}

/// What lasts is no reason to go on: a shard that can wait for nobody would be silent, and its callers with it.
#[test]
fn a_call_that_is_refused_for_good_ends_the_node_aloud() {
    if !has_strace() {
        return;
    }
    let folder = folder_with_ledger();
    let said = folder.path().join("said");
    let mut command = failing(folder.path(), "EPERM:when=100+");
    command.stderr(std::fs::File::create(&said).unwrap());
    let server = Server::spawn(command);
    let asks = |address| -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /v1/users/1/balance HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    };
    wait_for("nobody to answer", || asks(server.any).is_err().then_some(()));
    let (code, _) = server.ended();
    let said = std::fs::read_to_string(said).unwrap();
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("io_uring_enter") && said.contains("Operation not permitted"), "{said}");
}
