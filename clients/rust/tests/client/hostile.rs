//! Servers that lie, drip, and end in the middle. Whatever one does, a call has its answer or an error that names what came, within its
//! deadline; the client connects again no more often than to a server that refuses; and what it held it gives back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::fake::{self, Answer, Asked, Fake, Map, eventually, user};
use florin_client::{Backoff, Builder, Client, NodeId, Retry, Routing};
use florin_schema::Status;
use florin_schema::frame::REPLY_DRAINING;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

const DEADLINE: Duration = Duration::from_secs(2);
/// What a loaded machine may add; a call that does not end is later.
const SLACK: Duration = fake::PATIENCE;
/// Connections that a client may make within a call's deadline: the pauses between them double.
const CONNECTIONS_MAX: usize = 16;

fn client() -> Builder {
    let backoff = Backoff { first: Duration::from_millis(20), most: Duration::from_secs(1) };
    Client::builder()
        .backoff(backoff)
        .deadline(DEADLINE)
        .connect_timeout(Duration::from_millis(400))
        .stall_after(Duration::from_millis(100))
        .silence_max(Duration::from_millis(600))
}

/// What a call is told.
async fn told(builder: Builder, address: &str) -> String {
    let began = Instant::now();
    let told = match builder.connect(address).await {
        Ok(client) => client.get_balance(user(1)).await.map(drop),
        Err(error) => Err(error),
    };
    let took = began.elapsed();
    assert!(took < DEADLINE + SLACK, "it took {took:?}");
    told.map_or_else(|error| error.to_string(), |()| "an answer".to_owned())
}

/// Resident bytes of this process.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// What is not as it should be. Where one of several limits may be reached first, their sentences are
/// expected, with a `|` between them.
fn failure(what: &str, expected: &str, told: &str, accepted: usize) -> String {
    let mut failure = String::new();
    if !expected.split('|').any(|expected| told.contains(expected)) || told.len() > 2_000 {
        let short: String = told.chars().take(2_000).collect();
        failure += &format!("{what}: expected {expected:?}, told {short:?}\n");
    }
    if accepted > CONNECTIONS_MAX {
        failure += &format!("{what}: {accepted} connections\n");
    }
    failure
}

/// All that was begun has ended.
async fn is_over(tasks: usize) {
    eventually("all tasks end", || Handle::current().metrics().num_alive_tasks() <= tasks).await;
}

type Lie = fn(&Asked) -> Answer;

/// A frame with some of its bytes changed.
fn changed(asked: &Asked, at: usize, bytes: &[u8]) -> Answer {
    let mut frame = asked.right_answer();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    Answer::Bytes(frame)
}

/// After a faultless Hello.
const LIES: &[(&str, Lie, &str)] = &[
    (
        "a length below a header's",
        |asked| changed(asked, 0, &7_u32.to_le_bytes()),
        "length: expected 32 to 1048576 bytes, got 7",
    ),
    (
        "a huge length",
        |asked| changed(asked, 0, &u32::MAX.to_le_bytes()),
        "length: expected 32 to 1048576 bytes, got 4294967295",
    ),
    (
        "a length that takes the next answer along",
        |asked| changed(asked, 0, &4_096_u32.to_le_bytes()),
        "no whole reply for 100ms|no more than 88 of a reply's 4096 bytes within 600ms",
    ),
    ("another protocol's version", |asked| changed(asked, 4, &[9]), "version: expected 1, got 9"),
    (
        "a request id of nobody's",
        |asked| changed(asked, 8, &0xABCD_u64.to_le_bytes()),
        "request_id: expected one that was sent, got 0x000000000000abcd",
    ),
    (
        "a request id that is still to come",
        |asked| changed(asked, 12, &1_u32.to_le_bytes()),
        "request_id: expected one that was sent, got 0x0000000100000000",
    ),
    ("an answer to another opcode", |asked| changed(asked, 5, &[2]), "opcode: expected GetBalance, got 2"),
    ("another encoding", |asked| changed(asked, 6, &[2]), "encoding: expected 1, got 2"),
    ("no status", |asked| changed(asked, 7, &[77]), "status: expected 0 to 9, got 77"),
    (
        "a user that was not asked for",
        |asked| Answer::Bytes(asked.rkyv(&fake::balance(2))),
        "user_id: expected 1, got 2",
    ),
    ("a body of garbage", |asked| Answer::Bytes(asked.reply(Status::Ok, 1, &[0xFF; 64])), "body: "),
    (
        "a count of 4 billion assets",
        |asked| {
            let mut frame = asked.right_answer();
            let end = frame.len();
            // The root lies at the end; its vector's length is among these.
            frame[end - 8..].copy_from_slice(&[0xFF; 8]);
            Answer::Bytes(frame)
        },
        "body: ",
    ),
    (
        "a sentence of a megabyte",
        |asked| Answer::Bytes(asked.reply(Status::Internal, 0, &vec![b'x'; 1 << 19])),
        "the server failed: xxx",
    ),
    (
        "words to the terminal that shows them",
        |asked| Answer::Bytes(asked.reply(Status::Internal, 0, "\u{1b}]0;x\u{7}\n\u{202e}y".as_bytes())),
        "the server failed: \u{fffd}]0;x\u{fffd}\u{fffd}\u{fffd}y",
    ),
    (
        "half a frame and the end",
        |asked| {
            let frame = asked.right_answer();
            Answer::Last(frame[..40].to_vec())
        },
        "closed the connection in the middle of a reply, after 40 of 88 bytes",
    ),
    (
        "three bytes and the end",
        |_| Answer::Last(vec![40, 0, 0]),
        "closed the connection in the middle of a reply, after 3 of at least 32 bytes",
    ),
    (
        "garbage",
        |_| Answer::Bytes(b"-ERR unknown command\r\n".to_vec()),
        "length: expected 32 to 1048576 bytes, got 1381123373",
    ),
    ("nothing", |_| Answer::Nothing, "no answer within 2s; last: "),
    ("the end at once", |_| Answer::Close, "no answer within 2s; last: "),
    (
        "a byte every 50 ms",
        |asked| Answer::Drip(asked.right_answer(), Duration::from_millis(50)),
        "no whole reply for 100ms| bytes within 600ms|silent for 600ms",
    ),
    (
        "the announcement of its end with each answer",
        |asked| changed(asked, 26, &REPLY_DRAINING.to_le_bytes()),
        "an answer",
    ),
];

#[tokio::test]
async fn whatever_a_server_answers_a_call_is_told_what_came() {
    let (tasks, before) = (Handle::current().metrics().num_alive_tasks(), resident());
    let failures = join_all(LIES.iter().map(async |(what, lie, expected)| {
        let fake = Fake::tcp(Map::one_shard(), lie).await;
        let told = told(client(), &fake.address).await;
        failure(what, expected, &told, fake.accepted())
    }));
    assert_eq!(failures.await.concat(), "");
    is_over(tasks).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes are held");
}

/// A server of bytes: what it says to each connection, whatever that says, and whether it ends it then.
struct Raw {
    address: String,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Raw {
    async fn start(says: Vec<u8>, every: Option<Duration>, ends: bool) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            let mut held = tokio::task::JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, SeqCst);
                let says = says.clone();
                held.spawn(async move {
                    // Bytes that nobody has read would reset the connection.
                    let _hello = stream.read(&mut [0; 4_096]).await;
                    for piece in says.chunks(if every.is_some() { 1 } else { says.len().max(1) }) {
                        if stream.write_all(piece).await.is_err() {
                            return;
                        }
                        if let Some(every) = every {
                            tokio::time::sleep(every).await;
                        }
                    }
                    if !ends {
                        // Until the client has had enough.
                        while stream.read(&mut [0; 4_096]).await.is_ok_and(|bytes| bytes > 0) {}
                    }
                });
            }
        });
        Raw { address, accepted, task: task.abort_handle() }
    }
}

/// Before it has said Hello.
#[tokio::test]
async fn whatever_comes_in_place_of_a_hello_is_told() {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let hello = |change: fn(&mut Vec<u8>)| {
        let mut frame = fake::golden("reply-hello-tcp");
        frame[8..16].fill(0);
        change(&mut frame);
        frame
    };
    let drip = Some(Duration::from_millis(50));
    let rows = [
        ("nothing", vec![], None, false, "connected, but no answer to Hello within 400ms"),
        ("a byte every 50 ms", hello(|_| {}), drip, false, "connected, but no answer to Hello within 400ms"),
        ("the end", vec![], None, true, "the server closed the connection"),
        (
            "half a Hello and the end",
            hello(|frame| frame.truncate(50)),
            None,
            true,
            "closed the connection in the middle of a reply, after 50 of",
        ),
        (
            "a Hello whose body is cut",
            hello(|frame| {
                frame.truncate(40);
                frame[0] = 40;
            }),
            None,
            false,
            "body: ",
        ),
        ("TLS", b"\x15\x03\x01\x00\x02\x02\x28".to_vec(), None, true, "write florins:// before its address"),
        (
            "HTTP",
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            None,
            true,
            "got one in HTTP: this is a node's admin port",
        ),
        ("another version", hello(|frame| frame[4] = 2), None, false, "version: expected 1, got 2"),
        ("another opcode", hello(|frame| frame[5] = 1), None, false, "opcode: expected Hello, got 1"),
        (
            "an answer to nobody",
            hello(|frame| frame[8] = 5),
            None,
            false,
            "request_id: expected one that was sent, got 0x0000000000000005",
        ),
    ];
    let failures = join_all(rows.into_iter().map(async |(what, says, every, ends, expected)| {
        let raw = Raw::start(says, every, ends).await;
        let told = told(client(), &raw.address).await;
        failure(what, expected, &told, raw.accepted.load(SeqCst))
    }));
    assert_eq!(failures.await.concat(), "");
    is_over(tasks).await;
}

/// A Hello that named 65,535 shards made as many connections, each of which was tried again for ever.
#[tokio::test]
async fn a_shard_map_is_believed_within_reason() {
    let fake =
        Fake::faultless(Map { shards: u16::MAX, ports: vec![1; u16::MAX as usize], ..Map::one_shard() })
            .await;
    let told = told(client(), &fake.address).await;
    assert!(told.contains("expected 1 to 256 shards") && told.contains("65535"), "{told}");
    assert!(fake.accepted() <= CONNECTIONS_MAX);
}

/// Another node at each knock: the address is asked again who is there, and not in a hot loop.
#[tokio::test]
async fn a_node_that_is_another_at_each_hello_makes_no_storm() {
    let shard = Fake::faultless(Map { node_id: 8, ..Map::one_shard() }).await;
    let any = Fake::faultless(Map { node_id: 7, ..Map::of_ports(&[shard.port]) }).await;
    let client = client().routing(Routing::ShardPortsOnly).retry(Retry::UntilDeadline);
    let error = client.connect(&*any.address).await.map(drop).unwrap_err();
    let expected =
        format!("expected node {}, whose shard map names this port, got node {}", NodeId(7), NodeId(8));
    assert!(error.to_string().contains(&expected), "{error}");
    assert!(any.accepted() <= CONNECTIONS_MAX && shard.accepted() <= CONNECTIONS_MAX);
}
