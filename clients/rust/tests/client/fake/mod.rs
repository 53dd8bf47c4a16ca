//! A server that says what a test tells it to say.

pub mod follower;
pub mod path;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flatbuffers::FlatBufferBuilder;
use florin_client::records::{
    AssetBalance, AssetStatistics, Balance, BalanceEntry, Balances, Statistics, WindowStatistics,
};
use florin_client::{Asset, Status, UserId, WindowMask};
use florin_client::{Builder, Client};
use florin_schema::frame::{FLAG_FRESHNESS, FreshnessOptions, ReplyHeader, RequestHeader, VERSION};
use florin_schema::layout::SCHEMA_FINGERPRINT;
use florin_schema::{Encoding, NodeMap, Opcode, generated as fbs};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use zerocopy::{FromBytes, IntoBytes};

/// The most that a test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// For tests that say who is asked, and how often: a busy machine is silent now and then, and here that is no reason to ask another.
pub fn patient() -> Builder {
    Client::builder().deadline(PATIENCE).stall_after(PATIENCE).silence_max(2 * PATIENCE)
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::task::yield_now().await;
    }
}

pub fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

pub fn coin() -> Asset {
    Asset::parse(b"COIN").unwrap()
}

/// A request as the fake got it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Counted from 0, over the fake's life.
    pub connection: usize,
    pub header: RequestHeader,
    pub freshness: Option<FreshnessOptions>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn opcode(&self) -> Opcode {
        Opcode::try_from(self.header.opcode).unwrap()
    }

    pub fn user_id(&self) -> u64 {
        self.header.user_id.get()
    }

    /// The ids of a GetBalances.
    pub fn ids(&self) -> Vec<u64> {
        self.body.chunks(8).map(|id| u64::from_le_bytes(id.try_into().unwrap())).collect()
    }

    /// What a faultless server answers.
    pub fn right_answer(&self) -> Vec<u8> {
        match self.opcode() {
            Opcode::GetBalance => self.rkyv(&balance(self.user_id())),
            Opcode::GetStatistics => self.rkyv(&statistics(self.user_id(), self.body[0])),
            Opcode::GetBalances => {
                self.rkyv(&Balances { entries: self.ids().into_iter().map(entry).collect() })
            }
            Opcode::Ping => self.reply(Status::Ok, 0, &self.body),
            Opcode::Hello => panic!("the fake answers Hello itself"),
        }
    }

    pub fn reply(&self, status: Status, encoding: u8, body: &[u8]) -> Vec<u8> {
        let header = ReplyHeader {
            length: ((size_of::<ReplyHeader>() + body.len()) as u32).into(),
            version: VERSION,
            opcode: self.header.opcode,
            encoding,
            status: status as u8,
            request_id: self.header.request_id,
            as_of_us: (1_000 + self.connection as i64).into(),
            shard: 0.into(),
            flags: 0.into(),
            schema: (SCHEMA_FINGERPRINT as u32).into(),
        };
        [header.as_bytes(), body].concat()
    }

    /// A golden reply under this request's id.
    pub fn golden(&self, name: &str) -> Vec<u8> {
        let mut frame = golden(name);
        frame[8..16].copy_from_slice(self.header.request_id.as_bytes());
        frame
    }

    pub fn rkyv<T>(&self, record: &T) -> Vec<u8>
    where
        T: for<'a> rkyv::Serialize<
                rkyv::api::high::HighSerializer<
                    rkyv::util::AlignedVec,
                    rkyv::ser::allocator::ArenaHandle<'a>,
                    rkyv::rancor::Error,
                >,
            >,
    {
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(record).unwrap();
        self.reply(Status::Ok, Encoding::Rkyv as u8, &body)
    }
}

pub fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/golden");
    std::fs::read(folder.join(format!("{name}.bin"))).unwrap()
}

/// Every user's balance: as many coins as its id says.
pub fn balance(user_id: u64) -> Balance {
    let coins = AssetBalance { asset: coin().to_wire(), available: user_id as i64, held: 1 };
    Balance { user_id, version: user_id + 1, updated_at_us: 7, balances: vec![coins] }
}

fn statistics(user_id: u64, mask: u8) -> Statistics {
    let window = |place| WindowStatistics { credit_count: place, ..WindowStatistics::default() };
    let count = WindowMask::new(mask).unwrap().count() as u64;
    Statistics {
        user_id,
        version: user_id + 1,
        first_transaction_at_us: 1,
        last_transaction_at_us: 2,
        statistics: vec![AssetStatistics {
            asset: coin().to_wire(),
            windows: (1..=count).map(window).collect(),
        }],
        windows: mask,
    }
}

/// An entry of a whole account, or of one that nobody has named.
pub fn entry_of(user_id: u64, balance: Option<Balance>) -> BalanceEntry {
    let status = if balance.is_some() { Status::Ok } else { Status::NotFound };
    BalanceEntry { user_id, status: status as u8, quarantined: false, balance }
}

/// Every seventh user is unknown.
pub fn entry(user_id: u64) -> BalanceEntry {
    match user_id % 7 {
        0 => entry_of(user_id, None),
        _ => entry_of(user_id, Some(balance(user_id))),
    }
}

/// What the fake does with a request.
pub enum Answer {
    /// Writes these bytes.
    Bytes(Vec<u8>),
    /// Writes the first, waits until it is on its way, writes the second.
    Halves(Vec<u8>, Vec<u8>),
    /// Writes these bytes and closes the connection.
    Last(Vec<u8>),
    /// Writes them one by one, each so long after the last.
    Drip(Vec<u8>, Duration),
    /// Says nothing.
    Nothing,
    /// Reads nothing more until `resume` is notified.
    Block,
    /// The same, and then writes these bytes.
    Held(Vec<u8>),
    /// Closes the connection.
    Close,
}

/// What the fake's Hello says.
#[derive(Clone, Debug)]
pub struct Map {
    pub shards: u16,
    pub ports: Vec<u16>,
    pub mix: &'static str,
    pub rkyv_schema: u64,
    /// 0 from a server that has none.
    pub node_id: u64,
    /// 0 where it is not known.
    pub ledger_id: u64,
    /// Where nodes divide the users among them.
    pub nodes: Option<NodeMap>,
    /// Where the Hello is refused.
    pub refusal: Option<(Status, &'static str)>,
}

impl Map {
    pub fn one_shard() -> Map {
        Map {
            shards: 1,
            ports: vec![],
            mix: "splitmix64",
            rkyv_schema: SCHEMA_FINGERPRINT,
            node_id: 0,
            ledger_id: 0,
            nodes: None,
            refusal: None,
        }
    }

    pub fn of_ports(ports: &[u16]) -> Map {
        Map { shards: ports.len() as u16, ports: ports.to_vec(), ..Map::one_shard() }
    }
}

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

/// What a fake has seen, and what it says.
pub struct Story {
    pub map: Mutex<Map>,
    /// Names and tokens of the Hellos.
    pub hellos: Mutex<Vec<(String, String)>>,
    /// Requests, but for the Hellos.
    pub asked: Mutex<Vec<Asked>>,
    pub accepted: AtomicUsize,
    pub closed: AtomicUsize,
    pub resumed: AtomicUsize,
    /// Lets connections that are blocked go on.
    pub resume: Notify,
    script: Box<Script>,
}

/// A listening fake. Dropping it closes the listener and its connections.
pub struct Fake {
    pub address: String,
    pub port: u16,
    pub story: Arc<Story>,
    task: AbortHandle,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// On a port of its own.
    pub async fn tcp(map: Map, script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Fake {
        Fake::tcp_at(0, map, script).await
    }

    pub async fn tcp_at(
        port: u16,
        map: Map,
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Fake {
        // A predecessor on this port that was dropped ends when its task is next polled.
        let began = Instant::now();
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", port)).await {
                Ok(listener) => break listener,
                Err(error) => assert!(began.elapsed() < PATIENCE, "port {port}: {error}"),
            }
            tokio::task::yield_now().await;
        };
        let port = listener.local_addr().unwrap().port();
        let story = story(map, script);
        let task = tokio::spawn(accept_tcp(listener, Arc::clone(&story))).abort_handle();
        Fake { address: format!("127.0.0.1:{port}"), port, story, task }
    }

    /// On another address of this host, under the name of one port, and as one shard there.
    pub async fn at_host(
        host: &str,
        map: Map,
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Fake {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let story = story(Map { ports: vec![port], ..map }, script);
        let task = tokio::spawn(accept_tcp(listener, Arc::clone(&story))).abort_handle();
        Fake { address: format!("{host}:{port}"), port, story, task }
    }

    /// On a port of its own, by TLS.
    pub async fn tls(
        map: Map,
        config: Arc<ServerConfig>,
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let story = story(map, script);
        let task = tokio::spawn(accept_tls(listener, config, Arc::clone(&story))).abort_handle();
        Fake { address: format!("florins://127.0.0.1:{port}"), port, story, task }
    }

    pub async fn unix(
        path: &Path,
        map: Map,
        script: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Fake {
        let listener = UnixListener::bind(path).unwrap();
        let story = story(map, script);
        let task = tokio::spawn(accept_unix(listener, Arc::clone(&story))).abort_handle();
        Fake { address: format!("unix:{}", path.display()), port: 0, story, task }
    }

    /// One that answers everything as it should.
    pub async fn faultless(map: Map) -> Fake {
        Fake::tcp(map, |asked| Answer::Bytes(asked.right_answer())).await
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.story.asked.lock().unwrap().clone()
    }

    pub fn accepted(&self) -> usize {
        self.story.accepted.load(SeqCst)
    }

    pub fn closed(&self) -> usize {
        self.story.closed.load(SeqCst)
    }

    /// Handshakes with a ticket.
    pub fn resumed(&self) -> usize {
        self.story.resumed.load(SeqCst)
    }
}

fn story(map: Map, script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Arc<Story> {
    Arc::new(Story {
        map: Mutex::new(map),
        hellos: Mutex::default(),
        asked: Mutex::default(),
        accepted: AtomicUsize::new(0),
        closed: AtomicUsize::new(0),
        resumed: AtomicUsize::new(0),
        resume: Notify::new(),
        script: Box::new(script),
    })
}

async fn accept_tcp(listener: TcpListener, story: Arc<Story>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        connections.spawn(serve(stream, Arc::clone(&story), story.accepted.fetch_add(1, SeqCst)));
    }
}

async fn accept_tls(listener: TcpListener, config: Arc<ServerConfig>, story: Arc<Story>) {
    let acceptor = TlsAcceptor::from(config);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, story) = (acceptor.clone(), Arc::clone(&story));
        connections.spawn(async move {
            // Who does not come by TLS, or is not taken, is not served.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            story.resumed.fetch_add(usize::from(is_resumed), SeqCst);
            let connection = story.accepted.fetch_add(1, SeqCst);
            serve(stream, story, connection).await;
        });
    }
}

async fn accept_unix(listener: UnixListener, story: Arc<Story>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve(stream, Arc::clone(&story), story.accepted.fetch_add(1, SeqCst)));
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, story: Arc<Story>, connection: usize) {
    // A client that has left is no failure of the fake's.
    let _ = converse(stream, &story, connection).await;
    story.closed.fetch_add(1, SeqCst);
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    story: &Story,
    connection: usize,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let mut output = Vec::new();
        while let Some(asked) = take_request(&mut bytes, connection) {
            if asked.opcode() == Opcode::Hello {
                output.extend(greet(story, &asked));
                continue;
            }
            story.asked.lock().unwrap().push(asked.clone());
            match (story.script)(&asked) {
                Answer::Bytes(frame) => output.extend(frame),
                Answer::Halves(first, second) => {
                    output.extend(first);
                    stream.write_all(&std::mem::take(&mut output)).await?;
                    // The client's reader gets its turn between the halves.
                    tokio::task::yield_now().await;
                    output.extend(second);
                }
                Answer::Last(bytes) => {
                    output.extend(bytes);
                    return stream.write_all(&output).await;
                }
                Answer::Drip(bytes, every) => {
                    for byte in bytes {
                        output.push(byte);
                        stream.write_all(&std::mem::take(&mut output)).await?;
                        tokio::time::sleep(every).await;
                    }
                }
                Answer::Nothing => {}
                Answer::Block => story.resume.notified().await,
                Answer::Held(frame) => {
                    story.resume.notified().await;
                    output.extend(frame);
                }
                Answer::Close => return Ok(()),
            }
        }
        stream.write_all(&output).await?;
        stream.flush().await?;
    }
}

fn take_request(bytes: &mut Vec<u8>, connection: usize) -> Option<Asked> {
    let (header, rest) = RequestHeader::read_from_prefix(bytes).ok()?;
    let length = header.length.get() as usize;
    let rest = rest.get(..length - size_of::<RequestHeader>())?;
    let (freshness, body) = match header.flags & FLAG_FRESHNESS {
        0 => (None, rest),
        _ => FreshnessOptions::read_from_prefix(rest).map(|(options, body)| (Some(options), body)).unwrap(),
    };
    let body = body.to_vec();
    bytes.drain(..length);
    Some(Asked { connection, header, freshness, body })
}

fn greet(story: &Story, asked: &Asked) -> Vec<u8> {
    let hello = flatbuffers::root::<fbs::Hello>(&asked.body).unwrap();
    let said = (hello.client().unwrap().to_owned(), hello.token().unwrap().to_owned());
    story.hellos.lock().unwrap().push(said);
    let map = story.map.lock().unwrap().clone();
    if let Some((status, message)) = map.refusal {
        return asked.reply(status, 0, message.as_bytes());
    }
    let mut builder = FlatBufferBuilder::new();
    let args = fbs::HelloReplyArgs {
        nodes: map.nodes.map(|nodes| nodes.write(&mut builder)),
        server: Some(builder.create_string("fake/1")),
        shards: map.shards,
        ports: Some(builder.create_vector(&map.ports)),
        mix: Some(builder.create_string(map.mix)),
        rkyv_schema: map.rkyv_schema,
        node_id: map.node_id,
        ledger_id: map.ledger_id,
    };
    let root = fbs::HelloReply::create(&mut builder, &args);
    builder.finish_minimal(root);
    asked.reply(Status::Ok, Encoding::FlatBuffers as u8, builder.finished_data())
}
