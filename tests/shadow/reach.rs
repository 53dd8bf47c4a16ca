//! A side that is not there.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use tempfile::TempDir;

use crate::faulty::{Reaction, serve};
use crate::shadow::{Caller, Shadow, http};
use crate::support::wait_for;

/// Where nobody listens.
const NOBODY: &str = "127.0.0.1:1";

fn primary() -> SocketAddr {
    serve(|_| Reaction::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()))
}

/// Lines of a log that say that a side has gone, or is back.
fn changes(log: &str) -> Vec<&str> {
    let is_change =
        |line: &&str| line.contains(" cannot be reached: ") || line.contains(" can be reached again");
    log.lines().filter(is_change).collect()
}

/// The shadow logged nothing, and of a candidate that was down it said that it does not answer the same.
#[test]
fn a_candidate_that_is_down_is_said_to_be_down_and_not_to_be_wrong() {
    for candidate in [format!("http://{NOBODY}"), format!("florin://{NOBODY}")] {
        let folder = TempDir::new().expect("a temporary folder");
        let shadow = Shadow::start(folder.path(), &http(primary()), &candidate, &[]);
        let mut caller = Caller::connect(shadow.listen);
        for user in 0..30 {
            assert_eq!(caller.get(&format!("/v1/users/{user}/balance")).body, "{}");
        }
        shadow.settled(30);
        let metrics = crate::support::get(shadow.admin, "/metrics");
        assert!(metrics.contains("florin_shadow_reachable{side=\"candidate\"} 0\n"), "{metrics}");
        let ended = shadow.end();
        let words = ended.verdict["verdict"].as_str().expect("words");
        assert_eq!(ended.code, Some(25), "{words}");
        assert!(words.contains("The candidate could not be reached once, ") && words.contains("refused"));
        assert!(!words.contains("does not answer the same"), "{words}");
        assert_eq!(
            (&ended.verdict["unreached"], ended.reason("candidate_error", "connect")),
            (&30.into(), 30)
        );
        let [change] = changes(&ended.log)[..] else { panic!("{}", ended.log) };
        assert!(change.contains(&format!("the candidate {candidate} cannot be reached")), "{change}");
    }
}

#[test]
fn a_primary_that_is_down_is_named_and_so_is_its_return() {
    let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = held.local_addr().expect("it is bound");
    drop(held);
    let folder = TempDir::new().expect("a temporary folder");
    let shadow = Shadow::start(folder.path(), &http(address), &http(primary()), &[]);
    let cut_off = || {
        let mut caller = TcpStream::connect(shadow.listen).expect("it listens");
        matches!(caller.read(&mut [0]), Err(_) | Ok(0))
    };
    assert!((0..5).all(|_| cut_off()));
    let state = shadow.state();
    assert!(state["reach"]["primary"]["down_since"].is_string(), "{state:#}");
    let words = state["verdict"].as_str().expect("words");
    assert!(
        words.contains("The primary could not be reached once, ")
            && words.contains("when it was tried 5 times")
    );
    // A second has passed once it counts as settled.
    let listener = TcpListener::bind(address).expect("its own port");
    thread::spawn(move || listener.incoming().map_while(Result::ok).collect::<Vec<_>>());
    let is_back = || {
        drop(TcpStream::connect(shadow.listen).expect("it listens"));
        (changes(&shadow.logged()).len() == 2).then_some(())
    };
    wait_for("the primary's return to be logged", is_back);
    let log = shadow.logged();
    let [gone, back] = changes(&log)[..] else { panic!("{log}") };
    assert!(gone.contains("the primary") && gone.contains("cannot be reached"), "{gone}");
    assert!(back.contains("the primary") && back.contains("can be reached again, after"), "{back}");
    assert_eq!(shadow.end().code, Some(25), "nothing could be compared");
}
