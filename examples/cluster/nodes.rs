//! The nodes: processes of `florin serve`, what becomes of them, and what they tell.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long a node may take to answer whoever prints: a frozen one never does.
const ANSWERS_WITHIN: Duration = Duration::from_millis(300);

/// One of them, in all its lives.
pub struct Node {
    /// Its number, from 1.
    pub number: usize,
    folder: PathBuf,
    ledger: String,
    /// Where it is reached, once it was started.
    pub any: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    child: Option<Child>,
    is_frozen: bool,
}

impl Node {
    /// It is started by [`Node::start`].
    pub fn new(number: usize, folder: &Path, ledger: String) -> Node {
        let folder = folder.join(format!("node-{number}"));
        std::fs::create_dir_all(&folder).expect("a folder of its own");
        Node { number, folder, ledger, any: None, admin: None, child: None, is_frozen: false }
    }

    /// Starts it, where it was reached before; returns once it listens.
    pub fn start(&mut self) -> Result<(), String> {
        if self.is_running() {
            return Err(format!("node {} runs already", self.number));
        }
        let listen = self.any.map_or("127.0.0.1:0".to_owned(), |any| any.to_string());
        let log = File::options().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let mut child = Command::new(florin())
            .args(["serve", "--ledger", &self.ledger, "--group", "florin-cluster", "--standbys", "1"])
            .args([
                "--listen",
                &listen,
                "--shard-listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--shards",
                "1",
            ])
            .args(["--checkpoint", "checkpoints"])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{} is not there: {error}", florin().display()))?;
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (mut any, mut admin) = (None, None);
        while any.is_none() || admin.is_none() {
            let Some(Ok(line)) = lines.next() else {
                let _ = child.wait();
                return Err(format!(
                    "node {} does not start: see {}/log",
                    self.number,
                    self.folder.display()
                ));
            };
            let last = line.split_whitespace().last().unwrap_or_default();
            if line.starts_with("  any shard") {
                any = last.parse().ok();
            } else if line.starts_with("  admin") {
                admin = last.trim_start_matches("http://").parse().ok();
            }
        }
        // What else it says is let go.
        thread::spawn(move || lines.for_each(drop));
        (self.any, self.admin, self.child, self.is_frozen) = (any, admin, Some(child), false);
        Ok(())
    }

    fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<(), String> {
        if !self.is_running() {
            return Err(format!("node {} does not run", self.number));
        }
        let pid = Pid::from_child(self.child.as_ref().expect("it runs"));
        kill_process(pid, signal).map_err(|error| error.to_string())?;
        self.is_frozen = signal == Signal::STOP || self.is_frozen && signal != Signal::CONT;
        Ok(())
    }

    /// A line about it, by the map that somebody tells.
    pub fn line(&mut self, told: Option<&Value>) -> String {
        let head = format!("       node {}", self.number);
        let Some(any) = self.any.filter(|_| self.is_running()) else {
            return format!("{head}  is not there");
        };
        if self.is_frozen {
            return format!("{head}  {any}  stands still");
        }
        let (owned, standby) = told.map_or((0, 0), |told| of_map(&told["map"], any.port()));
        let own = get(any, "/v1/nodes").and_then(|body| serde_json::from_str::<Value>(&body).ok());
        let loading = own.as_ref().map_or(0, |own| loading(own, any.port()));
        let lag = self.admin.and_then(|admin| get(admin, "/metrics")).and_then(|metrics| lag(&metrics));
        let lag = lag.map_or("no answer".to_owned(), |records| format!("{records} records behind"));
        format!("{head}  {any}  owner of {owned:2}, standby of {standby:2}, loading {loading:2}, {lag}")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the first node tells that has a map.
pub fn told(nodes: &[Node]) -> Option<Value> {
    let ask = |node: &Node| get(node.any.filter(|_| !node.is_frozen)?, "/v1/nodes");
    let answers = nodes.iter().filter_map(ask).filter_map(|body| serde_json::from_str::<Value>(&body).ok());
    answers.into_iter().find(|told| !told["map"].is_null())
}

/// Of how many partitions the node at a port is owner, and standby.
fn of_map(map: &Value, port: u16) -> (usize, usize) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let place = list(&map["nodes"]).iter().position(|node| node["port"].as_u64() == Some(u64::from(port)));
    let Some(place) = place.map(Value::from) else { return (0, 0) };
    let partitions = list(&map["partitions"]);
    let owned = partitions.iter().filter(|holders| holders[0] == place).count();
    let standby = partitions.iter().filter(|holders| list(holders).iter().skip(1).any(|one| *one == place));
    (owned, standby.count())
}

/// How many partitions a node says of itself that it loads.
fn loading(own: &Value, port: u16) -> usize {
    let nodes = own["nodes"].as_array().into_iter().flatten();
    let living = nodes.filter(|node| node["is_gone"] == false);
    let found = living.into_iter().find(|node| node["node"]["port"].as_u64() == Some(u64::from(port)));
    found.and_then(|node| node["loading"].as_array()).map_or(0, Vec::len)
}

/// How many records of its partitions it has not applied.
fn lag(metrics: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix("florin_kafka_lag_records "))?.trim().parse().ok()
}

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWERS_WITHIN).ok()?;
    stream.set_read_timeout(Some(ANSWERS_WITHIN)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// The command, which lies beside the folder of examples.
fn florin() -> PathBuf {
    let here = std::env::current_exe().expect("a program knows where it lies");
    here.ancestors().nth(2).expect("examples lie in a folder").join("florin")
}
