//! Nodes and callers for the tests. Nothing here sleeps: every wait has a condition and a deadline.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use florin::{
    drivers::ring::RingSizes,
    node::{Node, NodeConfig},
};
use florin_sqlite::Writer;
use tempfile::TempDir;

/// Beyond this a test has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a request's header, and of a reply's.
pub const REQUEST_HEADER: usize = 24;
pub const REPLY_HEADER: usize = 32;
const PING: u8 = 4;

/// A node on free loopback ports.
pub fn config(shards: u16) -> NodeConfig {
    NodeConfig { shards: Some(shards), driver: super::DRIVER, ..NodeConfig::local(ledger()) }
}

/// A ledger without transactions, which nobody changes: one for all tests.
fn ledger() -> PathBuf {
    static LEDGER: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        Writer::open_or_create(&path).unwrap();
        (folder, path)
    });
    LEDGER.1.clone()
}

pub fn start(shards: u16) -> Node {
    Node::start(config(shards)).unwrap()
}

/// A node of one shard whose ring has hardly any room.
pub fn start_tiny(sizes: RingSizes) -> Node {
    Node::start_sized(config(1), sizes).unwrap()
}

/// How many shards this host can bear, up to two.
pub fn shard_counts() -> impl Iterator<Item = u16> {
    let cpus = thread::available_parallelism().unwrap().get();
    1..=u16::try_from(cpus.min(2)).unwrap()
}

/// A stream of either kind.
pub trait Stream: Read + Write {
    fn set_deadline(&self);
}

impl Stream for TcpStream {
    fn set_deadline(&self) {
        self.set_read_timeout(Some(PATIENCE)).unwrap();
        self.set_write_timeout(Some(PATIENCE)).unwrap();
        self.set_nodelay(true).unwrap();
    }
}

impl Stream for UnixStream {
    fn set_deadline(&self) {
        self.set_read_timeout(Some(PATIENCE)).unwrap();
        self.set_write_timeout(Some(PATIENCE)).unwrap();
    }
}

/// A caller that speaks just enough of the protocol: pings.
pub struct Caller<S>(pub S);

impl Caller<TcpStream> {
    pub fn connect(address: SocketAddr) -> Caller<TcpStream> {
        Caller::new(TcpStream::connect(address).unwrap())
    }
}

impl Caller<UnixStream> {
    pub fn connect_unix(path: &Path) -> Caller<UnixStream> {
        Caller::new(UnixStream::connect(path).unwrap())
    }
}

impl<S: Stream> Caller<S> {
    pub fn new(stream: S) -> Caller<S> {
        stream.set_deadline();
        Caller(stream)
    }

    /// One question and its answer.
    pub fn ping(&mut self, request_id: u64) {
        self.0.write_all(&ping(request_id, b"are you there?")).unwrap();
        assert_eq!(self.read_reply().unwrap(), (request_id, b"are you there?".to_vec()));
    }

    /// The next reply's request id and body. An error of kind `UnexpectedEof` is the end of the stream.
    pub fn read_reply(&mut self) -> io::Result<(u64, Vec<u8>)> {
        let mut header = [0; REPLY_HEADER];
        self.0.read_exact(&mut header)?;
        let length = u32::from_le_bytes(header[..4].try_into().unwrap()) as usize;
        assert_eq!((header[4], header[5], header[7]), (1, PING, 0), "not a ping's reply: {header:?}");
        let mut body = vec![0; length - REPLY_HEADER];
        self.0.read_exact(&mut body)?;
        Ok((u64::from_le_bytes(header[8..16].try_into().unwrap()), body))
    }

    /// Asserts that the peer closes without another byte.
    pub fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{} bytes more than there should be", rest.len());
    }
}

/// A ping's frame.
pub fn ping(request_id: u64, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(REQUEST_HEADER + body.len()).unwrap();
    let mut frame = Vec::with_capacity(REQUEST_HEADER + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&[1, PING, 0, 0]);
    frame.extend_from_slice(&request_id.to_le_bytes());
    frame.extend_from_slice(&[0; 8]);
    frame.extend_from_slice(body);
    frame
}

/// Waits until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        // Who is waited for has the CPU meanwhile.
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Connections that the node's shards hold.
pub fn connections(node: &Node) -> u64 {
    node.shards().iter().map(|shard| shard.metrics.connections.get()).sum()
}

/// Connections that the node's shards ever had.
pub fn connections_opened(node: &Node) -> u64 {
    node.shards().iter().map(|shard| shard.metrics.connections_opened.get()).sum()
}
