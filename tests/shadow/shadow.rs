//! A shadow in a process of its own, and callers before it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{florin, get, run, wait_for};

/// How long a caller waits for bytes before its test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// `florin shadow`; killed when dropped.
pub struct Shadow {
    child: Child,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    report: PathBuf,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// How a run ended.
pub struct Ended {
    pub code: Option<i32>,
    /// `verdict.json`.
    pub verdict: Value,
    /// `mismatches.jsonl`.
    pub mismatches: Vec<Value>,
    pub log: String,
}

impl Shadow {
    /// Starts one on free ports, with its report in `folder`.
    pub fn start(folder: &Path, primary: &str, candidate: &str, more: &[&str]) -> Shadow {
        let report = folder.join("report");
        let report_text = report.display().to_string();
        let common = [
            "shadow",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--primary",
            primary,
            "--candidate",
            candidate,
            "--report",
            &report_text,
        ];
        let mut command = florin(folder, &[&common, more].concat());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command was built");
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        let log = Arc::new(Mutex::new(String::new()));
        let err = BufReader::new(child.stderr.take().expect("it is piped"));
        let written = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in err.lines().map_while(Result::ok) {
                let mut log = written.lock().expect("no reader panics");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut address = |name: &str| -> SocketAddr {
            let mut line = String::new();
            while !line.starts_with(name) {
                line.clear();
                let bytes = out.read_line(&mut line).expect("florin writes UTF-8");
                assert!(
                    bytes > 0,
                    "it ended before it said its addresses: {}",
                    log.lock().expect("no panic")
                );
            }
            let last = line.split_whitespace().last().expect("a line with an address");
            last.trim_start_matches("http://").parse().expect("an address")
        };
        let listen = address("  listen");
        let admin = address("  admin");
        Shadow { child, listen, admin, report, log, reader: Some(reader) }
    }

    /// The same with a configuration.
    pub fn configured(folder: &TempDir, sides: [&str; 2], config: &str, more: &[&str]) -> Shadow {
        fs::write(folder.path().join("s.toml"), config).expect("a file");
        let more = [&["--config", "s.toml"], more].concat();
        Shadow::start(folder.path(), sides[0], sides[1], &more)
    }

    /// `GET /v1/shadow`.
    pub fn state(&self) -> Value {
        let answer = get(self.admin, "/v1/shadow");
        serde_json::from_str(answer.split_once("\r\n\r\n").expect("a head").1).expect("JSON")
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        self.log.lock().expect("no reader panics").clone()
    }

    /// Waits until every request that it has seen has a verdict, and there are as many as `requests`: all that were asked so far, for a
    /// caller has its answer a moment before its request is counted.
    pub fn settled(&self, requests: u64) -> Value {
        wait_for(&format!("{requests} verdicts"), || {
            let state = self.state();
            let open = state["queue"]["open"].as_u64().expect("a number");
            (open == 0 && state["requests"].as_u64().expect("a number") >= requests).then_some(state)
        })
    }

    /// Sets the candidate's share, and says what the port answers.
    pub fn serve(&self, share: &str) -> String {
        let body = format!("{{\"candidate\":\"{share}\"}}");
        self.command("Host: localhost\r\nContent-Type: application/json\r\n", &body)
    }

    /// Posts a body to where the share is set, and says what the port answers.
    pub fn command(&self, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("the admin port listens");
        write!(
            stream,
            "POST /v1/shadow/serve HTTP/1.1\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .expect("a connection");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// Ends it as a machine that fails does.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("our own child");
    }

    /// Sends SIGTERM and reads what it leaves behind.
    pub fn end(mut self) -> Ended {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        let code = wait_for("the shadow's end", || self.child.try_wait().expect("our own child")).code();
        self.reader.take().expect("it is taken once").join().expect("a reader does not panic");
        let read = |name: &str| {
            fs::read_to_string(self.report.join("latest").join(name))
                .unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        let lines = read("mismatches.jsonl");
        let mismatches = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let verdict = serde_json::from_str(&read("verdict.json")).expect("JSON");
        Ended { code, verdict, mismatches, log: self.logged() }
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// How many requests had this verdict.
    pub fn count(&self, verdict: &str) -> u64 {
        self.verdict["verdicts"][verdict].as_u64().expect("each verdict has a count")
    }

    /// How many had it for this reason.
    pub fn reason(&self, verdict: &str, reason: &str) -> u64 {
        self.verdict["reasons"][verdict][reason].as_u64().unwrap_or(0)
    }

    /// Asserts that the candidate was found to answer the same. A test's run is small, and may say so (22).
    #[track_caller]
    pub fn assert_same(&self) {
        assert!(self.verdict["consistent"] == true && self.verdict["complete"] == true, "{:#}", self.verdict);
        let expected = if self.verdict["proven"] == true { 0 } else { 22 };
        assert_eq!(self.code, Some(expected));
        assert!(self.mismatches.is_empty());
    }
}

/// A caller with a connection that it keeps.
pub struct Caller {
    stream: BufReader<TcpStream>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Caller {
    pub fn connect(address: SocketAddr) -> Caller {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Caller { stream: BufReader::new(stream) }
    }

    /// Asks, and reads one answer with a `Content-Length`.
    pub fn ask(&mut self, method: &str, target: &str, body: &str) -> std::io::Result<Answer> {
        self.ask_with([method, target], "", body)
    }

    /// The same with further headers.
    pub fn ask_with(
        &mut self,
        [method, target]: [&str; 2],
        headers: &str,
        body: &str,
    ) -> std::io::Result<Answer> {
        let content = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        };
        self.send(&format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}{content}\r\n{body}"))
    }

    fn send(&mut self, request: &str) -> std::io::Result<Answer> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        read_answer(&mut self.stream)
    }

    /// A GET with further headers, that has to be answered.
    #[track_caller]
    pub fn get_with(&mut self, target: &str, headers: &str) -> Answer {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        self.send(&request).unwrap_or_else(|error| panic!("{target}: {error}"))
    }

    /// A GET that has to be answered.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, "").unwrap_or_else(|error| panic!("{target}: {error}"))
    }
}

/// Reads an answer with a `Content-Length`.
pub fn read_answer(stream: &mut impl BufRead) -> std::io::Result<Answer> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().expect("a length"))
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(Answer { status, head, body: String::from_utf8(body).expect("UTF-8") })
}

/// A folder with a plausible ledger.
pub fn generated(users: u64, transactions: u64, until: &str) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let (users, transactions) = (users.to_string(), transactions.to_string());
    let arguments = ["generate", "--users", &users, "--transactions", &transactions, "--until", until];
    run(folder.path(), &arguments).ok();
    folder
}

/// `http://` and the address.
pub fn http(address: SocketAddr) -> String {
    format!("http://{address}")
}
