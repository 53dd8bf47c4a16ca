//! Callers whose network is taken away: nothing says so to the node, and it is rid of them all the same. `FLORIN_VANISHED=on` waits for that;
//! the short form gives the network back in a moment, which costs nobody an answer.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::network::{Link, Network};
use crate::support::{PATIENCE, Server, florin, folder_with_ledger, get};

const LINKS: [Link; 2] = [Link::First, Link::Second];
const CALLERS: usize = 50;
const ASK: &[u8] = b"GET /v1/users/1/statistics HTTP/1.1\r\nHost: t\r\n\r\n";
/// Two minutes, and a moment for the look.
const GONE_AFTER: Duration = Duration::from_secs(125);

/// One who asks now and then.
struct Caller(BufReader<TcpStream>);

impl Caller {
    fn connect(at: (Ipv4Addr, u16)) -> Caller {
        let stream = TcpStream::connect(at).expect("a node");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Caller(BufReader::new(stream))
    }

    fn ask(&mut self) {
        self.0.get_mut().write_all(ASK).expect("the connection is there");
    }

    /// Whether something of an answer has come.
    fn has_news(&self) -> bool {
        let stream = self.0.get_ref();
        stream.set_nonblocking(true).unwrap();
        let news = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        news.is_ok_and(|bytes| bytes > 0)
    }

    fn read_answer(&mut self) {
        let (mut head, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            assert!(self.0.read_line(&mut line).expect("an answer") > 0, "no answer");
            head += &line;
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let (_, length) = head.split_once("Content-Length: ").expect("a length");
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        self.0.read_exact(&mut vec![0; length]).expect("the whole of it");
    }
}

/// One who has asked so much, and read nothing, that its replies wait in the node.
fn unread(at: (Ipv4Addr, u16)) -> TcpStream {
    let mut caller = TcpStream::connect(at).expect("a node");
    caller.set_nonblocking(true).unwrap();
    let (asks, mut full) = (ASK.repeat(100), 0);
    while full < 20 {
        match caller.write(&asks) {
            // A request that was cut is no matter: nobody reads what becomes of it.
            Ok(_) => full = 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                full += 1;
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
    caller
}

/// Connections of callers that a node holds.
fn held(node: &Server) -> usize {
    const ESTABLISHED: &str = "01";
    let ends = format!(":{:04X}", node.any.port());
    // number, local address, remote address, state
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", node.id())).expect("a process");
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|words| words[1].ends_with(&ends) && words[3] == ESTABLISHED).count()
}

#[test]
fn a_node_is_rid_of_callers_whose_network_is_gone() {
    let Some(network) = Network::new() else {
        return println!("skipped: a network of its own takes `ip`, and root");
    };
    let waits = std::env::var_os("FLORIN_VANISHED").is_some();
    let folder = folder_with_ledger();
    let anywhere =
        ["serve", "--listen", "0.0.0.0:0", "--shard-listen", "0.0.0.0:0", "--insecure-listen", "on"];
    let how = [&anywhere[..], &["--admin", "127.0.0.1:0", "--shards", "2", "--shards-per-cpu", "3"]].concat();
    let node = Server::spawn(network.within(&florin(folder.path(), &how)));
    let at = |link| (network.here(link), node.any.port());
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", node.id())).unwrap().count();
    let before = descriptors();
    let at_each = LINKS.iter().flat_map(|&link| std::iter::repeat_n(at(link), CALLERS));
    let mut silent: Vec<_> = at_each.map(Caller::connect).collect();
    for caller in &mut silent {
        caller.ask();
        caller.read_answer();
    }
    let unread: Vec<_> = LINKS.iter().map(|&link| unread(at(link))).collect();
    assert_eq!(held(&node), silent.len() + unread.len());

    network.cut(Link::First);
    if !waits {
        silent.iter_mut().for_each(Caller::ask);
        std::thread::park_timeout(Duration::from_millis(500));
        let (cut_off, reached) = silent.split_at(CALLERS);
        assert!(cut_off.iter().all(|caller| !caller.has_news()) && reached.iter().all(Caller::has_news));
        network.mend(Link::First);
        silent.iter_mut().for_each(Caller::read_answer);
        return;
    }
    network.take_down(Link::Second);
    let gone = Instant::now();
    while held(&node) > 0 || descriptors() > before {
        assert!(gone.elapsed() < GONE_AFTER, "{} are still held", held(&node));
        std::thread::park_timeout(Duration::from_millis(200));
    }
    println!(
        "{} callers that vanished were gone after {} s",
        silent.len() + unread.len(),
        gone.elapsed().as_secs()
    );
    network.mend(Link::First);
    let answer = get((network.here(Link::First), node.any.port()).into(), "/v1/users/1/balance");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
