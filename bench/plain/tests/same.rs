//! Its answers are florin's, to the byte: the same ledger, the same clock, every account, and whom nobody knows.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const PLAIN: &str = env!("CARGO_BIN_EXE_florin-plain");
const USERS: u64 = 300;
/// When the last transaction happened.
const UNTIL: &str = "2026-11-22T04:05:06Z";
/// In the same hour; at the end of a later day; and when only the longest windows still hold something.
const TIMES: [&str; 3] = ["2026-11-22T04:35:06Z", "2026-11-24T23:59:59Z", "2026-12-09T00:00:00Z"];

/// florin, beside this test's own programs; built where it is not there yet.
fn florin() -> PathBuf {
    let path = Path::new(PLAIN).with_file_name("florin");
    if !path.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--workspace", "--locked", "--bin", "florin"])
            .status();
        assert!(built.unwrap().success() && path.exists(), "{} cannot be built", path.display());
    }
    path
}

/// A server, which ends with its test.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts it, and waits until it has said its address, behind `mark`, and then `ready`.
    fn start(command: &mut Command, mark: &str, ready: &str) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said = lines.find(|line| line.contains(mark)).expect("it says where it listens");
        let address = said.split_whitespace().last().unwrap().parse().unwrap();
        assert!(
            said.contains(ready) || lines.any(|line| line.contains(ready)),
            "it ended before it was ready"
        );
        Server { child, address }
    }

    /// Status and body.
    fn ask(&self, head: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        write!(stream, "{head} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn both(ledger: &str, now: &str) -> [Server; 2] {
    let common = ["--ledger", ledger, "--listen", "127.0.0.1:0", "--now", now];
    let mut serve = Command::new(florin());
    serve.arg("serve").args(common).args(["--shard-listen", "off", "--admin", "off", "--shards", "1"]);
    let florin = Server::start(&mut serve, "any shard", "ready: ");
    let plain = Server::start(Command::new(PLAIN).args(common), "listening on", "listening on");
    [florin, plain]
}

#[test]
fn every_answer_is_florins_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("sqlite:{}", folder.path().join("l.db").display());
    let generated = Command::new(florin())
        .args(["generate", "--users", &USERS.to_string(), "--transactions", "9000", "--until", UNTIL])
        .args(["--ledger", &ledger])
        .output()
        .unwrap();
    assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
    let mut recent = 0;
    for now in TIMES {
        let [florin, plain] = both(&ledger, now);
        let same = |head: &str, body: &str| {
            let expected = florin.ask(head, body);
            assert_eq!(plain.ask(head, body), expected, "{head} {body}");
            expected
        };
        let mut served = 0;
        for user in 0..=USERS + 1 {
            for what in ["balance", "statistics"] {
                let (status, body) = same(&format!("GET /v1/users/{user}/{what}"), "");
                served += usize::from(status == "200");
                recent += usize::from(body.contains("\"24h\":{\"credit_count\":\"1\""));
            }
        }
        assert!(served > USERS as usize, "{served}");
        let ids: Vec<String> = (0..=USERS).rev().map(|user| format!("\"{user}\"")).collect();
        let (status, body) =
            same("POST /v1/balances:batchGet", &format!("{{\"user_ids\":[{}]}}", ids.join(",")));
        assert!(status == "200" && body.contains("NOT_FOUND"), "{body}");
        same("POST /v1/balances:batchGet", "{\"user_ids\":[\"7\",\"7\"]}");
    }
    assert!(recent > 10, "{recent} of the accounts have done something within a day");
}
