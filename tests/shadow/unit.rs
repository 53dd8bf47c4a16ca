//! The unit, and what the program tells systemd under it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{florin, wait_for};

fn deployed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Once the unit could be given neither rules nor a share, had no watchdog, lost its port at each restart, and its filter
/// forbade the lower priority that the documents promise.
#[test]
fn the_units_flags_are_the_programs_and_systemd_is_told_that_it_lives() {
    let (unit, environment) = (deployed("systemd/florin-shadow.service"), deployed("shadow.env"));
    for line in ["WatchdogSec=", "FileDescriptorStoreMax=", "SuccessExitStatus=20 21 22"] {
        assert!(unit.contains(line), "{line}");
    }
    let mut allowed =
        unit.lines().filter(|line| line.starts_with("SystemCallFilter=") && !line.contains('~'));
    assert!(allowed.next_back().expect("a filter").contains("setpriority"));
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("s.toml"), "[enough]\nusers = 1\n").expect("a file");
    let start =
        unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/florin ")).expect("a command");
    let options = "--config s.toml --serve candidate=1% --redact";
    assert!(environment.lines().any(|line| line == "OPTIONS="), "{environment}");
    let command = start
        .replace("${LISTEN}", "127.0.0.1:0")
        .replace("${ADMIN}", "127.0.0.1:0")
        .replace("${PRIMARY}", "http://127.0.0.1:1")
        .replace("${CANDIDATE}", "http://127.0.0.1:1")
        .replace("/var/lib/florin-shadow", "report")
        .replace("$OPTIONS", options);
    let notify = folder.path().join("notify");
    let manager = UnixDatagram::bind(&notify).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let mut child = florin(folder.path(), &command.split(' ').collect::<Vec<_>>())
        .env("NOTIFY_SOCKET", &notify)
        .env("WATCHDOG_USEC", "2000000")
        .stdout(Stdio::null())
        .spawn()
        .expect("the command was built");
    let (mut told, mut fed) = (String::new(), 0);
    let mut words = [0; 1_024];
    while fed < 3 {
        let count = manager.recv(&mut words).expect("it says that it lives");
        let word = String::from_utf8_lossy(&words[..count]);
        fed += u32::from(word.contains("WATCHDOG=1"));
        told.push_str(&word);
        told.push('\n');
    }
    assert!(told.contains("FDSTORE=1\nFDNAME=listen") && told.contains("READY=1"), "{told}");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let code = wait_for("its end", || child.try_wait().expect("our own child")).code();
    assert_eq!(code, Some(21), "nothing was compared");
}
