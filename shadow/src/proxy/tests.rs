//! What bounds callers: how many there may be, how long each may take, and how far ahead it may ask.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use super::*;
use crate::config::Config;
use crate::cutover::Share;
use crate::evidence::{EvidenceSettings, Redaction};
use crate::judge::Sides;
use crate::limits::{CALLERS_MAX, PIPELINED_MAX};

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy with bounds of its own, on a thread that ends with the test's process.
struct TestProxy {
    listen: SocketAddr,
    evidence: Arc<Evidence>,
    cutover: Arc<Cutover>,
    _phase: watch::Sender<Phase>,
}

fn start(primary: SocketAddr, timeouts: Timeouts, callers_max: usize) -> TestProxy {
    let config = Config::defaults();
    let side: crate::address::TargetAddress = format!("http://{primary}").parse().unwrap();
    let settings = EvidenceSettings {
        report: None,
        redaction: Redaction::Shown,
        sides: Sides { primary: side.clone(), candidate: side.clone() },
        tolerance: config.tolerance,
        queue_capacity: 1,
    };
    let evidence = Arc::new(Evidence::new(settings, &config.mirror.judge_settings.rules));
    let cutover = Cutover::new(&side, config.serve, Share::NONE, None, Arc::clone(&evidence));
    let cutover = Arc::new(cutover.unwrap());
    let context = Arc::new(ProxyContext {
        primary: primary.to_string(),
        timeouts,
        scope: config.scope,
        mirror: None,
        recorder: None,
        evidence: Arc::clone(&evidence),
        cutover: Arc::clone(&cutover),
        budget: Budget::new(1 << 20),
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let listen = listener.local_addr().unwrap();
    let (_phase, seen) = watch::channel(Phase::Serving);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            serve(listener, context, seen, PATIENCE, callers_max).await;
        });
    });
    TestProxy { listen, evidence, cutover, _phase }
}

impl TestProxy {
    fn caller(&self) -> TcpStream {
        let caller = TcpStream::connect(self.listen).unwrap();
        caller.set_read_timeout(Some(PATIENCE)).unwrap();
        caller
    }

    fn not_mirrored(&self, why: &str) -> u64 {
        let summary = self.evidence.summary("running", self.cutover.summary());
        summary.not_mirrored.get(why).copied().unwrap_or(0)
    }
}

/// Those that a test does not ask about never come.
fn patient() -> Timeouts {
    Timeouts { connect: PATIENCE, stall: PATIENCE, idle: PATIENCE, linger: PATIENCE }
}

const SHORT: Duration = Duration::from_millis(50);

/// A primary each of whose connections is given to `serve` on a thread of its own.
fn primary(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Answers whatever comes in one piece.
fn answering(mut stream: TcpStream) {
    let mut buffer = [0; 4_096];
    while stream.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {
        if stream.write_all(ANSWER).is_err() {
            return;
        }
    }
}

fn ask(caller: &mut TcpStream) -> std::io::Result<()> {
    caller.write_all(REQUEST)?;
    let mut answer = [0; ANSWER.len()];
    caller.read_exact(&mut answer)?;
    assert_eq!(answer, ANSWER);
    Ok(())
}

/// All that comes until the connection ends, and whether it ended in order.
fn rest(caller: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let ended = caller.read_to_end(&mut bytes);
    let is_late = ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!is_late, "it did not end");
    (bytes, ended.is_ok())
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_there() {
        assert!(Instant::now() < deadline, "{what} did not come");
        // Who is waited for has the CPU meanwhile.
        thread::park_timeout(Duration::from_millis(1));
    }
}

fn told<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("it happens in time")
}

#[test]
fn one_caller_more_than_there_may_be_is_refused_until_another_leaves() {
    let proxy = start(primary(answering), patient(), 2);
    let mut callers = [proxy.caller(), proxy.caller()];
    callers.iter_mut().for_each(|caller| ask(caller).unwrap());
    let mut more = proxy.caller();
    assert!(ask(&mut more).is_err());
    wait_for("the refusal's count", || proxy.not_mirrored("too many callers: refused") == 1);
    let [first, mut second] = callers;
    drop(first);
    wait_for("room", || ask(&mut proxy.caller()).is_ok());
    ask(&mut second).unwrap();
}

#[test]
fn a_caller_that_stops_in_the_midst_of_a_request_is_broken_off() {
    let proxy = start(primary(answering), Timeouts { stall: SHORT, ..patient() }, CALLERS_MAX);
    for half in ["GET / HTTP/1.1\r\nHo", "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n12"] {
        let mut caller = proxy.caller();
        caller.write_all(half.as_bytes()).unwrap();
        assert!(!rest(&mut caller).1, "{half:?} looked like a good end");
    }
}

#[test]
fn a_caller_that_takes_nothing_of_its_answer_is_broken_off() {
    let (tell, ended) = channel();
    let endless = primary(move |mut stream| {
        let _ = stream.read(&mut [0; 4_096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 65_536]).is_ok() {}
        let _ = tell.send(());
    });
    let proxy = start(endless, Timeouts { stall: SHORT, ..patient() }, CALLERS_MAX);
    let mut caller = proxy.caller();
    caller.write_all(REQUEST).unwrap();
    told(&ended);
}

#[test]
fn an_idle_caller_is_sent_away_in_order_and_one_that_waits_for_its_answer_is_not() {
    let (release, released) = channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let slow = primary(move |mut stream| {
        let mut buffer = [0; 4_096];
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            if buffer[..bytes].starts_with(b"GET /slow") {
                told(&released.lock().unwrap());
            }
            let _ = stream.write_all(ANSWER);
        }
    });
    let proxy = start(slow, Timeouts { idle: SHORT, ..patient() }, CALLERS_MAX);
    let mut waiting = proxy.caller();
    waiting.write_all(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    // Each of these is idle for as long as callers may be.
    for _ in 0..3 {
        let mut idle = proxy.caller();
        ask(&mut idle).unwrap();
        assert_eq!(rest(&mut idle), (Vec::new(), true));
    }
    release.send(()).unwrap();
    let mut answer = [0; ANSWER.len()];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(answer, ANSWER);
}

#[test]
fn a_primary_to_which_no_connection_comes_about_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // As few connections wait to be accepted as the kernel allows; the next one's handshake is not answered.
    rustix::net::listen(&listener, 0).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the kernel takes them all");
    }
    let proxy = start(address, Timeouts { connect: SHORT, ..patient() }, CALLERS_MAX);
    let mut caller = proxy.caller();
    let _ = caller.write_all(REQUEST);
    assert!(!rest(&mut caller).1);
    assert_eq!(proxy.not_mirrored("the primary could not be reached"), 1);
}

#[test]
fn a_caller_that_goes_on_sending_to_a_primary_that_has_closed_has_its_answer_and_an_end() {
    let closing = primary(|mut stream| {
        let _ = stream.read(&mut [0; 4_096]);
        let _ = stream.write_all(ANSWER);
        // In order, though more comes.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        while stream.read(&mut [0; 4_096]).is_ok_and(|bytes| bytes > 0) {}
    });
    let proxy = start(closing, Timeouts { linger: SHORT, ..patient() }, CALLERS_MAX);
    let mut caller = proxy.caller();
    ask(&mut caller).unwrap();
    caller.set_write_timeout(Some(PATIENCE)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while caller.write_all(b"GET / HTTP/1.1\r\n").is_ok() {
        assert!(Instant::now() < deadline, "it may send for ever");
    }
}

#[test]
fn a_caller_may_ask_only_so_far_ahead_of_its_answers() {
    let (tell, told_of) = channel();
    let counting = primary(move |mut stream| {
        let mut buffer = [0; 65_536];
        let (mut asked, mut answered, mut bytes) = (0, 0, 0);
        while let Ok(more @ 1..) = stream.read(&mut buffer) {
            bytes += more;
            asked = asked.max(bytes / REQUEST.len());
            assert!(asked - answered <= PIPELINED_MAX, "{asked} asked and {answered} answered");
            while asked - answered == PIPELINED_MAX {
                answered += 1;
                stream.write_all(ANSWER).unwrap();
            }
            if answered == 500 {
                tell.send(asked).unwrap();
                return;
            }
        }
    });
    let proxy = start(counting, patient(), CALLERS_MAX);
    let mut caller = proxy.caller();
    let mut reader = caller.try_clone().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while reader.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
    });
    let all = REQUEST.repeat(PIPELINED_MAX + 1_000);
    let _ = caller.write_all(&all);
    assert_eq!(told(&told_of), PIPELINED_MAX + 499);
}
