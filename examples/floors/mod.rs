//! What examples share that measure a node which follows a ledger.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use florin::node::Node;

/// Prints how fast rows went.
pub fn told(what: &str, rows: u64, took: Duration) {
    println!(
        "{what}: {rows} rows in {:.2} s, {:.0} rows/s",
        took.as_secs_f64(),
        rows as f64 / took.as_secs_f64()
    );
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(600);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within ten minutes");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Rows that the node's shards have applied.
pub fn applied(node: &Node) -> u64 {
    node.shards().iter().map(|shard| shard.metrics.applied.get()).sum()
}

/// µs since 1970.
pub fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_micros();
    i64::try_from(now).expect("a time")
}

/// How long it took, from µs each.
pub fn quantiles(mut took_us: Vec<i64>) -> String {
    took_us.sort_unstable();
    let at = |share: f64| took_us[((took_us.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
    format!("p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms of {}", at(0.5), at(0.99), at(1.0), took_us.len())
}

/// CPU of each of this process's threads by name, in hundredths of a second.
pub fn ticks_by_thread() -> BTreeMap<String, u64> {
    let mut ticks = BTreeMap::new();
    for thread in fs::read_dir("/proc/self/task").expect("threads").flatten() {
        let Ok(text) = fs::read_to_string(thread.path().join("stat")) else { continue };
        let Some((head, fields)) = text.rsplit_once(") ") else { continue };
        let name = head.split_once('(').map_or(head, |(_, name)| name);
        let fields: Vec<String> = fields.split(' ').map(str::to_owned).collect();
        *ticks.entry(name.to_owned()).or_default() += sum(&fields[11..13]);
    }
    ticks
}

/// Prints what `rows` rows cost each of them.
pub fn told_of_threads(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, rows: u64) {
    for (name, ticks) in after {
        let spent = ticks.saturating_sub(*before.get(name).unwrap_or(&0));
        let us = spent as f64 * 10_000.0 / rows as f64;
        if us >= 0.05 {
            println!("    {us:.1} µs of CPU a row: {name}");
        }
    }
}

/// Of numbers that the system says; what is none counts as 0.
pub fn sum(fields: &[String]) -> u64 {
    fields.iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum()
}

/// Asks over HTTP, on one connection.
pub struct Caller(BufReader<TcpStream>);

impl Caller {
    /// Connects to a node.
    pub fn connect(address: SocketAddr) -> Caller {
        let stream = TcpStream::connect(address).expect("the node");
        stream.set_nodelay(true).expect("no delay");
        Caller(BufReader::new(stream))
    }

    /// The version that is there once `least` is, and when its row was inserted.
    pub fn balance(&mut self, user: u64, least: u64) -> (u64, i64) {
        loop {
            let request = format!(
                "GET /v1/users/{user}/balance?min_version={least}&wait_ms=1000 HTTP/1.1\r\nHost: florin\r\n\r\n"
            );
            self.0.get_mut().write_all(request.as_bytes()).expect("a request");
            let (mut length, mut line) = (0, String::new());
            while line != "\r\n" {
                line.clear();
                self.0.read_line(&mut line).expect("a head");
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).expect("a body");
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            let number = |value: &serde_json::Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
            if let Some(version) = number(&body["version"]).filter(|&version| version >= least) {
                let at: jiff::Timestamp =
                    body["updated_at"].as_str().expect("a time").parse().expect("a time");
                return (version, at.as_microsecond());
            }
        }
    }
}
