//! A profile under load, as its reader takes it: with curl, with `go tool pprof`, in a browser.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Server, folder_with_ledger, wait_for};

/// Asks until it is told to stop, so that the shard has something to do.
fn flood(address: SocketAddr, is_over: &AtomicBool) {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    let one = b"*2\r\n$3\r\nGET\r\n$9\r\nbalance:1\r\n";
    stream.write_all(one).expect("a connection");
    let mut answer = vec![0; 65_536];
    let bytes = stream.read(&mut answer).expect("an answer");
    assert_eq!(answer[0], b'$', "{}", String::from_utf8_lossy(&answer[..bytes]));
    let many = one.repeat(64);
    let mut answers = vec![0; 64 * bytes];
    while !is_over.load(Ordering::Relaxed) {
        stream.write_all(&many).expect("a connection");
        stream.read_exact(&mut answers).expect("as many answers");
    }
}

/// The body of a GET, and its status.
fn ask(server: &Server, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(server.admin).expect("somebody listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").expect("a connection");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let split = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let status = String::from_utf8_lossy(&answer[9..12]).parse().expect("a status");
    (status, answer.split_off(split + 4))
}

/// What `go tool pprof -top` prints of a profile.
fn top(folder: &Path, profile: &[u8]) -> String {
    let file = folder.join("profile.pb.gz");
    std::fs::write(&file, profile).expect("a writable folder");
    let mut pprof = Command::new("go");
    pprof.args(["tool", "pprof", "-top", "-cum", "-nodecount=2000", "-nodefraction=0"]).arg(&file);
    let path = format!("{}:/usr/local/go/bin", std::env::var("PATH").unwrap_or_default());
    let below = |folder: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/go").join(folder);
    pprof.env("PATH", path).env("PPROF_TMPDIR", folder).current_dir(folder);
    pprof.env("GOCACHE", below("cache")).env("GOMODCACHE", below("modules"));
    // Go builds its tools when they are first used: on two busy cores that takes as long as it takes.
    let done = pprof.output().expect("go is there");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("pprof writes UTF-8")
}

/// Sets it, also where a test fails: a flood that goes on would keep the test from ending.
struct IsOver<'a>(&'a AtomicBool);

impl Drop for IsOver<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_profile_under_load_names_what_the_shard_does() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1", "--driver", "ring"]);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| flood(server.any, &is_over));
        let _is_over = IsOver(&is_over);
        let (status, told) = ask(&server, "/debug/pprof/profile?seconds=1");
        if status == 501 {
            // What its reader can do is said; nothing more can be seen on such a host.
            let told = String::from_utf8_lossy(&told);
            assert!(told.contains("kernel.perf_event_paranoid is "), "{told}");
            eprintln!("skipped: a_profile_under_load_names_what_the_shard_does: {told}");
        } else {
            // A busy host may give the shard little of a second.
            wait_for("the shard's functions", || {
                let (status, profile) = ask(&server, "/debug/pprof/profile?seconds=1");
                assert_eq!(status, 200, "{}", String::from_utf8_lossy(&profile));
                let top = top(folder.path(), &profile);
                let is_there = |name: &str| top.lines().any(|line| line.contains(name));
                assert!(is_there("Type: cpu"), "{top}");
                let has_turn = top.lines().any(|line| line.contains("RingDriver") && line.contains("::turn"));
                (has_turn && is_there("::move_pipeline") && is_there("::serve_all")).then_some(())
            });
            let (status, picture) = ask(&server, "/debug/flamegraph?seconds=1");
            let picture = String::from_utf8(picture).expect("SVG is text");
            assert_eq!(status, 200, "{picture}");
            assert!(picture.starts_with("<?xml") && picture.contains("florin-shard-0"), "{picture}");
        }
    });
}

#[test]
fn one_profile_is_taken_at_a_time_and_none_for_ever() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    for wrong in ["0", "61", "x", "1.5"] {
        let (status, told) = ask(&server, &format!("/debug/pprof/profile?seconds={wrong}"));
        let told = String::from_utf8_lossy(&told);
        assert!(status == 400 && told.contains("from 1 to 60"), "{wrong}: {told}");
    }
    // Where the host forbids it, the first is refused at once, and there is nothing to wait for.
    let mut first = TcpStream::connect(server.admin).expect("somebody listens");
    first.write_all(b"GET /debug/flamegraph?seconds=60 HTTP/1.1\r\nHost: t\r\n\r\n").expect("a connection");
    let second = wait_for("a refusal", || {
        let (status, told) = ask(&server, "/debug/pprof/profile?seconds=1");
        (status != 200).then(|| String::from_utf8_lossy(&told).into_owned())
    });
    assert!(second.contains("one at a time") || second.contains("kernel.perf_event_paranoid"), "{second}");
    // Nobody waits for the first any more: it ends.
    drop(first);
    let until_it_ends = || {
        wait_for("the first one's end", || {
            let (status, _) = ask(&server, "/debug/pprof/profile?seconds=1");
            (status != 429).then_some(())
        });
    };
    until_it_ends();
    // It went on for its minute where another request had come behind it.
    let mut first = TcpStream::connect(server.admin).expect("somebody listens");
    let two = b"GET /debug/flamegraph?seconds=60 HTTP/1.1\r\nHost: t\r\n\r\nGET /healthz HTTP/1.1\r\nHost: t\r\n\r\n";
    first.write_all(two).expect("a connection");
    wait_for("another's refusal", || {
        let (status, _) = ask(&server, "/debug/pprof/profile?seconds=1");
        (status != 200).then_some(())
    });
    drop(first);
    until_it_ends();
}

/// Whoever had asked for a minute's profile had no word when the node ended meanwhile.
#[test]
fn a_profile_that_the_nodes_end_cuts_short_is_told_so() {
    let folder = folder_with_ledger();
    let server = Server::start(folder.path(), &["--shards", "1"]);
    let mut asked = TcpStream::connect(server.admin).expect("somebody listens");
    let request = b"GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    asked.write_all(request).expect("a connection");
    wait_for("the profile is being taken, or may not be", || {
        let (status, _) = ask(&server, "/debug/pprof/profile?seconds=1");
        (status != 200).then_some(())
    });
    server.signal(rustix::process::Signal::TERM);
    let mut answer = Vec::new();
    asked.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    let is_told = answer.starts_with("HTTP/1.1 503") && answer.contains("the node ends");
    assert!(is_told || answer.contains("kernel.perf_event_paranoid"), "{answer}");
    assert_eq!(server.ended().0, Some(0));
}
