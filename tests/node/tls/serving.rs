//! What callers by plain TCP get, callers by TLS get too.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
};

use florin::{
    node::{Node, NodeConfig},
    tls::tally::Outcome,
};
use florin_schema::UserId;
use rustls::HandshakeKind;

use super::super::callers::Talk;
use super::super::support::{Caller, connections, ping, shard_counts, until};
use super::support::{Callers, Files, client, connect, count, records, shake, tls_address, until_counted};

#[test]
fn every_port_for_tls_answers() {
    let files = Files::new();
    for shards in shard_counts() {
        let node = files.start(shards, Callers::Anybody);
        let config = Arc::new(client(&files.authority, None));
        let addresses = node.addresses().clone();
        connect(&config, tls_address(&node)).ping(1);
        assert_eq!(addresses.tls_shard_listen.len(), usize::from(shards));
        for (address, shard) in addresses.tls_shard_listen.iter().zip(node.shards()) {
            let before = shard.metrics.connections_opened.get();
            connect(&config, *address).ping(2);
            assert_eq!(shard.metrics.connections_opened.get(), before + 1, "{address} is {}'s", shard.index);
        }
        // The plain ports are there beside them.
        Caller::connect(addresses.listen.unwrap()).ping(3);
        until("all connections have ended", || connections(&node) == 0);
    }
}

#[test]
fn a_ticket_of_one_shard_is_good_for_every_other() {
    let files = Files::new();
    let node = files.start(shard_counts().last().unwrap(), Callers::Anybody);
    let config = Arc::new(client(&files.authority, None));
    let kinds = node.addresses().tls_shard_listen.iter().cycle().take(4).map(|&address| {
        let mut caller = connect(&config, address);
        caller.ping(1);
        caller.0.conn.handshake_kind().unwrap()
    });
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds[0], HandshakeKind::Full);
    assert!(kinds[1..].iter().all(|kind| *kind == HandshakeKind::Resumed), "{kinds:?}");
    assert_eq!((count(&node, Outcome::Full), count(&node, Outcome::Resumed)), (1, 3));
}

/// Requests that are cut anywhere in their record are answered like whole ones.
#[test]
fn records_are_read_however_they_are_cut() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let mut caller = connect(&Arc::new(client(&files.authority, None)), tls_address(&node));
    caller.ping(0);
    let length = records(&mut caller, &ping(1, b"whole")).len();
    // What was not sent is lost, and with it the connection.
    let mut caller = connect(&Arc::new(client(&files.authority, None)), tls_address(&node));
    shake(&mut caller);
    for cut in 1..length {
        let record = records(&mut caller, &ping(cut as u64, b"whole"));
        assert_eq!(record.len(), length);
        caller.0.sock.write_all(&record[..cut]).unwrap();
        caller.0.sock.write_all(&record[cut..]).unwrap();
        assert_eq!(caller.read_reply().unwrap(), (cut as u64, b"whole".to_vec()));
    }
    // And byte by byte.
    for byte in records(&mut caller, &ping(7, b"whole")) {
        caller.0.sock.write_all(&[byte]).unwrap();
    }
    assert_eq!(caller.read_reply().unwrap(), (7, b"whole".to_vec()));
}

#[test]
fn many_requests_at_once_are_answered_in_full_and_in_order() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let mut caller = connect(&Arc::new(client(&files.authority, None)), tls_address(&node));
    let body = [7; 200];
    for round in 0..20 {
        let burst: Vec<u8> = (0..200).flat_map(|request| ping(round * 1_000 + request, &body)).collect();
        caller.0.write_all(&burst).unwrap();
        for request in 0..200 {
            assert_eq!(caller.read_reply().unwrap(), (round * 1_000 + request, body.to_vec()));
        }
    }
}

/// Without a last word a peer could not tell the end of the answers from somebody's having cut them off.
#[test]
fn both_sides_say_that_nothing_more_comes() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let config = Arc::new(client(&files.authority, None));
    // The caller ends its half in TLS and in TCP, and is answered first.
    let mut caller = connect(&config, tls_address(&node));
    caller.0.write_all(&ping(1, b"last")).unwrap();
    caller.0.conn.send_close_notify();
    caller.0.flush().unwrap();
    caller.0.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(caller.read_reply().unwrap(), (1, b"last".to_vec()));
    caller.expect_end();
    // In TLS alone.
    let mut caller = connect(&config, tls_address(&node));
    caller.0.write_all(&ping(2, b"last")).unwrap();
    caller.0.conn.send_close_notify();
    caller.0.flush().unwrap();
    assert_eq!(caller.read_reply().unwrap(), (2, b"last".to_vec()));
    caller.expect_end();
    // In TCP alone, as some do.
    let mut caller = connect(&config, tls_address(&node));
    caller.0.write_all(&ping(3, b"last")).unwrap();
    caller.0.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(caller.read_reply().unwrap(), (3, b"last".to_vec()));
    caller.expect_end();
    // The node ends.
    let mut caller = connect(&config, tls_address(&node));
    caller.ping(4);
    node.drain();
    caller.expect_end();
    node.join().unwrap();
}

#[test]
fn what_comes_with_the_handshakes_last_bytes_is_answered() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let mut caller = connect(&Arc::new(client(&files.authority, None)), tls_address(&node));
    // rustls holds it back until the handshake's end, and sends both in one.
    caller.0.conn.writer().write_all(&ping(1, b"early")).unwrap();
    assert_eq!(caller.read_reply().unwrap(), (1, b"early".to_vec()));
}

#[test]
fn http_is_answered_by_tls_too() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let mut config = client(&files.authority, None);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut caller = connect(&Arc::new(config), tls_address(&node));
    caller
        .0
        .write_all(b"GET /v1/users/1/balance HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    caller.0.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(caller.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
}

/// It once was the plain port's number: whoever took the advice sent the next token in plain.
#[test]
fn a_forwarded_answer_names_a_port_of_the_kind_that_was_asked() {
    let Some(shards) = shard_counts().find(|&shards| shards == 2) else { return };
    let files = Files::new();
    let folder = tempfile::tempdir().unwrap();
    let unix = Some(folder.path().join("socket"));
    let node = Node::start(NodeConfig { unix, ..files.config(shards, Callers::Anybody) }).unwrap();
    until("the ledger is loaded", || node.obstacles().is_empty());
    let addresses = node.addresses();
    let user_of = |shard| (0..).find(|&id| UserId::new(id).unwrap().shard(shards).0 == shard).unwrap();
    let ask = |stream: &mut dyn Talk, user: u64| {
        let head = "HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
        write!(stream, "GET /v1/users/{user}/balance {head}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let told = |stream: &mut dyn Talk| {
        let answer = ask(stream, user_of(1));
        assert!(answer.contains("\r\nFlorin-Forwarded: true\r\n"), "{answer}");
        let line = answer.split_once("\r\nFlorin-Shard-Port: ")?.1;
        Some(line.split_once("\r\n").unwrap().0.parse::<u16>().unwrap())
    };
    let mut secure = connect(&Arc::new(client(&files.authority, None)), addresses.tls_shard_listen[0]).0;
    assert_eq!(told(&mut secure), Some(addresses.tls_shard_listen[1].port()));
    let mut plain = Caller::connect(addresses.shard_listen[0]).0;
    assert_eq!(told(&mut plain), Some(addresses.shard_listen[1].port()));
    // Which of both shards accepts on the socket, nobody chooses: both shards' users are asked for until one has to be passed on.
    // They take turns, so the users do it otherwise.
    let mut users = [0, 1, 1].map(user_of).into_iter().cycle();
    until("a question over the unix socket is passed on", || {
        let mut local = Caller::connect_unix(addresses.unix.as_ref().unwrap()).0;
        let answer = ask(&mut local, users.next().unwrap());
        assert!(!answer.contains("Florin-Shard-Port"), "{answer}");
        answer.contains("\r\nFlorin-Forwarded: true\r\n")
    });
}

/// Plain bytes on TLS's port, and TLS on the plain one, are each refused at once.
#[test]
fn who_takes_the_wrong_port_is_told_at_once() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let mut plain = TcpStream::connect(tls_address(&node)).unwrap();
    plain.write_all(&ping(1, b"plain")).unwrap();
    super::support::read_to_close(&mut plain);
    until_counted(&node, Outcome::Failed, 1);
    let mut caller = connect(&Arc::new(client(&files.authority, None)), node.addresses().listen.unwrap());
    assert!(caller.0.write_all(b"x").and_then(|()| caller.0.flush()).is_err());
}
