//! Each golden request, cut in two on its way, is answered as if it had come whole. At each byte it is cut without sockets, in
//! `tests/decoders.rs`; here at a few, by the driver that carries it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};

use florin::{
    ledger::Kind,
    node::{Node, NodeConfig},
};
use florin_record::{NewTransaction, TransactionId};
use florin_schema::{Asset, UserId};
use florin_sqlite::Writer;

use super::support::{Caller, REPLY_HEADER, REQUEST_HEADER, config, until};

/// Of the users whom they ask for, these have more versions than any of them wants.
const KNOWN: [u64; 2] = [42, i64::MAX as u64];
const VERSIONS: u8 = 8;
/// Where the options end that follow a header with the FRESHNESS flag.
const OPTIONS_END: usize = REQUEST_HEADER + 16;

#[test]
fn each_golden_request_cut_in_two_is_answered_as_if_it_had_come_whole() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger.db");
    let rows: Vec<_> =
        KNOWN.into_iter().flat_map(|user| (0..VERSIONS).map(move |at| row(user, at))).collect();
    Writer::open_or_create(&ledger).unwrap().append(&rows).unwrap();
    let node = Node::start(NodeConfig { ledger: ledger.into(), ..config(1) }).unwrap();
    until("the node is ready", || node.obstacles().is_empty());
    let address = node.addresses().listen.unwrap();
    let (mut caller, mut witness) = (Caller::connect(address), Caller::connect(address));
    for (name, request) in golden_requests() {
        caller.0.write_all(&request).unwrap();
        let whole = reply(&mut caller.0);
        for cut in cuts(request.len()) {
            caller.0.write_all(&request[..cut]).unwrap();
            // The shard serves in the order of arrival: once this is answered it has had the first piece.
            witness.ping(cut as u64);
            caller.0.write_all(&request[cut..]).unwrap();
            assert_eq!(reply(&mut caller.0), whole, "{name}, cut at {cut}");
        }
    }
}

/// Within the length and behind it, within the header and behind it, behind the options, in the middle and before the last byte.
fn cuts(bytes: usize) -> Vec<usize> {
    let mut cuts = vec![2, 4, 16, REQUEST_HEADER, OPTIONS_END, bytes / 2, bytes - 1];
    cuts.retain(|&cut| cut < bytes);
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

fn golden_requests() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/golden");
    let mut requests = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("request-") {
            let mut request = fs::read(&path).unwrap();
            // Whether an answer is young enough depends on what else its host does, and nobody is to wait until one is.
            if request[7] != 0 {
                request[REQUEST_HEADER + 8..OPTIONS_END].fill(0);
            }
            requests.push((name, request));
        }
    }
    assert!(requests.len() >= 40, "{} golden requests", requests.len());
    requests
}

/// The next reply, but for its watermark, which goes on.
fn reply(stream: &mut TcpStream) -> Vec<u8> {
    let mut reply = vec![0; REPLY_HEADER];
    stream.read_exact(&mut reply).unwrap();
    let bytes = u32::from_le_bytes(reply[..4].try_into().unwrap()) as usize;
    reply.resize(bytes, 0);
    stream.read_exact(&mut reply[REPLY_HEADER..]).unwrap();
    reply[16..24].fill(0);
    reply
}

/// So long ago that no window's end comes near it.
fn row(user: u64, at: u8) -> NewTransaction {
    const OCCURRED_AT_US: i64 = 1_700_000_000_000_000;
    let random = [at, (user & 0xff) as u8, 0, 0, 0, 0, 0, 0, 0, 0];
    NewTransaction {
        transaction_id: TransactionId::at(OCCURRED_AT_US, random),
        user_id: UserId::new(user).unwrap(),
        asset: Asset::parse([&b"COIN"[..], b"USD"][usize::from(at) % 2]).unwrap(),
        kind: Kind::Recharge,
        amount: 1 + i64::from(at),
        occurred_at_us: OCCURRED_AT_US,
    }
}
