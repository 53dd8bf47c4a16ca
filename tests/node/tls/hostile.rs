//! Callers that break the protocol, or hold it up: each loses its own connection, and nobody else notices.

use std::{
    io::Write,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use florin::tls::tally::Outcome;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::{ClientConnection, pki_types::ServerName, version::TLS12};

use socket2::{Domain, Socket, Type};

use super::super::support::{connections, connections_opened, ping, until};
use super::support::{
    Callers, Files, client, client_of, connect, count, read_to_close, records, shake, tls_address,
    until_counted,
};

#[test]
fn an_older_protocol_is_refused() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let mut caller = connect(&Arc::new(client_of(&files.authority, None, &TLS12)), tls_address(&node));
    let refusal = caller.0.write_all(b"x").and_then(|()| caller.0.flush()).unwrap_err();
    assert!(refusal.to_string().contains("ProtocolVersion"), "{refusal}");
    until_counted(&node, Outcome::Failed, 1);
    connect(&Arc::new(client(&files.authority, None)), tls_address(&node)).ping(1);
}

/// Data before the handshake's end could be played back by whoever recorded it.
#[test]
fn no_early_data_is_taken() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let mut config = client(&files.authority, None);
    config.enable_early_data = true;
    let config = Arc::new(config);
    connect(&config, tls_address(&node)).ping(1);
    let mut again = connect(&config, tls_address(&node));
    assert!(again.0.conn.early_data().is_none(), "a ticket promised that it would be taken");
    again.ping(2);
    assert_eq!(count(&node, Outcome::Resumed), 1);
}

/// The caller's bytes of a whole handshake, as far as the server's answers are not needed for them.
fn hello(files: &Files) -> Vec<u8> {
    let config = Arc::new(client(&files.authority, None));
    let mut connection = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn a_handshake_cut_at_any_byte_harms_nobody() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let hello = hello(&files);
    let mut served = connect(&Arc::new(client(&files.authority, None)), tls_address(&node));
    for cut in 0..=hello.len() {
        let mut caller = TcpStream::connect(tls_address(&node)).unwrap();
        caller.write_all(&hello[..cut]).unwrap();
        caller.shutdown(Shutdown::Write).unwrap();
        read_to_close(&mut caller);
        served.ping(cut as u64);
    }
    until_counted(&node, Outcome::Left, hello.len() as u64 + 1);
    // The second flight, cut: the last bytes of the handshake, and then a request.
    for cut in 0..60 {
        let config = Arc::new(client(&files.authority, None));
        let mut caller = connect(&config, tls_address(&node));
        let mut came = false;
        while !came {
            let conn = &mut caller.0.conn;
            if conn.wants_write() && conn.is_handshaking() {
                conn.write_tls(&mut caller.0.sock).unwrap();
            }
            conn.read_tls(&mut caller.0.sock).unwrap();
            conn.process_new_packets().unwrap();
            came = !conn.is_handshaking();
        }
        let last = records(&mut caller, b"");
        caller.0.sock.write_all(&last[..cut.min(last.len())]).unwrap();
        caller.0.sock.shutdown(Shutdown::Write).unwrap();
        read_to_close(&mut caller.0.sock);
    }
    served.ping(9);
    drop(served);
    until("all connections have ended", || connections(&node) == 0);
    until("no handshake is under way", || node.tls().unwrap().tally.under_way() == 0);
}

#[test]
fn garbage_is_refused_wherever_it_comes() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let config = Arc::new(client(&files.authority, None));
    let mut served = connect(&config, tls_address(&node));
    served.ping(1);
    // Instead of a handshake.
    for garbage in
        [&[0; 600][..], &[0xFF; 600], b"GET / HTTP/1.1\r\nhost: here\r\n\r\n", &[0x16, 3, 1, 0xFF, 0xFF, 1]]
    {
        let mut caller = TcpStream::connect(tls_address(&node)).unwrap();
        caller.write_all(garbage).unwrap();
        caller.shutdown(Shutdown::Write).unwrap();
        read_to_close(&mut caller);
    }
    // After it: a record that is none, one that is too long, one of another key, one that was changed under way.
    let kinds: [fn(Vec<u8>) -> Vec<u8>; 4] = [
        |_| vec![0xFF; 64],
        |_| [&[23, 3, 3, 0xFF, 0xFF][..], &[0; 64]].concat(),
        |_| [&[23, 3, 3, 0, 64][..], &[7; 64]].concat(),
        |mut record| {
            let last = record.len() - 1;
            record[last] ^= 1;
            record
        },
    ];
    for (kind, before) in kinds.into_iter().zip(0..) {
        let mut caller = connect(&config, tls_address(&node));
        caller.ping(1);
        let record = records(&mut caller, &ping(2, b"never"));
        caller.0.sock.write_all(&kind(record)).unwrap();
        until_counted(&node, Outcome::Garbled, before + 1);
        read_to_close(&mut caller.0.sock);
        served.ping(before);
    }
}

/// A thousand callers that begin a handshake and say nothing more keep nobody out, and none of them reaches a shard.
#[test]
fn half_handshakes_keep_nobody_out() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let hello = hello(&files);
    let config = Arc::new(client(&files.authority, None));
    let mut served = connect(&config, tls_address(&node));
    served.ping(1);
    // Both ends of each are this process's.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let halves = 1_000;
    let held: Vec<_> = (0..halves)
        .map(|half| {
            let from = Ipv4Addr::new(127, 0, 0, 2 + (half % 4) as u8);
            let mut caller = connect_from(from, tls_address(&node));
            caller.write_all(&hello[..half % hello.len()]).unwrap();
            served.ping(half as u64);
            caller
        })
        .collect();
    // A host that is busy lets the first of them run out of time before the last has come.
    let tally = &node.tls().unwrap().tally;
    until("all of them have begun", || tally.under_way() + tally.get(Outcome::Overdue) >= halves as u64);
    assert_eq!(tally.get(Outcome::Refused) + tally.get(Outcome::Displaced), 0);
    connect(&config, tls_address(&node)).ping(1);
    served.ping(2);
    assert_eq!(connections_opened(&node), 2, "none of the half ones has reached a shard");
    drop(held);
    until("they are gone", || node.tls().unwrap().tally.under_way() == 0);
}

/// A connection from another of this host's addresses.
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// A caller that changes its keys with every record costs no more than one that does not, and is not answered with as many.
#[test]
fn changes_of_keys_are_followed_and_bounded() {
    let files = Files::new();
    let node = files.start(1, Callers::Anybody);
    let config = Arc::new(client(&files.authority, None));
    let mut caller = connect(&config, tls_address(&node));
    for round in 0..20 {
        shake(&mut caller);
        caller.0.conn.refresh_traffic_keys().unwrap();
        caller.ping(round);
    }
    let mut greedy = connect(&config, tls_address(&node));
    greedy.ping(1);
    let mut flood = Vec::new();
    for _ in 0..100 {
        greedy.0.conn.refresh_traffic_keys().unwrap();
        flood.extend(records(&mut greedy, b""));
    }
    greedy.0.sock.write_all(&flood).unwrap();
    until_counted(&node, Outcome::Garbled, 1);
    caller.ping(99);
}
