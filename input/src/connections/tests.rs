//! The admin port's and other HTTP servers' connections, over real sockets.

use axum::Extension;
use axum::routing::any;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const BOUNDS: Bounds = Bounds {
    connections_max: 8,
    idle: Duration::from_secs(60),
    head_silence: Duration::from_secs(10),
    head: Duration::from_secs(30),
    linger: Duration::from_millis(500),
    accept_retry: Duration::from_millis(10),
    say_every: Duration::from_secs(10),
};

async fn bounded() -> (Bounded, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (Bounded::new(listener, BOUNDS), address)
}

/// A hundred connections that said nothing kept every probe and scrape out for as long as they liked.
#[tokio::test]
async fn one_too_many_ends_the_one_that_was_silent_for_longest() {
    let (mut bounded, address) = bounded().await;
    let mut held = Vec::new();
    for _ in 0..BOUNDS.connections_max {
        let caller = TcpStream::connect(address).await.unwrap();
        held.push((bounded.accept().await.0, caller));
    }
    held[0].0.heard();
    let _one_more = (TcpStream::connect(address).await.unwrap(), bounded.accept().await.0);
    let error = held[1].0.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(held.remove(1));
    assert_eq!(bounded.open.lock().unwrap().len(), BOUNDS.connections_max);
}

#[tokio::test]
async fn http_2_is_told_that_it_is_not_spoken() {
    let (mut bounded, address) = bounded().await;
    let mut caller = TcpStream::connect(address).await.unwrap();
    let (mut connection, _) = bounded.accept().await;
    caller.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    connection.read(&mut [0; 64]).await.unwrap_err();
    drop(connection);
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 505 ") && answer.contains("got HTTP/2"), "{answer}");
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let (mut bounded, address) = bounded().await;
    bounded.bounds.idle = Duration::from_millis(20);
    let _caller = TcpStream::connect(address).await.unwrap();
    let began = Instant::now();
    let error = bounded.accept().await.0.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(began.elapsed() >= bounded.bounds.idle);
}

/// Longer than a busy machine keeps the two halves of what a caller sends apart.
const SOON: Bounds = Bounds { head_silence: Duration::from_secs(3), ..BOUNDS };

/// What a port whose only resource answers at once, after its body, says to `pieces`, which come one by one, and then to silence.
async fn exchange(bounds: Bounds, pieces: &[&[u8]]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", any(|body: String| async move { format!("<{body}>") }));
    let server = tokio::spawn(serve(listener, bounds, router, std::future::pending()));
    let mut caller = TcpStream::connect(address).await.unwrap();
    caller.set_nodelay(true).unwrap();
    for piece in pieces {
        caller.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    tokio::time::timeout(BOUNDS.idle / 2, caller.read_to_string(&mut answer))
        .await
        .expect("half a head ends before a connection that asks nothing")
        .unwrap();
    server.abort();
    answer
}

/// Half a head behind a whole request, with which it had come, was taken for a connection that asks nothing: its caller had no
/// word for 60 s, and no 408 then. It has to be found wherever it begins and however it comes.
#[tokio::test]
async fn half_a_head_is_seen_behind_whatever_came_before_it() {
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &[u8] = b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n\n\r\n\r\nx";
    const HALF: &[u8] = b"GET / HTTP/1.1\r\nHos";
    let whole: [(Vec<u8>, &[&str]); 5] = [
        (Vec::new(), &[]),
        (GET.to_vec(), &["<>"]),
        (POST.to_vec(), &["<\n\r\n\r\nx>"]),
        ([GET, GET, POST].concat(), &["<>", "<>", "<\n\r\n\r\nx>"]),
        ([POST, GET].concat(), &["<\n\r\n\r\nx>", "<>"]),
    ];
    let mut exchanges = tokio::task::JoinSet::new();
    for (whole, answers) in whole {
        let bytes = [&whole, HALF].concat();
        for cut in (0..bytes.len()).step_by(3) {
            let (bytes, begin) = (bytes.clone(), whole.len());
            exchanges.spawn(async move {
                let said = exchange(SOON, &[&bytes[..cut], &bytes[cut..]]).await;
                let (answered, end) =
                    said.split_once("HTTP/1.1 408").unwrap_or_else(|| panic!("{begin}, {cut}: {said}"));
                let found: Vec<&str> = answered
                    .split("HTTP/1.1 200")
                    .skip(1)
                    .map(|answer| answer.split_once("\r\n\r\n").unwrap().1)
                    .collect();
                assert_eq!(found, answers, "{begin}, {cut}");
                assert!(end.contains("head: expected its rest"), "{end}");
            });
        }
    }
    while let Some(outcome) = exchanges.join_next().await {
        outcome.unwrap();
    }
}

/// A body waited for the connection's next timer, 10 s, where the server had asked for it before it was known whose it was.
#[tokio::test]
async fn what_was_held_back_is_handed_on_as_soon_as_its_turn_comes() {
    const NEVER: Duration = Duration::from_secs(3_600);
    let bounds = Bounds { idle: NEVER, head_silence: NEVER, head: NEVER, ..BOUNDS };
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n";
    let all = format!("{head}\r\nx{head}Connection: close\r\n\r\ny");
    for cut in 0..all.len() {
        let said = exchange(bounds, &[&all.as_bytes()[..cut], &all.as_bytes()[cut..]]).await;
        assert!(said.contains("<x>") && said.ends_with("<y>"), "{cut}: {said}");
    }
}

/// Who shut its half behind a request was not answered, though what it had asked for was done; and behind a request that had come with
/// another, nobody saw that it had.
#[tokio::test]
async fn who_has_sent_all_is_answered_and_whoever_asks_is_told_of_it() {
    let router = Router::new().route(
        "/",
        any(|Extension(peer): Extension<PeerEnd>, body: String| async move {
            peer.wait().await;
            format!("<{body}>")
        }),
    );
    const LONG: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    // Where a next one would begin is not known.
    const CHUNKED: &str =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    for (post, requests) in [(LONG, 1), (LONG, 2), (LONG, 3), (CHUNKED, 1)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, BOUNDS, router.clone(), std::future::pending()));
        let mut caller = TcpStream::connect(address).await.unwrap();
        caller.write_all(post.repeat(requests).as_bytes()).await.unwrap();
        caller.shutdown().await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(BOUNDS.idle / 2, caller.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer.matches("<x>").count(), requests, "{answer}");
        server.abort();
    }
}

/// A body in chunks that breaks off is owed no answer to the whole of it: its caller would wait until it had been silent for too long.
#[tokio::test]
async fn a_body_in_chunks_that_breaks_off_is_over_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", any(|body: String| async move { format!("<{body}>") }));
    let server = tokio::spawn(serve(listener, BOUNDS, router, std::future::pending()));
    let mut caller = TcpStream::connect(address).await.unwrap();
    let half = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
    caller.write_all(half).await.unwrap();
    caller.shutdown().await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(BOUNDS.idle / 2, caller.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(!answer.contains(" 200 "), "{answer}");
    server.abort();
}

/// Where the request behind a body of unknown length would begin is not known: the answer says that it is the last.
#[tokio::test]
async fn a_body_in_chunks_is_a_connections_last() {
    let said = exchange(
        SOON,
        &[b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET"],
    )
    .await;
    assert!(said.ends_with("<x>") && said.to_ascii_lowercase().contains("connection: close"), "{said}");
}
