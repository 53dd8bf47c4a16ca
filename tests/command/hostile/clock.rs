//! The wall clock of a node's host is set: by seconds and by years, forwards and back. Ages go by the clock that nobody sets, and
//! versions by none, so no promise knows of it.
//!
//! A process cannot have a wall clock of its own, but its C library can: a few lines of C stand in for the call that reads it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::support::{SERVE, florin, get};

/// Adds to the wall clock as many seconds as the file says that `WALL` names.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long *ahead_s;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("WALL"), O_RDONLY | O_CLOEXEC);
    void *mapped = mmap(0, 4096, PROT_READ, MAP_SHARED, file, 0);
    if (file < 0 || mapped == MAP_FAILED) abort();
    close(file);
    ahead_s = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += *ahead_s;
    return failed;
}
"#;

/// The shim, built; `None` where there is no C compiler.
fn shim(folder: &Path) -> Option<PathBuf> {
    let (source, built) = (folder.join("wall.c"), folder.join("wall.so"));
    std::fs::write(&source, SHIM).unwrap();
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&built, &source]).output().ok()?;
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    Some(built)
}

const HOUR_S: i64 = 3_600;
const YEAR_S: i64 = 365 * 24 * HOUR_S;
/// How far ahead of the right time the clock stands, one after the other.
const AHEAD_S: [i64; 8] = [HOUR_S, -2 * HOUR_S, 10 * YEAR_S, 0, -20 * YEAR_S, 3, 40 * YEAR_S, -3];

/// `FLORIN_ENDS=100` sets the clock so often.
#[test]
fn no_promise_is_broken_while_the_clock_of_a_node_is_set() {
    let folder = folder_with_ledger();
    let Some(shim) = shim(folder.path()) else {
        println!("skipped: there is no C compiler");
        return;
    };
    let wall = File::create(folder.path().join("wall")).unwrap();
    wall.set_len(4_096).unwrap();
    let mut command = florin(folder.path(), &SERVE);
    command.args(["--shards", "2", "--shards-per-cpu", "2"]);
    command.env("LD_PRELOAD", shim).env("WALL", folder.path().join("wall"));
    let server = Server::spawn(command);
    let steps = || {
        let metrics = get(server.admin, "/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix("florin_clock_steps_total "));
        line.expect("it is counted").parse::<u64>().expect("a number")
    };
    let (ledger, serving) = (folder.path().join("florin.db"), (server.any, server.admin));
    with_callers(into_file(&ledger), serving, |scene| {
        for (seen, ahead_s) in (0..variable("FLORIN_ENDS", 8)).zip(AHEAD_S.into_iter().cycle()) {
            scene.go_on();
            wall.write_all_at(&ahead_s.to_le_bytes(), 0).unwrap();
            wait_for("the node to say so", || (steps() > seen).then_some(()));
        }
        scene.go_on();
    });
}
