//! On a host that forbids io_uring, as containers and hardened kernels do: here a seccomp filter does it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::support::{SERVE, Server, end, folder_with_ledger, get, run};

/// Set in a child process that puts the filter on and becomes florin: its arguments, one a line.
const ARGUMENTS: &str = "FLORIN_TEST_FORBIDDEN";

/// Not a test of its own: how a child process becomes a florin that may not use io_uring.
#[test]
fn become_florin() {
    let Some(arguments) = std::env::var_os(ARGUMENTS) else { return };
    let refuse = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap());
    let rules = BTreeMap::from([(libc::SYS_io_uring_setup, Vec::new())]);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
    let arguments = arguments.into_string().unwrap();
    panic!("{}", Command::new(env!("CARGO_BIN_EXE_florin")).args(arguments.lines()).exec());
}

/// The command, where io_uring is forbidden.
fn florin(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "forbidden::become_florin", "--nocapture"]).env(ARGUMENTS, arguments.join("\n"));
    command.current_dir(folder);
    command
}

#[test]
fn auto_and_monoio_serve_on_epoll_and_say_so() {
    let folder = folder_with_ledger();
    for driver in ["auto", "monoio"] {
        let log = folder.path().join(driver);
        let mut command = florin(folder.path(), &[&SERVE[..], &["--driver", driver]].concat());
        command.stderr(File::create(&log).unwrap());
        let server = Server::spawn(command);
        let balance = run(folder.path(), &["get", "balance", "1", "--addr", &server.addr()]).ok();
        assert!(balance.contains("COIN       1,200     0\n"), "{balance}");
        let ready = get(server.admin, "/readyz");
        assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
        assert!(ready.contains(r#""driver":"monoio-epoll","driver_note":"io_uring is forbidden"#), "{ready}");
        let log = fs::read_to_string(&log).unwrap();
        assert!(log.contains("WARN") && log.contains("io_uring is forbidden"), "{log}");
    }
}

#[test]
fn ring_and_glommio_refuse_and_say_what_forbids_it() {
    let folder = folder_with_ledger();
    for driver in ["ring", "glommio"] {
        let command = florin(folder.path(), &[&SERVE[..], &["--driver", driver]].concat());
        let refusal = end(command, "").refused(11);
        assert!(refusal.contains("seccomp") && refusal.contains("io_uring_setup"), "{refusal}");
    }
}

#[test]
fn glommio_says_how_much_lockable_memory_it_wants() {
    let folder = folder_with_ledger();
    let mut command = Command::new("prlimit");
    command.args(["--memlock=65536:65536", env!("CARGO_BIN_EXE_florin")]).args(SERVE);
    command.args(["--driver", "glommio"]).current_dir(folder.path());
    let refusal = end(command, "").refused(12);
    for part in ["524288", "65536", "ulimit -l", "LimitMEMLOCK"] {
        assert!(refusal.contains(part), "{part:?} is missing: {refusal}");
    }
}
